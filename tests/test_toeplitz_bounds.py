"""The bound on the rounding error of Toeplitz products, and rows that are far below it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from subquad import reference
from subquad.theory import toeplitz as theory
from subquad.toeplitz import matmul

Array = NDArray[Any]
twin = reference.toeplitz.matmul


def exactly(weights: Array, x: Array, transpose: bool = False) -> Array:
    """Products in extended precision."""
    other = x.shape[-2]
    outputs = weights.shape[-1] - other + 1
    i, j = np.arange(outputs)[:, np.newaxis], np.arange(other)
    index = j - i + outputs - 1 if transpose else i - j + other - 1
    matrix = weights.astype(np.longdouble)[..., index]
    out: Array = matrix @ x.astype(np.longdouble)
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize(("rows", "keys"), [(3, 4), (90, 100), (300, 700), (1025, 1024), (1, 3000)])
def test_errors_are_below_the_bound_and_it_is_not_absurd(
    dtype: Any, transpose: bool, rows: int, keys: int
) -> None:
    rng = np.random.default_rng(rows)
    inner = rows if transpose else keys
    n = np.arange(rows + keys - 1.0)
    for shape in (np.ones_like(n), 1e3 * np.exp(-n / 40), n % 7 - 3):
        weights = (shape * rng.standard_normal()).astype(dtype)
        x = rng.standard_normal((inner, 5)).astype(dtype)
        x[:, 1] *= 1e-3
        out, bound = matmul(weights, x, transpose=transpose, return_bound=True)
        error = np.abs(out - exactly(weights, x, transpose)).max(axis=-1).astype(np.float64)
        assert bound.shape == error.shape
        assert (error <= bound).all()
        unit = float(np.finfo(dtype).eps) / 2
        norms = (
            np.linalg.norm(weights.astype(float)) * np.linalg.norm(x.astype(float), axis=0).max()
        )
        factor = max(theory.product_error(rows + keys - 1), theory.direct_error(inner))
        limit = np.sqrt(2) * factor * unit * norms
        assert bound.max() <= limit * (1 + 1e-9)
        # Without the bound, the same numbers but for rows that are computed anew.
        plain = matmul(weights, x, transpose=transpose)
        assert np.abs(plain - out).max() <= 2 * limit


def test_the_bound_is_some_hundred_times_what_happens() -> None:
    rng = np.random.default_rng(1)
    weights, x = rng.standard_normal(2999), rng.standard_normal((1000, 8))
    out, bound = matmul(weights.astype(np.float32), x.astype(np.float32), return_bound=True)
    exact = exactly(weights.astype(np.float32), x.astype(np.float32))
    ratio = float(np.median(bound / np.abs(out - exact).max(axis=-1)))
    assert 10 < ratio < 5000


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_small_rows_have_digits_where_weights_grow_over_thirteen_decades(
    sign: float, dtype: Any
) -> None:
    rows, keys = 600, 500
    lags = np.arange(1 - keys, rows)
    weights = np.exp(sign * 30.0 * lags / lags.size).astype(dtype)
    rng = np.random.default_rng(0)
    # Only the last columns count, so that rows are as different as weights are.
    x = rng.uniform(0.5, 1.0, (keys, 33)).astype(dtype)
    x[: -keys // 10] = 0.0
    out, bound = matmul(weights, x, return_bound=True)
    exact = exactly(weights, x)
    error = np.abs(out - exact).max(axis=-1)
    assert (error <= bound).all()
    assert np.abs(exact).max() / np.abs(exact).min() > 1e7
    assert (error <= 0.02 * np.abs(exact).max(axis=-1)).all()
    # Which is not what happens without it.
    plain = matmul(weights, x)
    assert (np.abs(plain - exact) > 0.5 * np.abs(exact)).any() or dtype == np.float64


def test_a_few_small_rows_are_sums_of_products() -> None:
    rng = np.random.default_rng(2)
    weights = rng.standard_normal(3000)
    weights[:1040] *= 1e-14
    x = rng.standard_normal((1000, 4))
    out, bound = matmul(weights, x, return_bound=True)
    small = np.abs(out).max(axis=-1) < 1e-11
    assert 30 < small.sum() < 64
    exact = exactly(weights, x)
    assert (np.abs(out - exact)[small] < 1e-13 * np.abs(exact[small]).max()).all()
    assert bound[small].max() < 1e-12 * bound.max()
    flipped = matmul(weights[::-1], x, transpose=True, return_bound=True)
    np.testing.assert_array_equal(np.abs(flipped[0] - out)[small] < 1e-24, True)


def test_columns_that_share_weights_share_the_bound() -> None:
    rng = np.random.default_rng(3)
    weights, x = rng.standard_normal((2, 900)), rng.standard_normal((3, 2, 400, 1))
    x[0, 1] *= 100.0
    _, bound = matmul(weights, x, return_bound=True)
    assert bound.shape == (3, 2, 501)
    np.testing.assert_allclose(bound[:, 1], bound[0, 1, 0])
    assert bound[0, 1, 0] > 50 * bound[0, 0, 0]
    out, bound = matmul(weights, x[0, 0, :, 0], return_bound=True)
    assert out.shape == bound.shape == (2, 501)


@pytest.mark.parametrize("namespace", [matmul, twin], ids=["ours", "twin"])
def test_nothing_has_no_error(namespace: Any) -> None:
    out, bound = namespace(np.zeros(900), np.ones((400, 2)), return_bound=True)
    np.testing.assert_array_equal(out, 0.0)
    np.testing.assert_array_equal(bound, 0.0)
    assert namespace(np.ones(3), np.zeros((0, 2)), return_bound=True)[1].shape == (4,)


def test_theory() -> None:
    lengths = sorted({n << a for a in range(12) for n in (12, 16, 20 << a)})
    for lags in range(1, 2000):
        assert theory.embedding_length(lags) == min(n for n in lengths if n >= lags)
    assert [theory.passes(n) for n in (12, 16, 32, 64, 20, 80, 131072)] == [1, 1, 1, 2, 1, 2, 7]
    assert theory.product_error(2 * 65_536 - 1) == pytest.approx(1.01 * (27 * 7 + 55))
    assert theory.direct_error(100) == pytest.approx(101.0)
    assert theory.convolution_flops(1 << 17, 64) == pytest.approx(64 * (1 << 17) * (4.25 * 17 + 3))
    for bad in (0, -1):
        with pytest.raises(ValueError, match="`lags` must be at least 1"):
            theory.product_error(bad)
    with pytest.raises(TypeError, match="`lags` must be an integer"):
        theory.embedding_length(1.5)  # type: ignore[arg-type]
