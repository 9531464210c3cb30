"""What attention by relative positions reports about its errors, and which way it takes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from relatives import NAMES, Relative, relative, relatives

import subquad
from subquad import reference


def errors(case: Relative, out: Any, **polynomial: Any) -> Any:
    options = {**case.options, **polynomial}
    exact = reference.toeplitz_attention(*case.arrays, **options)
    return np.linalg.norm(out - exact, axis=-1)


@pytest.mark.parametrize(
    "polynomial",
    [
        {},
        {"degree": 1},
        {"degree": 3},
        {"eps": 1e-1},
        {"eps": 1e-4},
        {"coefficients": [1.0, 1.0, 0.5]},
    ],
)
@given(relatives(dtypes=("float32", "float64"), most=40), st.booleans())
def test_bounds_hold(polynomial: dict[str, Any], case: Relative, peaked: bool) -> None:
    if peaked and "degree" not in polynomial:
        case = Relative((4.0 * case.arrays[0], *case.arrays[1:]), case.options)
    options = {**case.options, **polynomial, "return_info": True}
    try:
        out, info = subquad.toeplitz_attention(*case.arrays, **options)
    except ValueError as err:
        # Such logits have no polynomial of that degree, or a row of given weights no positive sum.
        if "`degree`" in str(err) or "sum to" in str(err):
            return
        raise
    given = polynomial if "coefficients" in polynomial else {}
    found = errors(case, out, **given)
    # The reference is rounded too.
    slack = 1e-13 * (1.0 + np.abs(case.arrays[2]).max(initial=0.0))
    assert info.error_bound.shape == out.shape[:-1]
    assert (found <= info.error_bound + slack).all()
    if "eps" in polynomial:
        spread = np.asarray(info.spread)[..., np.newaxis]
        least = np.finfo(out.dtype).eps * np.linalg.norm(out, axis=-1)
        assert (found <= polynomial["eps"] * spread + least + slack).all()


def test_a_long_context_with_few_terms_is_by_transforms() -> None:
    case = relative(6000, 6000, width=2, entries=1, value_width=1, size=0.05, scale=0.1)
    out, info = subquad.toeplitz_attention(*case.arrays, **case.options, eps=1e-2, return_info=True)
    assert info.method == "polynomial"
    assert info.stats["rank"] == subquad.theory.polynomial.term_count(1, info.stats["degree"])
    assert "Toeplitz terms" in info.reason
    rows = np.arange(0, 6000, 500)
    exact = subquad.toeplitz_attention(*case.arrays, **case.options)
    found = np.linalg.norm(out - exact, axis=-1)[rows]
    assert (found <= info.error_bound[rows]).all()
    assert (info.error_bound <= 1e-2 * info.spread).all()


def test_a_short_context_is_exact_and_says_why() -> None:
    case = relative(40, 40, size=0.3, scale=0.1)
    out, info = subquad.toeplitz_attention(*case.arrays, **case.options, eps=1e-2, return_info=True)
    assert info.method == "exact"
    assert "Toeplitz terms" in info.reason
    assert "logits up to" in info.reason
    assert np.array_equal(out, subquad.toeplitz_attention(*case.arrays, **case.options))


def test_large_logits_have_no_polynomial() -> None:
    case = relative(40, 40, size=10.0)
    _, info = subquad.toeplitz_attention(*case.arrays, **case.options, eps=1e-2, return_info=True)
    assert info.method == "exact"
    assert "tabulated" in info.reason


def test_heads_are_decided_one_by_one() -> None:
    case = relative(3000, 3000, width=2, entries=1, value_width=1, heads=(2,), size=0.05, scale=0.1)
    query = case.arrays[0].copy()
    query[1] *= 1e4
    arrays = (query, *case.arrays[1:])
    out, info = subquad.toeplitz_attention(*arrays, **case.options, eps=1e-1, return_info=True)
    assert [head.method for head in info.plan.heads] == ["polynomial", "exact"]
    exact = subquad.toeplitz_attention(*arrays, **case.options)
    assert np.array_equal(out[1], exact[1])
    assert (np.linalg.norm(out - exact, axis=-1) <= info.error_bound).all()
    upstream = np.ones(out.shape)
    grads = subquad.toeplitz_attention_grad(upstream, *arrays, **case.options, eps=1e-1)
    expected = subquad.toeplitz_attention_grad(upstream, *arrays, **case.options)
    close = np.abs(grads.query[1] - expected.query[1]).max()
    assert close <= 1e-12 * np.abs(expected.query[1]).max()


def test_rows_lost_in_rounding_are_computed_from_all_keys() -> None:
    # The last rows have weights beside which those of the first are nothing.
    case = relative(300, 300, width=1, entries=1, value_width=1, dtype="float32", scale=1.0)
    query, key, value, weights = (x.copy() for x in case.arrays)
    query[:], key[:] = 1.0, 1.0
    weights[:] = 1e-4
    weights[:, :200] = 40.0
    c = [0.0, 0.0, 0.0, 0.0, 1.0]
    arrays = (query, key, value, weights)
    options = {**case.options, "is_causal": True, "coefficients": c}
    out = subquad.toeplitz_attention(*arrays, **options)
    exact = reference.toeplitz_attention(*arrays, **options)
    assert np.abs(out - exact).max() < 1e-4
    options["is_causal"] = False
    out, info = subquad.toeplitz_attention(*arrays, **options, return_info=True)
    assert info.stats["rows_recomputed"] > 0
    exact = reference.toeplitz_attention(*arrays, **options)
    assert np.abs(out - exact).max() < 1e-4
    upstream = np.ones(out.shape, np.float32)
    grads = subquad.toeplitz_attention_grad(upstream, *arrays, **options)
    expected = reference.toeplitz_attention_grad(upstream, *arrays, **options)
    for name in NAMES:
        found, exact = getattr(grads, name), getattr(expected, name)
        assert np.abs(found - exact).max() <= 1e-3 * max(np.abs(exact).max(), 1e-3)


@pytest.mark.parametrize("polynomial", [{}, {"degree": 2}])
def test_a_bound_counts_rounding_to_half_precision(polynomial: dict[str, Any]) -> None:
    case = relative(50, 50, size=0.3, scale=0.2, dtype="float16")
    options = {**case.options, **polynomial, "return_info": True}
    out, info = subquad.toeplitz_attention(*case.arrays, **options)
    assert (errors(case, out) <= info.error_bound).all()


def test_a_report_is_no_plan_for_attention() -> None:
    case = relative(20, 20)
    query, key, value, _ = case.arrays
    _, info = subquad.toeplitz_attention(*case.arrays, **case.options, return_info=True)
    assert "Plan" in repr(info.plan)
    assert "exact" in repr(info)
    with pytest.raises(ValueError, match="`plan` was made for"):
        subquad.attention(query, key, value, plan=info.plan)


def test_rows_larger_than_any_value_are_within_their_bounds() -> None:
    """Weights of both signs nearly cancel, and what is left of them divides."""
    rng = np.random.default_rng(20)
    q, k, v = rng.standard_normal((3, 40, 2))
    q[:] = 1.0
    k[:, 0] += 1e-8 - k[:, 0].mean()
    out, info = subquad.toeplitz_attention(
        q, k, v, np.ones((1, 79)), support=[(0, 0)], coefficients=[0.0, 1.0], scale=1.0,
        return_info=True,
    )  # fmt: skip
    # Fractions are exact.
    exact = [
        float(sum(Fraction(s) * Fraction(x) for s, x in zip(k[:, 0], column, strict=True)) / total)
        for total in [sum(Fraction(s) for s in k[:, 0])]
        for column in v.T
    ]
    assert np.abs(exact).max() > 10.0 * np.abs(v).max()
    error = np.linalg.norm(out - np.array(exact), axis=1)
    assert info.stats["rows_recomputed"] == 40
    assert (error <= info.error_bound).all()


def test_weights_of_float64_are_not_rounded_for_rows_in_float64() -> None:
    rng = np.random.default_rng(21)
    q, k, v = (x.astype(np.float32) for x in rng.standard_normal((3, 58, 2)))
    q[:] = 10.0
    weights = rng.standard_normal((1, 115))
    options: dict[str, Any] = {"support": [(0, 0)], "scale": 1.0}
    out, info = subquad.toeplitz_attention(q, k, v, weights, eps=1e-5, return_info=True, **options)
    wide = (q.astype(np.float64), k.astype(np.float64), v.astype(np.float64))
    exact = subquad.toeplitz_attention(*wide, weights, **options)
    assert info.stats["rows_recomputed"] == 58
    error = np.linalg.norm(out - exact, axis=1)
    assert (error <= info.error_bound + 1e-13).all()


@pytest.mark.parametrize("polynomial", [{}, {"eps": 1e-2}, {"coefficients": [1.0, 1.0, 0.5]}])
@pytest.mark.parametrize(
    ("dtype", "sizes"),
    [
        ("float32", (1.0, 1.0, 1.0, 1.0)),
        ("float32", (1e-24, 1e24, 1e28, 1e-28)),
        ("float32", (1e17, 1e17, 1e-32, 1e-2)),
        ("float32", (1e-24, 1e22, 1e22, 1e-20)),
        ("float64", (1e-210, 1e40, 1e24, 1e146)),
    ],
)
def test_what_underflows_between_factors_is_in_the_bounds(
    polynomial: dict[str, Any], dtype: str, sizes: tuple[float, ...]
) -> None:
    rng = np.random.default_rng(22)
    query, key, values = rng.standard_normal((3, 30, 2))
    weights = rng.standard_normal((1, 59))
    of_query, of_key, of_weights, scale = sizes
    q, k, w = (
        (x * size).astype(dtype)
        for x, size in zip((query, key, weights), (of_query, of_key, of_weights), strict=True)
    )
    v = values.astype(dtype)
    out, info = subquad.toeplitz_attention(
        q, k, v, w, support=[(0, 0)], scale=scale, return_info=True, **polynomial
    )
    q, k, w = (x.astype(np.float64) / size for x, size in zip((q, k, w), sizes, strict=False))
    exact = reference.toeplitz_attention(
        q, k, v.astype(np.float64), w, support=[(0, 0)],
        scale=(of_query * of_key) * (of_weights * scale), **{**polynomial, "eps": None},
    )  # fmt: skip
    assert (np.linalg.norm(out - exact, axis=-1) <= info.error_bound + 1e-12).all()


def test_sums_that_overflow_alone_are_not_certain() -> None:
    """Sums of the values may be numbers where that of the weights is none."""
    rng = np.random.default_rng(23)
    q, k, v = (1.0 + 0.1 * rng.standard_normal((30, 1)) for _ in range(3))
    k[0], v[1:] = 0.0, 1e-3 * v[1:]
    weights = np.ones((1, 59))
    arrays = [x.astype(np.float32) for x in (q * 1e-6, k * 1e7, v, weights * 1e12)]
    options: dict[str, Any] = {"support": [(0, 0)], "coefficients": [1.0, 1.0, 0.5]}
    out, info = subquad.toeplitz_attention(*arrays, scale=1e-13, return_info=True, **options)
    exact = reference.toeplitz_attention(
        *(x.astype(np.float64) for x in arrays), scale=1e-13, **options
    )
    assert (np.linalg.norm(out - exact, axis=-1) <= info.error_bound + 1e-12).all()
