"""Polynomial attention on numbers that are meant to break it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import subquad

RNG = np.random.default_rng(3)
Q, K, V = (RNG.standard_normal((n, 4)) for n in (100, 200, 200))
POLYNOMIALS = {
    "positive": [1.0, 1.0, 0.5],
    "square": [0.0, 0.0, 1.0],
    "odd": [0.0, 1.0],
    "tiny constant": [1e-30, 0.0, 1.0],
}
# What is done to queries and to keys.
NUMBERS: dict[str, tuple[Any, Any]] = {
    "as they are": (1.0, 1.0),
    "denormal queries": (1e-40, 1.0),
    "denormal keys": (1.0, 1e-40),
    "small against large": (1e-12, 1e12),
    "squares that underflow": (1e-25, 1e15),
    "squares that overflow": (1e-30, 1e30),
    "zero queries": (0.0, 1.0),
    "zero keys": (1.0, 0.0),
}


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("polynomial", POLYNOMIALS)
def test_a_row_is_right_or_refused(
    polynomial: str, numbers: str, dtype: Any, is_causal: bool
) -> None:
    by_query, by_key = NUMBERS[numbers]
    q, k, v = ((x * by).astype(dtype) for x, by in ((Q, by_query), (K, by_key), (V, 1.0)))
    c = POLYNOMIALS[polynomial]
    found, refusal = None, ""
    try:
        found = subquad.polynomial_attention(q, k, v, c, is_causal=is_causal)
    except ValueError as error:
        refusal = str(error)
    if found is None:
        assert "sum" in refusal
        return
    # The twin must not refuse what was answered.
    exact = subquad.reference.polynomial_attention(q, k, v, c, is_causal=is_causal)
    shares = np.abs(exact).max() + np.abs(v).max()
    tolerance = 1e-9 if dtype == np.float64 else 2e-3
    np.testing.assert_allclose(found, exact, rtol=0, atol=tolerance * shares)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_positive_polynomials_of_small_logits_are_always_answered(dtype: Any) -> None:
    for by_query, by_key in ((1.0, 1.0), (1e-40, 1.0), (1.0, 0.0), (1e-12, 1e12)):
        q, k = (Q * by_query).astype(dtype), (K * by_key).astype(dtype)
        out = subquad.polynomial_attention(q, k, V.astype(dtype), [1.0, 1.0, 0.5])
        exact = subquad.reference.polynomial_attention(q, k, V.astype(dtype), [1.0, 1.0, 0.5])
        np.testing.assert_allclose(out, exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("is_causal", [False, True])
def test_equal_keys_share_equally(dtype: Any, is_causal: bool) -> None:
    k = np.repeat(K[:1], 200, axis=0).astype(dtype)
    q, v = Q.astype(dtype), V.astype(dtype)
    out = subquad.polynomial_attention(q, k, v, [1.0, 1.0, 0.5], is_causal=is_causal)
    means = np.cumsum(V, axis=0) / np.arange(1, 201)[:, np.newaxis]
    expected = means[:100] if is_causal else np.broadcast_to(V.mean(axis=0), (100, 4))
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5)


def test_one_key_has_all_the_weight() -> None:
    out = subquad.polynomial_attention(Q[:1], K[:1], V[:1], [2.0])
    np.testing.assert_allclose(out, V[:1], rtol=1e-15)
    assert subquad.polynomial_attention(Q[:0], K, V, [1.0]).shape == (0, 4)
    assert not subquad.polynomial_attention(Q, K[:0], V[:0], [1.0]).any()


def test_sums_beyond_all_addresses_are_an_error() -> None:
    x = np.ones((2, 256), np.float32)
    with pytest.raises(MemoryError, match=r"[0-9]"):
        subquad.polynomial_attention(x, x, x, np.ones(8))
    with pytest.raises(MemoryError, match=r"[0-9]"):
        subquad.polynomial_attention_grad(x, x, x, x, np.ones(8))
