"""Planning with polynomials: when they are chosen, what is said otherwise, and plans used again."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from approximations import assert_certified, attend, cast, problem

import subquad
from subquad import _planner

EPS = 1e-2
FLAT = problem(2, sizes=(200, 220, 3, 2))
# Logits far beyond what a polynomial reaches.
LARGE = problem(2, sizes=(200, 220, 3, 2), size=10.0)
Options = dict[str, Any]
BY_POLYNOMIALS: Options = {"eps": EPS, "method": "polynomial"}


def test_quadratic_is_said_with_numbers() -> None:
    plan = subquad.plan(*LARGE, **BY_POLYNOMIALS)
    assert plan.method == "exact"
    assert plan.reason.startswith("quadratic: d = 3, max|s| <= ")
    for part in ("eps = 0.01", "% of the rows by all keys", "above log n = 5.39", "hardness"):
        assert part in plan.reason
    q, k, v = LARGE
    unit = 50 * q / np.linalg.norm(q, axis=-1, keepdims=True)
    assert "needs a degree beyond 24" in subquad.plan(unit, k, v, **BY_POLYNOMIALS).reason
    assert [head.method for head in plan.heads] == ["exact", "exact"]
    largest = np.abs(q @ np.swapaxes(k, -1, -2)).max(axis=(1, 2)) / np.sqrt(3.0)
    assert all(h.largest_logit >= x / 2 for h, x in zip(plan.heads, largest, strict=True))
    # What was not found has no operations to compare; the table says why, head by head.
    assert [c.method for c in plan.candidates] == ["exact"]
    lines = repr(plan).splitlines()[-2:]
    for line, head in zip(lines, plan.heads, strict=True):
        assert head.reason
        assert line.endswith(head.reason)


def test_a_degree_that_costs_more_than_all_keys_is_named_with_its_operations() -> None:
    wide = problem(sizes=(60, 64, 24, 4), size=0.5)
    plan = subquad.plan(*wide, eps=1e-3, method="polynomial")
    assert plan.method == "exact"
    assert "features for 64 keys" in plan.reason
    assert "operations against" in plan.reason
    assert "log n = 4.16" in plan.reason


def test_the_table_shows_what_was_compared() -> None:
    plan = subquad.plan(*FLAT, **BY_POLYNOMIALS)
    exact, polynomial = plan.candidates
    assert plan.method == polynomial.method == "polynomial"
    assert polynomial.flops < exact.flops
    assert polynomial.flops == int(sum(head.flops for head in plan.heads))
    assert polynomial.bytes == exact.bytes
    text = repr(plan)
    for part in ("2 of 2 heads by polynomials of degree", "sums over features", "of the spread"):
        assert part in text
    for head in plan.heads:
        assert all(f"{degree}: {rows}" in text for degree, rows in head.degrees)
    html = plan._repr_html_()
    assert html.count("<table>") == html.count("</table>") == 3


def test_the_table_of_many_heads_is_cut() -> None:
    q, k, v = (np.broadcast_to(a[:1], (20, *a.shape[1:])) for a in FLAT)
    plan = subquad.plan(q, k, v, **BY_POLYNOMIALS)
    assert len(plan.heads) == 20
    assert repr(plan).splitlines()[-1].strip() == "4 more"


def test_plans_are_reported_pickled_and_reused() -> None:
    plan = subquad.plan(*FLAT, **BY_POLYNOMIALS)
    _, info = subquad.attention(*FLAT, **BY_POLYNOMIALS, return_info=True)
    assert info.plan == plan
    assert "polynomial (sums over features)" in repr(info)
    assert "<table>" in info._repr_html_()
    copy = pickle.loads(pickle.dumps(plan))
    assert copy == plan
    out = subquad.attention(*FLAT, plan=copy)
    np.testing.assert_array_equal(out, subquad.attention(*FLAT, **BY_POLYNOMIALS))


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("mask", {"mask": np.ones((200, 220), bool)}),
        ("bias", {"bias": np.zeros(220)}),
        ("window", {"window": 50, "is_causal": True}),
    ],
)
def test_what_polynomials_cannot_take_is_exact_and_named(name: str, given: Options) -> None:
    out, info = subquad.attention(*FLAT, **BY_POLYNOMIALS | given, return_info=True)
    assert info.method == "exact"
    assert f"`{name}` is given, which polynomials cannot take" in info.reason
    np.testing.assert_array_equal(out, subquad.attention(*FLAT, **given))
    with pytest.raises(subquad.CertificateError, match=f"`{name}` is given"):
        subquad.attention(*FLAT, **BY_POLYNOMIALS | given, fallback="raise")


def test_a_method_that_approximates_needs_to_know_how_well() -> None:
    for call in (subquad.attention, subquad.plan):
        with pytest.raises(ValueError, match="`eps` or `plan` must be given"):
            call(*FLAT, method="polynomial")
    plan = subquad.plan(*FLAT, **BY_POLYNOMIALS)
    assert subquad.attention(*FLAT, plan=plan, method="polynomial").shape == (2, 200, 2)
    with pytest.raises(ValueError, match='`plan` was made for method = "polynomial"'):
        subquad.attention(*FLAT, plan=plan, method="exact")


CALLS: list[Callable[..., Any]] = [
    lambda **options: subquad.attention(*LARGE, **BY_POLYNOMIALS | options),
    lambda **options: subquad.attention_grad(LARGE[2][:, :200], *LARGE, **BY_POLYNOMIALS | options),
]


@pytest.mark.parametrize("call", CALLS, ids=["attention", "attention_grad"])
def test_a_method_that_does_not_answer_falls_back_as_asked(call: Callable[..., Any]) -> None:
    with pytest.raises(subquad.CertificateError, match=r"2 of 2 heads: d = 3, max\|s\|") as caught:
        call(fallback="raise")
    assert caught.value.plan.eps == EPS
    assert [head.method for head in caught.value.plan.heads] == ["exact", "exact"]
    with pytest.warns(subquad.AccuracyWarning, match='method="polynomial" does not answer') as met:
        call(fallback="warn")
    assert [one.filename for one in met] == [__file__]
    call(fallback="exact")  # silent: warnings are errors here


def test_a_mixture_of_heads_counts_those_that_are_left() -> None:
    q, k, v = (np.concatenate([a, b[:1]]) for a, b in zip(FLAT, LARGE, strict=True))
    with pytest.raises(subquad.CertificateError, match="1 of 3 heads"):
        subquad.attention(q, k, v, **BY_POLYNOMIALS, fallback="raise")
    out, info = subquad.attention(q, k, v, **BY_POLYNOMIALS, return_info=True)
    assert [head.method for head in info.plan.heads] == ["polynomial", "polynomial", "exact"]
    assert "2 of 3 heads" in info.reason
    np.testing.assert_array_equal(out[2], subquad.attention(q[2], k[2], v[2]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_a_plan_on_other_numbers_keeps_their_bounds(dtype: str, is_causal: bool) -> None:
    arrays = cast(FLAT, dtype)
    plan = subquad.plan(*arrays, **BY_POLYNOMIALS, is_causal=is_causal)
    for size, offset in ((0.1, 0.0), (0.02, 3.0), (0.3, 0.0), (2.0, 1.0), (100.0, 0.0)):
        q, k, v = problem(2, sizes=(200, 220, 3, 2), size=size, seed=7)
        others = cast((q + offset, k - offset, 5 * v + offset), dtype)
        answer = attend(others, EPS, plan=plan, is_causal=is_causal)
        assert answer.info.plan is plan
        bound, spread = answer.info.error_bound, answer.info.spread
        assert bound is not None
        assert spread is not None
        assert np.all(answer.error <= bound + 1e-12)
        sizes = np.linalg.norm(answer.out, axis=-1)
        unit = float(np.finfo(dtype).eps)
        assert np.all(bound <= 1.0001 * EPS * spread[..., None] + unit * sizes)
        if size == 0.1:
            assert_certified(others, answer, EPS)
        if size == 100.0:
            assert answer.info.stats["rows_recomputed"] >= 200


def test_a_plan_meets_numbers_that_it_cannot_take() -> None:
    plan = subquad.plan(*FLAT, **BY_POLYNOMIALS)
    for array in range(3):
        for number in (np.nan, np.inf):
            others = [a.copy() for a in FLAT]
            others[array][1, 7, 1] = number
            with pytest.raises(ValueError, match=r"must be finite, got .* at index \(1, 7, 1\)"):
                subquad.attention(*others, plan=plan)
    out = subquad.attention(0 * FLAT[0], FLAT[1], 0 * FLAT[2], plan=plan)
    assert not out.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"certificate": "statistical"}, "certificate = deterministic.*statistical"),
        ({"centres": None}, "centres = auto.*none"),
        ({"centres": 5}, "centres = auto.*first 5 tokens"),
        ({"centres": (np.zeros(3), np.zeros(3))}, "centres = auto.*given"),
        ({"is_causal": True}, "shift = None.*0"),
        ({"eps": 0.1}, "eps = 0.01.*0.1"),
    ],
)
def test_a_plan_for_another_workload_is_refused(options: Options, message: str) -> None:
    plan = subquad.plan(*FLAT, **BY_POLYNOMIALS)
    for call in (subquad.attention, subquad.reference.attention):
        with pytest.raises(ValueError, match=f"`plan` was made for {message}"):
            call(*FLAT, plan=plan, **options)


def test_auto_takes_polynomials_where_much_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    assert subquad.plan(*FLAT, eps=EPS).reason.startswith("so few operations")
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 20_000, 8), np.float32)
    q *= 0.03
    plan = subquad.plan(q, k, k, eps=EPS)
    assert plan.method == "polynomial"
    assert plan.candidates[1].flops < plan.candidates[0].flops / 10
    large = subquad.plan(100 * q, k, k, eps=EPS)
    assert large.method == "exact"
    assert "quadratic" in large.reason
    assert subquad.plan(q, k, k, eps=EPS, method="exact").method == "exact"
    # What is saved must be worth what choosing costs.
    monkeypatch.setattr(_planner, "_OVERHEAD", 10**12)
    assert subquad.plan(q, k, k, eps=EPS).method == "exact"
    monkeypatch.setattr(_planner, "_OVERHEAD", 0)
    answer = subquad.attention(*FLAT, eps=EPS, return_info=True)[1]
    assert answer.method == "polynomial"


def test_a_gradient_is_planned_one_degree_higher() -> None:
    value = subquad.plan(*FLAT, eps=1e-2, method="polynomial", centres=None)
    g = np.ones((2, 200, 2))
    _, info = subquad.attention_grad(
        g, *FLAT, eps=1e-2, method="polynomial", centres=None, return_info=True
    )
    assert (value.derivative, info.plan.derivative) == (False, True)
    for one, other in zip(value.heads, info.plan.heads, strict=True):
        assert min(other.degrees)[0] >= min(one.degrees)[0]
        assert max(other.degrees)[0] >= max(one.degrees)[0]
    assert info.stats["degree"] >= 2
