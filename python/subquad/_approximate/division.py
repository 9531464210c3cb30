"""How the rows of a head are computed, and what that costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bounds import Approximant
from .head import Floats, Head
from .measures import Measures, Rows

__all__ = ["Cost", "Division", "Group"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Floating-point operations of one head."""

    head: Head
    overhead: int
    """What a head costs besides; so much more must be saved."""

    def exact(self, rows: float) -> float:
        """Of so many rows, each as long as the mean one."""
        seen = float(self.head.seen.mean()) if len(self.head.seen) else 0.0
        return 2.0 * rows * seen * self._width

    def sums(self, degree: int, rows: float) -> float:
        """Of sums over the keys with all monomials up to a degree, and of so many rows from them."""
        width = int(self.head.query.shape[1])
        return self.features(math.comb(width + degree, degree), rows)

    def features(self, count: int, rows: float) -> float:
        """Of sums with so many features, and of so many rows from them."""
        tokens = len(self.head.key) + rows
        return 2.0 * tokens * count * (int(self.head.value.shape[1]) + 1)

    def apart(self, keys: int) -> float:
        """Of weights computed one by one; in float64 and with an exponential each."""
        return len(self.head.query) * keys * (8.0 * self._width + 60.0)

    @property
    def _width(self) -> int:
        return int(self.head.query.shape[1] + self.head.value.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Rows that share a polynomial."""

    p: Approximant
    rho: Floats
    """Rounding of their sums over the sum of masses; for every row of the head."""
    rows: NDArray[np.intp]
    half: Floats | None = None
    """Where products are in bf16, what their rounding does to numerators, over the sum of masses and the
    largest distance of a value from the mean."""


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """How the rows of a head are computed."""

    measures: Measures
    rows: Rows
    groups: tuple[Group, ...]
    exact: NDArray[np.intp]
    flops: float
    bound: float
    """The largest bound, before anything is computed, over the rows with polynomials."""
