"""What caches move when a program runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _subquad
from .._options import check_choice
from .._table import html_table, text_table
from .arguments import take_count, take_flag, take_integers

__all__ = ["CACHES", "Distances", "Trace", "Traffic", "replay", "reuse_distances"]

CACHES = ("lru", "set-associative", "opt")

_LARGEST_ADDRESS = 2**62 - 1
_LARGEST = 2**64 - 1


class Trace:
    """Reads and writes of words, in order.

    Parameters
    ----------
    addresses : array_like of int, shape (N,)
        From 0 to 2^62 - 1, in words (of any size: capacities and counts are in the same words).
    writes : array_like of bool, shape (N,), optional
        Which accesses are writes; none, by default.

    Attributes
    ----------
    addresses : ndarray of uint64, shape (N,)
    writes : ndarray of bool, shape (N,)
    live_out : tuple of (int, int) or None
        The addresses that are wanted at the end, ``first <= address < end``; None stands for all.

    Examples
    --------
    >>> from subquad.pebble import Trace
    >>> Trace([0, 1, 0, 2], [False, True, False, True])
    Trace(4 accesses)
    """

    def __init__(self, addresses: Any, writes: Any = None) -> None:
        array = take_integers("addresses", addresses)
        if array.ndim != 1:
            raise ValueError(f"`addresses` must have one axis, got shape {array.shape}")
        outside = (array < 0) | (array > _LARGEST_ADDRESS)
        if outside.any():
            first = int(np.argmax(outside))
            raise ValueError(
                f"`addresses` must be from 0 to 2^62 - 1, got {int(array[first])} at index {first}"
            )
        flags = None if writes is None else np.ascontiguousarray(writes)
        if flags is not None and flags.dtype != np.bool_ and flags.size > 0:
            raise TypeError(f"`writes` must be bool, got an array of {flags.dtype}")
        if flags is not None and flags.shape != array.shape:
            raise ValueError(f"`writes` must have shape {array.shape}, got {flags.shape}")
        self._core = _subquad.PebbleTrace(
            np.ascontiguousarray(array, dtype=np.uint64),
            None if flags is None else flags.astype(np.bool_, copy=False),
        )
        self.live_out: tuple[int, int] | None = None

    @classmethod
    def attention(
        cls, n: int, d: int, *, rows: int | None = None, columns: int | None = None
    ) -> Trace:
        """Return what attention of n queries to n keys of d columns accesses.

        Parameters
        ----------
        n, d : int
            Q, K, V and the output O are n by d matrices; every array begins at a multiple of 16 words.
        rows, columns : int, optional
            Queries and keys of a block, in the order of FlashAttention-2 [1]_: sums of a block of queries
            stay while the keys go by; L, logarithms of sums, is an output too. Without both, three kernels
            that write an n by n array of scores.

        Returns
        -------
        Trace
            Its `live_out` are the outputs. 8 bytes per access, about 5 n^2 d accesses.

        References
        ----------
        .. [1] T. Dao, "FlashAttention-2", arXiv:2307.08691.
        """
        sizes = (take_count("n", n, most=_LARGEST), take_count("d", d, most=_LARGEST))
        trace = cls.__new__(cls)
        trace._core, trace.live_out = _subquad.PebbleTrace.attention(*sizes, _blocks(rows, columns))
        return trace

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the arrays and what is wanted at the end."""
        return _rebuilt, (*self._core.arrays(), self.live_out)

    @property
    def addresses(self) -> NDArray[np.uint64]:
        """The addresses."""
        return self._core.arrays()[0]

    @property
    def writes(self) -> NDArray[np.bool_]:
        """Which accesses are writes."""
        return self._core.arrays()[1]

    def __len__(self) -> int:
        """Return the number of accesses."""
        return self._core.length()

    def __repr__(self) -> str:
        """Return how many accesses there are."""
        return f"Trace({len(self)} accesses)"


