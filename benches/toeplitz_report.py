"""Prints what the suite tracks of relative positions: ``python toeplitz_report.py [TARGET ...]``.

    python toeplitz_report.py T1          this only: T1 to T3, gradient, rescaled, rope

Ratios to peers are turned round, so that larger is better: times the peer.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

from suite import bench_bias, bench_bias_polynomial, bench_rope
from suite import bench_toeplitz as bench

import subquad._config

TARGETS: dict[str, list[Any]] = {
    "T1": [bench.Product],
    "T2": [bench_bias.LearnedBias],
    "T3": [bench_bias_polynomial.Forward],
    "gradient": [bench.Gradient, bench_bias_polynomial.Gradient],
    "rescaled": [bench.RescaledSum],
    "rope": [bench_rope.Rotate, bench_rope.PolynomialGradient, bench_rope.Attention],
}


def shown(benchmark: Any, name: str, params: tuple[Any, ...]) -> str:
    """One figure."""
    peer = name.removeprefix("track_ratio_to_")
    try:
        value = getattr(benchmark, name)(*params)
    except NotImplementedError as reason:
        return f"skipped: {reason}"
    if name.startswith("track_share_of_"):
        return f"{name.removeprefix('track_share_of_')} takes {value:.2g} of it"
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
            tracked = [
                name for name in dir(kinds) if name.startswith(("track_ratio", "track_share"))
            ]
            for params in itertools.product(*kinds.params):
                benchmark = kinds()
                try:
                    benchmark.setup(*params)
                except NotImplementedError:
                    continue  # sizes that say nothing more
                named = zip(kinds.param_names, params, strict=True)
                what = ", ".join(f"{name} = {value}" for name, value in named)
                figures = [shown(benchmark, name, params) for name in tracked]
                print(f"{kind} {target:9s} {what:42s}", "; ".join(figures), flush=True)


if __name__ == "__main__":
    main()
