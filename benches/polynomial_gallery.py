"""What the polynomial method reaches, and how good its bounds are: ``python polynomial_gallery.py FOLDER``.

    python polynomial_gallery.py ../python/docs/gallery            measures, then writes the pages' parts
    python polynomial_gallery.py --draw ../python/docs/gallery     writes them from the numbers there
    python polynomial_gallery.py --only error /tmp                 one page: reach or error

Nothing is timed, so every machine gives the same tables up to rounding. The logits of trained heads are
those of the captures in the folder that ``SUBQUAD_DATA`` names. Writes ``polynomial_reach`` and
``polynomial_error``, each as ``.json`` (all numbers), ``.inc`` (tables of the manual) and ``.svg``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _polynomial_pictures import draw_error, draw_reach
from suite._halfspaces import turned

import subquad
from subquad._tables.enclosure import relative_error
from subquad._tables.series import taylor
from subquad._tables.table import load
from subquad.theory.polynomial import feature_count, logit_threshold

Row = dict[str, Any]
Floats = np.ndarray

EPS = 1e-2
WIDTHS = [16, 32, 64, 128]
TOKENS = [2**i for i in range(12, 21, 2)]
CAPTURES = {
    "MiniLM, 512": ["minilm_pydoc_n512", "minilm_stdlib_n512"],
    "MiniLM, 64Ki": ["minilm_cache_n65536_L0H2", "minilm_cache_n65536_L3H8"],
    "RoPE, 2Ki and 8Ki": ["rope_n2048", "rope_n8192_window"],
}

BOUNDS = [0.5, 1.0, 2.0, 4.0]
DEGREES = range(9)
KEYS, WIDTH = 2000, 16


def reach() -> Row:
    """Find what is certified for every width and number of tokens, and what logits trained heads have."""
    steps = {}
    for d in WIDTHS:
        # What is reached changes where one degree more has as many features as there are keys.
        changes = {feature_count(d, degree) for degree in range(1, 25)}
        inside = {n for n in changes if TOKENS[0] < n < TOKENS[-1]}
        steps[d] = [reached(d, n) for n in sorted({*TOKENS, *inside})]
    heads = {name: [x for file in files for x in logits(file)] for name, files in CAPTURES.items()}
    return {"eps": EPS, "steps": steps, "heads": heads}


def reached(d: int, n: int) -> Row:
    """Largest logits within EPS, for weights and also for their derivatives."""
    best = subquad.polynomial.feasibility(d, n, EPS).best
    if best is None:
        return {"n": n, "degree": 0, "bound": 0.0, "grad_bound": 0.0}
    return {"n": n, "degree": best.degree, "bound": best.bound, "grad_bound": best.grad_bound}


def logits(file: str) -> Iterator[Row]:
    """Largest logit and standard deviation of every head of a capture, less the means of q and k."""
    path = Path(os.environ.get("SUBQUAD_DATA", "")) / "captures" / f"{file}.npz"
    with np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    query, key = (arrays[x].astype(np.float64) for x in "qk")
    query, key = (x.reshape(-1, *x.shape[-2:]) for x in (query, key))
    theta = float(arrays.get("theta", 0.0))
    for q, k in zip(query, key, strict=True):
        if theta:
            q, k = turned(q, theta), turned(k, theta)
        s = float(arrays["scale"]) * (q - q.mean(axis=0)) @ (k - k.mean(axis=0)).T
        if arrays["causal"]:
            seen = np.tri(*s.shape, dtype=bool)
            if window := int(arrays["window"]):
                seen &= ~np.tri(*s.shape, -window, dtype=bool)
            s = s[seen]
        yield {"file": file, "largest": float(np.abs(s).max()), "std": float(s.std())}


def error() -> Row:
    """Bounds on the output by degree, and errors of two sets of data that they hold for."""
    rng = np.random.default_rng(0)
    query, key, value = rng.standard_normal((3, KEYS, WIDTH))
    largest = np.abs(query @ key.T).max()
    rows = []
    for bound in BOUNDS:
        for kind, degree, c, delta in polynomials(bound):
            row = {"bound": bound, "kind": kind, "degree": degree, "delta": delta}
            row["certified"] = delta / (1 - delta) if delta < 1 else None
            row["gaussian"] = measured(query, key, value, c, bound / largest)
            row["worst"] = measured(*hard(c, bound), c, 1.0) if kind == "minimax" else None
            rows.append(row)
    return {"keys": KEYS, "width": WIDTH, "rows": rows}


def polynomials(bound: float) -> Iterator[tuple[str, int, list[float], float]]:
    """All polynomials of a bound, with their proved relative error."""
    for entry in load().values(bound):
        if entry.degree in DEGREES:
            yield "minimax", entry.degree, entry.c, entry.error
    for degree in DEGREES:
        c = taylor(degree)
        yield "taylor", degree, c, relative_error(c, bound)


def measured(query: Floats, key: Floats, value: Floats, c: list[float], scale: float) -> Any:
    """Largest error of a row over the spread of the values; None if the weights have no positive sum."""
    truth = subquad.attention(query, key, value, scale=scale)
    try:
        found = subquad.polynomial_attention(query, key, value, c, scale=scale)
    except ValueError:
        return None
    spread = np.linalg.norm(value - value.mean(axis=0), axis=1).max()
    return float(np.linalg.norm(found - truth, axis=1).max() / spread)


def hard(c: list[float], bound: float) -> tuple[Floats, Floats, Floats]:
    """One query whose keys all have a logit where the polynomial errs most, upwards or downwards.

    Half of the weight is on either kind, with the value 1 for one of them and -1 for the other.
    """
    s = np.linspace(-bound, bound, 4001)
    ratio = np.polynomial.polynomial.polyval(s, c) / np.exp(s)
    above, below = s[ratio.argmax()], s[ratio.argmin()]
    upper = round(KEYS / (1 + math.exp(above - below)))
    key = np.repeat([above, below], [upper, KEYS - upper])[:, None]
    value = np.repeat([1.0, -1.0], [upper, KEYS - upper])[:, None]
    return np.ones((1, 1)), key, value


def as_json(found: Any, indent: str = "\n") -> str:
    """Write what holds nothing nested on one line."""
    inside = found.values() if isinstance(found, dict) else found
    if not isinstance(found, dict | list) or not any(isinstance(x, dict | list) for x in inside):
        return json.dumps(found)
    deeper = indent + " "
    lines = [as_json(x, deeper) for x in inside]
    if isinstance(found, list):
        return f"[{deeper}{f',{deeper}'.join(lines)}{indent}]"
    lines = [f'"{name}": {line}' for name, line in zip(found, lines, strict=True)]
    return f"{{{deeper}{f',{deeper}'.join(lines)}{indent}}}"


def size(n: int) -> str:
    """Write a power of two as the manual does."""
    return f"{n // 1024}Ki" if n < 2**20 else f"{n // 2**20}Mi"


def csv_table(title: str, header: list[str], rows: list[list[str]]) -> str:
    """Write a table as the manual includes it."""
    lines = [f".. csv-table:: {title}", f"   :header: {', '.join(header)}", "   :align: right", ""]
    return "\n".join(lines + [f"   {', '.join(row)}" for row in rows]) + "\n"


def reach_tables(found: Row) -> str:
    """Bounds by width and length, and logits of heads."""
    rows = []
    for d, steps in found["steps"].items():
        at = {step["n"]: step for step in steps}
        cells = (f"{at[n]['bound']:.3g} / {at[n]['grad_bound']:.3g}" for n in TOKENS)
        rows.append([f"d = {d}", *cells])
    rows.append(["log n", *(f"{logit_threshold(n):.3g}" for n in TOKENS)])
    text = csv_table(
        f"Largest logit within {found['eps']:g}, of weights / of weights and their derivative",
        ["", *map(size, TOKENS)],
        rows,
    )
    rows = []
    for name, heads in found["heads"].items():
        largest, std = ([head[x] for head in heads] for x in ("largest", "std"))
        cells = [f"{f(largest):.3g}" for f in (min, median, max)]
        rows.append([f'"{name}"', str(len(heads)), *cells, f"{min(std):.2g} to {max(std):.2g}"])
    header = ["model and tokens", "heads", "least", "median", "greatest", "standard deviation"]
    return f"{text}\n{csv_table('Largest logit of trained heads, less means', header, rows)}"


def error_tables(found: Row) -> str:
    """Bound, errors, and how many times as large the bound is."""
    rows = []
    for row in found["rows"]:
        if row["kind"] == "taylor" or row["certified"] is None or row["degree"] % 2:
            continue
        certified, gaussian, worst = (row[x] for x in ("certified", "gaussian", "worst"))
        cells = [f"{x:.1e}" for x in (row["delta"], certified, worst, gaussian)]
        loose = [f"{certified / x:.3g}" for x in (worst, gaussian)]
        rows.append([f"{row['bound']:g}", str(row["degree"]), *cells, *loose])
    header = ["B", "degree", "δ", "bound", "worst case", "Gaussian"]
    header += ["bound / worst", "bound / Gaussian"]
    return csv_table("Errors over the spread of the values, minimax polynomials", header, rows)


PARTS = {
    "reach": (reach, reach_tables, draw_reach),
    "error": (error, error_tables, draw_error),
}


def main() -> None:
    """Measure, or read what was measured; write tables and pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draw", action="store_true", help="do not measure")
    parser.add_argument("--only", choices=PARTS, help="one page")
    arguments = parser.parse_args()
    for name, (measure, tables, draw) in PARTS.items():
        if arguments.only not in (None, name):
            continue
        path = arguments.folder / f"polynomial_{name}.json"
        if not arguments.draw:
            path.write_text(as_json(measure()) + "\n")
        found = json.loads(path.read_text())
        path.with_suffix(".inc").write_text(tables(found))
        draw(found, path.with_suffix(".svg"))


if __name__ == "__main__":
    main()
