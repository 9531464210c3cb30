"""Caches as lists of lines, and reuse distances by looking back."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._pebble.replay import Distances, Trace, Traffic

__all__ = ["replay", "reuse_distances"]


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
    """Count what a cache moves; arguments as in `subquad.pebble.replay`."""
    accesses = trace if isinstance(trace, Trace) else Trace(trace)
    kept = accesses.live_out if live_out is None else live_out
    lines, writes = (accesses.addresses // np.uint64(line)).tolist(), accesses.writes.tolist()
    room = ways if policy == "set-associative" else capacity // line
    least = ways * line if policy == "set-associative" else line
    if capacity < least:
        raise ValueError(f"`capacity` must be at least {least}, got {capacity}")
    sets = capacity // line // room
    # For every line that is there, whether it was written; what was used last comes last.
    there: list[dict[int, bool]] = [{} for _ in range(sets)]
    misses = fetches = write_backs = 0

    def wanted(number: int) -> bool:
        return kept is None or (number * line < kept[1] and kept[0] < (number + 1) * line)

    for i, (number, write) in enumerate(zip(lines, writes, strict=True)):
        cache = there[number % sets]
        if number in cache:
            written = cache.pop(number)
        else:
            misses += 1
            fetches += fetch_on_write or not write
            written = False
            if len(cache) == room:
                victim = next(iter(cache))
                if policy == "opt":
                    victim = max(cache, key=lambda other: lines.index(other, i))
                write_backs += cache.pop(victim)
        cache[number] = written or write
        if policy == "opt":
            if number not in lines[i + 1 :]:
                write_backs += cache.pop(number) and wanted(number)
            elif discard and writes[lines.index(number, i + 1)]:
                cache.pop(number)
    write_backs += sum(
        written and wanted(number) for cache in there for number, written in cache.items()
    )
    return Traffic(len(lines), misses, fetches, write_backs, line)


def reuse_distances(trace: Trace | Any, line: int = 1) -> Distances:
    """Count reuse distances; arguments as in `subquad.pebble.reuse_distances`."""
    accesses = trace if isinstance(trace, Trace) else Trace(trace)
    lines, writes = (accesses.addresses // np.uint64(line)).tolist(), accesses.writes.tolist()
    reads, written, rewrites = Counter[int](), Counter[int](), Counter[int]()
    firsts = {True: 0, False: 0}
    last: dict[int, int] = {}
    # For every line that was written, the largest distance since.
    largest: dict[int, int] = {}
    for i, (number, write) in enumerate(zip(lines, writes, strict=True)):
        if number in last:
            distance = len(set(lines[last[number] + 1 : i]))
            (written if write else reads)[distance] += 1
            if number in largest:
                largest[number] = max(largest[number], distance)
        else:
            firsts[write] += 1
        if write:
            if number in largest:
                rewrites[largest[number]] += 1
            largest[number] = 0
        last[number] = i
    return Distances(
        _histogram(reads),
        _histogram(written),
        _histogram(rewrites),
        firsts[False],
        firsts[True],
        len(largest),
        line,
    )


def _histogram(counts: Counter[int]) -> NDArray[np.uint64]:
    return np.array([counts[d] for d in range(max(counts, default=-1) + 1)], dtype=np.uint64)
