"""Budgets and bounds of attention of turned rows: they cover the rounding of the rotation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from strategies import ROUNDOFF, Array, spread_of

import subquad
from subquad import rope
from subquad._problem import prepare
from subquad._rope import check_turning
from subquad._rope_problem import turn_problem


def arrays(size: float, dtype: str = "float32", heads: int = 2, seed: int = 0) -> list[Array]:
    """Queries, keys and values; logits of about `size` squares."""
    rng = np.random.default_rng(seed)
    q, k = np.sqrt(size) * rng.standard_normal((2, heads, 60, 16)) / 2
    return [x.astype(dtype) for x in (q, k, rng.standard_normal((heads, 60, 5)))]


def errors(out: Array, given: list[Array], **options: Any) -> Array:
    exact = subquad.reference.rope.attention(*given, **options)
    off: Array = np.linalg.norm(out.astype(np.float64) - exact, axis=-1)
    return off


OPTIONS: list[dict[str, Any]] = [
    {},
    {"layout": "interleaved", "is_causal": True},
    {"positions": np.arange(60) + 10**6, "rotary_dim": 6},
    {"scaling": {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 100}},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("size", [1e-40, 1.0, 30.0, 1e3, 1e6])
def test_the_bound_holds(size: float, dtype: str, options: dict[str, Any]) -> None:
    given = arrays(size, dtype)
    out, info = rope.attention(*given, **options, return_info=True)
    # Angles of the definition are in 64 bits.
    slack = 1e-13 * size * 100 + 1e-15
    assert np.all(errors(out, given, **options) <= info.error_bound + slack)
    turned = {name: options[name] for name in options if name != "is_causal"}
    q, k = (rope.rotate(x.astype(np.float32), **turned) for x in given[:2])
    causal = {"is_causal": options.get("is_causal", False)}
    alone = subquad.attention(q, k, given[2].astype(np.float32), **causal, return_info=True)[1]
    if dtype == "float32" and size >= 1.0:
        # What rotation adds, and no more than a bound of this kind must.
        assert np.all(info.error_bound > alone.error_bound)
        assert np.all(info.error_bound <= 2 * alone.error_bound)
    assert "rotation moves rows" in info.reason


def test_logits_are_off_by_less_than_the_bound_and_not_by_much_less() -> None:
    # A head is a pair of a query and a key, far apart.
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 3000, 1, 4)).astype(np.float32)
    places = rng.integers(0, 10**6, (2, 3000, 1))
    problem = prepare(
        q,
        k,
        k,
        mask=None,
        bias=None,
        is_causal=False,
        window=None,
        scale=3.0,
        enable_gqa=False,
        workers=1,
        check_finite=True,
    )
    turned = turn_problem(problem, check_turning(4, 1e4, "half", None, None), *places)
    turned.measure(None, None, asked=True)
    x, y = (a.astype(np.float64) for a in (turned.problem.query, turned.problem.key))
    turns = [
        subquad.reference.rope.rotate(a, positions=p) for a, p in zip((q, k), places, strict=True)
    ]
    off = 3.0 * abs((x * y).sum(-1) - (turns[0] * turns[1]).sum(-1))
    assert turned.moved is not None
    # moved = x / (1 - x) and x = exp(t) - 1 for logits that are off by t.
    bound = np.log1p(turned.moved / (1.0 + turned.moved))
    assert np.all(off <= bound)
    assert (off / bound).max() > 0.1


def holds(out: Array, info: subquad.Info, given: list[Array], eps: float, **options: Any) -> None:
    off = errors(out, given, **options)
    spread = spread_of(given[2])[..., np.newaxis]
    exact = subquad.reference.rope.attention(*given, **options)
    allowed = eps * spread + 2 * ROUNDOFF[out.dtype.name] * np.linalg.norm(exact, axis=-1)
    assert info.error_bound is not None
    assert np.all(off <= info.error_bound + 1e-12)
    assert np.all(info.error_bound <= allowed * (1 + 1e-9))
    assert info.plan.eps == eps


@pytest.mark.parametrize("options", OPTIONS)
def test_a_small_budget_is_met_in_float64(options: dict[str, Any]) -> None:
    given = arrays(30.0)
    for eps, double in ((1e-2, False), (1e-5, True), (1e-7, True)):
        out, lse, info = rope.attention(
            *given, **options, eps=eps, return_lse=True, return_info=True, fallback="raise"
        )
        holds(out, info, given, eps, **options)
        assert ("was done in float64" in info.reason) == double
        assert (out.dtype, lse.dtype) == (np.float32, np.float32)
        target = np.empty_like(out)
        assert rope.attention(*given, **options, eps=eps, out=target) is target
        np.testing.assert_array_equal(target, out)
        grads = rope.attention_grad(given[2], *given, **options, eps=eps, forward=(out, lse))
        exact = subquad.reference.rope.attention_grad(given[2], *given, **options)
        for name in ("query", "key", "value"):
            found, wanted = getattr(grads, name), getattr(exact, name)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * abs(wanted).max())


IMPOSSIBLE = 1e-13


def test_a_budget_beyond_float64_falls_back() -> None:
    given = arrays(1e3)
    out, info = rope.attention(*given, eps=IMPOSSIBLE, return_info=True)
    assert "too much of eps" in info.reason
    assert np.all(errors(out, given) <= info.error_bound + 1e-10)
    with pytest.raises(subquad.CertificateError, match="rotation alone may move rows by") as caught:
        rope.attention(*given, eps=IMPOSSIBLE, fallback="raise")
    assert caught.value.plan.eps == IMPOSSIBLE
    with pytest.warns(subquad.AccuracyWarning, match="rotation alone") as warned:
        rope.attention(*given, eps=IMPOSSIBLE, fallback="warn")
    assert warned[0].filename == __file__
    with pytest.warns(subquad.AccuracyWarning, match="rotation alone") as warned:
        rope.attention_grad(given[2], *given, eps=IMPOSSIBLE, fallback="warn")
    assert warned[0].filename == __file__


def test_without_a_certificate_nothing_is_bounded() -> None:
    given = arrays(30.0)
    out, info = rope.attention(
        *given, eps=IMPOSSIBLE, certificate="none", fallback="raise", return_info=True
    )
    assert info.error_bound is None
    assert "rotation" not in info.reason
    np.testing.assert_array_equal(out, rope.attention(*given))


def test_budgets_of_nothing() -> None:
    given = [np.zeros((2, 0, 4)), np.zeros((2, 3, 4)), np.zeros((2, 3, 4))]
    out, info = rope.attention(*given, eps=1e-3, return_info=True)
    assert out.shape == (2, 0, 4)
    given = [np.zeros((2, 3, 4)), np.zeros((2, 0, 4)), np.zeros((2, 0, 4))]
    out, info = rope.attention(*given, eps=1e-3, return_info=True)
    assert not out.any()
    assert info.error_bound is not None


def small_logits(tokens: int = 3000) -> list[Array]:
    rng = np.random.default_rng(5)
    q = 0.2 * rng.standard_normal((tokens, 8))
    return [x.astype(np.float32) for x in (q, *rng.standard_normal((2, tokens, 8)))]


@pytest.mark.parametrize("is_causal", [False, True])
def test_polynomials_answer_within_the_budget(is_causal: bool) -> None:
    given = small_logits()
    options: dict[str, Any] = {"is_causal": is_causal, "eps": 1e-2, "method": "polynomial"}
    out, info = rope.attention(*given, **options, fallback="raise", return_info=True)
    assert info.method == "polynomial"
    holds(out, info, given, 1e-2, is_causal=is_causal)
    assert errors(out, given, is_causal=is_causal).max() > 1e-6  # it is not the exact one
    grad_out = np.cos(given[2])
    grads, info = rope.attention_grad(grad_out, *given, **options, return_info=True)
    assert (info.method, info.grad_bound) == ("polynomial", None)
    exact = subquad.reference.rope.attention_grad(grad_out, *given, is_causal=is_causal)
    for name in ("query", "key", "value"):
        found, wanted = getattr(grads, name), getattr(exact, name)
        assert np.linalg.norm(found - wanted) <= 0.05 * np.linalg.norm(wanted)


def test_a_plan_is_one_of_turned_rows() -> None:
    q, k, v = small_logits()
    plan = subquad.plan(rope.rotate(q), rope.rotate(k), v, eps=1e-2, method="polynomial")
    out, info = rope.attention(q, k, v, plan=plan, return_info=True)
    assert info.method == "polynomial"
    assert info.plan == plan
    holds(out, info, [q, k, v], 1e-2)
    again = rope.attention(q, k, v, plan=info.plan, eps=1e-2)
    np.testing.assert_array_equal(again, out)
    with pytest.raises(ValueError, match="`plan` was made for eps"):
        rope.attention(q, k, v, plan=plan, eps=0.1)


def test_random_rows_are_held_against_what_is_left() -> None:
    given = small_logits(2000)
    out, info = rope.attention(
        *given,
        eps=1e-2,
        method="polynomial",
        certificate="statistical",
        rng=0,
        return_info=True,
    )
    assert info.error_bound is not None
    known = ~np.isnan(info.error_bound)
    assert known.any()
    assert np.all(errors(out, given)[known] <= info.error_bound[known])
