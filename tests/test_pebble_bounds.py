"""`lower_bounds` of graphs and of families."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pebble_theory_plays import least_words, product_graph, random_tree

from subquad.pebble import Dag, Model, lower_bounds
from subquad.theory import pebble as theory


def graph(operands: list[list[int]], **options: Any) -> Dag:
    edges = [(u, v) for v, below in enumerate(operands) for u in below]
    return Dag.from_edges(len(operands), edges, **options)


def random_operands(rng: random.Random) -> list[list[int]]:
    operands: list[list[int]] = [[] for _ in range(rng.randint(1, 3))]
    while len(operands) < 8:
        most = rng.randint(1, min(2, len(operands)))
        operands.append(rng.sample(range(len(operands)), most))
    return operands


@pytest.mark.parametrize("seed", range(12))
def test_no_bound_of_a_graph_exceeds_its_optimum(seed: int) -> None:
    rng = random.Random(seed)
    operands = random_operands(rng)
    computed = [v for v, below in enumerate(operands) if below]
    outputs = rng.sample(computed, rng.randint(1, 3))
    for model in (Model(), Model(recompute=True), Model(sliding=True)):
        dag = graph(operands, outputs=outputs)
        memory = dag.least_memory(model)
        found = lower_bounds(dag, memory, model=model)
        words = least_words(
            operands, outputs, memory, recompute=model.recompute, sliding=model.sliding
        )
        assert 1 <= found["trivial"].value <= words
        for bound in found.values():
            assert bound.kind == "proved"
            assert bound.model == model
            assert bound.value <= words
        # With room for everything the trivial bound is the optimum.
        roomy = least_words(operands, outputs, 9, recompute=model.recompute)
        assert lower_bounds(dag, 9, model=model)["trivial"].value == roomy


@pytest.mark.parametrize("seed", range(10))
def test_trees_are_known_as_such(seed: int) -> None:
    rng = random.Random(seed)
    parents = random_tree(rng, 9, most=2)
    operands = [[v for v, parent in enumerate(parents) if parent == u] for u in range(9)]
    dag = graph(operands)
    memory = dag.least_memory()
    found = lower_bounds(dag, memory)
    assert found["tree"].value == least_words(operands, [0], memory) >= found["trivial"].value
    assert "tree" not in lower_bounds(dag, memory, model=Model(outputs="any"))
    # A leaf that the root needs as well has two uses.
    leaf = next(v for v, parent in enumerate(parents) if parent > 0 and not operands[v])
    assert "tree" not in lower_bounds(Dag.from_edges(9, [*dag.edges.tolist(), (leaf, 0)]), 5)


def test_what_is_not_needed_and_what_words_weigh() -> None:
    # 0 and 1 make 2, which with 3 makes 4; 5 is wanted as it is; 6 is made of 3 and not wanted.
    edges = [(0, 2), (1, 2), (2, 4), (3, 4), (3, 6)]
    dag = Dag.from_edges(7, edges, outputs=[2, 5], weights=[1, 2, 4, 8, 16, 32, 64])
    assert lower_bounds(dag, 100)["trivial"].value == 1 + 2 + 4
    at_will = Model(sources="computable")
    assert lower_bounds(dag, 100, model=at_will)["trivial"].value == 4 + 32
    anywhere = Model(outputs="any")
    assert lower_bounds(dag, 100, model=anywhere)["trivial"].value == 1 + 2
    charged = Model(compute_cost=0.25)
    assert lower_bounds(dag, 100, model=charged)["trivial"].value == 7.25
    assert float(lower_bounds(dag, 100)["trivial"]) == 7.0


def test_families_are_those_of_graphs() -> None:
    operands, products = product_graph(2, 3, 4)
    used = {u for below in operands for u in below}
    dag = graph(operands, outputs=[v for v in products if v not in used])
    for model in (
        Model(),
        Model(sources="computable"),
        Model(outputs="any"),
        Model(compute_cost=0.5, recompute=True),
    ):
        by_name = lower_bounds("matmul:2,3,4", 5, model=model)
        by_graph = lower_bounds(dag, 5, model=model)
        if model.sources == "blue":
            assert by_name["trivial"].value == by_graph["trivial"].value
        assert ("segments" in by_name) == (model.sources == model.outputs == "blue")
    found = lower_bounds("matmul:96,96,96", 256)
    assert found["segments"].value == theory.matmul_lower_bound(96, 96, 96, 256)
    assert lower_bounds("fft:1024", 32)["segments"].value == theory.fft_lower_bound(1024, 32)
    for family, direction in (("attention", "forward"), ("attention_grad", "backward")):
        found = lower_bounds(f"{family}:1024, 32", 4096)
        bound = theory.attention_lower_bound(1024, 32, 4096, direction=direction)
        assert found["segments"].value == bound > found["trivial"].value
        assert found["order"].kind == "asymptotic"
        assert "order" in lower_bounds(f"{family}:64,8", 99, model=Model(sources="computable"))


def test_arguments_are_checked() -> None:
    bounds: Any = lower_bounds
    with pytest.raises(
        ValueError, match=r"`problem` must be a graph or begin with one of \"matmul\""
    ):
        bounds("tetris:3", 5)
    with pytest.raises(ValueError, match=r"`problem` must be \"fft:n\" in integers, got 'fft:x'"):
        bounds("fft:x", 5)
    with pytest.raises(ValueError, match=r"`problem` must be \"matmul:m,n,k\" in integers"):
        bounds("matmul:3,3", 5)
    with pytest.raises(ValueError, match=r"`n` must be a power of 2"):
        bounds("fft:12", 5)
    with pytest.raises(ValueError, match=r"`m` must be at least 1"):
        bounds("matmul:0,1,1", 5)
    with pytest.raises(TypeError, match=r"`problem` must be a subquad.pebble.Dag or a str"):
        bounds(7, 5)
    with pytest.raises(ValueError, match=r"`memory` must be at least 2 for this graph"):
        bounds(Dag.from_edges(2, [(0, 1)]), 1)
    with pytest.raises(TypeError, match=r"`memory` must be an integer"):
        bounds("fft:8", 5.0)


def test_a_transform_of_one_point_moves_nothing() -> None:
    for model in (Model(), Model(sources="computable"), Model(outputs="any")):
        bounds = lower_bounds("fft:1", 1, model=model)
        assert {name: bound.value for name, bound in bounds.items()} == {"trivial": 0}
    assert lower_bounds(Dag.fft(1), 1)["trivial"].value == 0


@pytest.mark.parametrize("family", ["matmul:2,3,4", "fft:8", "attention:8,4", "attention_grad:8,4"])
def test_of_the_largest_memories_bounds_are_trivial(family: str) -> None:
    for memory in (2**63 - 1, 2**63, 2**64 - 1):
        bounds = lower_bounds(family, memory)
        assert bounds["segments"].value == bounds["trivial"].value
