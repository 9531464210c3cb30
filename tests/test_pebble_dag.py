"""Graphs of computations: what they are made of, what they refuse, networkx, pickles."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from pebbles import MODELS, dags, diamond, reduction

from subquad.pebble import Dag, Model, optimal, play


def test_edges_in_any_order_count_once() -> None:
    edges = [(2, 3), (0, 1), (0, 2), (1, 3), (0, 1)]
    dag = Dag.from_edges(4, edges)
    assert (dag.num_vertices, dag.num_edges) == (4, 4)
    assert dag.edges.tolist() == [[0, 1], [0, 2], [1, 3], [2, 3]]
    assert dag.predecessors(3).tolist() == dag.successors(0).tolist() == [1, 2]
    assert (dag.sources.tolist(), dag.outputs.tolist()) == ([0], [3])
    assert dag.weights.tolist() == [1, 1, 1, 1]
    assert list(dag.names) == ["0", "1", "2", "3"]
    assert repr(dag) == "Dag(4 vertices, 4 edges, 1 source, 1 output)"
    same = [np.array(edges, dtype=t) for t in (np.int32, np.uint8, np.uint64)]
    for given_edges in (*same, iter(edges), set(edges), np.array(edges)[::-1], tuple(edges)):
        assert Dag.from_edges(4, given_edges) == dag


def test_graphs_may_be_empty() -> None:
    empty: Any
    for empty in ([], np.empty((0, 2), dtype=np.int64), iter(())):
        dag = Dag.from_edges(3, empty)
        assert (dag.num_edges, dag.edges.shape) == (0, (0, 2))
        assert dag.sources.tolist() == dag.outputs.tolist() == [0, 1, 2]
    assert Dag.from_edges(0, []).least_memory() == 0


def test_outputs_weights_and_names_are_as_given() -> None:
    dag = diamond(outputs=[1, 3, 1], weights=[5, 2, 7, 1], names="abcd".__iter__())
    assert dag.outputs.tolist() == [1, 3]
    assert dag.weights.tolist() == [5, 2, 7, 1]
    assert dag.names == ("a", "b", "c", "d")
    assert repr(dag) == "Dag(4 vertices, 4 edges, 1 source, 2 outputs, 15 words)"
    assert "<td>15</td>" in dag._repr_html_()
    assert diamond(outputs=[]).outputs.tolist() == []


@given(dags())
def test_the_order_has_operands_first(dag: Dag) -> None:
    place = np.empty(dag.num_vertices, dtype=int)
    place[dag.order] = np.arange(dag.num_vertices)
    assert sorted(dag.order) == list(range(dag.num_vertices))
    assert all(place[u] < place[v] for u, v in dag.edges)


@given(dags())
def test_rows_are_the_edges(dag: Dag) -> None:
    edges = {(u, v) for u, v in dag.edges.tolist()}
    vertices = range(dag.num_vertices)
    assert {(u, v) for v in vertices for u in dag.predecessors(v).tolist()} == edges
    assert {(u, v) for u in vertices for v in dag.successors(u).tolist()} == edges
    assert dag.sources.tolist() == [v for v in vertices if not len(dag.predecessors(v))]


@given(dags(), MODELS)
def test_least_memory_is_that_of_the_hardest_value_that_is_needed(dag: Dag, model: Model) -> None:
    needed, weights = set(dag.outputs.tolist()), dag.weights
    for v in dag.order[::-1].tolist():
        if needed & set(dag.successors(v).tolist()):
            needed.add(v)
    at_hand = set(dag.sources.tolist()) if model.sources == "blue" else set()
    room = [0]
    for v in needed - at_hand:
        operands = weights[dag.predecessors(v)]
        freed = operands.max(initial=0) if model.sliding else 0
        room.append(max(operands.sum(), operands.sum() + weights[v] - freed))
    assert dag.least_memory(model) == max(room)


def test_least_memory_of_a_reduction() -> None:
    assert reduction(5).least_memory() == 6
    assert reduction(5).least_memory(Model(sliding=True)) == 5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, [(0, 1), (1, 2), (2, 1)]), ValueError, "`edges` must have no cycle"),
        ((2, [(1, 1)]), ValueError, "no cycle, got 1 -> 1$"),
        ((2, [(0, 2)]), ValueError, r"vertices below 2, got 2 at index \(0, 1\)"),
        ((2, [(0, 1), (-1, 1)]), ValueError, r"vertices below 2, got -1 at index \(1, 0\)"),
        ((2, [(0, 2**40)]), ValueError, "got 1099511627776 at index"),
        ((2, [(0, 2**63)]), ValueError, r"vertices below 2, got 9223372036854775808 at index"),
        ((2, [(0, 2**70)]), ValueError, r"got 1180591620717411303424 at index \(0, 1\)"),
        ((2, [(0, -(2**70))]), ValueError, r"got -1180591620717411303424 at index \(0, 1\)"),
        ((2, [(0.5, 2**70)]), TypeError, "`edges` must be integers, got an array of"),
        ((2, [(0, 1, 1)]), ValueError, r"`edges` must have shape \(E, 2\), got \(1, 3\)"),
        ((2, [0, 1]), ValueError, r"`edges` must have shape \(E, 2\), got \(2,\)"),
        ((2, [(0, 1), (1,)]), ValueError, "`edges` must be an array of integers"),
        ((2, [(0.0, 1.0)]), TypeError, "`edges` must be integers, got an array of float64"),
        ((2, [(False, True)]), TypeError, "`edges` must be integers, got an array of bool"),
        ((-1, []), ValueError, "`num_vertices` must be at least 0, got -1"),
        ((2**30 + 1, []), ValueError, "`num_vertices` must be at most 1073741824"),
        ((2.0, []), TypeError, "`num_vertices` must be an integer, got 2.0 of type float"),
        ((True, []), TypeError, "`num_vertices` must be an integer"),
    ],
)
def test_bad_edges_are_refused(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Dag.from_edges(*arguments)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"outputs": [4]}, ValueError, "`outputs` must hold vertices below 4, got 4 at index 0"),
        ({"outputs": [[1]]}, ValueError, "`outputs` must have one axis"),
        ({"outputs": 1}, ValueError, "`outputs` must have one axis"),
        ({"outputs": ["3"]}, TypeError, "`outputs` must be integers"),
        ({"weights": [1, 1, 1]}, ValueError, r"`weights` must have shape \(4,\), got \(3,\)"),
        ({"weights": [1, 1, 0, 1]}, ValueError, "`weights` must be from 1 .* got 0 at index 2"),
        ({"weights": [1, 2**32, 1, 1]}, ValueError, "got 4294967296 at index 1"),
        ({"weights": [1, 2**64, 1, 1]}, ValueError, "got 18446744073709551616 at index 1"),
        ({"weights": [1.5, 1, 1, 1]}, TypeError, "`weights` must be integers"),
        ({"names": "abcd"}, TypeError, "`names` must be an iterable of str"),
        ({"names": ["a", "b"]}, ValueError, "`names` must have length 4, got 2"),
        ({"names": ["a", "b", "a", "c"]}, ValueError, "must differ, got 'a' at indices 0 and 2"),
        ({"names": ["a", "b", 3, "c"]}, TypeError, "`names` must be str, got 3 at index 2"),
    ],
)
def test_bad_options_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        diamond(**options)


def test_a_cycle_is_told_by_name() -> None:
    edges = [(0, 1), (1, 2), (2, 1), (2, 3)]
    with pytest.raises(ValueError, match=r"got (b -> c -> b|c -> b -> c)$"):
        Dag.from_edges(4, edges, names=iter("abcd"))
    with pytest.raises(ValueError, match=r"got (1 -> 2 -> 1|2 -> 1 -> 2)$"):
        Dag.from_edges(4, edges)


@pytest.mark.parametrize("named", [False, True])
def test_of_a_long_cycle_the_first_vertices_are_told(named: bool) -> None:
    edges = [(v, (v + 1) % 100_000) for v in range(100_000)]
    names = (f"x{v}" for v in range(100_000)) if named else None
    with pytest.raises(
        ValueError, match=r"no cycle, got (\w+ -> ){7}\w+ and 99992 more -> "
    ) as caught:
        Dag.from_edges(100_000, edges, names=names)
    assert len(str(caught.value)) < 200
    with pytest.raises(ValueError, match=r"got (\d -> ){8}\d$"):
        Dag.from_edges(8, [(v, (v + 1) % 8) for v in range(8)])


def test_a_graph_is_not_made_by_its_class() -> None:
    with pytest.raises(TypeError, match=r"Dag\.from_edges"):
        Dag(4)  # type: ignore[arg-type]


@pytest.mark.parametrize("vertex", [-1, 4])
def test_there_are_no_operands_of_what_is_not_there(vertex: int) -> None:
    with pytest.raises(ValueError, match=r"`vertex` must be (at least 0|below 4), got"):
        diamond().predecessors(vertex)


def test_an_empty_graph_has_no_operands() -> None:
    with pytest.raises(ValueError, match="`vertex` must be below 0, got 0"):
        Dag.from_edges(0, []).successors(0)


def test_names_show_how_many_they_are() -> None:
    assert repr(Dag.from_edges(2, []).names) == "Names(2: 0, 1)"
    assert repr(Dag.from_edges(0, []).names) == "Names(0)"
    assert repr(Dag.chain(9).names) == "Names(10: x[0], x[1], x[2], x[3], x[4], x[5], ...)"


def different() -> Iterator[Dag]:
    yield diamond()
    yield diamond(outputs=[1])
    yield diamond(weights=[1, 2, 1, 1])
    yield diamond(names=iter("abcd"))
    yield Dag.from_edges(5, diamond().edges)
    yield Dag.from_edges(4, [(0, 1), (0, 2), (1, 3), (0, 3)])


def test_equal_graphs_are_those_of_the_same_parts() -> None:
    for i, one in enumerate(different()):
        for j, other in enumerate(different()):
            assert (one == other) == (i == j)
            assert (hash(one) == hash(other)) or i != j
    assert diamond() != "a diamond"


@given(dags(named=True))
def test_pickles_and_networkx_return_the_same_graph(dag: Dag) -> None:
    pytest.importorskip("networkx")
    assert pickle.loads(pickle.dumps(dag)) == dag
    if len(dag.outputs):
        assert Dag.from_networkx(dag.to_networkx()) == dag


def test_networkx_nodes_are_numbered_in_their_order() -> None:
    networkx = pytest.importorskip("networkx")
    graph = networkx.DiGraph([("b", "c"), ("a", "c"), ("c", 4)])
    graph.nodes["a"]["weight"] = 3
    dag = Dag.from_networkx(graph)
    assert dag.names == ("b", "c", "a", "4")
    assert dag.edges.tolist() == [[0, 1], [2, 1], [1, 3]]
    assert (dag.outputs.tolist(), dag.weights.tolist()) == ([3], [1, 1, 3, 1])
    assert Dag.from_networkx(graph, outputs=["c", 4]).outputs.tolist() == [1, 3]
    assert list(diamond().to_networkx().nodes) == [0, 1, 2, 3]
    twice = networkx.MultiDiGraph([(0, 1), (0, 1)])
    assert Dag.from_networkx(twice).num_edges == 1


@pytest.mark.parametrize(
    ("output", "wanted"),
    [(True, True), (np.True_, True), ("TRUE", True), (False, False), ("false", False)],
)
def test_networkx_outputs_are_truth_values_or_their_words(output: Any, wanted: bool) -> None:
    networkx = pytest.importorskip("networkx")
    graph = networkx.DiGraph([("a", "b"), ("a", "c")])
    graph.nodes["b"]["output"] = output
    assert Dag.from_networkx(graph).outputs.tolist() == ([1, 2] if wanted else [2])


@pytest.mark.parametrize("output", ["no", "", 0, 1, None, [True]])
def test_other_networkx_outputs_are_refused(output: Any) -> None:
    networkx = pytest.importorskip("networkx")
    graph = networkx.DiGraph([("a", "b")])
    graph.nodes["b"]["output"] = output
    with pytest.raises(ValueError, match="`output` of node 'b' must be true or false, got"):
        Dag.from_networkx(graph)


def test_other_graphs_are_refused() -> None:
    networkx = pytest.importorskip("networkx")
    with pytest.raises(TypeError, match="`outputs` must be an iterable of nodes, got 0"):
        Dag.from_networkx(networkx.DiGraph([(0, 1)]), outputs=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`outputs` must be nodes of the graph, got \[1\]"):
        Dag.from_networkx(networkx.DiGraph([(0, 1)]), outputs=[[1]])
    with pytest.raises(TypeError, match="`graph` must be directed"):
        Dag.from_networkx(networkx.Graph([(0, 1)]))
    with pytest.raises(TypeError, match=r"`graph` must be a networkx\.DiGraph"):
        Dag.from_networkx([(0, 1)])
    with pytest.raises(ValueError, match="`outputs` must be nodes of the graph, got 7"):
        Dag.from_networkx(networkx.DiGraph([(0, 1)]), outputs=[7])
    with pytest.raises(ValueError, match="`names` must differ, got '1'"):
        Dag.from_networkx(networkx.DiGraph([(1, "1")]))


def test_a_source_that_is_wanted_needs_no_room() -> None:
    dag = Dag.from_edges(3, [(0, 1)], weights=[1, 1, 100])
    assert dag.least_memory() == 2
    assert dag.least_memory(Model(sources="computable")) == 100
    assert optimal(dag, 2).upper == play(dag, [("load", 0), ("compute", 1), ("store", 1)], 2).words
