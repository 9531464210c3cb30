"""Orders of computation: legal, as described, and better ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pebbles import dags, diamond

from subquad.pebble import Dag, Model, improve_order, order, play, simulate

KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("natural", {}),
    ("depth-first", {}),
    ("greedy", {"memory": 4}),
    ("recursive", {}),
    ("blocked", {"block": 4}),
)


def needed(dag: Dag) -> set[int]:
    """What is computed for an output."""
    found: set[int] = set()
    todo = dag.outputs.tolist()
    while todo:
        v = todo.pop()
        operands = dag.predecessors(v).tolist()
        if operands and v not in found:
            found.add(v)
            todo += operands
    return found


def check(dag: Dag, listed: Any) -> None:
    """An order holds what is needed, once, after its operands."""
    assert isinstance(listed, np.ndarray)
    assert listed.dtype == np.int64
    assert sorted(listed.tolist()) == sorted(needed(dag))
    done = set(dag.sources.tolist())
    for v in listed.tolist():
        assert done.issuperset(dag.predecessors(v).tolist())
        done.add(v)


@given(dag=dags(most=14), memory=st.integers(1, 9))
def test_graphs_of_any_shape_have_orders(dag: Dag, memory: int) -> None:
    check(dag, order(dag))
    check(dag, order(dag, "depth-first"))
    check(dag, order(dag, "greedy", memory=memory))


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_generated_graphs_have_orders(kind: str, options: dict[str, int]) -> None:
    everywhere = [Dag.matmul(3, 5, 4, form=form) for form in ("fma", "chain", "tree")]
    everywhere += [Dag.fft(1), Dag.fft(16)]
    blocked = [Dag.grid(3, 9), Dag.pyramid(6), Dag.stencil(9, 4), Dag.attention_grad(5, 2)]
    blocked += [Dag.attention(5, 2, softmax=s) for s in ("unnormalised", "safe", "online")]
    others = [Dag.chain(4), Dag.tree(3), Dag.random(30, 4)]
    for dag in [*everywhere, *blocked, *others]:
        if kind in ("recursive", "blocked") and (
            dag in others or (kind == "recursive" and dag in blocked)
        ):
            with pytest.raises(ValueError, match="`kind` must be another one for the family"):
                order(dag, kind, **options)
        else:
            check(dag, order(dag, kind, **options))


def test_blocks_of_a_product() -> None:
    dag = Dag.matmul(2, 4, 2)
    names = [dag.names[v] for v in order(dag, "blocked", block=2)]
    first = ["C[0,0;0:1]", "C[0,1;0:1]", "C[1,0;0:1]", "C[1,1;0:1]"]
    assert names[:8] == [*first, *(name.replace(";0:1", "") for name in first)]


def test_orders_matter_more_than_policies() -> None:
    dag = Dag.matmul(24, 24, 24)
    bound = 2 * 24**3 / np.sqrt(64) - 2 * 64
    blocked = order(dag, "blocked", block=7)
    words = {
        policy: simulate(dag, blocked, 64, policy).words
        for policy in ("belady", "belady-clean", "fifo")
    }
    natural = simulate(dag, order(dag), 64).words
    assert bound <= min(words.values())
    assert max(words.values()) < 1.7 * bound < natural


def test_depth_first_is_the_order_of_sethi_and_ullman() -> None:
    # A comb whose handle is the last operand everywhere: its end must be computed first.
    length = 12
    edges = [(i, length + 1 + i) for i in range(length)]
    edges += [(length + i, length + 1 + i) for i in range(length)]
    dag = Dag.from_edges(2 * length + 1, edges)
    assert simulate(dag, order(dag, "depth-first"), 3).words == length + 2
    # Operands of many words come first where that saves memory.
    heavy = Dag.from_edges(6, [(0, 2), (1, 3), (2, 4), (3, 4), (4, 5)], weights=[1, 9, 1, 1, 1, 1])
    assert order(heavy, "depth-first").tolist() == [3, 2, 4, 5]
    assert simulate(heavy, [3, 2, 4, 5], 10).words == 11


def test_greedy_loads_a_stencil_once() -> None:
    dag = Dag.stencil(200, 20)
    listed = order(dag, "greedy", memory=44)
    assert simulate(dag, listed, 44).words == 400


@pytest.mark.parametrize(
    ("dag", "memory", "optimum"),
    [
        (Dag.matmul(3, 3, 3), 6, 39),
        (Dag.fft(8), 4, 31),
        (Dag.stencil(8, 4), 6, 26),
        (Dag.attention(2, 2), 4, 38),
    ],
    ids=["matmul", "fft", "stencil", "attention"],
)
def test_a_search_finds_known_optima(dag: Dag, memory: int, optimum: int) -> None:
    start = order(dag)
    found = improve_order(dag, start, memory, seed=1)
    check(dag, found.order)
    assert found.start == simulate(dag, start, memory)
    assert found.count == simulate(dag, found.order, memory)
    assert found.count.words == optimum
    assert found.evaluations == 20_000


def test_a_search_is_fixed_by_its_arguments() -> None:
    dag = Dag.attention(3, 2)
    model = Model(sliding=True, outputs="any")
    found = [
        improve_order(dag, order(dag), 5, model=model, evaluations=3000, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(found[0].order, found[1].order)
    assert not np.array_equal(found[0].order, found[2].order)
    for one in found:
        count, moves = simulate(dag, one.order, 5, model=model, return_moves=True)
        assert one.count == count == play(dag, moves, 5, model=model)
        assert one.model == model
        assert one.count.words <= one.start.words


def test_a_search_ends_in_time() -> None:
    dag = Dag.fft(64)
    found = improve_order(dag, order(dag), 10, evaluations=10**9, time_limit=0.05)
    assert 0 < found.evaluations < 10**9
    none = improve_order(dag, order(dag), 10, time_limit=0)
    assert none.evaluations == 0
    assert none.count == none.start
    # Nothing to move.
    assert improve_order(Dag.chain(0), [], 1, evaluations=9).count.words == 0
    assert improve_order(Dag.chain(3), [1, 2, 3], 2, evaluations=9).count.words == 2


def test_arguments_are_refused() -> None:
    dag = diamond()
    for kind in ("recursive", "blocked"):
        options = {"block": 2} if kind == "blocked" else {}
        with pytest.raises(ValueError, match="for a graph that is not generated"):
            order(dag, kind, **options)
    with pytest.raises(ValueError, match='`kind` must be one of "natural"'):
        order(dag, "random")
    with pytest.raises(ValueError, match='`memory` must be given for kind "greedy"'):
        order(dag, "greedy")
    with pytest.raises(ValueError, match='`memory` must be left out for kind "natural"'):
        order(dag, memory=3)
    with pytest.raises(ValueError, match='`block` must be given for kind "blocked"'):
        order(dag, "blocked")
    with pytest.raises(ValueError, match="`block` must be a power of two, at least 2, got 3"):
        order(Dag.fft(8), "blocked", block=3)
    with pytest.raises(ValueError, match="`memory` must be at least 3, got 2"):
        improve_order(dag, [1, 2, 3], 2)
    with pytest.raises(ValueError, match="before its operand"):
        improve_order(dag, [3, 2, 1], 3)
    with pytest.raises(ValueError, match="`time_limit` must be at least 0"):
        improve_order(dag, [1, 2, 3], 3, time_limit=-1.0)
    with pytest.raises(ValueError, match="`evaluations` must be at least 0"):
        improve_order(dag, [1, 2, 3], 3, evaluations=-1)


def test_an_order_of_nothing_is_the_best_there_is() -> None:
    found = improve_order(Dag.from_edges(0, []), [], 1)
    assert (found.order.tolist(), found.count.words) == ([], 0)
