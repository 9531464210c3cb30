"""Prints what the suite tracks of half-space reporting: ``python halfspace_report.py [TARGET ...]``.

    python halfspace_report.py H1 H3           these targets only: H1 to H7, workers
    python halfspace_report.py --pairs 5 H2    so many alternated pairs instead of each class's own

Ratios are turned round, so that larger is better: times the peer, share of the limit and the rate that
it stands for. Counts are means per query. The heads of H7 are followed by their average.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from statistics import mean
from typing import Any

from suite import bench_halfspace as bench
from suite._alternate import limits

import subquad._config

TARGETS: dict[str, list[Any]] = {
    "H1": [bench.OneQuery],
    "H2": [bench.OneQueryNarrow, bench.OneQueryInCache],
    "H3": [bench.Batch],
    "H4": [bench.OneHead],
    "H5": [bench.Tree, bench.TreeGrowth],
    "H6": [bench.Build],
    "H7": [bench.RotatedPlanes, bench.RotatedFromMemory],
    "workers": [bench.BatchWorkers],
}


def tracked(benchmark: Any) -> list[str]:
    """Names of the tracked figures of a class and of those it extends: ratios, then counts."""
    names = [name for name in dir(benchmark) if name.startswith("track_")]
    return sorted(names, key=lambda name: not name.startswith(("track_ratio", "track_exponent")))


def shown(name: str, value: float, limit: str | None) -> str:
    """One figure."""
    label = name.removeprefix("track_").removeprefix("ratio_")
    if label == "to_limit":
        unit = "GB/s" if limit == "stream" else "Gop/s"
        return f"{limit} share {1 / value:.2f} = {limits()[str(limit)] / value:.0f} {unit}"
    if label.startswith("to_"):
        return f"{1 / value:.2f} x {label.removeprefix('to_').replace('_', ' ')}"
    if label.startswith("of_"):
        return f"{label.removeprefix('of_').replace('_', ' ')} {value:.3f}"
    return f"{label.replace('_', ' ')} {value:.4g}"


def rows(benchmark: Any, pairs: int | None) -> Iterator[tuple[str, dict[str, float]]]:
    """Every line of a class of benchmarks, and its figures."""
    for params in itertools.product(*benchmark.params):
        instance = benchmark()
        if pairs is not None:
            instance.pairs = pairs
        cells, values = [], {}
        sizes = [(name, getattr(benchmark, name)) for name in "nd" if hasattr(benchmark, name)]
        named = [*sizes, *zip(benchmark.param_names, params, strict=True)]
        labels = ", ".join(f"{name}={value}" for name, value in named)
        try:
            instance.setup(*params)
            if hasattr(instance, "about"):
                cells.append(instance.about())
            for name in tracked(benchmark):
                values[name] = getattr(instance, name)(*params)
                cells.append(shown(name, values[name], getattr(benchmark, "limit", None)))
            if "track_reported" in values:
                cells.append(f"selectivity {values['track_reported'] / instance.n:.2e}")
        except NotImplementedError as reason:
            cells.append(f"skipped: {reason}")
        yield f"{benchmark.__name__} {labels}: {'; '.join(cells)}", values


def summary(values: list[dict[str, float]]) -> str | None:
    """Average what target H7 compares, over the heads."""
    averages = []
    for name in ("track_ratio_of_bytes_to_int8", "track_ratio_of_time_to_int8"):
        known = [figures[name] for figures in values if name in figures]
        if not known:
            return None
        averages.append(f"{shown(name, mean(known), None)} = 1/{1 / mean(known):.2f}")
    return f"average of {len(known)} heads: {'; '.join(averages)}"


def main() -> None:
    """Print the targets that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--pairs", type=int, help="alternated pairs of calls")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - TARGETS.keys()
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}: there are {', '.join(TARGETS)}")
    kind = subquad._config.machine_class()
    print(f"class {kind}, {subquad._subquad.isa}, {limits()}", flush=True)
    for target in arguments.targets or TARGETS:
        for benchmark in TARGETS[target]:
            seen = []
            for line, values in rows(benchmark, arguments.pairs):
                print(f"{kind} {target} {line}", flush=True)
                seen.append(values)
            average = summary(seen)
            if average is not None and len(seen) > 1:
                print(f"{kind} {target} {average}", flush=True)


if __name__ == "__main__":
    main()
