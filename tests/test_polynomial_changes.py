"""What must not change the answer of polynomial attention, and what must change it in a known way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.polynomial import Polynomial
from polynomials import NAMES, taylor

import subquad

RNG = np.random.default_rng(0)
Q = 0.5 * RNG.standard_normal((4, 90, 6))
K, V = RNG.standard_normal((2, 2, 110, 6))
C = taylor(4)
G = RNG.standard_normal(Q.shape)
OPTIONS: dict[str, Any] = {"enable_gqa": True}


def forward(q: Any = Q, k: Any = K, v: Any = V, c: Any = C, **options: Any) -> Any:
    return subquad.polynomial_attention(q, k, v, c, **OPTIONS, **options)


def gradient(q: Any = Q, k: Any = K, v: Any = V, c: Any = C, g: Any = G, **options: Any) -> Any:
    return subquad.polynomial_attention_grad(g, q, k, v, c, **OPTIONS, **options)


def assert_near(found: Any, expected: Any) -> None:
    allowed = 1e-12 * max(float(np.abs(expected).max()), 1.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=allowed)


def test_the_order_of_keys_does_not_matter() -> None:
    order = RNG.permutation(110)
    assert_near(forward(k=K[:, order], v=V[:, order]), forward())
    moved, grads = gradient(k=K[:, order], v=V[:, order]), gradient()
    assert_near(moved.query, grads.query)
    assert_near(moved.key, grads.key[:, order])
    assert_near(moved.value, grads.value[:, order])
    assert_near(moved.coefficients, grads.coefficients)


def test_queries_are_answered_one_by_one() -> None:
    order = RNG.permutation(90)
    assert_near(forward(q=Q[:, order]), forward()[:, order])
    assert_near(forward(q=Q[:, 13:14]), forward()[:, 13:14])
    grads = gradient(q=Q[:, order], g=G[:, order])
    assert_near(grads.query, gradient().query[:, order])
    assert_near(grads.key, gradient().key)


def test_a_later_key_does_not_reach_an_earlier_query() -> None:
    k, v = K.copy(), V.copy()
    k[:, 50:], v[:, 50:] = 3.0, -5.0
    before, after = (forward(k=x, v=y, is_causal=True) for x, y in ((K, V), (k, v)))
    assert_near(after[:, :50], before[:, :50])
    assert not np.allclose(before[:, 50:], after[:, 50:])


@pytest.mark.parametrize("is_causal", [True, "lower_right"])
def test_causal_rows_are_those_of_the_keys_seen(is_causal: Any) -> None:
    out, shift = forward(is_causal=is_causal), 0 if is_causal is True else 20
    for i in (0, 1, 31, 32, 63, 64, 89):
        seen = slice(0, i + 1 + shift)
        assert_near(out[:, i : i + 1], forward(q=Q[:, i : i + 1], k=K[:, seen], v=V[:, seen]))


def test_doubling_every_key_changes_nothing() -> None:
    twice = [np.concatenate([x, x], axis=1) for x in (K, V)]
    assert_near(forward(k=twice[0], v=twice[1]), forward())


def test_a_shift_of_the_values_shifts_the_output() -> None:
    shift = np.arange(6.0)
    for is_causal in (False, True):
        moved = forward(v=V + shift, is_causal=is_causal)
        assert_near(moved, forward(is_causal=is_causal) + shift)
    moved, grads = gradient(v=V + shift), gradient()
    for name in NAMES:
        assert_near(getattr(moved, name), getattr(grads, name))


def test_a_shift_of_the_logits_is_a_shift_of_the_polynomial() -> None:
    # One more coordinate, of 1 and of 0.7, adds 0.7 to every logit.
    q = np.concatenate([Q, np.ones((4, 90, 1))], axis=-1)
    k = np.concatenate([K, np.full((2, 110, 1), 0.7)], axis=-1)
    shifted = Polynomial(C)(Polynomial([0.7, 1.0])).coef
    assert_near(forward(q=q, k=k, scale=1.0), forward(c=shifted, scale=1.0))
    wide, narrow = gradient(q=q, k=k, scale=1.0), gradient(c=shifted, scale=1.0)
    assert_near(wide.query[..., :-1], narrow.query)
    assert_near(wide.key[..., :-1], narrow.key)
    assert_near(wide.value, narrow.value)


def test_scales_of_queries_keys_and_logits_are_one() -> None:
    base, grads = forward(scale=0.3), gradient(scale=0.3)
    for options in ({"q": 2.0 * Q, "scale": 0.15}, {"k": -K, "scale": -0.3}):
        assert_near(forward(**options), base)
    assert_near(forward(c=C * 0.3 ** np.arange(5), scale=1.0), base)
    assert_near(gradient(q=2.0 * Q, scale=0.15).query, 0.5 * grads.query)
    assert_near(gradient(k=-K, scale=-0.3).key, -grads.key)
    # d/dc of the polynomial in 0.3 s, in powers of s.
    inner = gradient(c=C * 0.3 ** np.arange(5), scale=1.0).coefficients
    assert_near(grads.coefficients, inner * 0.3 ** np.arange(5))


def test_a_factor_of_the_polynomial_cancels() -> None:
    # By a power of two, every product is that power of two times as large.
    np.testing.assert_array_equal(forward(c=8.0 * C), forward())
    assert_near(forward(c=0.3 * C), forward())
    grads = gradient(c=0.3 * C)
    assert_near(grads.query, gradient().query)
    # So the gradient with respect to the coefficients has no part along them.
    for is_causal in (False, True):
        grads = gradient(is_causal=is_causal)
        assert abs(grads.coefficients @ C) <= 1e-12 * np.abs(grads.coefficients).max()


def test_a_rotation_of_queries_and_keys_changes_nothing() -> None:
    basis = np.linalg.qr(RNG.standard_normal((6, 6)))[0]
    assert_near(forward(q=Q @ basis, k=K @ basis), forward())
    assert_near(gradient(q=Q @ basis, k=K @ basis).key, gradient().key @ basis)


def test_empty_coordinates_change_nothing() -> None:
    q, k = (np.concatenate([x, np.zeros((*x.shape[:-1], 3))], axis=-1) for x in (Q, K))
    assert_near(forward(q=q, k=k, scale=0.4), forward(scale=0.4))


def test_heads_and_batches_can_be_split() -> None:
    out, grads = forward(is_causal=True), gradient(is_causal=True)
    parts = []
    for h in range(4):
        arrays = (Q[h], K[h // 2], V[h // 2], C)
        assert_near(subquad.polynomial_attention(*arrays, is_causal=True), out[h])
        parts.append(subquad.polynomial_attention_grad(G[h], *arrays, is_causal=True))
        assert_near(parts[h].query, grads.query[h])
    for pair in (0, 1):
        assert_near(parts[2 * pair].key + parts[2 * pair + 1].key, grads.key[pair])
        assert_near(parts[2 * pair].value + parts[2 * pair + 1].value, grads.value[pair])
    assert_near(sum(part.coefficients for part in parts), grads.coefficients)
    batch = [np.stack([x, x[::-1]]) for x in (Q, K, V)]
    assert_near(forward(*batch, is_causal=True)[0], out)


def test_columns_of_the_values_can_be_split() -> None:
    halves = [forward(v=V[..., part]) for part in (slice(0, 1), slice(1, 6))]
    assert_near(np.concatenate(halves, axis=-1), forward())


def test_the_gradient_is_linear_in_what_comes_from_above() -> None:
    other = RNG.standard_normal(G.shape)
    total, one, two = gradient(g=G + 2 * other), gradient(), gradient(g=other)
    for name in NAMES:
        assert_near(getattr(total, name), getattr(one, name) + 2 * getattr(two, name))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_along_the_gradient_has_its_slope(name: str) -> None:
    # Central differences in one random direction, at a size where blocks and threads matter.
    arrays = dict(zip("qkvc", (Q, K, V, C), strict=True))
    key = name[0]
    direction = RNG.standard_normal(arrays[key].shape)
    ends = [
        np.sum(G * forward(**arrays | {key: arrays[key] + step * direction}, is_causal=True))
        for step in (1e-5, -1e-5)
    ]
    slope = np.sum(getattr(gradient(is_causal=True), name) * direction)
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(slope, rel=1e-6, abs=1e-6)
