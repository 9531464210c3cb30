"""How large the logits of a head are, and what its values and masses add up to: all upper bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .head import Centred, Floats, blocks

__all__ = ["Measures", "Rows", "largest_logit"]

# Sums of float64 with fewer than 2^26 terms are within this, relatively.
_UP = 1.0 + 1e-8
# Centred queries and keys were rounded, to float32 at worst; products of two of them are within this.
_ROUNDED = 2.0**-22
# Rows from which a metric is taken; whatever it is, the bound by it holds.
_SAMPLE = 2048
# A metric that lowers the bound on logits by less is not worth two products with a matrix.
_GAIN = 0.9
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True)
class Rows:
    """What is known of queries and of the keys that each of them sees: a number per query, or one."""

    length: Floats
    """Norm."""
    logits: Floats
    """Bound on ``|scale x.y|`` over the keys in the sums."""
    least: Floats
    """Lower bound on the sum of weights over that of masses."""
    total: Floats
    """Sum of the masses of all keys."""
    share: Floats
    """What of that is in the sums."""
    moments: Floats
    """Sums of the masses times powers of the keys' norms, of those in the sums, over the total."""
    second: Floats | None
    """Mean square of the logits by masses, of those in the sums; None where queries see other keys."""

    def some(self, index: Any) -> Rows:
        """Return the same of some queries."""

        def of(array: Floats) -> Floats:
            return array if array.shape[-1] == 1 else array[..., index]

        return Rows(
            of(self.length),
            of(self.logits),
            of(self.least),
            of(self.total),
            of(self.share),
            of(self.moments),
            None if self.second is None else of(self.second),
        )

    def sizes(self, c: tuple[float, ...], scale: float) -> Floats:
        """Bound the sum of everything that a polynomial adds up, over that of masses."""
        total = np.zeros(self.length.shape)
        for coefficient, moment in zip(reversed(c), reversed(self.moments[: len(c)]), strict=True):
            total *= abs(scale) * self.length
            total += abs(coefficient) * moment
        return total


@dataclass(frozen=True)
class Measures:
    """Of one head around its centres, with some keys taken out of the sums."""

    centred: Centred
    apart: int = 0
    """So many of the longest keys are not in the sums: their weights are exact."""

    @cached_property
    def lengths(self) -> tuple[Floats, Floats]:
        """Norms of queries and of keys."""
        return norms(self.centred.x), norms(self.centred.y)

    @cached_property
    def in_metric(self) -> tuple[Floats, Floats]:
        """Numbers whose product bounds ``|x.y|``: norms, or those in a metric that suits both sides."""
        x, y = self.lengths
        pair = _metric(self.centred)
        if pair is None:
            return x, y
        left, right = pair
        # x.y = (x left).(y right) - x residual y
        residual = np.linalg.norm(left @ right.T - np.eye(len(left)))
        size = float(np.linalg.norm(left) * np.linalg.norm(right))
        slack = math.sqrt(residual + 1e-12 * len(left) * size)
        return (
            np.hypot(norms(self.centred.x, left), slack * x),
            np.hypot(norms(self.centred.y, right), slack * y),
        )

    def without(self, apart: int) -> Measures:
        """Take so many keys out of the sums."""
        found = replace(self, apart=apart)
        for name in ("lengths", "in_metric", "spread", "reach", "deviation"):
            if name in self.__dict__:
                found.__dict__[name] = self.__dict__[name]
        return found

    @cached_property
    def kept(self) -> NDArray[np.bool_]:
        """Keys whose weights are polynomials."""
        kept = np.ones(len(self.centred.head.key), bool)
        if self.apart:
            lengths = self.in_metric[1]
            kept[np.argpartition(lengths, -self.apart)[-self.apart :]] = False
        return kept

    def rows(self, degree: int) -> Rows:
        """Return what polynomials up to a degree need to know."""
        head, masses = self.centred.head, self.centred.masses
        x, y = self.in_metric
        longest = head.largest_seen(np.where(self.kept, y, 0.0))
        total = head.over_seen(masses)
        per = _UP / np.maximum(total, _TINY)
        moments, moment = [], masses * self.kept
        for _ in range(degree + 1):
            moments.append(per * head.over_seen(moment))
            moment = moment * self.lengths[1]
        return Rows(
            length=self.lengths[0],
            logits=_UP * abs(head.scale) * x * longest,
            least=self._least(total),
            total=total,
            share=moments[0],
            moments=np.array(moments),
            second=None,
        )

    def _least(self, total: Floats) -> Floats:
        """Jensen's inequality."""
        head, masses, x = self.centred.head, self.centred.masses, self.centred.x
        mean = self._moment() / np.maximum(total, _TINY)[:, np.newaxis]
        exponent = np.empty(len(x))
        for some in blocks(x):
            part = mean if len(mean) == 1 else mean[some]
            exponent[some] = np.vecdot(x[some], part)
        steps = 2.0 * _ROUNDED + 2.0**-52 * (len(masses) + x.shape[1] + 8)
        slack = steps * self.lengths[0] * self.lengths[1].max(initial=0.0)
        least: Floats = np.exp(head.scale * exponent - abs(head.scale) * slack - 1e-9)
        return least

    def _moment(self) -> Floats:
        """Sum of the keys by mass that a query sees."""
        masses, y = self.centred.masses, self.centred.y
        if self.centred.head.shift is not None:
            return self.centred.head.over_seen(masses[:, np.newaxis] * y)
        sums = np.zeros((1, y.shape[1]))
        for some in blocks(y):
            sums += masses[some] @ y[some].astype(np.float64)
        return sums

    def lost(self, c: tuple[float, ...], smallest: float, total: Floats) -> Floats:
        """Bound what underflows, over the sum of masses; see `attention/polynomial.rs` of the core."""
        x, y = (max(1.0, float(length.max(initial=0.0))) for length in self.lengths)
        most = self.centred.x.shape[1] * max(1.0, abs(self.centred.head.scale)) * x * y
        size = 0.0
        for coefficient in reversed(c):
            size = size * most + (1.0 + abs(coefficient))
        terms = len(self.lengths[1]) * (2 * len(c) + 8) * smallest
        return terms * size / np.maximum(total, _TINY)

    def with_second(self, rows: Rows, index: Any = slice(None)) -> Rows:
        """Add the mean squares of logits, where all queries see the same keys."""
        if self.centred.head.shift is not None or rows.second is not None:
            return rows
        root, slack = self._root
        second = norms(self.centred.x[index], root) ** 2 + slack * rows.length**2
        return replace(rows, second=self.centred.head.scale**2 * _UP * second / rows.total)

    @cached_property
    def _root(self) -> tuple[Floats, float]:
        """A root of the sum of ``y y^T`` by mass, and what it may leave out of a square."""
        y, masses = self.centred.y, self.centred.masses * self.kept
        square = np.zeros((y.shape[1], y.shape[1]))
        for some in blocks(y):
            part = y[some].astype(np.float64)
            square += part.T @ (masses[some, np.newaxis] * part)
        values, vectors = np.linalg.eigh(square)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        return root, (1e-10 + 2.0 * _ROUNDED) * float(np.trace(square))

    @cached_property
    def spread(self) -> float:
        """Largest distance of a value from their mean."""
        mean = self.centred.head.value.mean(axis=0, dtype=np.float64)
        return float(distances(self.centred.head.value, mean).max(initial=0.0))

    @cached_property
    def reach(self) -> float:
        """Largest distance of a value from the mean that is taken off."""
        away = np.linalg.norm(
            self.centred.head.value.mean(axis=0, dtype=np.float64)
            - self.centred.mean.astype(np.float64)
        )
        return float(self.spread + _UP * away)

    @cached_property
    def deviation(self) -> tuple[float, float]:
        """Deviation of the values by masses, and how far their mean by masses is from the other one."""
        value, masses = self.centred.head.value, self.centred.masses
        shares = masses / masses.sum()
        mean = np.zeros(value.shape[1])
        for some in blocks(value):
            mean += shares[some] @ value[some].astype(np.float64)
        square = float(shares @ distances(value, mean) ** 2)
        away = float(np.linalg.norm(mean - self.centred.mean.astype(np.float64)))
        rounding = 1e-12 * (self.reach + float(np.linalg.norm(mean)))
        return _UP * math.sqrt(square) + rounding, _UP * away + rounding


