"""Table 1 of arXiv:2410.10165, measured: ``python halfspace_table1.py FOLDER``.

    python halfspace_table1.py ../python/docs/gallery              measures, then writes the page's parts
    python halfspace_table1.py --draw ../python/docs/gallery       writes them from the numbers there
    python halfspace_table1.py --counts --largest 64 /tmp          counts alone, up to 64k keys

Gaussian keys and queries of width 64. The paper's column is n to the power 4/5; beside it stands what
its threshold reports, with the standard deviation of its theorems and with that of the query itself
(Lemma E.1). Times are of the latter: subquad, numpy and faiss alternate in this process, one thread
each, and the medians of their ratios count. Writes ``halfspace_table1.json`` (all numbers), ``.inc``
(the table of the manual) and ``.svg``.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from statistics import mean, median
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from suite._alternate import seconds
from suite._halfspaces import faiss, normal, norms, one_thread

import subquad
import subquad._config
from subquad.theory import halfspace as theory

NAME = "halfspace_table1"
WIDTH, QUERIES, DELTA = 64, 32, 0.01
THOUSANDS = [2**i for i in range(11)]
COLOURS = {"paper": "#999999", "expected": "#000000", "subquad": "#0072b2", "unscaled": "#d55e00"}
PEERS = {"numpy": "#009e73", "faiss": "#cc79a7"}

Row = dict[str, Any]


def measure(thousands: int, timed: bool) -> Row:
    """One line of the table."""
    n = 1000 * thousands
    keys = normal(n, WIDTH, seed=thousands)
    queries = normal(QUERIES, WIDTH, seed=0)
    index = subquad.halfspace.Index(keys, workers=1)
    # The index compares products, the paper logits: products over sqrt(d).
    scale = math.sqrt(WIDTH)
    stds = [theory.logit_std(norm, WIDTH) for norm in norms(queries)]
    own = [theory.sparse_threshold(n, std) for std in stds]
    stated = theory.sparse_threshold(n, theory.logit_std_bound(QUERIES, WIDTH, DELTA))
    asked = [(query, scale * b) for query, b in zip(queries, own, strict=True)]
    counts = [len(index.report(*question)) for question in asked]
    expected = mean(theory.expected_count(n, b, s) for b, s in zip(own, stds, strict=True))
    row: Row = {
        "keys": n,
        "paper": math.floor(theory.sparse_count(n)),
        "stated_threshold": [index.count(query, scale * stated) for query in queries],
        "unscaled": [index.count(query, stated) for query in queries],
        "counts": counts,
        "expected": expected,
    }
    return row | (times(index, keys, asked) if timed else {})


def times(index: subquad.halfspace.Index, keys: np.ndarray, asked: list[Any]) -> Row:
    """How many times as long the peers take."""
    flat = faiss.IndexFlatIP(WIDTH)
    flat.add(keys)
    calls = {
        "subquad": index.report,
        "numpy": lambda query, b: np.flatnonzero(keys @ query >= b),
        "faiss": lambda query, b: flat.range_search(query[np.newaxis], b),
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    # About two seconds for each size, and every query once at least.
    rounds = max(1, min(200, 2 * 10**6 // len(keys)))
    for turn in range(rounds + 1):
        for query, b in asked:
            for name, call in calls.items():
                elapsed = seconds(lambda: call(query, b))  # noqa: B023
                if turn > 0:
                    taken[name].append(elapsed)
    ours = taken["subquad"]
    infos = [index.report(query, b, return_info=True)[1] for query, b in asked]
    return {
        "times": {
            name: median(theirs / mine for theirs, mine in zip(taken[name], ours, strict=True))
            for name in PEERS
        },
        "engines": sorted({info.engine for info in infos}),
        "bytes_read": mean(info.bytes_read for info in infos),
    }


def machine() -> dict[str, str]:
    """Where the numbers come from."""
    config = subquad._config.show_config(mode="dicts")
    return {
        "class": config["machine"]["class"],
        "instruction_set": config["runtime"]["instruction_set"],
        "subquad": subquad.__version__,
        "numpy": np.__version__,
        "faiss": getattr(faiss, "__version__", "not installed"),
    }


def as_json(settings: Row, rows: list[Row]) -> str:
    """Write one row to a line."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    return f'{json.dumps(settings)[:-1]}, "rows": [\n{lines}\n]}}\n'


