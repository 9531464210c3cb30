"""The table of proved polynomials, read once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

__all__ = ["LARGEST_DEGREE", "Moment", "Table", "Value", "integral", "load"]

LARGEST_DEGREE = 24
NAME = "exponential.npz"


class Value(NamedTuple):
    """The polynomial of a degree with the least relative error.

    Its integral with `joint_constant` is the best for value and derivative, to `joint_error`.
    """

    bound: float
    degree: int
    c: list[float]
    error: float
    joint_constant: float
    joint_error: float


class Moment(NamedTuple):
    """A polynomial within ``alpha + beta s**2``."""

    bound: float
    degree: int
    c: list[float]
    alpha: float
    beta: float


@dataclass(frozen=True, slots=True)
class Table:
    """Entries by bound, then (moments: ratio of alpha to beta, then) degree."""

    value: tuple[Value, ...]
    moment: tuple[Moment, ...]

    @property
    def entries(self) -> list[Value | Moment]:
        """All of them."""
        return [*self.value, *self.moment]

    def values(self, bound: float) -> list[Value]:
        """Return the entries of the least tabulated bound that is no smaller."""
        return [self.value[i] for i in _range([entry.bound for entry in self.value], bound)]

    def moments(self, bound: float) -> list[Moment]:
        """Return the entries of the least tabulated bound that is no smaller."""
        return [self.moment[i] for i in _range([entry.bound for entry in self.moment], bound)]


def integral(entry: Value) -> list[float]:
    """Return the polynomial for value and derivative, of one degree more."""
    return [entry.joint_constant, *(x / (k + 1) for k, x in enumerate(entry.c))]


@lru_cache(maxsize=1)
def load() -> Table:
    """Read the table of the package."""
    # `open` rather than a path: packages may be imported from an archive.
    with files("subquad").joinpath("data", NAME).open("rb") as file, np.load(file) as arrays:
        return Table(
            tuple(Value(*row) for row in _rows(arrays, "value", Value._fields)),
            tuple(Moment(*row) for row in _rows(arrays, "moment", Moment._fields)),
        )


def _rows(arrays: np.lib.npyio.NpzFile, prefix: str, fields: Sequence[str]) -> zip[tuple[Any, ...]]:
    degree = arrays[f"{prefix}_degree"].tolist()
    ends = np.cumsum([g + 1 for g in degree])[:-1]
    columns = []
    for name in fields:
        column = arrays[f"{prefix}_{name}"]
        pieces = np.split(column, ends) if name == "c" else column
        columns.append([piece.tolist() for piece in pieces])
    return zip(*columns, strict=True)


def _range(bounds: list[float], bound: float) -> range:
    first = bisect_left(bounds, bound)
    if first == len(bounds):
        return range(0)
    last = first
    while last < len(bounds) and bounds[last] == bounds[first]:
        last += 1
    return range(first, last)
