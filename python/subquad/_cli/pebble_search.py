"""The cheapest play that can be found in a time: by search, and where that ends early by orders."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import pebble as game
from .pebble_graph import Problem

__all__ = ["Found", "proved_bounds", "search"]

# Families of which theorems say something, and those that have orders of their own.
_WITH_BOUNDS = ("matmul", "fft", "attention", "attention_grad")
_BLOCKED = ("grid", "stencil", "pyramid", *_WITH_BOUNDS)
_HALVED = ("matmul", "fft")
# The part of the time that is kept for improving orders, where a search does not end.
_OF_ORDERS = 0.2
# Values up to which orders are made greedily, and improved.
_GREEDY, _IMPROVED = 100_000, 3_000


@dataclass(frozen=True)
class Found:
    """Bounds and a play.

    Attributes
    ----------
    lower, upper : float
        No play costs less; the play found costs so much. `upper` is infinite if there is none.
    moves : Moves or None
        The play.
    by : str
        How it was found.
    status : str
        Why the search ended.
    seconds : float
        How long all took.
    """

    lower: float
    upper: float
    moves: game.Moves | None
    by: str
    status: str
    seconds: float

    @property
    def proved(self) -> bool:
        """Whether the play is an optimum."""
        return self.lower >= self.upper


def proved_bounds(problem: Problem, memory: int, model: game.Model) -> dict[str, float]:
    """Return the bounds that are known without a search, of the graph and of its family."""
    assert problem.dag is not None
    bounds = game.lower_bounds(problem.dag, memory, model=model)
    if problem.family in _WITH_BOUNDS:
        family = f"{problem.family}:{','.join(map(str, problem.sizes))}"
        bounds = game.lower_bounds(family, memory, model=model) | bounds
    return {name: bound.value for name, bound in bounds.items() if bound.kind == "proved"}


def search(
    problem: Problem, memory: int, model: game.Model, seconds: float, workers: int | None
) -> Found:
    """Return the cheapest play that is found in a time."""
    dag = problem.dag
    assert dag is not None
    began = time.perf_counter()
    options: dict[str, Any] = {"model": model, "workers": workers, "on_interrupt": "return"}
    result = game.optimal(dag, memory, time_limit=(1 - _OF_ORDERS) * seconds, **options)
    lower = max([result.lower, *proved_bounds(problem, memory, model).values()])
    found = Found(lower, result.upper, result.moves, "search", result.status, 0.0)
    if not found.proved and result.status not in ("infeasible", "interrupted"):
        try:
            for better in _by_orders(problem, memory, model, found.upper, _OF_ORDERS * seconds):
                upper, moves, by = better
                found = replace(found, upper=upper, moves=moves, by=by)
        except KeyboardInterrupt:
            found = replace(found, status="interrupted")
    return replace(found, seconds=time.perf_counter() - began)


def _by_orders(
    problem: Problem, memory: int, model: game.Model, upper: float, seconds: float
) -> Iterator[tuple[float, game.Moves, str]]:
    """Yield plays of orders of computation with what they cost, each cheaper than `upper` and all before it.

    The recoloured game may need more memory for an order than for some play; then an order has none.
    """
    dag = problem.dag
    assert dag is not None
    best, least, by = None, math.inf, ""
    for name, order in _orders(problem, memory):
        with contextlib.suppress(ValueError):
            cost, moves = _played(dag, order, memory, model)
            if cost < least:
                best, least, by = order, cost, name
                if cost < upper:
                    yield cost, moves, name
    if best is None or dag.num_vertices > _IMPROVED:
        return
    better = game.improve_order(dag, best, memory, model=model, time_limit=seconds)
    cost, moves = _played(dag, better.order, memory, model)
    if cost < min(least, upper):
        yield cost, moves, f"{by}, improved"


def _played(
    dag: game.Dag, order: NDArray[np.int64], memory: int, model: game.Model
) -> tuple[float, game.Moves]:
    """Return what the play of an order costs, and the play."""
    count, moves = game.simulate(dag, order, memory, "best", model=model, return_moves=True)
    return count.cost if model.compute_cost else count.words, moves


def _orders(problem: Problem, memory: int) -> Iterator[tuple[str, NDArray[np.int64]]]:
    dag = problem.dag
    assert dag is not None
    for kind in ("natural", "depth-first"):
        yield f"{kind} order", game.order(dag, kind)
    if dag.num_vertices <= _GREEDY:
        yield "greedy order", game.order(dag, "greedy", memory=memory)
    if problem.family in _HALVED:
        yield "recursive order", game.order(dag, "recursive")
    if problem.family in _BLOCKED:
        for block in _blocks(problem, memory):
            yield f"order in blocks of {block}", game.order(dag, "blocked", block=block)


def _blocks(problem: Problem, memory: int) -> list[int]:
    """Return sizes of blocks up to all of the memory: of butterflies powers of two."""
    most = min(memory, max(problem.sizes))
    powers = [2**i for i in range(1, most.bit_length()) if 2**i <= most]
    if problem.family == "fft":
        return powers
    return sorted({*range(1, min(most, 12) + 1), *powers, *(3 * p // 2 for p in powers)})