def _rebuilt(addresses: Any, writes: Any, live_out: tuple[int, int] | None) -> Trace:
    trace = Trace(addresses, writes)
    trace.live_out = live_out
    return trace


def _blocks(rows: Any, columns: Any) -> tuple[int, int] | None:
    if rows is None and columns is None:
        return None
    if rows is None or columns is None:
        raise ValueError("`rows` and `columns` must both be given, or neither")
    return take_count("rows", rows, most=_LARGEST), take_count("columns", columns, most=_LARGEST)


@dataclass(frozen=True)
class Traffic:
    """What a cache has moved.

    Attributes
    ----------
    accesses, misses : int
        Reads and writes of words, and those whose line was not there.
    fetches, write_backs : int
        Lines read from memory and written to it.
    line : int
        Words of a line.
    """

    accesses: int
    misses: int
    fetches: int
    write_backs: int
    line: int

    @property
    def words(self) -> int:
        """Words moved."""
        return (self.fetches + self.write_backs) * self.line

    def _rows(self) -> list[tuple[str, str]]:
        share = self.misses / self.accesses if self.accesses else 0.0
        return [
            ("accesses", f"{self.accesses}"),
            ("misses", f"{self.misses} ({share:.2%})"),
            ("lines", f"{self.fetches} fetched, {self.write_backs} written back"),
            ("words", f"{self.words}: lines of {self.line}"),
        ]

    def __str__(self) -> str:
        """Return a table of the figures."""
        return f"Traffic\n{text_table(self._rows())}"

    def _repr_html_(self) -> str:
        return html_table("Traffic", self._rows())


def replay(
    trace: Trace | Any,
    capacity: int,
    policy: str = "lru",
    line: int = 1,
    *,
    ways: int = 8,
    fetch_on_write: bool = True,
    discard: bool = False,
    live_out: tuple[int, int] | None = None,
) -> Traffic:
    """Count what a cache moves for a trace.

    Parameters
    ----------
    trace : Trace, or array_like of int
        An array is addresses that are read.
    capacity : int
        Words that fit.
    policy : {"lru", "set-associative", "opt"}, optional
        What leaves:

        - "lru": the line that has not been used for longest;
        - "set-associative": the same among the `ways` lines of a set; a line is in the set of its number modulo
          the number of sets;
        - "opt": the line whose next use is furthest in the future [1]_, and at once what is not used again. No
          cache has fewer misses; where written lines cost twice, one may move fewer words.
    line : int, optional
        Words of a line, a power of two.
    ways : int, optional
        Lines of a set.
    fetch_on_write : bool, optional
        Is a line fetched when a word of it is written that is not there? Hardware does, unless it knows that the
        whole line will be written.
    discard : bool, optional
        For "opt" with lines of one word, and `fetch_on_write` False: a word that is written before it is read
        again is dead, and not written back. Programs know this, caches do not.
    live_out : tuple of (int, int), optional
        Addresses ``first <= address < end`` that are wanted at the end; other lines that were written are not
        written back at the end (before that, they are). By default those of the trace, or all.

    Returns
    -------
    Traffic

    Raises
    ------
    ValueError
        For a cache that there is not, such as one of no whole set.

    See Also
    --------
    reuse_distances : all sizes of an LRU cache in one pass.
    subquad.reference.pebble.replay : The same in plain Python.

    Notes
    -----
    O(N) time ("set-associative": times ways); some hundred million accesses a second, half of that for "opt".

    References
    ----------
    .. [1] L. A. Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems
       Journal 1966.

    Examples
    --------
    >>> from subquad.pebble import replay
    >>> replay([0, 1, 2, 0, 1, 2], 2).misses, replay([0, 1, 2, 0, 1, 2], 2, "opt").misses
    (6, 4)
    """
    accesses = trace if isinstance(trace, Trace) else Trace(trace)
    check_choice("policy", policy, CACHES)
    kept = accesses.live_out if live_out is None else _range(live_out)
    kind = (
        take_count("capacity", capacity, most=_LARGEST_ADDRESS),
        take_count("line", line, most=_LARGEST_ADDRESS),
        policy,
        take_count("ways", ways, most=_LARGEST_ADDRESS),
        take_flag("fetch_on_write", fetch_on_write),
        take_flag("discard", discard),
        kept,
    )
    if discard and policy != "opt":
        raise ValueError(f'`discard` must be False for policy "{policy}", got {discard!r}')
    return Traffic(*accesses._core.replay(kind), kind[1])


