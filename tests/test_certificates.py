"""Bounds that hold, on numbers chosen to break them; budgets, recomputed rows, fallbacks."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import ROUNDOFF, Case, cases, spread_of

import subquad
from subquad._norms import row_norms

Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def hostile(name: str, seed: int = 0) -> Arrays:
    """Inputs on which rounding is at its worst."""
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((2, 3, 90, 16))
    v = rng.standard_normal((3, 90, 8))
    if name == "offset in the values":
        v += 1e6
    elif name == "peaked":
        q *= 30
    elif name == "large logits":
        q, k = 100 * q, 100 * k
    elif name == "cancelling products":
        q[..., 1::2], k[..., 1::2] = q[..., ::2], -k[..., ::2]
        q, k = 1e3 * q, 1e3 * k
    elif name == "huge values":
        v *= 1e30
    elif name == "tiny values":
        v *= 1e-38
    elif name == "duplicates":
        k, v = np.repeat(k[:, :3], 30, axis=1), np.repeat(v[:, :3], 30, axis=1)
    elif name == "one outlier":
        v[:, 0] *= 1e8
    elif name == "shared large key":
        k += 50
    return q, k, v


NAMES = [
    "ordinary",
    "offset in the values",
    "peaked",
    "large logits",
    "cancelling products",
    "huge values",
    "tiny values",
    "duplicates",
    "one outlier",
    "shared large key",
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"is_causal": True, "window": 40},
    {"bias": np.where(np.arange(90) % 7 == 0, -np.inf, 30.0 * np.sin(np.arange(90.0)))},
    {"scale": 3.0, "mask": np.arange(90) % 3 != 0},
]


BEYOND_HALF = {"offset in the values", "huge values", "one outlier"}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, np.float32) for name in NAMES]
    + [(name, np.float16) for name in NAMES if name not in BEYOND_HALF],
)
@pytest.mark.parametrize("options", OPTIONS)
def test_the_bound_holds_against_float64(name: str, options: Any, dtype: Any) -> None:
    arrays = tuple(a.astype(dtype) for a in hostile(name))
    out, info = subquad.attention(*arrays, **options, return_info=True)
    exact = subquad.reference.attention(*arrays, **options)
    error = np.linalg.norm(out.astype(np.float64) - exact, axis=-1)
    # The definition in float64 is itself off by a few units of float64, relative to the values
    # and to the logits in the exponent.
    q, k, v = (a.astype(np.float64) for a in arrays)
    logits = np.abs(q) @ np.abs(np.swapaxes(k, -1, -2)) * options.get("scale", 0.25)
    slack = 2.0**-50 * (1 + logits.max()) * np.linalg.norm(v, axis=-1).max()
    assert np.all(error <= info.error_bound + slack)
    np.testing.assert_allclose(info.spread, spread_of(arrays[2]), rtol=1e-5)
    visible = np.linalg.norm(v, axis=-1).max(axis=-1)[..., np.newaxis]
    # Both rows lie in the hull of the values, up to the rounding of sums and of the output.
    most = 2.0001 * info.spread[..., np.newaxis] + 2e-3 * visible + np.finfo(np.float32).tiny
    assert np.all(info.error_bound <= most)


@given(cases(dtypes=("float16", "float32", "float64"), lengths=(0, 40)))
def test_the_bound_holds_for_every_kind_of_call(case: Case) -> None:
    out, info = subquad.attention(*case.arrays, **case.options, return_info=True)
    assert info.error_bound.shape == out.shape[:-1]
    assert info.relative_bound.shape == out.shape[:-1]
    assert info.spread.shape == out.shape[:-2]
    exact = subquad.reference.attention(*case.arrays, **case.options)
    error = np.linalg.norm(out.astype(np.float64) - exact, axis=-1)
    assert np.all(error <= info.error_bound + 1e-13)


def exact_attention(q: Any, k: Any, v: Any, scale: float, bias: Any) -> list[list[Decimal]]:
    """One head by its definition, in decimal arithmetic of 60 digits."""
    with localcontext() as context:
        context.prec = 60
        rows = []
        for i, query in enumerate(q):
            weights = []
            for j, key in enumerate(k):
                product = sum(
                    (
                        Decimal(float(a)) * Decimal(float(b))
                        for a, b in zip(query, key, strict=True)
                    ),
                    Decimal(0),
                )
                logit = Decimal(scale) * product + Decimal(float(bias[i, j]))
                weights.append(logit.exp())
            total = sum(weights, Decimal(0))
            columns = range(v.shape[1])
            rows.append(
                [
                    sum(
                        (w * Decimal(float(x[c])) for w, x in zip(weights, v, strict=True)),
                        Decimal(0),
                    )
                    / total
                    for c in columns
                ]
            )
        return rows


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bound_holds_against_sixty_digits(name: str, dtype: Any) -> None:
    for seed in range(3):
        q, k, v = (a[0, :9, :6].astype(dtype) for a in hostile(name, seed))
        bias = np.random.default_rng(seed).standard_normal((9, 9))
        out, info = subquad.attention(q, k, v, bias=bias, scale=0.375, return_info=True)
        exact = exact_attention(q, k, v, 0.375, bias)
        for row, exact_row, bound in zip(out, exact, info.error_bound, strict=True):
            with localcontext() as context:
                context.prec = 60
                error = sum(
                    (Decimal(float(x)) - y) ** 2 for x, y in zip(row, exact_row, strict=True)
                )
                assert Decimal(error).sqrt() <= Decimal(float(bound))


def test_a_long_sum_has_a_useful_bound() -> None:
    rng = np.random.default_rng(1)
    q = rng.standard_normal((4, 64), dtype=np.float32)
    k, v = rng.standard_normal((2, 30_000, 64), dtype=np.float32)
    out, info = subquad.attention(q, k, v, return_info=True)
    exact = subquad.reference.attention(q, k, v)
    error = np.linalg.norm(out - exact, axis=-1)
    assert np.all(error <= info.error_bound)
    assert np.all(info.error_bound <= 1e-3 * info.spread)


@given(
    cases(dtypes=("float32", "float64"), lengths=(1, 30)),
    st.sampled_from([1e-1, 1e-3, 1e-6, 1e-9]),
)
def test_a_budget_that_is_met_holds(case: Case, eps: float) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        out, info = subquad.attention(
            *case.arrays, **case.options, eps=eps, fallback="warn", return_info=True
        )
    if caught:
        return  # the budget was not certified, and the call said so
    exact = subquad.reference.attention(*case.arrays, **case.options)
    error = np.linalg.norm(out.astype(np.float64) - exact, axis=-1)
    size = np.linalg.norm(exact, axis=-1)
    budget = eps * info.spread[..., np.newaxis] + 2 * ROUNDOFF[out.dtype.name] * size
    assert np.all(error <= budget * (1 + 1e-9) + 1e-13)


def test_rows_beyond_the_budget_are_recomputed_in_float64() -> None:
    q, k, v = (a.astype(np.float32) for a in hostile("offset in the values"))
    plain = subquad.attention(q, k, v, is_causal=True)
    out, lse, info = subquad.attention(
        q, k, v, is_causal=True, eps=1e-6, return_lse=True, return_info=True
    )
    assert out.dtype == lse.dtype == np.float32
    assert 0 < info.stats["rows_recomputed"] <= 270
    assert "recomputed in float64" in info.reason
    exact, exact_lse = subquad.reference.attention(q, k, v, is_causal=True, return_lse=True)
    error = np.linalg.norm(out - exact, axis=-1)
    before = np.linalg.norm(plain - exact, axis=-1)
    assert np.all(error <= info.error_bound)
    assert error.max() < before.max()
    np.testing.assert_allclose(lse, exact_lse, rtol=1e-5)
    grads = subquad.attention_grad(q[..., :8], q, k, v, is_causal=True, eps=1e-6)
    expected = subquad.reference.attention_grad(q[..., :8], q, k, v, is_causal=True)
    np.testing.assert_allclose(grads.value, expected.value, atol=1e-4)


def test_single_rows_are_recomputed_where_only_they_exceed_the_budget() -> None:
    rng = np.random.default_rng(2)
    q, k, v = rng.standard_normal((3, 2, 3, 400, 8), dtype=np.float32)
    q[0, 1, 77] *= 300  # a large logit has a large rounding error
    q[1, 2, (5, 390)] *= 300
    several: list[dict[str, Any]] = [
        {},
        {"is_causal": True, "mask": rng.random((400, 400)) < 0.9},
    ]
    for options in several:
        keywords: dict[str, Any] = {"return_info": True, **options}
        plain, free = subquad.attention(q, k, v, **keywords)
        eps = float(np.sort((free.error_bound / free.spread[..., None]).ravel())[-4]) * 1.01
        out, info = subquad.attention(q, k, v, eps=eps, **keywords)
        assert info.stats["rows_recomputed"] == 3
        changed = np.any(out != plain, axis=-1)
        allowed = np.zeros_like(changed)
        allowed[0, 1, 77] = allowed[1, 2, 5] = allowed[1, 2, 390] = True
        assert not np.any(changed & ~allowed)
        assert np.all(info.error_bound[allowed] < free.error_bound[allowed])
        np.testing.assert_array_equal(info.error_bound[~allowed], free.error_bound[~allowed])
        exact = subquad.reference.attention(q, k, v, **options)
        error = np.linalg.norm(out - exact, axis=-1)
        assert np.all(error <= info.error_bound + 1e-12)


def test_rows_of_half_precision_are_recomputed_too() -> None:
    q, k, v = (a.astype(np.float16) for a in hostile("peaked"))
    out, info = subquad.attention(q, k, v, eps=1e-9, return_info=True)
    exact = subquad.reference.attention(q, k, v)
    assert out.dtype == np.float16
    assert np.all(np.linalg.norm(out - exact, axis=-1) <= info.error_bound)


# float64 rounding cannot be brought below this share of the spread.
IMPOSSIBLE = 1e-30


def test_fallback_exact_keeps_the_rows_and_says_so() -> None:
    q, k, v = hostile("large logits")
    out, info = subquad.attention(q, k, v, eps=IMPOSSIBLE, return_info=True)
    assert "exact float64 rows kept" in info.reason
    assert "even in float64" in info.reason
    np.testing.assert_array_equal(out, subquad.attention(q, k, v))


def test_fallback_raise_raises_with_the_plan() -> None:
    q, k, v = hostile("large logits")
    with pytest.raises(subquad.CertificateError, match="rows have a rounding bound") as caught:
        subquad.attention(q, k, v, eps=IMPOSSIBLE, fallback="raise")
    assert isinstance(caught.value, ValueError)
    assert caught.value.plan.eps == IMPOSSIBLE
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.plan) == (str(caught.value), caught.value.plan)
    with pytest.raises(subquad.CertificateError):
        subquad.attention_grad(v, q, k, v, eps=IMPOSSIBLE, fallback="raise")


def test_fallback_warn_warns_at_the_line_of_the_call() -> None:
    q, k, v = hostile("large logits")
    calls: list[Callable[[], Any]] = [
        lambda: subquad.attention(q, k, v, eps=IMPOSSIBLE, fallback="warn"),
        lambda: subquad.attention_grad(v, q, k, v, eps=IMPOSSIBLE, fallback="warn"),
    ]
    for call in calls:
        with pytest.warns(subquad.AccuracyWarning, match="even in float64") as caught:
            call()
        assert caught[0].filename == __file__


def test_a_generous_budget_falls_back_nowhere() -> None:
    q, k, v = (a.astype(np.float32) for a in hostile("ordinary"))
    out, info = subquad.attention(q, k, v, eps=1e-2, fallback="raise", return_info=True)
    assert info.stats["rows_recomputed"] == 0
    assert info.method == "exact"
    assert "so few operations" in info.reason
    np.testing.assert_array_equal(out, subquad.attention(q, k, v))


def test_without_a_certificate_nothing_is_bounded() -> None:
    q, k, v = hostile("ordinary")
    out, info = subquad.attention(
        q, k, v, eps=IMPOSSIBLE, certificate="none", fallback="raise", return_info=True
    )
    assert info.error_bound is info.relative_bound is info.spread is None
    assert "nothing certified" in info.reason
    assert "not certified" in repr(info)
    np.testing.assert_array_equal(out, subquad.attention(q, k, v))


def test_the_report_shows_medians_and_worst_rows() -> None:
    q, k, v = (a.astype(np.float32) for a in hostile("ordinary"))
    _, info = subquad.attention(q, k, v, return_info=True)
    mean = v.mean(axis=-2, keepdims=True, dtype=np.float64)
    distance = np.linalg.norm(subquad.attention(q, k, v) - mean, axis=-1)
    np.testing.assert_allclose(info.relative_bound, info.error_bound / distance, rtol=1e-4)
    text = repr(info)
    for part in ("error bound", "median", "worst", "|out - mean(v)|", "spread R", "flops"):
        assert part in text
    assert info.stats.keys() >= {"flops", "tiles", "bytes_read", "tasks", "rows_recomputed"}
    html = info._repr_html_()
    assert html.startswith("<table>")
    assert html.endswith("</table>")


@pytest.mark.parametrize("unit", [1.0, 2.0**-600, 2.0**600, 2.0**-1040, 2.0**1010])
def test_norms_survive_squares_beyond_the_range_of_float64(unit: float) -> None:
    rows = np.random.default_rng(5).integers(-99, 100, (5000, 7)).astype(np.float64)
    rows[[0, 4999]] = 0.0
    found = row_norms((rows * unit).__getitem__, *rows.shape)
    np.testing.assert_allclose(found, np.linalg.norm(rows, axis=-1) * unit, 1e-14, 1e-323)


def test_one_head_is_reported_without_head_axes() -> None:
    x = np.random.default_rng(3).standard_normal((7, 4))
    _, info = subquad.attention(x, x, x, return_info=True)
    assert (info.error_bound.shape, info.spread.shape) == ((7,), ())
    _, info = subquad.attention(x[:0], x, x, return_info=True)
    assert info.error_bound.shape == (0,)
    assert "no rows" in repr(info)


def test_work_that_a_window_hides_is_not_done() -> None:
    x = np.random.default_rng(4).standard_normal((4096, 8), dtype=np.float32)
    flops = {}
    for name, options in (
        ("all", {}),
        ("causal", {"is_causal": True}),
        ("window", {"is_causal": True, "window": 64}),
    ):
        keywords: dict[str, Any] = options
        _, info = subquad.attention(x, x, x, return_info=True, **keywords)
        assert info.stats["flops"] >= info.plan.candidates[0].flops
        flops[name] = info.stats["flops"]
    assert flops["causal"] < 0.6 * flops["all"]
    assert flops["window"] < 0.1 * flops["all"]


def row_errors(out: Any, exact: Any) -> Any:
    return np.linalg.norm(np.asarray(out, np.float64) - exact, axis=-1)


@pytest.mark.parametrize("offset", [-3e4, -1e6])
@pytest.mark.parametrize("hidden_by", ["mask", "position"])
def test_a_hidden_key_does_not_hide_the_bias_of_those_seen(offset: float, hidden_by: str) -> None:
    rng = np.random.default_rng(3)
    q, k = rng.standard_normal((40, 8), np.float32), rng.standard_normal((3, 8), np.float32)
    v = rng.standard_normal((3, 4), np.float32)
    bias = np.float32(offset) + 3 * rng.standard_normal((40, 3)).astype(np.float32)
    options: Any = {"bias": bias}
    if hidden_by == "mask":
        bias[:, 0] = 0.0
        options["mask"] = np.array([False, True, True])
    else:
        bias[:2, 2] = 0.0
        options["is_causal"] = True
    out, info = subquad.attention(q, k, v, **options, return_info=True)
    exact = subquad.reference.attention(q, k, v, **options)
    assert np.all(row_errors(out, exact) <= info.error_bound)


@pytest.mark.parametrize(("scale", "size"), [(1e-46, 1e23), (1e-44, 1e22), (1e-41, 3e20)])
def test_a_scale_too_small_for_float32_is_covered(scale: float, size: float) -> None:
    rng = np.random.default_rng(4)
    q, k = (size * rng.standard_normal((n, 6)).astype(np.float32) for n in (40, 9))
    v = rng.standard_normal((9, 4), np.float32)
    out, info = subquad.attention(q, k, v, scale=scale, return_info=True)
    exact = subquad.reference.attention(q, k, v, scale=scale)
    assert np.all(row_errors(out, exact) <= info.error_bound)


def test_values_that_no_query_sees_are_refused_where_a_bound_needs_them() -> None:
    q, k, v = np.random.default_rng(5).standard_normal((3, 600, 8), np.float32)
    v[-1] = np.nan
    assert np.isfinite(subquad.attention(q[:200], k, v, is_causal=True)).all()
    with pytest.raises(ValueError, match=r"`value` must be finite, got nan at index \(599, 0\)"):
        subquad.attention(q[:200], k, v, is_causal=True, return_info=True)


def test_a_spread_beyond_float64_certifies_nothing() -> None:
    v = np.array([[1.7e308], [-1.7e308], [1.7e308]])
    x = np.ones((3, 2))
    with pytest.raises(subquad.CertificateError):
        subquad.attention(x, x, v, eps=1e-2, fallback="raise")
