"""One head: its arrays in the compute type, and the same around a centre."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._norms import row_norms
from .._products import product

__all__ = ["UP", "Centred", "Centres", "Floats", "Head", "blocks", "distances", "length", "norms"]

Floats = NDArray[np.float64]

# Sums of float64 with fewer than 2^26 terms are within this, relatively.
UP = 1.0 + 1e-8
# Numbers that are widened to float64 at a time.
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class Head:
    """One query head with the keys and values that it attends to, in the compute type."""

    query: NDArray[Any]
    key: NDArray[Any]
    value: NDArray[Any]
    scale: float
    shift: int | None
    """Query i sees the keys ``j <= i + shift``; None: all."""
    workers: int

    @property
    def seen(self) -> NDArray[np.int64]:
        """How many keys each query sees, the first ones; one number if all see all."""
        keys = len(self.key)
        if self.shift is None:
            return np.array([keys])
        return np.clip(np.arange(len(self.query)) + self.shift + 1, 0, keys)

    def over_seen(self, per_key: Floats) -> Floats:
        """Sum what each key has over the keys that a query sees: for every query, or once for all."""
        if self.shift is None:
            whole: Floats = per_key.sum(axis=0, keepdims=True)
            return whole
        sums: Floats = np.zeros((len(per_key) + 1, *per_key.shape[1:]))
        np.cumsum(per_key, axis=0, out=sums[1:])
        seen: Floats = sums[self.seen]
        return seen

    def largest_seen(self, per_key: Floats) -> Floats:
        """Return the largest of what the keys have that a query sees, 0 where there is none."""
        if self.shift is None:
            whole: Floats = per_key.max(axis=0, keepdims=True, initial=0.0)
            return whole
        running = np.concatenate([np.zeros(1), np.maximum.accumulate(per_key)])
        seen: Floats = running[self.seen]
        return seen


@dataclass(frozen=True, slots=True)
class Centres:
    """What is taken off queries and keys; exact numbers of the compute type."""

    name: str
    query: NDArray[Any]
    key: NDArray[Any]


@dataclass(frozen=True)
class Centred:
    """A head around centres: ``exp(scale q.k)`` is ``exp(constant) mass exp(scale x.y)``."""

    head: Head
    centres: Centres

    @cached_property
    def x(self) -> NDArray[Any]:
        """Queries less their centre."""
        x: NDArray[Any] = self.head.query - self.centres.query
        return x

    @cached_property
    def y(self) -> NDArray[Any]:
        """Keys less their centre."""
        y: NDArray[Any] = self.head.key - self.centres.key
        return y

    @cached_property
    def exponents(self) -> Floats:
        """Logarithms of the masses of keys."""
        centre = self.head.scale * self.centres.query.astype(np.float64)
        exponents = np.empty(len(self.head.key))
        for some in blocks(self.head.key):
            exponents[some] = np.vecdot(self.head.key[some], centre)
        return exponents - float(self.centres.key.astype(np.float64) @ centre)

    @cached_property
    def top(self) -> float:
        """The largest logarithm of a mass."""
        return float(self.exponents.max(initial=-np.inf))

    @cached_property
    def masses(self) -> Floats:
        """Masses over the largest of them."""
        masses: Floats = np.exp(self.exponents - self.top)
        return masses

    @cached_property
    def true_mean(self) -> Floats:
        """Mean of the values."""
        mean: Floats = self.head.value.mean(axis=0, dtype=np.float64)
        return mean

    @cached_property
    def mean(self) -> NDArray[Any]:
        """The same, as taken off them."""
        return self.true_mean.astype(self.head.value.dtype)

    def forget(self) -> None:
        """Let go of arrays that are quickly made again."""
        for name in ("x", "y"):
            self.__dict__.pop(name, None)

    def constants(self) -> Floats:
        """Logarithms of the factors of queries, and of the largest mass."""
        centre = self.head.scale * self.centres.key.astype(np.float64)
        constants = np.empty(len(self.head.query))
        for some in blocks(self.head.query):
            constants[some] = np.vecdot(self.head.query[some], centre)
        return constants + self.top

    @cached_property
    def query_norms(self) -> Floats:
        """Norms of queries, centre included."""
        return norms(self.head.query)

    @cached_property
    def longest_key(self) -> float:
        """The largest norm of a key, centre included."""
        return float(norms(self.head.key).max(initial=0.0))

    @cached_property
    def longest_value(self) -> float:
        """The largest norm of a value."""
        return float(norms(self.head.value).max(initial=0.0))

    @cached_property
    def mass_error(self) -> float:
        """Relative error of a mass, as computed in float64."""
        if not self.centres.query.any():
            return 0.0
        longest = self.longest_key + length(self.centres.key)
        size = abs(self.head.scale) * length(self.centres.query) * longest
        return float(np.expm1(2.0**-52 * ((self.head.key.shape[1] + 8) * size + 4)))


def norms(rows: NDArray[Any], through: Floats | None = None, workers: int = 1) -> Floats:
    """Norms of centred rows, or of ``rows @ through``: not below those of the unrounded rows."""
    kind = np.finfo(rows.dtype)
    # Every square, sum and product with a matrix rounds, and squares may underflow.
    steps = (rows.shape[1] + 4) * float(kind.eps)
    found = np.empty(len(rows))
    matrix = None if through is None else through.astype(rows.dtype)
    for some in blocks(rows):
        part = rows[some] if matrix is None else product(rows[some], matrix, workers)
        found[some] = np.vecdot(part, part)
    found += rows.shape[1] * float(kind.smallest_normal)
    np.sqrt(found, out=found)
    found *= 1.0 + steps
    if through is not None:
        found += steps * float(np.linalg.norm(through)) * norms(rows)
    return found


def length(vector: NDArray[Any]) -> float:
    """Norm of one vector, rounded up."""
    return float(UP * row_norms(lambda _: vector[np.newaxis], 1, vector.size)[0])


def distances(rows: NDArray[Any], centre: Floats) -> Floats:
    """Distances of rows from a point, rounded up."""
    found = row_norms(lambda some: rows[some] - centre, *rows.shape)
    found *= UP
    found += 2.0**-52 * length(centre)
    return found


def blocks(rows: NDArray[Any]) -> list[slice]:
    """Cut rows so that few numbers are widened at a time."""
    step = max(1, _BLOCK // max(1, rows.shape[1]))
    return [slice(i, min(i + step, len(rows))) for i in range(0, len(rows), step)]
