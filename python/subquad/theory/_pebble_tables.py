"""The programs whose maxima `_pebble_programs` has no closed form for, and their tables.

A program is for d = 1: of x and y words of operands or results, as its caller says, and of those that are left. A
table has U / d^2, and what bounds T(U) / d^3 there.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ._pebble_maximum import Program, most, tightened
from ._pebble_segments import Floats

__all__ = ["Table", "table_of_all", "table_of_both", "table_of_four", "table_of_slopes"]


def _both(weight: float, price: float) -> Program:
    def program(x: Floats, y: Floats, left: Floats) -> Floats:
        rows, results = x / 2.0, y / 2.0
        if price == 1.0:
            first, kept = weight * rows * np.sqrt(left), left
        else:
            most_kept, spread = left / (1.0 - price), (weight * rows) ** 2 * (1.0 / price - 1.0)
            total = np.maximum(spread + results**2, np.finfo(np.float64).tiny)
            best = (results**2 * most_kept - spread * rows**2) / total
            kept = np.clip(best, 0.0, left)
            first = np.sqrt(spread * (most_kept - kept))
        return np.asarray(first + results * np.sqrt(rows**2 + kept))

    return program


def _slopes(operands: Floats, results: Floats, left: Floats) -> Floats:
    words = operands + results
    first = words**2 / 16.0 + np.minimum(np.sqrt(left) * words / 2.0, 3.0 * left)
    second = np.sqrt(results * (4.0 / 81.0 * operands**3 + left * operands))
    return np.minimum(first, second)


def _four(x: Floats, y: Floats, left: Floats) -> Floats:
    rows, whole = y**2 / 4.0, np.minimum(x, y) ** 2 / 4.0
    pairs = left / 2.0
    for _ in range(4):
        z = np.sqrt(pairs + rows)
        slope = x / (4.0 * z)
        root = np.sqrt(slope**2 + y)
        pairs = np.clip((left - whole + (left + whole) * slope / root) / 2.0, 0.0, left)
    divided = (slope * (left - whole) + (left + whole) * root) / 2.0
    return np.asarray(x / 4.0 * (rows / z + z) + divided)


def _all(words: Floats, _none: Floats, left: Floats) -> Floats:
    return np.asarray(words / 2.0 * np.sqrt(left + words**2 / 4.0))


Table = tuple[Floats, Floats]


def _table(program: Program, kinds: int) -> Table:
    # Closer where powers change.
    budgets = np.concatenate(
        [np.geomspace(1e-3, 0.3, 5), np.geomspace(0.35, 60.0, 90), np.geomspace(90.0, 2e3, 8)]
    )
    return budgets, tightened(budgets, most(program, budgets, kinds))


@cache
def table_of_both(weight: float, price: float) -> Table:
    return _table(_both(weight, price), 3)


@cache
def table_of_slopes() -> Table:
    return _table(_slopes, 3)


@cache
def table_of_four() -> Table:
    return _table(_four, 3)


@cache
def table_of_all() -> Table:
    return _table(_all, 2)
