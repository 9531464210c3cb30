"""Prints what the suite tracks as a table, without asv: ``python report.py [class ...]``.

Ratios are turned round, so that larger is better: x torch, share of the limit (and the rate in GF/s
or GB/s that it stands for), speed-up.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

from suite import bench_attention, bench_bias
from suite._alternate import limits

import subquad._config


def rows(benchmark: Any) -> None:
    """Every tracked figure of a class of benchmarks, for all of its parameters."""
    tracked = [name for name in vars(benchmark) if name.startswith("track_")]
    for params in itertools.product(*benchmark.params):
        instance = benchmark()
        cells = []
        try:
            instance.setup(*params)
            for name in tracked:
                value = getattr(instance, name)(*params)
                label = name.removeprefix("track_").removeprefix("ratio_")
                turned = label.startswith("to_")
                cells.append(f"{label} {1 / value:.2f}" if turned else f"{label} {value:.4g}")
                if label == "to_limit":
                    unit = "GB/s" if benchmark.limit == "stream" else "GF/s"
                    cells[-1] += f" = {limits()[benchmark.limit] / value:.0f} {unit}"
        except NotImplementedError as reason:
            cells.append(f"skipped: {reason}")
        labels = ", ".join(
            f"{name}={value}" for name, value in zip(benchmark.param_names, params, strict=True)
        )
        print(f"{benchmark.__name__:14s} {labels:42s} {'; '.join(cells)}", flush=True)


def main(names: list[str]) -> None:
    """Print the table of the named classes, or of all."""
    print(f"class {subquad._config.machine_class()}, {limits()}")
    for module in (bench_attention, bench_bias):
        for name, benchmark in vars(module).items():
            ours = getattr(benchmark, "__module__", None) == module.__name__
            if isinstance(benchmark, type) and ours and (not names or name in names):
                rows(benchmark)


if __name__ == "__main__":
    main(sys.argv[1:])
