"""Orders of computation, counted: as by hand, as in the twin, and as the referee counts the moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pebbles import MODELS, dags, diamond, reduction

from subquad.pebble import Count, Dag, Model, Moves, order, play, simulate
from subquad.reference import pebble as reference

POLICIES = ("belady", "belady-clean", "best", "lru", "fifo", "random")
policies = pytest.mark.parametrize("policy", POLICIES)

GRAPHS = {
    "tree": Dag.tree(4),
    "grid": Dag.grid(4, 5),
    "stencil": Dag.stencil(7, 5),
    "fft": Dag.fft(16),
    "matmul": Dag.matmul(3, 4, 5),
    "attention": Dag.attention(4, 2, form="chain", softmax="online"),
    "gradient": Dag.attention_grad(3, 2),
}
graphs = pytest.mark.parametrize("dag", GRAPHS.values(), ids=GRAPHS.keys())


def test_a_diamond_by_hand() -> None:
    count, moves = simulate(diamond(), [1, 2, 3], 3, return_moves=True)
    assert (count.loads, count.stores, count.peak, count.computations) == (1, 1, 3, 3)
    expected = [("load", 0), ("compute", 1), ("compute", 2), ("delete", 0), ("compute", 3)]
    assert moves[:5] == Moves(expected)
    assert moves[-2:] == Moves([("store", 3), ("delete", 3)])
    assert count == simulate(diamond(), [1, 2, 3], 3)


@policies
@given(dag=dags(most=12), model=MODELS, extra=st.integers(0, 4), data=st.data())
@settings(max_examples=60)
def test_the_referee_counts_the_same(
    policy: str, dag: Dag, model: Model, extra: int, data: Any
) -> None:
    waits = {v: set(dag.predecessors(v).tolist()) for v in range(dag.num_vertices)}
    listed: list[int] = []
    while len(listed) < dag.num_vertices:
        ready = sorted(v for v in waits if v not in listed and waits[v] <= set(listed))
        listed.append(data.draw(st.sampled_from(ready)))
    memory = max(1, dag.least_memory(model)) + extra
    if model.sliding and not model.blue_persists:
        # What slides away and is needed again cannot be in slow memory as well: one word more per value.
        memory += int(dag.weights.max())
    count, moves = simulate(dag, listed, memory, policy, model=model, return_moves=True)
    assert play(dag, moves, memory, model=model) == count
    assert count.model == model
    assert count.recomputations == 0
    assert count == simulate(dag, np.array(listed), memory, policy, model=model)


@graphs
@pytest.mark.parametrize("policy", ["belady", "belady-clean", "best", "lru", "fifo"])
def test_counts_are_those_of_the_twin(dag: Dag, policy: str) -> None:
    for extra in (0, 1, 5):
        memory = dag.least_memory() + extra
        expected = reference.simulate(dag, order(dag), memory, policy)
        assert simulate(dag, order(dag), memory, policy) == expected


@given(dag=dags(most=12), extra=st.integers(0, 4), policy=st.sampled_from(POLICIES[:-1]))
def test_graphs_of_any_shape_are_those_of_the_twin(dag: Dag, extra: int, policy: str) -> None:
    memory = max(1, dag.least_memory()) + extra
    expected = reference.simulate(dag, order(dag), memory, policy)
    assert simulate(dag, order(dag), memory, policy) == expected


@graphs
def test_more_memory_never_costs_more_loads_with_foresight(dag: Dag) -> None:
    least = dag.least_memory()
    loads = [simulate(dag, order(dag), memory).loads for memory in range(least, least + 20)]
    assert loads == sorted(loads, reverse=True)


def test_trees_cost_what_they_spill() -> None:
    for height in range(2, 8):
        dag = Dag.tree(height)
        for memory in range(3, height + 4):
            spilled = 2 ** max(0, height - memory + 2) - 1
            words = 2**height + 1 + 2 * spilled
            assert simulate(dag, order(dag), memory).words == words
            slides = Model(sliding=True)
            assert simulate(dag, order(dag), memory - 1, model=slides).words == words


def test_known_optima_are_not_undercut() -> None:
    optima = [
        (Dag.fft(8), {3: 40, 4: 31, 5: 27, 6: 24, 10: 16}),
        (Dag.matmul(3, 3, 3), {4: 63, 5: 47, 6: 39, 14: 27}),
        (Dag.stencil(8, 8), {6: 46, 7: 39}),
        (Dag.attention(2, 2), {4: 38, 5: 24, 8: 16}),
    ]
    for dag, table in optima:
        for memory, optimum in table.items():
            words = [
                simulate(dag, order(dag, kind), memory, policy).words
                for kind in ("natural", "depth-first")
                for policy in POLICIES
            ]
            assert min(words) >= optimum
    assert simulate(Dag.fft(8), order(Dag.fft(8)), 10).words == 16


@pytest.mark.parametrize(
    ("uses", "loads"),
    [
        # With room for two, least recently used leaves just before it is needed.
        ([0, 1, 2, 0, 1, 2], {"belady": 4, "lru": 5, "fifo": 5}),
        # What was first in is in use all the time.
        ([0, 1, 0, 2, 0, 1, 2], {"belady": 4, "lru": 4, "fifo": 5}),
    ],
)
def test_policies_differ_where_they_should(uses: list[int], loads: dict[str, int]) -> None:
    steps = range(3, 3 + len(uses))
    dag = Dag.from_edges(3 + len(uses), list(zip(uses, steps, strict=True)))
    assert {policy: simulate(dag, steps, 3, policy).loads for policy in loads} == loads


def test_a_seed_fixes_the_random_policy() -> None:
    dag = GRAPHS["fft"]
    counts = [simulate(dag, order(dag), 6, "random", seed=seed) for seed in (1, 1, 2, 3)]
    assert counts[0] == counts[1]
    assert len(set(counts)) > 1


def test_what_is_skipped() -> None:
    dag = Dag.from_edges(5, [(0, 2), (1, 2), (2, 3), (1, 4)], outputs=[3])
    plain = simulate(dag, [2, 3], 3)
    assert plain == simulate(dag, dag.order, 3) == simulate(dag, [4, 2, 0, 3], 3)
    assert plain.loads == 2


def test_orders_that_are_none_are_refused() -> None:
    dag = diamond()
    with pytest.raises(ValueError, match="got vertex 3 at index 1 before its operand 2"):
        simulate(dag, [1, 3, 2], 3)
    with pytest.raises(ValueError, match=r"`order` must hold .* once, got vertex 2 0 times"):
        simulate(dag, [1, 3], 3)
    with pytest.raises(ValueError, match=r"`order` must hold .* once, got vertex 1 2 times"):
        simulate(dag, [1, 2, 1, 3], 3)
    with pytest.raises(ValueError, match="`order` must hold vertices below 4, got 4 at index 0"):
        simulate(dag, [4, 1, 2, 3], 3)
    with pytest.raises(ValueError, match="`order` must have one axis"):
        simulate(dag, [[1, 2, 3]], 3)
    with pytest.raises(TypeError, match="`order` must be integers"):
        simulate(dag, [1.0, 2.0, 3.0], 3)


def test_other_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="`return_moves` must be True or False, got 'no'"):
        simulate(diamond(), [1, 2, 3], 4, return_moves="no")  # type: ignore[call-overload]
    dag = reduction(3)
    with pytest.raises(ValueError, match="`memory` must be at least 4, got 3"):
        simulate(dag, [3], 3)
    with pytest.raises(ValueError, match='`policy` must be one of "belady"'):
        simulate(dag, [3], 4, "mru")
    with pytest.raises(TypeError, match="`dag` must be a"):
        simulate([3], [3], 4)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="`seed` must be at least 0"):
        simulate(dag, [3], 4, seed=-1)
    with pytest.raises(TypeError, match="`model` must be a Model"):
        simulate(dag, [3], 4, model="one-shot")  # type: ignore[call-overload]


def test_large_graphs_are_counted_exactly() -> None:
    # Skewed bands load and store what crosses their borders, and the input and output.
    width, steps, block = 1024, 128, 62
    dag = Dag.stencil(width, steps)
    found = simulate(dag, order(dag, "blocked", block=block), 2 * block + 4)
    assert isinstance(found, Count)
    trivial = 2 * width
    borders = -(-(width + steps) // block)
    assert trivial < found.words <= trivial + 4 * borders * steps
    assert found.computations == width * steps
