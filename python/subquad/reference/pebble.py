"""The game of pebbles by its rules, computations by name, and what their orders and caches cost."""

from __future__ import annotations

from collections.abc import Iterable

from .._pebble.arguments import take_dag, take_memory
from .._pebble.dag import Dag
from .._pebble.game import Count, PebbleError, refused
from .._pebble.model import Model, take_model
from .._pebble.moves import take_moves
from ._pebble_attention import IOPlan, attention_plan
from ._pebble_graphs import (
    Operands,
    attention,
    attention_grad,
    chain,
    fft,
    grid,
    matmul,
    pyramid,
    random,
    stencil,
    tree,
)
from ._pebble_optimal import optimal
from ._pebble_replay import replay, reuse_distances
from ._pebble_simulate import simulate
from ._pebble_sweep import sweep

__all__ = [
    "IOPlan",
    "Operands",
    "attention",
    "attention_grad",
    "attention_plan",
    "chain",
    "fft",
    "grid",
    "matmul",
    "optimal",
    "play",
    "pyramid",
    "random",
    "replay",
    "reuse_distances",
    "simulate",
    "stencil",
    "sweep",
    "tree",
]


def play(
    dag: Dag, moves: Iterable[tuple[str, int]], memory: int, *, model: Model | None = None
) -> Count:
    """Play moves one by one; arguments as in `subquad.pebble.play`."""
    graph, game, room = take_dag(dag), take_model(model), take_memory(memory)
    sources, outputs = set(graph.sources.tolist()), graph.outputs.tolist()
    blue = set(sources) if game.sources == "blue" else set()
    red: set[int] = set()
    computed: list[int] = []
    weights = graph.weights.tolist()
    loads = stores = peak = 0
    listed = list(take_moves(moves))

    def words() -> int:
        return sum(weights[v] for v in red)

    def wrong(step: int, rule: str, missing: Iterable[int] = (), vertex: int = 0) -> PebbleError:
        op, vertex = listed[step] if step < len(listed) else (None, vertex)
        return refused(graph, room, game, step, op, vertex, rule, list(missing), words())

    for step, (op, v) in enumerate(listed):
        if v >= graph.num_vertices:
            raise wrong(step, "unknown-vertex")
        slides = False
        if op == "load":
            if v not in blue:
                raise wrong(step, "load-needs-blue")
            if v in red:
                raise wrong(step, "already-red")
            red.add(v)
            loads += weights[v]
            if not game.blue_persists:
                blue.remove(v)
        elif op == "store":
            if v not in red:
                raise wrong(step, "store-needs-red")
            blue.add(v)
            stores += weights[v]
            if not game.blue_persists:
                red.remove(v)
        elif op == "compute":
            operands = graph.predecessors(v).tolist()
            if v in sources and game.sources == "blue":
                raise wrong(step, "source-computed")
            if v in computed and not game.recompute:
                raise wrong(step, "computed-again")
            if not red.issuperset(operands):
                raise wrong(step, "compute-needs-operands", [u for u in operands if u not in red])
            if v in red:
                raise wrong(step, "already-red")
            red.add(v)
            computed.append(v)
            follows = listed[step + 1] if step + 1 < len(listed) else ("", -1)
            slides = game.sliding and follows[0] == "delete" and follows[1] in operands
        else:
            if v not in red:
                raise wrong(step, "delete-needs-red")
            if v not in blue and not game.deletes:
                raise wrong(step, "delete-forbidden")
            red.remove(v)
        if not slides:
            peak = max(peak, words())
            if words() > room:
                raise wrong(step, "memory-full")

    there = blue if game.outputs == "blue" else blue | red
    absent = [v for v in outputs if v not in there]
    if absent:
        raise wrong(len(listed), "output-missing", absent, absent[0])
    again = len(computed) - len(set(computed))
    return Count(loads, stores, peak, again, len(computed), game)
