"""Blocks for a cache that decides by itself what stays: smaller than those of a fast memory of the same size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .workload import Workload

if TYPE_CHECKING:
    from .plan import IOCandidate

__all__ = ["Cached", "plan_for_cache"]

# The cache of the replay: lines of 64 bytes, in sets of 8, of which the one that was used last stays longest. Data
# caches have 8 ways or more, and with fewer the choice is on the safe side.
_LINE_BYTES, _WAYS = 64, 8

# Fractions of the memory for which blocks are tried.
_FRACTIONS = tuple(percent / 100 for percent in range(100, 20, -10))

# Accesses of one replay, roughly: larger problems are replaced by smaller ones of the same proportions.
_LONGEST = 4.5e6
_NARROWEST = 16


@dataclass(frozen=True)
class Cached:
    """The choice: what is chosen, every family with what it needs, and what the cache moves over the words."""

    best: IOCandidate
    table: tuple[IOCandidate, ...]
    ratio: float


def plan_for_cache(workload: Workload, core: Any) -> Cached | None:
    """Choose blocks by replaying schedules on a cache; None if no schedule fits.

    Families are taken in the order of what they move in a fast memory of their own; one that moves more there than
    what was found for another is passed over, and is listed with that.
    """
    from .plan import candidates_of, choose

    operand = workload.itemsizes[0] if workload.unit == "bytes" else 4
    line = _LINE_BYTES // operand
    words = workload.memory // (operand if workload.unit == "bytes" else 1)
    if words < line * _WAYS:
        raise ValueError(
            f"`memory` must be at least {line * _WAYS} words for a cache of {_WAYS} lines, got {words}"
        )
    small, small_words = _reduced(workload, words)
    small_core = small.core()
    fractions = [f for f in _FRACTIONS if int(f * small_words) >= 1]
    large = candidates_of(workload, core, [int(f * workload.memory) for f in fractions])
    tried = candidates_of(small, small_core, [int(f * small_words) for f in fractions])
    if choose(large[0], workload.unit) is None:
        return None
    chosen: dict[str, tuple[float, IOCandidate, float]] = {}
    best = math.inf
    order = sorted(range(len(large[0])), key=lambda i: _cost(large[0][i], workload))
    capacity = small_words // (line * _WAYS) * (line * _WAYS)
    for family in order:
        seen: dict[tuple[int, ...], float] = {}
        for row, reduced in zip(large, tried, strict=True):
            one, other = row[family], reduced[family]
            if one.blocks is None or other.blocks is None or _cost(one, workload) >= best:
                break
            sizes = tuple(other.blocks.values())
            if sizes not in seen:
                moved = small_core.replay(
                    other.schedule, list(sizes), capacity, line, _WAYS, small.direction
                )
                seen[sizes] = moved / (other.words or 1)
            predicted = _cost(one, workload) * seen[sizes]
            if predicted < chosen.get(one.schedule, (math.inf,))[0]:
                chosen[one.schedule] = (predicted, one, seen[sizes])
                best = min(best, predicted)
    table = tuple(chosen[row.schedule][1] if row.schedule in chosen else row for row in large[0])
    _, found, ratio = min(chosen.values(), key=lambda entry: entry[0])
    return Cached(found, table, ratio)


def _cost(row: IOCandidate, workload: Workload) -> float:
    words = row.bytes if workload.unit == "bytes" else row.words
    return math.inf if words is None else words


def _reduced(workload: Workload, words: int) -> tuple[Workload, int]:
    """Return a smaller problem of the same proportions of memory and width, with all keys seen, and its memory."""
    d, memory = workload.d, words
    while True:
        n = min(workload.n * workload.group, max(4 * d, 4 * memory // d, 64))
        if n * n * d <= _LONGEST or d <= _NARROWEST:
            break
        d, memory = max(d // 2, _NARROWEST), words * max(d // 2, _NARROWEST) ** 2 // workload.d**2
    largest = math.isqrt(int(_LONGEST / d))
    if n > largest:
        n, memory = largest, min(memory, largest * d // 4)
    small = replace(
        workload, n=n, keys=n, d=d, group=1, memory=memory, unit="words",
        is_causal=workload.is_causal, mask_blocks=None, block=1,
    )  # fmt: skip
    return small, memory