def table(rows: list[Row], where: dict[str, str]) -> str:
    """Write the table as the manual includes it."""
    timed = all("times" in row for row in rows)
    header = ["n", "n\\ :sup:`4/5`", "stated", "unscaled", "per query", "expected"]
    header += ["numpy", "faiss"] if timed else []
    title = "Reported keys, means of 32 queries, d = 64"
    if timed:
        title += (
            f"; and how many times as long numpy {where['numpy']} and faiss {where['faiss']} take, on "
            f"one thread of a machine of class {where['class']}"
        )
    lines = [f".. csv-table:: {title}", f"   :header: {', '.join(header)}", "   :align: right", ""]
    for row in rows:
        means = (mean(row[name]) for name in ("stated_threshold", "unscaled", "counts"))
        cells = [f"{row['keys'] // 1000}k", str(row["paper"]), *(f"{x:.0f}" for x in means)]
        cells.append(f"{row['expected']:.0f}")
        if timed:
            cells += [f"{row['times'][name]:.1f}" for name in PEERS]
        lines.append(f"   {', '.join(cells)}")
    return "\n".join(lines) + "\n"


def draw(rows: list[Row], where: dict[str, str], path: Path) -> None:
    """Draw counts over n and, if there are any, times the peers."""
    mpl.rcParams.update(
        {"svg.hashsalt": "subquad", "svg.fonttype": "none", "font.size": 9, "axes.titlesize": 10}
    )
    timed = all("times" in row for row in rows)
    figure, axes = plt.subplots(
        1, 1 + timed, figsize=(3.8 + 3.6 * timed, 3.2), layout="constrained", squeeze=False
    )
    sizes = [row["keys"] for row in rows]
    left = axes[0, 0]
    lines = {
        "Algorithms 1 and 2 as printed": ("unscaled", [mean(row["unscaled"]) for row in rows], "-"),
        "Table 1: $n^{4/5}$": ("paper", [row["paper"] for row in rows], "--"),
        "threshold per query (Lemma E.1)": ("subquad", [mean(row["counts"]) for row in rows], "o"),
        "expected there": ("expected", [row["expected"] for row in rows], "-"),
    }
    for label, (colour, values, style) in lines.items():
        left.loglog(sizes, values, style, ms=4, color=COLOURS[colour], label=label)
    left.set_title("Reported keys (the threshold as stated: 0)")
    left.set_ylabel("keys")
    left.set_ylim(top=10**6)  # room for the legend
    if timed:
        right = axes[0, 1]
        for name, colour in PEERS.items():
            values = [row["times"][name] for row in rows]
            right.semilogx(sizes, values, "-o", ms=3, color=colour, label=name)
        right.axhline(1.0, color="#000000", lw=0.8)
        right.set_ylim(bottom=0)
        right.set_title(f"Time of the peer over ours (class {where['class']})")
        right.set_ylabel("ratio, one thread")
    for axis in axes[0]:
        axis.set_xticks(sizes, [f"{n // 1000}k" for n in sizes], rotation=45)
        axis.minorticks_off()
        axis.set_xlabel("n")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure, or read what was measured; write table and figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draw", action="store_true", help="do not measure")
    parser.add_argument("--counts", action="store_true", help="do not take times")
    parser.add_argument("--largest", type=int, default=THOUSANDS[-1], help="thousands of keys")
    arguments = parser.parse_args()
    results = arguments.folder / f"{NAME}.json"
    if not arguments.draw:
        one_thread()
        rows = []
        for thousands in (t for t in THOUSANDS if t <= arguments.largest):
            rows.append(measure(thousands, timed=not arguments.counts))
            print(table(rows[-1:], machine()).splitlines()[-1], flush=True)
        settings = {"d": WIDTH, "queries": QUERIES, "delta": DELTA, "machine": machine()}
        results.write_text(as_json(settings, rows))
    found = json.loads(results.read_text())
    (arguments.folder / f"{NAME}.inc").write_text(table(found["rows"], found["machine"]))
    draw(found["rows"], found["machine"], arguments.folder / f"{NAME}.svg")


if __name__ == "__main__":
    main()
