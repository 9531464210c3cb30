"""Prints what the suite tracks of Toeplitz products: ``python toeplitz_report.py [TARGET ...]``.

    python toeplitz_report.py T1          this only: T1, gradient, rescaled

Ratios to peers are turned round, so that larger is better: times the peer.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

from suite import bench_toeplitz as bench

import subquad._config

TARGETS: dict[str, list[Any]] = {
    "T1": [bench.Product],
    "gradient": [bench.Gradient],
    "rescaled": [bench.RescaledSum],
}


def shown(benchmark: Any, name: str, params: tuple[Any, ...]) -> str:
    """One figure."""
    peer = name.removeprefix("track_ratio_to_")
    try:
        value = getattr(benchmark, name)(*params)
    except NotImplementedError as reason:
        return f"skipped: {reason}"
    if peer in ("product", "products"):
        return f"{value:.2f} of the time of a {peer.removesuffix('s')}"
    return f"{1 / value:.2f} x {peer}"


def main() -> None:
    """Print the targets that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - TARGETS.keys()
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}: there are {', '.join(TARGETS)}")
    kind = subquad._config.machine_class()
    print(f"class {kind}, {subquad._subquad.isa}, one thread", flush=True)
    for target in arguments.targets or TARGETS:
        for kinds in TARGETS[target]:
            tracked = [name for name in dir(kinds) if name.startswith("track_ratio")]
            for params in itertools.product(*kinds.params):
                benchmark = kinds()
                benchmark.setup(*params)
                named = zip(kinds.param_names, params, strict=True)
                what = ", ".join(f"{name} = {value}" for name, value in named)
                figures = [shown(benchmark, name, params) for name in tracked]
                print(f"{kind} {target:9s} {what:42s}", "; ".join(figures), flush=True)


if __name__ == "__main__":
    main()
