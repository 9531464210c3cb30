"""The cheapest play by its definition: a shortest path over single moves."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import count
from typing import NamedTuple

from .._pebble.arguments import require_memory, take_dag, take_memory
from .._pebble.dag import Dag
from .._pebble.model import Model, take_model
from .._pebble.moves import Moves
from .._pebble.optimal import Result

__all__ = ["optimal"]


class _Position(NamedTuple):
    red: frozenset[int]
    blue: frozenset[int]
    computed: frozenset[int]


_Step = tuple[list[tuple[str, int]], _Position, Fraction]


def optimal(dag: Dag, memory: int, *, model: Model | None = None) -> Result:
    """Return the cheapest play; arguments as in `subquad.pebble.optimal`, for graphs of some ten vertices."""
    graph, game, words = take_dag(dag), take_model(model), take_memory(memory)
    require_memory(graph, words, game)
    outputs = set(graph.outputs.tolist())
    sources = frozenset(graph.sources.tolist()) if game.sources == "blue" else frozenset()
    start = _Position(frozenset(), sources, frozenset())
    best: dict[_Position, Fraction] = {start: Fraction(0)}
    came: dict[_Position, tuple[_Position, list[tuple[str, int]]]] = {}
    # Equal costs are taken up in the order in which they were found.
    number = count()
    queue = [(Fraction(0), next(number), start)]
    expanded = 0
    while queue:
        cost, _, position = heapq.heappop(queue)
        if cost > best[position]:
            continue
        kept = position.blue | position.red if game.outputs == "any" else position.blue
        if outputs <= kept:
            moves: list[tuple[str, int]] = []
            while position in came:
                position, made = came[position]
                moves[:0] = made
            total = float(cost) if game.compute_cost else int(cost)
            return _found(total, Moves(moves), "optimal", expanded, len(best), words, game)
        expanded += 1
        for made, following, more in _steps(graph, words, game, sources, position):
            if cost + more < best.get(following, math.inf):
                best[following] = cost + more
                came[following] = position, made
                heapq.heappush(queue, (cost + more, next(number), following))
    return _found(math.inf, None, "infeasible", expanded, len(best), words, game)


def _steps(
    dag: Dag, memory: int, model: Model, sources: frozenset[int], position: _Position
) -> Iterator[_Step]:
    """Yield moves, the position after them and what they cost."""
    red, blue, computed = position
    weights = dag.weights.tolist()
    room = memory - sum(weights[v] for v in red)
    for v in range(dag.num_vertices):
        one, words = frozenset([v]), Fraction(weights[v])
        if v in red:
            stays = red if model.blue_persists else red - one
            yield [("store", v)], _Position(stays, blue | one, computed), words
            if model.deletes or v in blue:
                yield [("delete", v)], _Position(red - one, blue, computed), Fraction(0)
            continue
        if v in blue and words <= room:
            left = blue if model.blue_persists else blue - one
            yield [("load", v)], _Position(red | one, left, computed), words
        operands = dag.predecessors(v).tolist()
        again = v in computed and not model.recompute
        if v in sources or again or not red.issuperset(operands):
            continue
        # What has been computed matters only where it may not be computed again.
        after = computed if model.recompute else computed | one
        price = Fraction(model.compute_cost)
        if words <= room:
            yield [("compute", v)], _Position(red | one, blue, after), price
        for u in operands if model.sliding else []:
            if words <= room + weights[u] and (model.deletes or u in blue):
                slid = _Position(red - {u} | one, blue, after)
                yield [("compute", v), ("delete", u)], slid, price


def _found(
    cost: float,
    moves: Moves | None,
    status: str,
    expanded: int,
    states: int,
    memory: int,
    model: Model,
) -> Result:
    return Result(
        lower=cost,
        upper=cost,
        proved=True,
        moves=moves,
        status=status,
        expanded=expanded,
        states=states,
        bytes=0,
        memory=memory,
        model=model,
    )
