"""Fair timing on a shared machine: calls alternated in one process, limits measured beside them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from statistics import median
from time import perf_counter

import subquad._config

Call = Callable[[], object]


def seconds(call: Call) -> float:
    """Wall time of one call."""
    start = perf_counter()
    call()
    return perf_counter() - start


def ratio(ours: Call, peer: Call, pairs: int) -> float:
    """Our time over the peer's: the median over alternated pairs, after one call of each."""
    ours()
    peer()
    return median(seconds(ours) / seconds(peer) for _ in range(pairs))


def best(call: Call, rounds: int) -> float:
    """Time the shortest of several calls: what the machine does when nobody disturbs it."""
    call()
    return min(seconds(call) for _ in range(rounds))


@functools.cache
def limits() -> dict[str, float]:
    """Measure what this machine can do, as ``python -m subquad info --measure`` does.

    `over_limit` raises a figure that it finds higher later.
    """
    return subquad._config.measure()


def over_limit(call: Call, work: float, limit: str, rounds: int) -> float:
    """Our time over the time that `work` (flops or bytes) takes at a limit of the machine.

    The limit is measured before and after, and the higher figure counts: a clock that was slow
    when the limit was taken must not flatter us.
    """
    known = limits()
    ours = best(call, rounds)
    known[limit] = max(known[limit], subquad._config.measure(0.6)[limit])
    for _ in range(3):
        if ours * known[limit] * 1e9 >= work:
            break  # else nobody is that fast: a neighbour held the limit down
        known[limit] = max(known[limit], subquad._config.measure(1.0)[limit])
    return ours * known[limit] * 1e9 / work
