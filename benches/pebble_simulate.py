"""Prints what the suite tracks of orders and caches: ``python pebble_simulate.py [orders] [replay]``.

Words are exact. Speeds are those of the fastest of some calls, and say as much about the machine; ratios to peers are
medians of alternated pairs, turned round so that larger is better.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

from suite import _pebbles
from suite import bench_pebble_simulate as bench
from suite._alternate import best

import subquad._config
from subquad import pebble

ROUNDS = 5


def orders() -> None:
    """Print words and speeds of a million values, and ratios to networkx."""
    for name in _pebbles.LARGE:
        dag, order, memory = _pebbles.large(name)
        words = {p: pebble.simulate(dag, order, memory, p).words for p in ("belady", "best", "lru")}
        values = len(order) / 1e6
        time = best(lambda: pebble.simulate(dag, order, memory), ROUNDS)  # noqa: B023
        figures = ", ".join(f"{policy} {count}" for policy, count in words.items())
        print(f"{name:18s} M = {memory:4d}: {figures}; {values / time:.1f} M values/s", flush=True)
    ratios(bench.AgainstNetworkx, "track_ratio_to_networkx")
    for family in bench.Orders.params[0]:
        benchmark = bench.Orders()
        benchmark.setup(family)
        tracked = [name for name in dir(benchmark) if name.startswith("track_words")]
        figures = ", ".join(
            f"{name.removeprefix('track_words_')} {getattr(benchmark, name)(family)}"
            for name in tracked
        )
        print(f"{family:18s} M = {benchmark.memory:4d}: {figures}", flush=True)


def replay() -> None:
    """Print words and speeds of caches, and ratios to pycachesim."""
    for words in bench.Replay.params[0]:
        benchmark = bench.Replay()
        benchmark.setup(words)
        accesses = len(benchmark.trace) / 1e6
        figures = []
        for kind in ("lru", "set_associative", "opt"):
            moved = getattr(benchmark, f"track_words_{kind}")(words)
            call = getattr(benchmark, f"time_{kind}")
            time = best(lambda: call(words), ROUNDS)  # noqa: B023
            figures.append(f"{kind} {moved} ({accesses / time:.0f} M/s)")
        time = best(lambda: benchmark.time_distances(words), ROUNDS)  # noqa: B023
        figures.append(f"distances ({accesses / time:.0f} M/s)")
        print(f"attention, {words:4d} words: {', '.join(figures)}", flush=True)
    ratios(bench.AgainstPycachesim, "track_ratio_to_pycachesim")


def ratios(kinds: Any, name: str) -> None:
    """Print the ratios of a benchmark to its peer."""
    for params in itertools.product(*kinds.params):
        benchmark = kinds()
        try:
            benchmark.setup(*params)
            figure = f"{1 / getattr(benchmark, name)(*params):.0f} x"
        except NotImplementedError as reason:
            figure = f"skipped: {reason}"
        peer = name.removeprefix("track_ratio_to_")
        print(f"{', '.join(map(str, params)):18s} {peer}: {figure}", flush=True)


def main() -> None:
    """Print the parts that are named, or all."""
    parts = {"orders": orders, "replay": replay}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - parts.keys()
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}: there are {', '.join(parts)}")
    print(f"class {subquad._config.machine_class()}, one thread", flush=True)
    for name in arguments.parts or parts:
        parts[name]()


if __name__ == "__main__":
    main()