def norms(rows: NDArray[Any], through: Floats | None = None) -> Floats:
    """Norms of centred rows, or of ``rows @ through``: not below those of the unrounded rows."""
    kind = np.finfo(rows.dtype)
    # Every square, sum and product with a matrix rounds, and squares may underflow.
    steps = (rows.shape[1] + 4) * float(kind.eps)
    found = np.empty(len(rows))
    matrix = None if through is None else through.astype(rows.dtype)
    for some in blocks(rows):
        part = rows[some] if matrix is None else rows[some] @ matrix
        found[some] = np.vecdot(part, part)
    found += rows.shape[1] * float(kind.smallest_normal)
    np.sqrt(found, out=found)
    found *= 1.0 + steps
    if through is not None:
        found += steps * float(np.linalg.norm(through)) * norms(rows)
    return found


def distances(rows: NDArray[Any], centre: Floats) -> Floats:
    """Distances of rows from a point, rounded up."""
    found = np.empty(len(rows))
    for some in blocks(rows):
        part = rows[some] - centre
        np.sqrt(np.vecdot(part, part), out=found[some])
    found *= _UP
    found += 2.0**-52 * float(np.linalg.norm(centre))
    return found


def _some(rows: NDArray[Any]) -> Floats:
    return rows[:: max(1, len(rows) // _SAMPLE)].astype(np.float64)


def largest_logit(centred: Centred) -> float:
    """Bound the logits around some centres by norms: what centres are compared by."""
    x, y = norms(centred.x).max(initial=0.0), norms(centred.y).max(initial=0.0)
    return float(abs(centred.head.scale) * x * y)


def _metric(centred: Centred) -> tuple[Floats, Floats] | None:
    """Matrices whose product is one, such that queries and keys have the same second moments."""
    x, y = _some(centred.x), _some(centred.y)
    if len(x) < 2 or len(y) < 2:
        return None
    width = x.shape[1]
    moments = []
    for rows in (x, y):
        moment = rows.T @ rows / len(rows)
        ridge = 1e-6 * np.trace(moment) / width
        if not 0.0 < ridge < math.inf:
            return None
        moments.append(np.linalg.cholesky(moment + ridge * np.eye(width)))
    of_x, of_y = moments
    turn, values, _ = np.linalg.svd(of_x.T @ of_y)
    root = np.sqrt(values)
    left = np.linalg.solve(of_x.T, turn * root)
    right = of_x @ (turn / root)
    products = [norms(a).max() * norms(b).max() for a, b in ((x, y), (x @ left, y @ right))]
    return (left, right) if products[1] < _GAIN * products[0] else None
