"""The cheapest plays."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from .. import _subquad
from .._options import check_choice, check_real
from .._table import html_table, text_table
from .._threads import resolve_workers
from .arguments import require_memory, take_count, take_dag, take_memory
from .dag import Dag
from .model import Model, take_model
from .moves import Moves
from .orders import improve_order
from .simulate import simulate

__all__ = ["Result", "optimal"]

# Seconds between two reports of progress, and two looks for Ctrl-C.
_SLICE = 0.1
# Share of the time for a local search of orders, and the most values of a graph for which it is worth it.
_FOR_ORDERS, _LARGEST = 0.1, 1 << 12
# Of the free memory where it is not known.
_GUESS = 1 << 32

_Report = tuple[tuple[int, int], tuple[int, int] | None, int, int, int, str]


@dataclass(frozen=True)
class Result:
    """What a search for the cheapest play has found.

    Attributes
    ----------
    lower, upper : float
        No play costs less than `lower`; `moves` cost `upper`. Words, and what the model charges for
        computing; integers if it charges nothing. Infinite if there is no play, `upper` also if none has
        been found.
    proved : bool
        Is the optimum known, that is, ``lower == upper``?
    moves : Moves or None
        The best play.
    status : str
        Why the search ended: "optimal"; "infeasible", there is no play; "time limit", "memory limit" or
        "interrupted"; "too large", the graph has more values than a search can have. "running" in reports
        of progress.
    expanded : int
        States that the search has followed up, those of its beams included.
    states : int
        States it has kept.
    bytes : int
        Bytes they take.
    memory : int
        M, words of fast memory.
    model : Model
        The game.
    """

    lower: float
    upper: float
    proved: bool
    moves: Moves | None
    status: str
    expanded: int
    states: int
    bytes: int
    memory: int
    model: Model

    def _rows(self) -> list[tuple[str, str]]:
        cost = f"{self.upper:g}" if self.proved else f"{self.lower:g} to {self.upper:g}"
        return [
            ("cost", cost),
            ("status", self.status),
            ("moves", "none" if self.moves is None else str(len(self.moves))),
            ("expanded", f"{self.expanded} states, {self.states} kept in {self.bytes} bytes"),
            ("memory", f"{self.memory} words"),
            ("model", str(self.model)),
        ]

    def __str__(self) -> str:
        """Return a table of the figures."""
        return f"Result\n{text_table(self._rows())}"

    def _repr_html_(self) -> str:
        return html_table("Result", self._rows())


def optimal(
    dag: Dag,
    memory: int,
    *,
    model: Model | None = None,
    time_limit: float | None = None,
    max_bytes: int | None = None,
    workers: int | None = None,
    progress: Callable[[Result], object] | None = None,
    on_interrupt: str = "raise",
) -> Result:
    """Search for the cheapest play, with a bound from below that meets it in the end.

    Parameters
    ----------
    dag : Dag
        The computation.
    memory : int
        M, words of fast memory; at least ``dag.least_memory(model)``.
    model : Model, optional
        The game.
    time_limit : float, optional
        Seconds after which to return the bounds that are known by then.
    max_bytes : int, optional
        Bytes that the states may take, about; half of the free memory by default.
    workers : int, optional
        Threads. The result does not depend on it, unless a limit ends the search.
    progress : callable, optional
        Called with a `Result` without moves, at most ten times a second.
    on_interrupt : {"raise", "return"}, optional
        What Ctrl-C does: raise `KeyboardInterrupt`, or return what is known.

    Returns
    -------
    Result
        `subquad.pebble.play` accepts its moves, at the cost `upper`.

    Raises
    ------
    ValueError
        If `memory` is too small for any play.

    See Also
    --------
    subquad.reference.pebble.optimal : The same by the definition, for tiny graphs.

    Notes
    -----
    The problem is hard [2]_: what the search takes grows exponentially with the graph. Where a value is
    computed once, some 45 to 70 values are a matter of seconds (only those count that outputs need); where
    it may be computed again, or pebbles are recoloured, 15 to 20 are. Up to 1024 values are searched; for
    more, the bounds are those that are known at once.

    In the game that computes once, states are what has been computed, what is in fast memory, and what of it
    is not in slow memory. The search is A*: loads that are certain to come are paid in advance, a look at the next
    computations adds the evictions that they force. States are left out if another is at least as good
    (less was moved, and it can come to hold the same), if they are images of others under a symmetry of the graph, or if a
    computation that costs nothing and takes no room was delayed. Beams find plays meanwhile; where a limit ends the
    search, a tenth of the time goes to a local search from the order of the best play.

    References
    ----------
    .. [1] J.-W. Hong and H. T. Kung, "I/O complexity: the red-blue pebble game", STOC 1981.
    .. [2] P. A. Papp and R. Wattenhofer, "On the hardness of red-blue pebble games",
       arXiv:2005.08609.

    Examples
    --------
    >>> from subquad.pebble import Dag, Model, optimal, play
    >>> dag = Dag.pyramid(3)
    >>> found = optimal(dag, memory=3)
    >>> found.lower, found.upper, found.status
    (11, 11, 'optimal')
    >>> play(dag, found.moves, memory=3).words
    11
    >>> optimal(dag, memory=3, model=Model(sliding=True)).upper
    7
    """
    graph, game, words = take_dag(dag), take_model(model), take_memory(memory)
    require_memory(graph, words, game)
    limit = math.inf if time_limit is None else check_real("time_limit", time_limit)
    if not limit >= 0.0:
        raise ValueError(f"`time_limit` must be at least 0, got {time_limit!r}")
    room = _half_of_free() if max_bytes is None else take_count("max_bytes", max_bytes)
    threads = resolve_workers(workers)
    if progress is not None and not callable(progress):
        raise TypeError(f"`progress` must be callable, got {progress!r}")
    check_choice("on_interrupt", on_interrupt, ("raise", "return"))
    began = time.monotonic()
    search = _subquad.PebbleSearch(graph._core, words, game._fields(), min(room, 2**63))
    status = None
    try:
        while status is None:
            rest = (1.0 - _FOR_ORDERS) * limit - (time.monotonic() - began)
            if rest < 0.0:
                status = "time limit"
                break
            report = search.advance(min(_SLICE, rest), rest, threads)
            if report[-1] != "running":
                status = report[-1]
            elif progress is not None:
                progress(_result(report, "running", None, words, game))
    except KeyboardInterrupt:
        if on_interrupt == "raise":
            raise
        status = "interrupted"
    report, found = search.progress(), search.moves()
    moves = None if found is None else Moves.from_array(found)
    status = report[-1] if report[-1] != "running" else status
    result = _result(report, status, moves, words, game)
    rest = limit - (time.monotonic() - began)
    if result.proved or status == "interrupted" or rest <= 0.0:
        return result
    try:
        return _by_orders(graph, result, None if math.isinf(rest) else rest)
    except KeyboardInterrupt:
        if on_interrupt == "raise":
            raise
        return replace(result, status="interrupted")


def _by_orders(dag: Dag, result: Result, seconds: float | None) -> Result:
    """Return the result with the play of a better order of computation, if a local search finds one."""
    if result.moves is None or dag.num_vertices > _LARGEST:
        return result
    computed = [vertex for op, vertex in result.moves if op == "compute"]
    start, memory, model = list(dict.fromkeys(computed)), result.memory, result.model
    # An order may need more memory than some play does, where pebbles are recoloured.
    with contextlib.suppress(ValueError):
        order = improve_order(dag, start, memory, model=model, time_limit=seconds).order
        count, moves = simulate(dag, order, memory, "best", model=model, return_moves=True)
        cost = count.cost if model.compute_cost else count.words
        if cost < result.upper:
            proved = cost == result.lower
            status = "optimal" if proved else result.status
            return replace(result, upper=cost, moves=moves, proved=proved, status=status)
    return result


def _result(report: _Report, status: str, moves: Moves | None, memory: int, model: Model) -> Result:
    lower, upper, expanded, states, size, _ = report
    cost = math.inf if upper is None else _cost(upper, model)
    infeasible = status == "infeasible"
    return Result(
        lower=math.inf if infeasible else _cost(lower, model),
        upper=cost,
        proved=infeasible or status == "optimal",
        moves=moves,
        status=status,
        expanded=expanded,
        states=states,
        bytes=size,
        memory=memory,
        model=model,
    )


def _cost(pair: tuple[int, int], model: Model) -> float:
    words, computations = pair
    return words + model.compute_cost * computations if model.compute_cost else words


def _half_of_free() -> int:
    """Return half of the bytes that are free."""
    free = _GUESS
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            sizes = dict(line.split(":", 1) for line in lines)
        free = int(sizes["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, free // 2)
