"""The referee, who says whether a play is legal and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import _subquad
from .._table import html_table, text_table
from .arguments import take_dag, take_memory
from .dag import Dag
from .model import Model, take_model
from .moves import take_moves

__all__ = ["Count", "PebbleError", "play", "refused"]

# Names that a message shows of many.
_SHOWN = 8


@dataclass(frozen=True)
class Count:
    """What a play costs.

    Attributes
    ----------
    loads, stores : int
        Words loaded and stored.
    peak : int
        The most words that were in fast memory after a move (of a pebble that slides, after it has).
    recomputations : int
        Values computed, but for the first time of each.
    computations : int
        Values computed, each time counted.
    model : Model
        The game that was played.
    """

    loads: int
    stores: int
    peak: int
    recomputations: int
    computations: int
    model: Model

    @property
    def words(self) -> int:
        """Words moved: loads and stores."""
        return self.loads + self.stores

    @property
    def cost(self) -> float:
        """Words moved, and what the model charges for computing."""
        return self.words + self.model.compute_cost * self.computations

    def _rows(self) -> list[tuple[str, str]]:
        plural = "" if self.computations == 1 else "s"
        again = f" ({self.recomputations} again)" if self.recomputations else ""
        return [
            ("words", f"{self.words}: {self.loads} loaded, {self.stores} stored"),
            ("peak", f"{self.peak} words"),
            ("computed", f"{self.computations} value{plural}{again}"),
            *([("cost", f"{self.cost:g}")] if self.model.compute_cost else []),
            ("model", str(self.model)),
        ]

    def __str__(self) -> str:
        """Return a table of the figures."""
        return f"Count\n{text_table(self._rows())}"

    def _repr_html_(self) -> str:
        return html_table("Count", self._rows())


class PebbleError(ValueError):
    """A move that is not legal, or a play that ends without its outputs.

    Attributes
    ----------
    step : int
        The number of the move, from 0; that of all moves if the play ended too early.
    move : tuple of (str, int) or None
        The move; None if the play ended too early.
    vertex : int
        Its vertex; if the play ended too early, the first output that is missing.
    rule : str
        What it breaks: "unknown-vertex", "load-needs-blue", "store-needs-red", "delete-needs-red",
        "already-red", "compute-needs-operands", "source-computed", "computed-again", "delete-forbidden",
        "memory-full" or "output-missing".
    missing : tuple of int
        Operands or outputs that are not where they should be.
    """

    __module__ = "subquad.pebble"

    def __init__(
        self,
        message: str,
        *,
        step: int,
        move: tuple[str, int] | None,
        vertex: int,
        rule: str,
        missing: Sequence[int] = (),
    ) -> None:
        super().__init__(message)
        self.step = step
        self.move = move
        self.vertex = vertex
        self.rule = rule
        self.missing = tuple(missing)

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from all attributes, so that the error crosses process boundaries whole."""
        return _error, (str(self), self.step, self.move, self.vertex, self.rule, self.missing)


def _error(message: str, step: int, move: Any, vertex: int, rule: str, missing: Any) -> PebbleError:
    return PebbleError(message, step=step, move=move, vertex=vertex, rule=rule, missing=missing)


def play(
    dag: Dag, moves: Iterable[tuple[str, int]], memory: int, *, model: Model | None = None
) -> Count:
    """Play moves one by one, and say what they cost.

    Sources begin in slow memory, and the play must end with every output there (`model` may say otherwise).
    "load" and "store" copy a value from one memory to the other and cost its words; "compute" puts a value
    into fast memory, where all its operands must be; "delete" takes one out. Fast memory holds `memory`
    words at any time.

    Parameters
    ----------
    dag : Dag
        The computation.
    moves : Moves or iterable of (str, int)
        Pairs ``(op, vertex)`` with op "load", "store", "compute" or "delete".
    memory : int
        M, words of fast memory.
    model : Model, optional
        The game.

    Returns
    -------
    Count

    Raises
    ------
    PebbleError
        A `ValueError`, at the first move that is not legal: its step, the rule it breaks, what is missing.

    See Also
    --------
    subquad.reference.pebble.play : The same in a page of plain Python.

    Notes
    -----
    O(V + moves + operands of what is computed); many millions of moves take a second.

    References
    ----------
    .. [1] J.-W. Hong and H. T. Kung, "I/O complexity: the red-blue pebble game", STOC 1981.

    Examples
    --------
    >>> from subquad.pebble import Dag, play
    >>> dag = Dag.from_edges(3, [(0, 2), (1, 2)], names=["a", "b", "a + b"])
    >>> moves = [("load", 0), ("load", 1), ("compute", 2), ("store", 2)]
    >>> count = play(dag, moves, memory=3)
    >>> count.loads, count.stores, count.peak
    (2, 1, 3)
    >>> play(dag, moves[1:], memory=3)
    Traceback (most recent call last):
    ...
    subquad.pebble.PebbleError: step 1, compute "a + b": operand "a" is not in fast memory
    """
    graph, game, words = take_dag(dag), take_model(model), take_memory(memory)
    numbers, refusal = _subquad.pebble_play(
        graph._core, take_moves(moves).array, words, game._fields()
    )
    if refusal is not None:
        raise refused(graph, words, game, *refusal)
    assert numbers is not None
    return Count(*numbers, game)


def refused(
    dag: Dag,
    memory: int,
    model: Model,
    step: int,
    op: str | None,
    vertex: int,
    rule: str,
    missing: Sequence[int],
    words: int,
) -> PebbleError:
    """Return the error of a move; `words` would be in fast memory with it."""
    known = 0 <= vertex < dag.num_vertices
    name = _named(dag, vertex) if known else str(vertex)
    where = f"after step {step}" if op is None else f"step {step}, {op} {name}"
    listed = ", ".join(_named(dag, v) for v in missing[:_SHOWN])
    if len(missing) > _SHOWN:
        listed += f" and {len(missing) - _SHOWN} more"
    plural, verb = ("s", "are") if len(missing) > 1 else ("", "is")
    place = "slow memory" if model.outputs == "blue" else "either memory"
    reason = {
        "unknown-vertex": f"the graph has {dag.num_vertices} vertices",
        "load-needs-blue": "it is not in slow memory",
        "store-needs-red": "it is not in fast memory",
        "delete-needs-red": "it is not in fast memory",
        "already-red": "it is in fast memory already",
        "compute-needs-operands": f"operand{plural} {listed} {verb} not in fast memory",
        "source-computed": "it is a source, which is loaded",
        "computed-again": "it has been computed before, and the model has recompute=False",
        "delete-forbidden": "it is not in slow memory, and the model has deletes=False",
        "memory-full": f"fast memory would hold {words} words of {memory}",
        "output-missing": f"output{plural} {listed} {verb} not in {place} at the end",
    }[rule]
    if rule == "memory-full" and memory < (least := dag.least_memory(model)):
        reason += f"; this graph needs at least {least}"
    return PebbleError(
        f"{where}: {reason}",
        step=step,
        move=None if op is None else (op, vertex),
        vertex=vertex,
        rule=rule,
        missing=missing,
    )


def _named(dag: Dag, vertex: int) -> str:
    """Return a name in quotes, or a number without."""
    return str(vertex) if dag._names is None else f'"{dag.names[vertex]}"'
