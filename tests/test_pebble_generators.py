"""Generated computations: every value has the operands that its name says, and numbers are an order."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from subquad.pebble import Dag, Model
from subquad.reference import pebble as reference

FORMS = ("fma", "chain", "tree")
SOFTMAXES = ("unnormalised", "safe", "online")


def cases() -> Iterator[tuple[str, tuple[Any, ...]]]:
    for size in (0, 1, 2, 5):
        yield from ((name, (size,)) for name in ("chain", "tree", "pyramid"))
    for one, other in product((1, 2, 5), (1, 3)):
        yield "grid", (one, other)
        yield "stencil", (one, other - 1)
    yield from (("fft", (n,)) for n in (1, 2, 4, 16))
    for form in FORMS:
        for sizes in ((1, 1, 1), (2, 3, 1), (3, 2, 7), (1, 2, 6)):
            yield "matmul", (*sizes, form)
        for n, d in ((1, 1), (3, 1), (1, 3), (5, 3), (4, 6)):
            yield from (("attention", (n, d, form, softmax)) for softmax in SOFTMAXES)
            yield "attention_grad", (n, d, form)
    yield from (("random", (40, 5, (1, 3), seed)) for seed in (0, 2**64 - 1))
    yield "random", (9, 9)


@pytest.mark.parametrize(("family", "arguments"), list(cases()))
def test_values_have_the_operands_of_their_names(family: str, arguments: tuple[Any, ...]) -> None:
    dag: Dag = getattr(Dag, family)(*arguments)
    twin: dict[str, list[str]] = getattr(reference, family)(*arguments)
    names = list(dag.names)
    assert sorted(names) == sorted(twin)
    for v, name in enumerate(names):
        assert {names[u] for u in dag.predecessors(v).tolist()} == set(twin[name]), name
    # Inputs come first, and numbers are an order of computation.
    assert dag.sources.tolist() == list(range(len(dag.sources)))
    assert dag.order.tolist() == list(range(dag.num_vertices))
    wanted = {name for name in twin if not any(name in operands for operands in twin.values())}
    if family == "random":
        # A source that nothing needs is no result.
        wanted -= {names[v] for v in dag.sources}
    assert {names[v] for v in dag.outputs} == wanted


def test_forms_and_softmaxes_have_defaults() -> None:
    assert Dag.matmul(2, 2, 2) == Dag.matmul(2, 2, 2, form="fma")
    assert Dag.attention(2, 2) == Dag.attention(2, 2, form="fma", softmax="unnormalised")
    assert Dag.random(9, 2) == Dag.random(9, 2, operands=(1, 3), seed=0)


def test_names_come_when_asked_for() -> None:
    dag = Dag.attention(3, 2, softmax="online")
    assert dag.names[-1] == dag.names[dag.num_vertices - 1] == "O[2,1]"
    assert dag.names[:2] == ["Q[0,0]", "Q[0,1]"]
    assert len(dag.names) == dag.num_vertices
    with pytest.raises(IndexError):
        dag.names[dag.num_vertices]
    # Of a large graph one at a time: all of them would be 40 million texts.
    large = Dag.stencil(200, 10_000)
    assert large.names[-1] == "x[10000,199]"
    assert large.names._names is None  # type: ignore[attr-defined]


def test_a_generated_graph_is_one_like_any_other() -> None:
    dag = Dag.matmul(2, 2, 3)
    assert pickle.loads(pickle.dumps(dag)) == dag
    same = Dag.from_edges(dag.num_vertices, dag.edges, outputs=dag.outputs, names=dag.names)
    assert same == dag
    assert hash(same) == hash(dag)
    assert dag != Dag.matmul(2, 2, 3, form="chain")
    assert dag.least_memory() == 4
    assert dag.least_memory(Model(sliding=True)) == 3


@pytest.mark.parametrize(
    ("family", "arguments", "error", "message"),
    [
        ("chain", (-1,), ValueError, "`length` must be at least 0, got -1"),
        ("tree", (30,), ValueError, r"`num_vertices` must be at most 2\^30, got 2147483647"),
        ("tree", (2.0,), TypeError, "`height` must be an integer, got 2.0"),
        ("pyramid", (2**31,), ValueError, "`height` must be at most 1073741824"),
        ("grid", (3, 0), ValueError, "`columns` must be at least 1, got 0"),
        ("stencil", (0, 3), ValueError, "`width` must be at least 1, got 0"),
        ("stencil", (3, -1), ValueError, "`steps` must be at least 0, got -1"),
        ("fft", (12,), ValueError, "`n` must be a power of two, got 12"),
        ("matmul", (2, 2, 0), ValueError, "`k` must be at least 1, got 0"),
        ("matmul", (2, 2, 2, "fuse"), ValueError, "`form` must be one of \"fma\", \"chain\""),
        ("matmul", (2**20, 2**20, 2), ValueError, "`num_vertices` must be at most"),
        ("attention", (2, 2, "fma", "hard"), ValueError, "`softmax` must be one of"),
        ("attention_grad", (0, 2), ValueError, "`n` must be at least 1, got 0"),
        ("random", (3, 4), ValueError, "`sources` must be at most 3, got 4"),
        ("random", (3, 1, (2, 1)), ValueError, "`operands` must be at least 2, got 1"),
        ("random", (3, 1, 2), TypeError, "`operands` must be a pair of integers, got 2"),
        ("random", (3, 1, (1, 2), -1), ValueError, "`seed` must be at least 0, got -1"),
    ],
)  # fmt: skip
def test_sizes_that_there_are_not_are_refused(
    family: str, arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        getattr(Dag, family)(*arguments)
