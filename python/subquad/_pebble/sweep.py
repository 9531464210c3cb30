"""Words that attention moves against the size of fast memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._table import count, html_table, text_table
from .arguments import take_integers
from .model import Model
from .plan import MODEL, candidates_of, choose, lower_bound
from .workload import Workload, take_workload

__all__ = ["Crossover", "Sweep", "sweep"]

_LARGEST = 2**62


@dataclass(frozen=True, slots=True)
class Crossover:
    """Where another family begins to move least.

    Attributes
    ----------
    memory : int
        The first of the memories with which `after` moves least.
    before, after : str
        Families.
    """

    memory: int
    before: str
    after: str


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Sweep:
    """The best of every family of schedules for many sizes of fast memory.

    Attributes
    ----------
    memories : ndarray of int64, shape (m,)
        Fast memory, ascending, in the unit of the workload.
    words : dict of str to ndarray of float64
        For each family words moved; nan where none of it fits.
    best : ndarray of float64
        The least of them, nan where nothing fits.
    schedules : tuple of str
        The family that moves least, "" where nothing fits.
    lower_bound : ndarray of int64 or None
        Words that no algorithm of the class of `subquad.theory.pebble.attention_lower_bound` can avoid.
    crossovers : tuple of Crossover
        Where the family changes. Integer sizes of blocks make ripples, so that near a crossover it may
        change several times.
    model : Model
        The game.
    workload : Workload
        What was planned, with the largest of the memories.
    """

    memories: NDArray[np.int64]
    words: dict[str, NDArray[np.float64]] = field(hash=False)
    best: NDArray[np.float64]
    schedules: tuple[str, ...]
    lower_bound: NDArray[np.int64] | None
    crossovers: tuple[Crossover, ...]
    model: Model
    workload: Workload

    def _cells(self) -> list[tuple[str, ...]]:
        bounds = [""] * len(self.memories)
        if self.lower_bound is not None:
            bounds = [count(float(bound)) for bound in self.lower_bound]
        rows = zip(self.memories.tolist(), self.schedules, self.best.tolist(), bounds, strict=True)
        return [
            (f"{memory:,}", name or "none fits", count(words) if name else "", bound)
            for memory, name, words, bound in rows
        ]

    def __repr__(self) -> str:
        """Return the best for every memory."""
        w = self.workload
        title = f"Sweep of {w.direction} attention, {w.n} x {w.keys}, d = {w.d}"
        return f"{title}\n{text_table([_HEADER, *self._cells()])}"

    def _repr_html_(self) -> str:
        return html_table("Sweep", self._cells(), header=_HEADER)


_HEADER = ("memory", "schedule", "words", "lower bound")


def sweep(
    n: int,
    d: int,
    memories: Any,
    *,
    unit: str = "words",
    dtypes: Any = None,
    is_causal: bool = False,
    mask_blocks: Any = None,
    direction: str = "forward",
    keys: int | None = None,
    group: int = 1,
) -> Sweep:
    """Plan attention for many sizes of fast memory.

    Parameters
    ----------
    n, d : int
        As for `attention_plan`.
    memories : array_like of int
        Sizes of fast memory, in `unit`.
    unit, dtypes, is_causal, mask_blocks, direction, keys, group
        As for `attention_plan`.

    Returns
    -------
    Sweep
        Arrays of words against memory for each family, their least, the lower bound, and where families cross.

    Raises
    ------
    TypeError, ValueError
        As for `attention_plan`; a memory in which nothing fits has nan.

    Examples
    --------
    >>> from subquad.pebble import sweep
    >>> found = sweep(4096, 64, [1024, 2048, 8192, 65536])
    >>> found.schedules
    ('rectangular', 'row-resident', 'flash-2', 'flash-2')
    >>> [crossover.after for crossover in found.crossovers]
    ['row-resident', 'flash-2']
    """
    sizes = take_integers("memories", memories)
    if sizes.ndim != 1 or sizes.size == 0:
        raise ValueError(f"`memories` must have one axis and an entry, got shape {sizes.shape}")
    if sizes.min() < 1:
        raise ValueError(f"`memories` must be positive, got {int(sizes.min())}")
    if sizes.max() > _LARGEST:
        raise ValueError(f"`memories` must be at most 2^62, got {int(sizes.max())}")
    ascending = np.unique(sizes).astype(np.int64)
    workload = take_workload(
        n,
        d,
        int(ascending[-1]),
        unit=unit,
        dtypes=dtypes,
        is_causal=is_causal,
        mask_blocks=mask_blocks,
        direction=direction,
        keys=keys,
        group=group,
    )
    core = workload.core()
    tables = candidates_of(workload, core, ascending.tolist())
    words = {
        row.schedule: np.array([_number(table[i].words) for table in tables])
        for i, row in enumerate(tables[0])
    }
    chosen = [choose(table, workload.unit) for table in tables]
    names = tuple("" if best is None else best.schedule for best in chosen)
    return Sweep(
        memories=ascending,
        words=words,
        best=np.array([np.nan if best is None else _number(best.words) for best in chosen]),
        schedules=names,
        lower_bound=lower_bound(workload, core.pairs(), ascending),
        crossovers=_crossovers(ascending.tolist(), names),
        model=MODEL,
        workload=workload,
    )


def _number(words: int | None) -> float:
    return np.nan if words is None else float(words)


def _crossovers(memories: list[int], names: tuple[str, ...]) -> tuple[Crossover, ...]:
    steps = zip(memories[1:], names[:-1], names[1:], strict=True)
    return tuple(
        Crossover(memory, before, after)
        for memory, before, after in steps
        if before and before != after
    )
