"""Statistical certificates: which rows are looked at, what follows, and heads that fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from approximations import assert_consistent, cast, problem

import subquad
from subquad._approximate import fitted

EPS = 0.05
SIZES = (1000, 1100, 4, 3)
STATISTICAL: dict[str, Any] = {
    "eps": EPS,
    "method": "polynomial",
    "certificate": "statistical",
    "return_info": True,
}


def errors(out: Any, arrays: Any, **options: Any) -> Any:
    return np.linalg.norm(out - subquad.reference.attention(*arrays, **options), axis=-1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("is_causal", [False, True, "lower_right"])
def test_random_rows_are_held_against_the_exact_ones(is_causal: Any, dtype: str) -> None:
    q, k, v = cast(problem(2, sizes=SIZES, size=0.6), dtype)
    options = {"is_causal": is_causal}
    out, info = subquad.attention(q, k, v, rng=1, **STATISTICAL, **options)
    assert info.method == "polynomial"
    assert_consistent(info, out.shape, EPS)
    assert info.confidence == 0.95
    assert info.coverage == pytest.approx(0.05 ** (1 / 300))
    rows, bound, relative = info.sampled_rows, info.error_bound, info.relative_bound
    assert rows.shape == (600, 2)
    assert rows.dtype == np.int64
    assert np.array_equal(np.unique(rows[:, 0], return_counts=True)[1], [300, 300])
    assert len(np.unique(rows, axis=0)) == 600
    seen = np.zeros(bound.shape, bool)
    seen[tuple(rows.T)] = True
    assert np.isnan(bound[~seen]).all()
    assert np.isnan(relative[~seen]).all()
    error = errors(out.astype(np.float64), (q, k, v), **options)
    assert np.all(error[seen] <= bound[seen] + 1e-13)
    unit = float(np.finfo(dtype).eps)
    budget = EPS * info.spread[:, None] + unit * np.linalg.norm(out.astype("f8"), axis=-1)
    assert np.all(bound[seen] <= (budget * 1.001)[seen])
    # What the sample says of all rows.
    assert np.all((error <= budget).mean(axis=1) >= info.coverage)
    text = repr(info)
    assert "of 600 random rows: with 95% confidence 99.0% of the rows of a head" in text
    assert info.plan.workload.certificate == "statistical"
    for head in info.plan.heads:
        shape = (head.trailing + 1, head.degrees[0][0] + 1)
        assert np.shape(head.coefficients) == shape


def test_the_same_seed_gives_the_same_bits() -> None:
    arrays = problem(2, sizes=SIZES, size=0.6)
    out, info = subquad.attention(*arrays, rng=1, **STATISTICAL)
    again, same = subquad.attention(*arrays, rng=1, **STATISTICAL)
    np.testing.assert_array_equal(out, again)
    np.testing.assert_array_equal(info.sampled_rows, same.sampled_rows)
    np.testing.assert_array_equal(info.error_bound, same.error_bound)
    for other in (2, np.random.default_rng(1), np.random.SeedSequence(5)):
        _, others = subquad.attention(*arrays, rng=other, **STATISTICAL)
        if not isinstance(other, np.random.Generator):
            assert not np.array_equal(info.sampled_rows, others.sampled_rows)
    subquad.attention(*arrays, rng=None, **STATISTICAL)


def test_it_reaches_further_than_bounds_do() -> None:
    arrays = problem(sizes=SIZES, size=1.0)
    _, proved = subquad.attention(*arrays, eps=EPS, method="polynomial", return_info=True)
    out, info = subquad.attention(*arrays, rng=1, **STATISTICAL)
    assert info.method == "polynomial"
    assert proved.method == "exact" or (
        proved.plan.candidates[1].flops > info.plan.candidates[1].flops
    )
    assert info.sampled_rows.shape == (300, 1)
    assert errors(out, arrays)[info.sampled_rows[:, 0]].max() <= EPS * info.spread


@pytest.mark.parametrize("queries", [1, 40, 300])
def test_few_rows_are_all_looked_at(queries: int) -> None:
    arrays = problem(2, sizes=(queries, 600, 3, 2))
    out, info = subquad.attention(*arrays, rng=1, **STATISTICAL)
    if queries > 1:
        assert info.method == "polynomial"
    if info.method == "exact":
        assert info.sampled_rows is None
        return
    assert (info.confidence, info.coverage) == (1.0, 1.0)
    assert info.sampled_rows.shape == (2 * queries, 2)
    assert np.isfinite(info.error_bound).all()
    assert np.all(errors(out, arrays) <= info.error_bound + 1e-13)


def rare(count: int) -> Any:
    """A flat head, and one of which some rows are peaked."""
    q, k, v = problem(2, sizes=SIZES)
    q[1, np.random.default_rng(3).permutation(SIZES[0])[:count]] *= 300
    return q, k, v


def test_a_head_that_fails_is_computed_exactly() -> None:
    # So many that the sample meets some and the rows that the polynomial is fitted to do not.
    for seed in range(40):
        arrays = rare(20)
        out, lse, info = subquad.attention(*arrays, rng=seed, return_lse=True, **STATISTICAL)
        if info.plan.heads[1].method == "polynomial":
            break
    assert "failed on random rows and were computed exactly: 1" in info.reason
    exact, exact_lse = subquad.attention(*arrays, return_lse=True)
    np.testing.assert_allclose(out[1], exact[1], rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(lse[1], exact_lse[1], rtol=1e-13)
    assert info.stats["rows_recomputed"] == 1000
    assert not np.isnan(info.error_bound[1]).any()
    assert np.all(errors(out, arrays)[1] <= info.error_bound[1] + 1e-13)
    # The other head is as it was.
    assert np.isnan(info.error_bound[0]).any()
    assert set(info.sampled_rows[:, 0]) == {0}
    assert np.abs(out[0] - exact[0]).max() > 1e-9
    # Gradients are those of exact rows then.
    g = np.ones_like(out)
    seeded = {**STATISTICAL, "rng": seed}
    grads, _ = subquad.attention_grad(g, *arrays, **seeded)
    expected = subquad.attention_grad(g, *arrays)
    assert np.abs(grads.value[1] - expected.value[1]).max() < 1e-12


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_head_may_fail(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    arrays = cast(problem(2, sizes=SIZES, size=1.0), dtype)

    def careless(kept: Any, *_: Any, **__: Any) -> Any:
        table = np.zeros((kept.trailing + 1, kept.degree + 1))
        table[0, :2] = 1.0, 0.1
        return table

    monkeypatch.setattr(fitted, "_fit", careless)
    monkeypatch.setattr(fitted, "_MARGIN", 1e9)
    out, info = subquad.attention(*arrays, rng=1, **STATISTICAL)
    assert "computed exactly: 2" in info.reason
    assert info.coverage == 1.0
    assert info.sampled_rows.shape == (0, 2)
    assert info.stats["rows_recomputed"] == 2000
    np.testing.assert_allclose(out, subquad.attention(*arrays), rtol=1e-3, atol=1e-4)
    assert np.all(errors(out.astype("f8"), arrays) <= info.error_bound)


def test_heads_without_polynomials_are_held_against_the_budget() -> None:
    q, k, v = problem(2, sizes=SIZES, size=0.6)
    q[1] *= 1e5  # rounded to float32, logits are far off
    arrays = cast((q, k, v), "float32")
    out, info = subquad.attention(*arrays, rng=1, **STATISTICAL)
    assert [head.method for head in info.plan.heads] == ["polynomial", "exact"]
    assert info.stats["rows_recomputed"] == 1000
    assert "1000 rows whose bound exceeded the budget were recomputed in float64" in info.reason
    assert np.all(info.error_bound[1] <= EPS * info.spread[1])
    exact = subquad.reference.attention(*(a.astype("f8") for a in arrays))
    error = np.linalg.norm(out - exact, axis=-1)
    assert np.all(error[1] <= info.error_bound[1])
    assert set(info.sampled_rows[:, 0]) == {0}


def test_a_plan_is_used_again_and_checked_again() -> None:
    arrays = problem(sizes=SIZES, size=0.6)
    settings = {name: STATISTICAL[name] for name in ("eps", "method", "certificate")}
    plan = subquad.plan(*arrays, rng=1, **settings)
    options: dict[str, Any] = {"plan": plan, "certificate": "statistical", "return_info": True}
    out, info = subquad.attention(*arrays, rng=1, **options)
    np.testing.assert_array_equal(out, subquad.attention(*arrays, rng=1, **STATISTICAL)[0])
    q, k, v = arrays
    others = (30 * q, k, v)
    out, info = subquad.attention(*others, rng=1, **options)
    assert "failed on random rows" in info.reason
    np.testing.assert_allclose(out, subquad.attention(*others), rtol=1e-12, atol=1e-13)
    with pytest.raises(ValueError, match=r"certificate = statistical.*deterministic"):
        subquad.attention(*arrays, plan=plan)


def test_without_a_certificate_nothing_is_drawn_or_bounded() -> None:
    arrays = problem(sizes=SIZES)
    settings = {**STATISTICAL, "certificate": "none"}
    out, info = subquad.attention(*arrays, **settings)
    assert info.method == "polynomial"
    nothing = (info.error_bound, info.relative_bound, info.spread, info.sampled_rows)
    assert nothing == (None,) * 4
    assert (info.confidence, info.coverage) == (None, None)
    assert "nothing certified" in info.reason
    # By a polynomial that has a bound nevertheless.
    spread = np.linalg.norm(arrays[2] - arrays[2].mean(axis=0), axis=1).max()
    assert errors(out, arrays).max() <= EPS * spread
