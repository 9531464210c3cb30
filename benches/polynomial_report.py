"""Prints what the suite tracks of polynomial attention: ``python polynomial_report.py [TARGET ...]``.

    python polynomial_report.py L1 L4          these only: L1 to L5, certified, crossover, ...
    python polynomial_report.py --quick        fewer calls, of the peer fewer queries, fewer tokens

Ratios are turned round, so that larger is better: times the peer, and the share of the multiply-add peak
with the rate that it stands for. Operations are those of products with all features, two passes forward
and five backward. Where a peer was given some of the queries and its time scaled up, the line says so.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from typing import Any

from suite import bench_polynomial as bench
from suite._alternate import limits

import subquad._config
from subquad.theory.polynomial import feature_count

Part = tuple[Any, list[tuple[Any, ...]]]


def shapes(benchmark: Any, *sizes: tuple[int, int, int]) -> Part:
    """Name some sizes of a class."""
    return benchmark, [(size,) for size in sizes]


def everything(benchmark: Any) -> Part:
    """All parameters of a class."""
    return benchmark, list(itertools.product(*benchmark.params))


LONG, SHORT = (65_536, 64, 2), (16_384, 64, 2)
TARGETS: dict[str, list[Part]] = {
    "L1": [shapes(bench.Forward, LONG), shapes(bench.Backward, LONG)],
    "L2": [
        shapes(bench.Forward, SHORT),
        shapes(bench.Backward, SHORT),
        shapes(bench.Million, (1_048_576, 64, 2)),
    ],
    "L3": [shapes(bench.Forward, (262_144, 32, 3), (65_536, 128, 2))],
    "L4": [shapes(bench.Causal, LONG)],
    "L5": [shapes(bench.SameMaths, LONG)],
    "certified": [everything(bench.Certified)],
    "half": [everything(bench.Half)],
    "crossover": [everything(bench.Crossover)],
    "workers": [everything(bench.Workers)],
    "accuracy": [everything(bench.Accuracy)],
}
# With --quick, of the parameters that the class has; and of a million tokens.
QUICK = {"pairs": 2, "rounds": 2, "peer_flops": 2.0**34, "spend": 0.2}
QUICK_TOKENS = 131_072


def quick(benchmark: Any, params: tuple[Any, ...]) -> tuple[Any, ...]:
    """Ask for less."""
    for name, value in QUICK.items():
        if hasattr(benchmark, name):
            setattr(benchmark, name, value)
    n, *rest = params[0]
    return ((min(n, QUICK_TOKENS), *rest), *params[1:])


def shown(benchmark: Any, name: str, value: float, params: tuple[Any, ...]) -> str:
    """One figure."""
    label = name.removeprefix("track_ratio_")
    if label == "to_limit":
        peak = limits()[benchmark.limit]
        return f"{1 / value:.2f} of {peak:.0f} GF/s"
    if label == "to_sdpa":
        n, rows = params[0][0], benchmark.rows(params[0])
        sampled = "" if rows == n else f" ({rows} queries, scaled)"
        return f"{1 / value:.1f} x sdpa{sampled}"
    if label == "of_crossover_to_half_features":
        features = feature_count(*params[0])
        return f"as fast at n = {value:.2f} r/2 = {value * features / 2:.0f}, r = {features}"
    if label.startswith("to_"):
        return f"{1 / value:.2f} x {label.removeprefix('to_').replace('_', ' ')}"
    return f"{label.removeprefix('of_').replace('_', ' ')} {value:.1e}"


def row(benchmark: Any, params: tuple[Any, ...]) -> Iterator[str]:
    """All figures of one size."""
    tracked = [name for name in dir(benchmark) if name.startswith("track_ratio")]
    try:
        benchmark.setup(*params)
        for name in reversed(tracked):  # sdpa before the limit
            value = getattr(benchmark, name)(*params)
            yield shown(benchmark, name, value, params)
    except NotImplementedError as reason:
        yield f"skipped: {reason}"


def main() -> None:
    """Print the targets that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--quick", action="store_true", help="less of everything")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - TARGETS.keys()
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}: there are {', '.join(TARGETS)}")
    kind = subquad._config.machine_class()
    print(f"class {kind}, {subquad._subquad.isa}, one thread, {limits()}", flush=True)
    for target in arguments.targets or TARGETS:
        for kinds, sizes in TARGETS[target]:
            for params in sizes:
                benchmark = kinds()
                asked = quick(benchmark, params) if arguments.quick else params
                named = zip(benchmark.param_names, asked, strict=True)
                what = ", ".join(f"{name} = {value}" for name, value in named)
                label = f"{kind} {target:9s} {kinds.__name__:9s} {what:42s}"
                print(label, "; ".join(row(benchmark, asked)), flush=True)


if __name__ == "__main__":
    main()
