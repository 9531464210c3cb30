"""Orders of computation, and better ones."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _subquad
from .._options import check_choice, check_real
from .arguments import take_count, take_dag, take_memory, take_vertices
from .dag import Dag
from .game import Count
from .generators import Names
from .model import Model, take_model

__all__ = ["ORDERS", "ImprovedOrder", "improve_order", "order", "take_order"]

ORDERS = ("natural", "depth-first", "greedy", "blocked", "recursive")

# Orders that a slice of a search looks at, so that the time limit is asked often.
_SLICE = 256


def order(
    dag: Dag, kind: str = "natural", *, memory: int | None = None, block: int | None = None
) -> NDArray[np.int64]:
    """Return an order in which what is needed can be computed.

    Parameters
    ----------
    dag : Dag
        The computation.
    kind : {"natural", "depth-first", "greedy", "blocked", "recursive"}, optional
        - "natural": of what may come next the smallest number, as in ``dag.order``. Generated graphs are
          numbered in an order that needs little memory.
        - "depth-first": outputs one after the other, each after all that it needs; of operands first the one
          whose computation needs most memory. In a tree this is the order of Sethi and Ullman [1]_.
        - "greedy": always what has the fewest words of operands to load from a memory of `memory` words, then
          what uses most operands for the last time.
        - "blocked", "recursive": for generated graphs only. Blocks of `block` rows and columns of a product of
          matrices, points of butterflies, columns of a grid, skewed points of a stencil or a pyramid, queries
          of attention, keys of its gradient; or a product of matrices or butterflies halved again and again.
    memory : int, optional
        Words of fast memory, for "greedy".
    block : int, optional
        For "blocked".

    Returns
    -------
    ndarray of int64
        What outputs need, each value after its operands, without sources.

    Raises
    ------
    ValueError
        For a kind that the graph does not have, and an argument that is missing or too many.

    See Also
    --------
    simulate, improve_order

    Notes
    -----
    O(V + E) but for "greedy", where a value that enters or leaves the memory takes time for all that is
    computed from it.

    References
    ----------
    .. [1] R. Sethi and J. D. Ullman, "The generation of optimal code for arithmetic expressions", JACM 1970.

    Examples
    --------
    >>> from subquad.pebble import Dag, order, simulate
    >>> dag = Dag.matmul(16, 16, 16)
    >>> simulate(dag, order(dag), 64).words
    3903
    >>> simulate(dag, order(dag, "blocked", block=7), 64).words
    1676
    """
    graph = take_dag(dag)
    check_choice("kind", kind, ORDERS)
    for name, value, of in (("memory", memory, "greedy"), ("block", block, "blocked")):
        if value is None and kind == of:
            raise ValueError(f'`{name}` must be given for kind "{kind}"')
        if value is not None and kind != of:
            raise ValueError(f'`{name}` must be left out for kind "{kind}", got {value!r}')
    if kind == "natural":
        found = _subquad.pebble_natural(graph._core)
    elif kind == "depth-first":
        found = _subquad.pebble_depth_first(graph._core)
    elif kind == "greedy":
        found = _subquad.pebble_greedy(graph._core, take_memory(memory))
    else:
        size = None if block is None else take_count("block", block, most=2**64 - 1)
        if not isinstance(graph._names, Names):
            raise ValueError(
                f'`kind` must be another one for a graph that is not generated, got "{kind}"'
            )
        blocks = _subquad.pebble_family_order(graph._names.spec, size)
        if blocks is None:
            family = graph._names.spec[0]
            raise ValueError(f'`kind` must be another one for the family {family}, got "{kind}"')
        found = blocks
    return found.astype(np.int64)


def take_order(dag: Dag, order: Any) -> NDArray[np.uint32]:
    """Return vertices as the compiled module takes them."""
    array = take_vertices("order", order, dag.num_vertices)
    if array.ndim != 1:
        raise ValueError(f"`order` must have one axis, got shape {array.shape}")
    return array


@dataclass(frozen=True, eq=False)
class ImprovedOrder:
    """What a search for a better order has found.

    Attributes
    ----------
    order : ndarray of int64
        The best order, without sources.
    count : Count
        What it costs; ``count.model`` is the game.
    start : Count
        What the order cost that the search began with.
    evaluations : int
        How many other orders were looked at.
    """

    order: NDArray[np.int64]
    count: Count
    start: Count
    evaluations: int

    @property
    def model(self) -> Model:
        """The game."""
        return self.count.model


def improve_order(
    dag: Dag,
    order: Any,
    memory: int,
    *,
    model: Model | None = None,
    evaluations: int = 20_000,
    seed: int = 0,
    time_limit: float | None = None,
) -> ImprovedOrder:
    """Search an order that costs less, by moving one value or a block of neighbours at a time.

    Simulated annealing: a change that costs more is kept sometimes, ever more rarely. Every order is counted
    by `simulate` with policy "belady".

    Parameters
    ----------
    dag : Dag
        The computation.
    order : array_like of int
        Where to begin.
    memory : int
        M, words of fast memory.
    model : Model, optional
        The game; values are computed once.
    evaluations : int, optional
        How many orders to look at.
    seed : int, optional
        Fixes what is tried; the outcome depends on nothing else, unless there is a time limit.
    time_limit : float, optional
        Seconds after which the search ends early.

    Returns
    -------
    ImprovedOrder
        An upper bound on the optimum, without guarantee.

    Raises
    ------
    ValueError
        As `simulate`.

    Notes
    -----
    O(evaluations (V + E)): for graphs of up to some thousand values. Ctrl-C interrupts.

    Examples
    --------
    >>> from subquad.pebble import Dag, improve_order, order
    >>> dag = Dag.matmul(3, 3, 3)
    >>> better = improve_order(dag, order(dag), 6)
    >>> better.start.words, better.count.words  # 39 is the optimum
    (45, 39)
    """
    graph, game, words = take_dag(dag), take_model(model), take_memory(memory)
    start = take_order(graph, order)
    budget = take_count("evaluations", evaluations, least=0, most=2**64 - 1)
    number = take_count("seed", seed, least=0, most=2**64 - 1)
    seconds = math.inf if time_limit is None else check_real("time_limit", time_limit)
    if math.isnan(seconds) or seconds < 0.0:
        raise ValueError(f"`time_limit` must be at least 0, got {seconds}")
    end = time.monotonic() + seconds
    search = _subquad.PebbleImprover(graph._core, start, words, game._fields(), budget, number)
    first = Count(*search.best()[1], game)
    while time.monotonic() < end and search.advance(_SLICE):
        pass
    found, numbers, looked = search.best()
    return ImprovedOrder(found.astype(np.int64), Count(*numbers, game), first, looked)
