"""Softmax attention by polynomials of numbers close to the ends of their types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from approximations import Array, Arrays, problem, slack_of

import subquad

MAGNITUDES: dict[str, tuple[float, ...]] = {
    "float32": (1e-45, 1e-38, 1e-30, 1e-20, 1e-6, 1.0, 1e6, 1e18, 1e25, 1e38),
    "float64": (5e-324, 1e-308, 1e-200, 1e-20, 1.0, 1e20, 1e100, 1e154, 1e160, 1e300),
}
# Nothing goes on for too long, and every pair of choices occurs.
CASES = 240


def drawn(dtype: str, seed: int) -> tuple[Arrays, dict[str, Any]]:
    """Arrays of three magnitudes, whose logits are often small, and options."""
    rng = np.random.default_rng(seed)
    sizes = MAGNITUDES[dtype]
    of_q, of_k, of_v = rng.choice(sizes, 3)
    if rng.random() < 0.6:
        of_k = 0.1 / max(of_q, 1e-300)
    q, k, v = problem(sizes=(*map(int, rng.integers(1, 120, 2)), 3, 2), size=1.0, seed=seed)
    with np.errstate(over="ignore", under="ignore"):
        q = (q * of_q * rng.choice([1e-3, 0.1, 1.0]) + rng.choice([0.0, of_q])).astype(dtype)
        k = (k * of_k + rng.choice([0.0, of_k])).astype(dtype)
        v = (v * of_v + rng.choice([0.0, of_v])).astype(dtype)
    if rng.random() < 0.1:
        v = np.copysign(np.finfo(dtype).max, v)
    options = {
        "is_causal": (False, True, "lower_right")[rng.integers(3)],
        "centres": (None, "auto", 1, 5)[rng.integers(4)],
        "scale": (None, None, 1e-30, -2.0)[rng.integers(4)],
    }
    return (q, k, v), options


def errors(out: Array, arrays: Arrays, **options: Any) -> Array:
    """Distances from the rows of exact float64 attention, which does not overflow on the way."""
    q, k, v = (a.astype(np.float64) for a in arrays)
    largest = np.abs(v).max() or 1.0
    exact = subquad.attention(q, k, v, **options)
    found: Array = np.linalg.norm(out / largest - exact / largest, axis=-1) * largest
    return found


def finite_squares(array: Array) -> Any:
    with np.errstate(over="ignore"):
        return np.isfinite(np.linalg.norm(array.astype(np.float64), axis=-1)).all()


@pytest.mark.parametrize("certificate", ["deterministic", "statistical", "none"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_numbers_are_bounded_or_refused_as_exact_attention_does(
    dtype: str, certificate: str
) -> None:
    polynomials = 0
    for seed in range(CASES):
        arrays, options = drawn(dtype, seed)
        if not all(np.isfinite(a).all() for a in arrays):
            continue
        eps = (0.5, 0.1, 1e-3, 1e-8)[seed % 4]
        exact_options = {name: options[name] for name in ("is_causal", "scale")}
        try:
            # Warnings are errors here.
            out, info = subquad.attention(
                *arrays,
                eps=eps,
                method="polynomial",
                certificate=certificate,
                rng=0,
                return_info=True,
                **options,
            )
        except ValueError as refused:
            with pytest.raises(type(refused)):
                subquad.attention(*arrays, eps=eps, return_info=True, **exact_options)
            continue
        assert np.isfinite(out).all(), seed
        polynomials += info.method == "polynomial"
        if certificate != "deterministic" or not all(map(finite_squares, arrays)):
            continue
        slack = slack_of(arrays, options["scale"])
        assert info.error_bound is not None
        assert np.all(errors(out, arrays, **exact_options) <= info.error_bound + slack), seed
    assert polynomials > CASES // 10


@pytest.mark.parametrize("seed", [56, 57, 58])
def test_products_that_underflow_in_the_sums_are_bounded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # A key times its value is nothing in float32, and a logit is not.
    q = (1e17 * np.abs(rng.standard_normal((86, 1)))).astype("f4")
    k = (1e-19 * rng.standard_normal((83, 1))).astype("f4")
    values = 1 + rng.standard_normal((83, 3))
    for size in (1e-30, 1e-36, 1e-38, 1e-40):
        v = (size * values).astype("f4")
        for centres in (None, 1, "auto"):
            out, info = subquad.attention(
                q, k, v, eps=0.1, method="polynomial", centres=centres, return_info=True
            )
            assert info.error_bound is not None
            assert np.all(errors(out, (q, k, v)) <= info.error_bound)


def test_values_whose_squares_overflow_are_left_to_exact_attention() -> None:
    q, k, v = problem(sizes=(100, 120, 3, 2))
    for values in (1e200 * v, 1e160 + v):
        out, info = subquad.attention(q, k, values, eps=0.1, method="polynomial", return_info=True)
        assert info.method == "exact"
        assert "too large" in info.reason
        np.testing.assert_array_equal(out, subquad.attention(q, k, values))
    plan = subquad.plan(q, k, v, eps=0.1, method="polynomial")
    out, info = subquad.attention(q, k, 1e200 * v, plan=plan, return_info=True)
    np.testing.assert_allclose(out, subquad.attention(q, k, 1e200 * v), rtol=1e-14)


def test_statistical_fits_of_nearly_equal_logits_are_silent() -> None:
    q, k, v = problem(sizes=(100, 120, 3, 2))
    for size in (0.0, 1e-320, 1e-200, 1e-17, 1e-12):
        out = subquad.attention(
            size * q, k, v, eps=1e-8, method="polynomial", certificate="statistical", rng=0
        )
        exact = subquad.attention(size * q, k, v)
        np.testing.assert_allclose(out, exact, atol=1e-7)
