"""Smooth biases: far blocks see each other through a few points of each.

A function of the lag that is analytic is interpolated at Chebyshev points of both blocks, the blocks being
larger the further they are apart: a one-dimensional fast multipole method on sums over features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..head import Floats
from .routes import Blocks, inner

__all__ = ["Kerple", "Smooth", "smooth_route"]

Sums = NDArray[Any]

# Points of a block, and the error of a weight that is small enough beside what a budget allows.
_POINTS = (3, 4, 5, 6, 8, 10, 12)


@dataclass(frozen=True, slots=True)
class Kerple:
    """``-a log(1 + b |m|)``, or ``-a |m|**b`` with b <= 1, for a lag m: the biases of arXiv:2205.09921."""

    kind: str
    a: float
    b: float

    def bias(self, distance: Floats) -> Floats:
        """At real distances."""
        if self.kind == "log":
            found: Floats = -self.a * np.log1p(self.b * distance)
        else:
            found = -self.a * distance**self.b
        return found

    def slopes(self, distance: Floats) -> Floats:
        """Return the derivatives by a and by b."""
        if self.kind == "log":
            by_b = -self.a * distance / (1.0 + self.b * distance)
            return np.stack([-np.log1p(self.b * distance), by_b])
        power = distance**self.b
        return np.stack([-power, -self.a * power * np.log(distance)])

    def error(self, points: int, nearest: float, size: float, farthest: float) -> float:
        """Bound the relative error of interpolation where blocks of a size are so far apart.

        Chebyshev interpolation of f at K points is within ``4 M rho**(1 - K) / (rho - 1)`` if M bounds f on
        the ellipse of rho (Trefethen, Approximation theory and approximation practice, theorem 8.2). To the
        right of 0 no value is larger than that at the real part.
        """
        rho = np.linspace(1.5, 8.0, 66)
        left = nearest + size / 2.0 * (1.0 - (rho + 1.0 / rho) / 2.0)
        rho, left = rho[left > 0.0], left[left > 0.0]
        # Lebesgue's constant of the points of the other block.
        factor = 1.0 + 1.0 + 2.0 / math.pi * math.log(points)
        growth = np.exp(self.bias(left) - self.bias(np.array([farthest])))
        found = factor * 4.0 * growth * rho ** (1.0 - points) / (rho - 1.0)
        return float(found.min(initial=math.inf))


@dataclass(frozen=True)
class Smooth:
    """Values of far sums at the points of blocks, of growing size."""

    blocks: Blocks
    kernel: Kerple
    functions: int
    error: float
    growth: float
    name = "separable blocks"
    reach = 1
    top = 0.0

    @property
    def steps(self) -> int:
        """Points of blocks of each level, there and back, and of three blocks further off."""
        return 8 * self.functions * (self._levels + 1)

    @property
    def _levels(self) -> int:
        return levels_of(self.blocks)

    @cached_property
    def _points(self) -> Floats:
        k = np.arange(self.functions)
        points: Floats = (1.0 - np.cos((k + 0.5) * np.pi / self.functions)) / 2.0
        return points

    def _lagrange(self, at: Floats) -> Floats:
        """Polynomials that are 1 at one of the points and 0 at the others, (K, places)."""
        points = self._points
        away = at[np.newaxis] - points[:, np.newaxis]
        found = np.ones((self.functions, at.size))
        for k in range(self.functions):
            for other in range(self.functions):
                if other != k:
                    found[k] *= away[other] / (points[k] - points[other])
        return found

    def of_keys(self) -> Floats:
        """Polynomials of the place in a block."""
        places = (np.arange(self.blocks.size) + 0.5) / self.blocks.size
        return self.blocks.tiled(self._lagrange(places), self.blocks.keys)

    def of_queries(self) -> Floats:
        """Polynomials of the place in a block."""
        places = (np.arange(self.blocks.size) + 0.5) / self.blocks.size
        return self.blocks.tiled(self._lagrange(places), self.blocks.queries)

    @cached_property
    def _halves(self) -> Floats:
        """From the points of each half of a block to those of the whole, (2, K whole, K half)."""
        return np.stack([self._lagrange((half + self._points) / 2.0) for half in range(2)])

    def _distances(self, level: int, offset: int) -> Floats:
        """Lags between points of blocks, (K, K)."""
        size = self.blocks.size * 2.0**level
        points = self._points
        lags: Floats = np.abs(offset + points[:, np.newaxis] - points) * size
        return lags

    def _up(self, sums: Sums) -> list[Sums]:
        """Return the sums of the blocks of every level."""
        found = [sums]
        halves = self._halves.astype(sums.dtype)
        for _ in range(self._levels):
            below = found[-1]
            above = np.zeros((-(-len(below) // 2), *below.shape[1:]), sums.dtype)
            for half in range(2):
                part = below[half::2]
                above[: len(part)] += _mixed(halves[half], part)
            found.append(above)
        return found

    def _down(self, there: list[Sums]) -> Sums:
        """Values at the points of the smallest blocks, from those of all levels, which are used up."""
        halves = self._halves.astype(there[0].dtype)
        for level in range(self._levels, 0, -1):
            for half in range(2):
                part = there[level - 1][half::2]
                part += _mixed(halves[half].T, there[level][: len(part)])
        return there[0]

    def _pairs(self, level: int, targets: int, sources: int) -> Iterator[tuple[int, slice, slice]]:
        """Blocks that are apart, but not in blocks that are: offset, which see, which are seen."""
        is_last = level == self._levels
        # Offsets 2 and -2 are of neighbours; 3 of odd blocks, and -3 of even ones, too.
        for offset, first, step in ((2, 0, 1), (-2, 0, 1), (3, 1, 2), (-3, 0, 2)):
            if offset < 0 and self.blocks.is_causal:
                continue
            if is_last and abs(offset) == 3:
                first, step = 0, 1
            seen = np.arange(first, targets, step)
            seen = seen[(seen - offset >= 0) & (seen - offset < sources)]
            if seen.size:
                low, high = int(seen[0]), int(seen[-1]) + 1
                yield offset, slice(low, high, step), slice(low - offset, high - offset, step)

    def _sizes(self, blocks: int) -> list[int]:
        sizes = [blocks]
        for _ in range(self._levels):
            sizes.append(-(-sizes[-1] // 2))
        return sizes

    def push(self, sums: Sums) -> Sums:
        """Up to larger blocks, across, and down."""
        there = []
        queries = self._sizes(self.blocks.of_queries)
        for level, here in enumerate(self._up(sums)):
            values = np.zeros((queries[level], *sums.shape[1:]), sums.dtype)
            for offset, seeing, seen in self._pairs(level, len(values), len(here)):
                weights = np.exp(self.kernel.bias(self._distances(level, offset)))
                values[seeing] += _mixed(weights.astype(sums.dtype), here[seen])
            there.append(values)
        return self._down(there)

    def pull(self, sums: Sums, pushed: Sums, grad: Sums) -> tuple[Sums, Floats]:
        """Do the same the other way round; weights between blocks have gradients of their own."""
        numbers = np.zeros(2)
        of_values = self._up(grad)
        back = []
        for level, here in enumerate(self._up(sums)):
            of_here = np.zeros_like(here)
            for offset, seeing, seen in self._pairs(level, len(of_values[level]), len(here)):
                distances = self._distances(level, offset)
                weights = np.exp(self.kernel.bias(distances))
                of_here[seen] += _mixed(weights.T.astype(sums.dtype), of_values[level][seeing])
                of_weights = _met(of_values[level][seeing], here[seen])
                numbers += (self.kernel.slopes(distances) * (weights * of_weights)).sum(axis=(1, 2))
            back.append(of_here)
        return self._down(back), numbers

    def slopes(self, of_keys: Floats, of_queries: Floats) -> Floats:
        """Polynomials of the place do not depend on the bias."""
        return np.zeros(2)

    def spread(self, numbers: Floats, of_lags: Floats) -> None:
        """Give it to two lags, so that the two numbers get theirs."""
        zero = self.blocks.keys - 1
        farthest = max(zero, len(of_lags) - 1 - zero)
        near, far = max(1, farthest // 2), farthest
        sign = 1 if farthest == len(of_lags) - 1 - zero else -1
        columns = self.kernel.slopes(np.array([near, far], dtype=np.float64))
        # Of the size of one; where b is so small that it acts as a does, any of the solutions.
        sizes = np.abs(columns).max(axis=1)
        sizes[sizes == 0.0] = 1.0
        columns, numbers = columns / sizes[:, np.newaxis], numbers / sizes
        for distance, x in zip((near, far), np.linalg.lstsq(columns, numbers)[0], strict=True):
            of_lags[zero + sign * distance] += x


def levels_of(blocks: Blocks) -> int:
    """Count the levels above the smallest blocks: at the last, no two are further apart than three."""
    count, levels = max(blocks.of_keys, blocks.of_queries), 0
    while count > 4:
        count, levels = -(-count // 2), levels + 1
    return levels


@lru_cache(maxsize=64)
def smooth_route(blocks: Blocks, kernel: Kerple, tolerance: float) -> Smooth | None:
    """Return the split with the fewest points whose error is within a tolerance."""
    if kernel.kind == "power" and kernel.b > 1.0:
        return None
    for points in _POINTS:
        error = growth = 0.0
        for level in range(levels_of(blocks) + 1):
            size = blocks.size * 2.0**level
            for offset in (2, 3):
                nearest, farthest = (offset - 1) * size, (offset + 1) * size
                error = max(error, kernel.error(points, nearest, size, farthest))
                ends = kernel.bias(np.array([nearest, farthest]))
                growth = max(growth, float(np.exp(ends[0] - ends[1])))
        if error <= tolerance:
            lebesgue = 1.0 + 2.0 / math.pi * math.log(points)
            return Smooth(blocks, kernel, points, error, lebesgue**2 * growth)
    return None


def _mixed(matrix: Sums, sums: Sums) -> Sums:
    """Apply a matrix to the second axis."""
    flat = sums.reshape(*sums.shape[:2], -1)
    found: Sums = np.matmul(matrix, flat).reshape(len(sums), len(matrix), *sums.shape[2:])
    return found


def _met(a: Sums, b: Sums) -> Floats:
    """Inner products of values at points with sums at points, over all blocks."""
    found = np.zeros((a.shape[1], b.shape[1]))
    for k in range(len(found)):
        for other in range(found.shape[1]):
            found[k, other] = inner(
                np.ascontiguousarray(a[:, k]), np.ascontiguousarray(b[:, other])
            )
    return found
