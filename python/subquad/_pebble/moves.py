"""Moves of the game, four bytes each."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from .._table import html_table

__all__ = ["OPS", "Moves", "take_moves"]

OPS = ("load", "store", "compute", "delete")
_CODES = {op: code for code, op in enumerate(OPS)}
_BITS = 30
_VERTEX = (1 << _BITS) - 1

# Moves that a repr shows at either end.
_SHOWN = 6


class Moves(Sequence[tuple[str, int]]):
    """Moves of a game of pebbles: an immutable sequence of pairs ``(op, vertex)``.

    A move takes four bytes, so plays of many millions of moves fit in memory.

    Parameters
    ----------
    moves : iterable of (str, int), optional
        What each move does, "load" (from slow to fast memory), "store" (from fast to slow), "compute" or
        "delete" (from fast memory), and to which vertex.

    Attributes
    ----------
    array : ndarray of uint32, shape (N,)
        The moves as they are stored, read-only: the place of the operation in
        ``("load", "store", "compute", "delete")`` times 2^30, plus the vertex.
    ops : ndarray of uint8, shape (N,)
        The operations, as places in that tuple.
    vertices : ndarray of int64, shape (N,)
        The vertices.

    Examples
    --------
    >>> from subquad.pebble import Moves
    >>> moves = Moves([("load", 0), ("compute", 1), ("store", 1)])
    >>> moves
    Moves(3: load 0, compute 1, store 1)
    >>> moves[-1], len(moves[:2])
    (('store', 1), 2)
    """

    __slots__ = ("_words",)
    _words: NDArray[np.uint32]

    def __init__(self, moves: Iterable[tuple[str, int]] = ()) -> None:
        self._words = moves._words if isinstance(moves, Moves) else _words(moves)

    @classmethod
    def from_array(cls, words: Any) -> Moves:
        """Return the moves of an array.

        Parameters
        ----------
        words : ndarray of uint32, shape (N,)
            The ``array`` of some moves; it is copied.

        Returns
        -------
        Moves
        """
        array = np.asarray(words)
        if array.dtype != np.uint32 or array.ndim != 1:
            raise ValueError(
                f"`words` must be an array of uint32 with one axis, got {array.dtype} of shape "
                f"{array.shape}"
            )
        return cls._of(array.copy())

    @classmethod
    def _of(cls, words: NDArray[np.uint32]) -> Moves:
        """Return moves that own `words`."""
        moves = cls.__new__(cls)
        words.flags.writeable = False
        moves._words = words
        return moves

    @property
    def array(self) -> NDArray[np.uint32]:
        """The moves as they are stored."""
        return self._words

    @property
    def ops(self) -> NDArray[np.uint8]:
        """What each move does."""
        return (self._words >> _BITS).astype(np.uint8)

    @property
    def vertices(self) -> NDArray[np.int64]:
        """The vertex of each move."""
        return (self._words & _VERTEX).astype(np.int64)

    def __len__(self) -> int:
        """Return the number of moves."""
        return len(self._words)

    @overload
    def __getitem__(self, index: int) -> tuple[str, int]: ...
    @overload
    def __getitem__(self, index: slice) -> Moves: ...
    def __getitem__(self, index: int | slice) -> tuple[str, int] | Moves:
        """Return a move, or the moves of a slice."""
        if isinstance(index, slice):
            return self._of(self._words[index])
        return _pair(int(self._words[operator.index(index)]))

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Yield the moves in their order."""
        return map(_pair, self._words.tolist())

    def __add__(self, other: Moves) -> Moves:
        """Return the moves of both, one after the other."""
        if not isinstance(other, Moves):
            return NotImplemented
        return self._of(np.concatenate([self._words, other._words]))

    def __eq__(self, other: object) -> bool:
        """Return whether the other is moves, and the same ones."""
        if not isinstance(other, Moves):
            return NotImplemented
        return np.array_equal(self._words, other._words)

    def __hash__(self) -> int:
        """Return the same for the same moves."""
        return hash(self._words.tobytes())

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the array."""
        return Moves.from_array, (np.array(self._words),)

    def __repr__(self) -> str:
        """Return how many moves there are, and the first and last of them."""
        shown = [f"{op} {vertex}" for op, vertex in self[:_SHOWN]]
        if len(self) > 2 * _SHOWN:
            shown += ["..."]
        shown += [f"{op} {vertex}" for op, vertex in self[max(_SHOWN, len(self) - _SHOWN) :]]
        return f"Moves({len(self)}{': ' if shown else ''}{', '.join(shown)})"

    def _repr_html_(self) -> str:
        counts = np.bincount(self.ops, minlength=len(OPS))
        rows = [(op, f"{n}") for op, n in zip(OPS, counts, strict=True)]
        return html_table(f"{len(self)} moves", rows, header=("move", "times"))


def take_moves(moves: Any) -> Moves:
    """Return an iterable of pairs as moves."""
    return moves if isinstance(moves, Moves) else Moves(moves)


def _pair(word: int) -> tuple[str, int]:
    return OPS[word >> _BITS], word & _VERTEX


def _words(moves: Iterable[tuple[str, int]]) -> NDArray[np.uint32]:
    if not isinstance(moves, Iterable):
        raise TypeError(f"`moves` must be an iterable of pairs (op, vertex), got {moves!r}")
    codes = (_word(index, move) for index, move in enumerate(moves))
    words = np.fromiter(codes, dtype=np.uint32)
    words.flags.writeable = False
    return words


def _word(index: int, move: Any) -> int:
    try:
        op, vertex = move
        if isinstance(vertex, bool):
            raise TypeError
        code, place = _CODES[op], operator.index(vertex)
    except (KeyError, TypeError, ValueError):
        listed = ", ".join(f'"{op}"' for op in OPS)
        raise ValueError(
            f"`moves` must hold pairs (op, vertex) with op one of {listed} and an integer, got "
            f"{move!r} at index {index}"
        ) from None
    if not 0 <= place <= _VERTEX:
        raise ValueError(
            f"`moves` must hold vertices from 0 to 2^30 - 1, got {place} at index {index}"
        )
    return code << _BITS | place