def _range(live_out: Any) -> tuple[int, int]:
    try:
        first, end = live_out
    except (TypeError, ValueError):
        raise TypeError(f"`live_out` must be a pair of integers, got {live_out!r}") from None
    first = take_count("live_out", first, least=0, most=_LARGEST)
    return first, take_count("live_out", end, least=first, most=_LARGEST)


@dataclass(frozen=True, eq=False)
class Distances:
    """Reuse distances of a trace, in lines.

    The distance of an access is how many other lines were used since its line was used last.

    Attributes
    ----------
    reads, writes : ndarray of uint64
        How many reads and writes have which distance: index d counts distance d.
    rewrites : ndarray of uint64
        The same for writes to a line that was written before, with the largest of the distances since.
    first_reads, first_writes : int
        Lines whose first access is a read, or a write.
    written : int
        Lines that were written.
    line : int
        Words of a line.
    """

    reads: NDArray[np.uint64]
    writes: NDArray[np.uint64]
    rewrites: NDArray[np.uint64]
    first_reads: int
    first_writes: int
    written: int
    line: int

    def traffic(self, capacity: int, *, fetch_on_write: bool = True) -> Traffic:
        """Return what an LRU cache moves: the same as `replay`, all that was written being wanted.

        Parameters
        ----------
        capacity : int
            Words that fit.
        fetch_on_write : bool, optional
            As for `replay`.

        Returns
        -------
        Traffic
        """
        words = take_count("capacity", capacity, least=self.line)
        fetched = take_flag("fetch_on_write", fetch_on_write)
        lines = words // self.line
        reads = int(self.reads[lines:].sum()) + self.first_reads
        writes = int(self.writes[lines:].sum()) + self.first_writes
        again = int(self.reads.sum()) + int(self.writes.sum())
        return Traffic(
            again + self.first_reads + self.first_writes,
            reads + writes,
            reads + (writes if fetched else 0),
            int(self.rewrites[lines:].sum()) + self.written,
            self.line,
        )


def reuse_distances(trace: Trace | Any, line: int = 1) -> Distances:
    """Count reuse distances: one pass that tells the traffic of every size of an LRU cache.

    A cache of C least recently used lines has what is accessed if and only if its distance is below C [1]_.

    Parameters
    ----------
    trace : Trace, or array_like of int
        An array is addresses that are read.
    line : int, optional
        Words of a line, a power of two.

    Returns
    -------
    Distances

    Notes
    -----
    O(N log lines) time, some ten million accesses a second.

    References
    ----------
    .. [1] R. L. Mattson, J. Gecsei, D. R. Slutz and I. L. Traiger, "Evaluation techniques for storage
       hierarchies", IBM Systems Journal 1970.

    Examples
    --------
    >>> from subquad.pebble import reuse_distances
    >>> distances = reuse_distances([0, 1, 2, 0, 1, 2])
    >>> distances.reads
    array([0, 0, 3], dtype=uint64)
    >>> [distances.traffic(capacity).misses for capacity in (1, 2, 3)]
    [6, 6, 3]
    """
    accesses = trace if isinstance(trace, Trace) else Trace(trace)
    words = take_count("line", line, most=_LARGEST_ADDRESS)
    (reads, writes, rewrites), lines = accesses._core.distances(words)
    return Distances(reads, writes, rewrites, *lines, words)
