"""Graphs, games and moves for the tests of pebbling."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from subquad.pebble import Dag, Model, Moves

Draw = Any
OPS = ("load", "store", "compute", "delete")

MODELS = st.builds(
    Model,
    recompute=st.booleans(),
    sliding=st.booleans(),
    blue_persists=st.booleans(),
    deletes=st.booleans(),
    compute_cost=st.sampled_from([0, 0.5]),
    sources=st.sampled_from(["blue", "computable"]),
    outputs=st.sampled_from(["blue", "any"]),
)


def diamond(**options: Any) -> Dag:
    """1 and 2 from 0, 3 from both."""
    return Dag.from_edges(4, [(0, 1), (0, 2), (1, 3), (2, 3)], **options)


def reduction(width: int) -> Dag:
    """A value from each of `width` others."""
    return Dag.from_edges(width + 1, [(v, width) for v in range(width)])


@st.composite
def dags(draw: Draw, *, most: int = 8, weighted: bool = True, named: bool = False) -> Dag:
    """Graphs of any shape; their numbers are not in the order of computation."""
    vertices = draw(st.integers(1, most))
    pairs = [(u, v) for v in range(vertices) for u in range(v)]
    edges = draw(st.lists(st.sampled_from(pairs), max_size=2 * vertices)) if pairs else []
    place = np.array(draw(st.permutations(range(vertices))))
    outputs = draw(st.none() | st.lists(st.integers(0, vertices - 1), max_size=3))
    weights = st.lists(st.integers(1, 4), min_size=vertices, max_size=vertices)
    names = st.lists(
        st.text(min_size=1, max_size=6), min_size=vertices, max_size=vertices, unique=True
    )
    return Dag.from_edges(
        vertices,
        [(place[u], place[v]) for u, v in edges],
        outputs=outputs,
        weights=draw(st.none() | weights) if weighted else None,
        names=draw(names) if named else None,
    )


def lucky(dag: Dag, model: Model, memory: int, seed: int, steps: int) -> Moves:
    """Moves that are mostly legal: each is drawn from those that look so."""
    rng = np.random.default_rng(seed)
    sources, weights = set(dag.sources.tolist()), dag.weights
    blue = set(sources) if model.sources == "blue" else set()
    red: set[int] = set()
    done: set[int] = set()
    moves: list[tuple[str, int]] = []
    for _ in range(steps):
        room = memory - sum(int(weights[v]) for v in red)
        could = [("load", v) for v in blue - red if weights[v] <= room]
        could += [("store", v) for v in red - blue]
        could += [("delete", v) for v in red if model.deletes or v in blue]
        for v in range(dag.num_vertices):
            operands = set(dag.predecessors(v).tolist())
            again = model.recompute or v not in done
            free = weights[v] <= room or (model.sliding and bool(operands))
            if v not in red and again and free and operands <= red:
                could += 2 * [("compute", v)] * (model.sources == "computable" or v not in sources)
        if not could or rng.random() < 0.02:
            could = [(op, v) for op in OPS for v in range(dag.num_vertices + 1)]
        op, v = could[rng.integers(len(could))]
        moves.append((op, v))
        if v == dag.num_vertices:
            break
        if op == "load":
            red.add(v)
            if not model.blue_persists:
                blue.discard(v)
        elif op == "store":
            blue.add(v)
            if not model.blue_persists:
                red.discard(v)
        elif op == "compute":
            red.add(v)
            done.add(v)
            operands = set(dag.predecessors(v).tolist()) & red
            if model.sliding and operands and rng.random() < 0.7:
                moves.append(("delete", next(iter(operands))))
                red.discard(moves[-1][1])
        else:
            red.discard(v)
    return Moves(moves)


def greedy(dag: Dag, memory: int) -> Moves:
    """A legal play of values of one word: in order, whatever is needed last leaves first."""
    order = [v for v in dag.order.tolist() if len(dag.predecessors(v))]
    uses: dict[int, list[int]] = {v: [] for v in range(dag.num_vertices)}
    for step, v in enumerate(order):
        for u in dag.predecessors(v).tolist():
            uses[u].append(step)
    blue, red = set(dag.sources.tolist()), set[int]()
    wanted = set(dag.outputs.tolist())
    moves: list[tuple[str, int]] = []

    def room(step: int, kept: set[int]) -> None:
        while len(red) >= memory:
            v = max(red - kept, key=lambda v: (next((s for s in uses[v] if s >= step), 10**9), v))
            if v not in blue and any(s >= step for s in uses[v]):
                moves.append(("store", v))
                blue.add(v)
            moves.append(("delete", v))
            red.remove(v)

    for step, v in enumerate(order):
        operands = set(dag.predecessors(v).tolist())
        for u in sorted(operands - red):
            room(step, operands)
            moves.append(("load", u))
            red.add(u)
        room(step, operands)
        moves.append(("compute", v))
        red.add(v)
        if v in wanted:
            moves.append(("store", v))
            blue.add(v)
    return Moves(moves)
