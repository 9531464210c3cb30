"""Features and their weights: order, values, and the identity that the method rests on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial.polynomial import polyval

import subquad
from subquad import reference

NAMESPACES = (subquad.polynomial, reference.polynomial)


@given(
    st.integers(0, 6),
    st.integers(1, 5),
    st.integers(0, 30),
    st.sampled_from(["float32", "float64"]),
    st.integers(0, 99),
)
def test_equal_the_definition(d: int, degree: int, n: int, dtype: str, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((n, d)).astype(dtype)
    found, exact = (namespace.features(x, degree) for namespace in NAMESPACES)
    assert found.shape == (n, math.comb(d + degree, degree))
    # A monomial is a product of `degree` numbers, rounded once per factor.
    np.testing.assert_allclose(found, exact, rtol=(degree + 1) * float(np.finfo(dtype).eps))
    weights, exact_weights = (namespace.weights(d, degree) for namespace in NAMESPACES)
    assert weights.dtype == np.float64
    np.testing.assert_array_equal(weights, exact_weights)


@pytest.mark.parametrize("d", [1, 2, 7, 16, 33, 64, 70])
def test_many_coordinates(d: int) -> None:
    x = np.random.default_rng(d).standard_normal((20, d))
    for degree in (1, 2, 3 if d < 40 else 2):
        found, exact = (namespace.features(x, degree) for namespace in NAMESPACES)
        np.testing.assert_allclose(found, exact, rtol=1e-15)


def test_order_by_hand() -> None:
    # 1; x, y, z; xx, xy, xz, yy, yz, zz.
    features = subquad.polynomial.features(np.array([[2.0, 3.0, 5.0]]), 2)
    np.testing.assert_array_equal(features, [[1, 2, 3, 5, 4, 6, 10, 9, 15, 25]])
    np.testing.assert_array_equal(subquad.polynomial.weights(3, 2), [1, 1, 1, 1, 1, 2, 2, 1, 2, 1])


def test_a_lower_degree_is_the_beginning_of_a_higher_one() -> None:
    x = np.random.default_rng(0).standard_normal((9, 4))
    most = subquad.polynomial.features(x, 5)
    for degree in range(1, 5):
        features = subquad.polynomial.features(x, degree)
        np.testing.assert_array_equal(features, most[:, : features.shape[1]])
        weights = subquad.polynomial.weights(4, degree)
        np.testing.assert_array_equal(weights, subquad.polynomial.weights(4, 5)[: weights.size])


@pytest.mark.parametrize(("d", "degree"), [(1, 5), (3, 5), (8, 3), (30, 2)])
def test_products_of_features_are_polynomials_of_products(d: int, degree: int) -> None:
    x, y = np.random.default_rng(1).standard_normal((2, 12, d)) / math.sqrt(d)
    c = np.random.default_rng(2).standard_normal(degree + 1)
    sizes = [math.comb(d + t - 1, t) for t in range(degree + 1)]
    weights = subquad.polynomial.weights(d, degree) * np.repeat(c, sizes)
    phi_x, phi_y = (subquad.polynomial.features(z, degree) for z in (x, y))
    np.testing.assert_allclose(phi_x * weights @ phi_y.T, polyval(x @ y.T, c), atol=1e-11)


def test_they_compute_polynomial_attention() -> None:
    q, k, v = np.random.default_rng(3).standard_normal((3, 2, 40, 3))
    c = np.array([1.0, 0.5, 0.3])
    scale = np.repeat(c * 3 ** (-0.5 * np.arange(3)), [1, 3, 6])
    out = subquad.polynomial_attention(q, k, v, c)
    for head in range(2):
        phi_q, phi_k = (subquad.polynomial.features(x[head], 2) for x in (q, k))
        state = (scale * subquad.polynomial.weights(3, 2))[:, None] * (
            phi_k.T @ np.column_stack([v[head], np.ones(40)])
        )
        numerator, denominator = np.split(phi_q @ state, [3], axis=1)
        np.testing.assert_allclose(out[head], numerator / denominator, atol=1e-13)


def test_layouts_and_types_of_the_input_do_not_matter() -> None:
    x = np.random.default_rng(4).integers(-9, 9, (7, 3)).astype(np.float64)
    exact = reference.polynomial.features(x, 3)
    layouts: list[Any] = [x.tolist(), np.asfortranarray(x), x.astype(int), x.astype(np.float32)]
    layouts += [np.repeat(x, 2, axis=0)[::2], np.repeat(x, 2, axis=1)[:, ::2], x.astype(">f8")]
    for layout in layouts:
        np.testing.assert_array_equal(subquad.polynomial.features(layout, 3), exact)


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: p.features([1.0], 2), ValueError, r"`x` must have shape \(n, d\), got \(1,\)"),
        (lambda p: p.features(np.ones((1, 2, 3)), 2), ValueError, r"`x`.*got \(1, 2, 3\)"),
        (lambda p: p.features([[1.0, np.nan]], 2), ValueError, r"`x`.*nan at index \(0, 1\)"),
        (lambda p: p.features([[1.0j]], 2), TypeError, "`x` must hold real numbers.*complex128"),
        (lambda p: p.features([[1.0]], -1), ValueError, "`degree` must be at least 1, got -1"),
        (lambda p: p.features([[1.0]], 1.0), TypeError, "`degree` must be an integer, got 1.0"),
        (lambda p: p.features([[1.0]], True), TypeError, "`degree` must be an integer, got True"),
        (lambda p: p.features(np.ones((1, 400)), 60), MemoryError, "[0-9]+ bytes"),
        (lambda p: p.features([[1e200]], 2), ValueError, "exceeds the range of float64"),
        (lambda p: p.weights(-1, 2), ValueError, "`d` must be at least 0, got -1"),
        (lambda p: p.weights(2.0, 2), TypeError, "`d` must be an integer"),
        (lambda p: p.features([[1.0]], 0), ValueError, "`degree` must be at least 1, got 0"),
        (lambda p: p.weights(2, -2), ValueError, "`degree` must be at least 1, got -2"),
        (lambda p: p.weights(400, 60), MemoryError, "400.*bytes"),
    ],
)
def test_refusals(namespace: Any, call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(namespace)
