"""Plans: counts, reuse, refusal of another workload, display."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from strategies import Case, cases

import subquad

X = np.random.default_rng(0).standard_normal((2, 9, 4))


@given(cases(lengths=(0, 30)))
def test_counts_equal_those_of_the_twin(case: Case) -> None:
    plan = subquad.plan(*case.arrays, **case.options)
    assert plan == subquad.reference.plan(*case.arrays, **case.options)
    (exact,) = plan.candidates
    assert exact.flops == 2 * plan.pairs * (case.query.shape[-1] + case.value.shape[-1])
    given_bytes = sum(a.size * a.itemsize for a in case.arrays)
    assert exact.bytes >= given_bytes


def test_figures_of_a_known_workload() -> None:
    q = np.zeros((3, 10, 8), np.float32)
    kv = np.zeros((3, 20, 8), np.float32)
    assert subquad.plan(q, kv, kv).pairs == 3 * 200
    assert subquad.plan(q, kv, kv, is_causal=True).pairs == 3 * 55
    assert subquad.plan(q, kv, kv, is_causal="lower_right").pairs == 3 * (55 + 100)
    assert subquad.plan(q, kv, kv, is_causal="lower_right", window=4).pairs == 3 * 40
    plan = subquad.plan(q, kv, kv)
    assert (plan.method, plan.eps) == ("exact", None)
    assert plan.candidates[0].bytes == 4 * 8 * 3 * (10 + 20 + 20 + 10)
    assert plan.candidates[0].flops == 2 * 600 * 16


@pytest.mark.parametrize(
    ("queries", "keys", "kernel"),
    [
        (1, 8, "decode"),
        (1, 7, "tiled"),
        (32, 256, "decode"),
        (32, 255, "tiled"),
        (33, 9999, "tiled"),
    ],
)
def test_few_queries_on_many_keys_are_decoded(queries: int, keys: int, kernel: str) -> None:
    key = np.zeros((keys, 8))
    assert subquad.plan(np.zeros((3, queries, 8)), key, key).kernel == kernel


def test_a_plan_can_be_reused_on_other_numbers() -> None:
    plan = subquad.plan(X, X, X, eps=1e-2, is_causal=True)
    out, info = subquad.attention(X + 1, X, X, is_causal=True, plan=plan, return_info=True)
    assert info.plan is plan
    np.testing.assert_array_equal(out, subquad.attention(X + 1, X, X, is_causal=True))
    grads, info = subquad.attention_grad(X, X, X, X, is_causal=True, plan=plan, return_info=True)
    assert info.plan is plan
    assert grads.query.shape == X.shape


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ((X[:, :8], X, X), {"is_causal": True}, r"query = \(2, 9, 4\).*\(2, 8, 4\)"),
        ((X, X, X[..., :3]), {"is_causal": True}, r"value = \(2, 9, 4\).*\(2, 9, 3\)"),
        ((X, X, X.astype("f4")), {"is_causal": False}, "shift = 0.*None"),
        ((X.astype("f4"),) * 3, {"is_causal": True}, "dtype = float64.*float32"),
        ((X, X, X), {"is_causal": True, "window": 3}, "window = None.*3"),
        ((X, X, X), {"is_causal": True, "scale": 1.0}, "scale = 0.5.*1.0"),
        ((X, X, X), {"is_causal": True, "mask": True}, r"mask = None.*\(\)"),
        ((X, X, X), {"is_causal": True, "bias": np.zeros(9)}, r"bias = None.*\(9,\)"),
        ((X, X, X), {"is_causal": True, "eps": 1e-3}, r"eps = 0.01.*0.001"),
    ],
)
def test_another_workload_is_refused(
    arrays: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    plan = subquad.plan(X, X, X, eps=1e-2, is_causal=True)
    for attend in (subquad.attention, subquad.reference.attention):
        with pytest.raises(ValueError, match=f"`plan` was made for {message}"):
            attend(*arrays, plan=plan, **options)


def test_what_is_not_a_plan_is_refused() -> None:
    with pytest.raises(TypeError, match="`plan` must be a Plan, got str"):
        subquad.attention(X, X, X, plan="exact")  # type: ignore[arg-type]


def test_the_same_plan_for_the_same_alignment() -> None:
    plan = subquad.plan(X, X, X, is_causal=True)
    for same in ("upper_left", "lower_right"):  # L == S
        out = subquad.attention(X, X, X, is_causal=same, scale=0.5, plan=plan)
        np.testing.assert_array_equal(out, subquad.attention(X, X, X, is_causal=True))


def test_the_table_names_what_it_decided_from() -> None:
    plan = subquad.plan(X, X, X, eps=1e-2, is_causal=True, window=4, bias=np.zeros((9, 9)))
    text = repr(plan)
    for part in ("exact (tiled)", "0.01 of the spread", "bias (9, 9)", "the last 4", "candidate"):
        assert part in text
    assert len({line.index("exact") for line in text.splitlines()[-1:]}) == 1
    html = plan._repr_html_()
    assert html.count("<table>") == html.count("</table>") == 2
    assert "&lt;=" in html


def test_plans_can_be_pickled() -> None:
    plan = subquad.plan(X, X, X, eps=1e-2)
    assert pickle.loads(pickle.dumps(plan)) == plan
