"""How large the logits of a head are, and what its values and masses add up to: all upper bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._products import product
from .head import UP, Centred, Floats, blocks, distances, length, norms
from .kept import Basis

__all__ = ["TINY", "Measures", "Rows", "largest_logit"]

# Centred queries and keys were rounded, to float32 at worst; products of two of them are within this.
_ROUNDED = 2.0**-22
# Rows from which a metric is taken; whatever it is, the bound by it holds.
_SAMPLE = 2048
# A metric that lowers the bound on logits by less is not worth two products with a matrix.
_GAIN = 0.9
# Sums of masses below this are taken for it.
TINY = float(np.finfo(np.float64).tiny)


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

    def sizes(self, c: Floats, scale: float) -> Floats:
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
        if self.basis is None or not _is_shorter(self.centred, self.basis):
            return x, y
        # x.y = (x left).(y right) - x residual y
        slack = math.sqrt(self.basis.error(np.dtype(np.float64)))
        return (
            np.hypot(self._turned(self.centred.x, self.basis.left), slack * x),
            np.hypot(self._turned(self.centred.y, self.basis.right), slack * y),
        )

    def _turned(self, rows: NDArray[Any], through: Floats) -> Floats:
        return norms(rows, through, self.centred.head.workers)

    @cached_property
    def basis(self) -> Basis | None:
        """The balanced basis of some queries and keys, the largest moments first; None without any."""
        return _balanced(_some(self.centred.x), _some(self.centred.y))

    def block_logits(self, basis: Basis, leads: list[int]) -> tuple[Floats, Floats]:
        """Bound the logits of the leading and of the trailing directions; a row for every number of those."""
        found = []
        for rows, through in ((self.centred.x, basis.left), (self.centred.y, basis.right)):
            slack = (rows.shape[1] + 4) * float(np.finfo(rows.dtype).eps)
            tiny = rows.shape[1] * float(np.finfo(rows.dtype).smallest_normal)
            matrix = through.astype(rows.dtype)
            # Sums over the leading and over the trailing directions as products.
            leading = np.arange(len(matrix))[:, np.newaxis] < np.array(leads)
            chosen = np.concatenate([leading, ~leading], axis=1).astype(rows.dtype)
            squares = np.empty((len(rows), 2 * len(leads)))
            for some in blocks(rows):
                part = product(rows[some], matrix, self.centred.head.workers)
                squares[some] = product(part * part, chosen, self.centred.head.workers)
            blockwise = squares.T.reshape(2, len(leads), len(rows))
            lengths = (1.0 + slack) * np.sqrt(blockwise + tiny)
            found.append(lengths + slack * float(np.linalg.norm(through)) * norms(rows))
        of_x, of_y = found
        longest = np.where(self.kept, of_y, 0.0).max(axis=2, keepdims=True, initial=0.0)
        logits = UP * abs(self.centred.head.scale) * of_x * longest
        return logits[0], logits[1]

    @cached_property
    def apart_error(self) -> float:
        """Relative error of the weights of keys apart, with their masses, and of sums of them."""
        x, y = (length.max(initial=0.0) for length in self.lengths)
        size = abs(self.centred.head.scale) * x * y
        steps = (self.centred.x.shape[1] + 8) * size + self.apart + 8
        return float(UP * ((1.0 + self.centred.mass_error) * np.exp(2.0**-52 * steps) - 1.0))

    def without(self, apart: int) -> Measures:
        """Take so many keys out of the sums."""
        found = replace(self, apart=apart)
        for name in ("lengths", "basis", "in_metric", "spread", "reach", "deviation"):
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

    @cached_property
    def logits(self) -> Floats:
        """Bound on ``|scale x.y|`` for each query, over the keys in the sums that it sees."""
        head = self.centred.head
        x, y = self.in_metric
        longest = head.largest_seen(np.where(self.kept, y, 0.0))
        bound: Floats = UP * abs(head.scale) * x * longest
        return bound

    def rows(self, degree: int) -> Rows:
        """Return what polynomials up to a degree need to know."""
        head, masses = self.centred.head, self.centred.masses
        total = head.over_seen(masses)
        per = UP / np.maximum(total, TINY)
        moments, moment = [], masses * self.kept
        for _ in range(degree + 1):
            moments.append(per * head.over_seen(moment))
            moment = moment * self.lengths[1]
        return Rows(
            length=self.lengths[0],
            logits=self.logits,
            least=self._least(total),
            total=total,
            share=moments[0],
            moments=np.array(moments),
            second=None,
        )

    def _least(self, total: Floats) -> Floats:
        """Jensen's inequality."""
        head, masses, x = self.centred.head, self.centred.masses, self.centred.x
        mean = self._moment() / np.maximum(total, TINY)[:, np.newaxis]
        exponent = np.empty(len(x))
        for some in blocks(x):
            part = mean if len(mean) == 1 else mean[some]
            exponent[some] = np.vecdot(x[some], part)
        steps = 2.0 * _ROUNDED + 2.0**-52 * (len(masses) + x.shape[1] + 8)
        steps += (1.0 + self.centred.mass_error) ** 2 - 1.0
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
            part = y[some].astype(np.float64)
            sums += product(masses[np.newaxis, some], part, self.centred.head.workers)
        return sums

    def lost(self, c: Floats, smallest: float, total: Floats) -> Floats:
        """Bound what underflows, over the sum of masses."""
        terms = self.underflow(c, smallest)
        if self.reach > 0.0:
            # A bound on numerators is taken in units of `reach`, but a number lost there is not.
            terms *= 1.0 + math.sqrt(self.centred.head.value.shape[1]) / self.reach
        lost: Floats = terms / np.maximum(total, TINY)
        return lost

    def underflow(self, c: Floats, smallest: float) -> float:
        """Bound what underflows in a sum of weights; see `attention/polynomial.rs` of the core."""
        pairs = [self.lengths]
        if c.ndim > 1 and self.basis is not None:
            pairs.append(
                (
                    self._turned(self.centred.x, self.basis.left),
                    self._turned(self.centred.y, self.basis.right),
                )
            )
        x, y = (max(1.0, *(float(p[i].max(initial=0.0)) for p in pairs)) for i in range(2))
        most = self.centred.x.shape[1] * max(1.0, abs(self.centred.head.scale)) * x * y
        size = 0.0
        # In two blocks a power of a and one of b are one of a sum of both.
        powers = c.shape[-1]
        for t in reversed(range(powers)):
            size = size * most + (len(c) + float(np.abs(c[..., t]).sum()))
        if c.ndim > 1:
            size *= most ** (len(c) - 1)
        steps = 2 * (powers + len(c)) + 8
        return float(len(self.lengths[1]) * steps * smallest * size)

    def with_second(self, rows: Rows, index: Any = slice(None)) -> Rows:
        """Add the mean squares of logits, where all queries see the same keys."""
        if self.centred.head.shift is not None or rows.second is not None:
            return rows
        root, slack = self._root
        second = self._turned(self.centred.x[index], root) ** 2 + slack * rows.length**2
        # A product of numbers alone may exceed the range of Python's.
        scale = self.centred.head.scale
        return replace(rows, second=scale * (scale * (UP * second)) / rows.total)

    @cached_property
    def _root(self) -> tuple[Floats, float]:
        """A root of the sum of ``y y^T`` by mass, and what it may leave out of a square."""
        y, masses = self.centred.y, self.centred.masses * self.kept
        square = np.zeros((y.shape[1], y.shape[1]))
        for some in blocks(y):
            part = y[some].astype(np.float64)
            weighed = masses[some, np.newaxis] * part
            square += product(part.T, weighed, self.centred.head.workers)
        trace = float(np.trace(square))
        # What the root of a little more leaves out is less than what is added, rounding aside.
        ridge = 1e-9 * trace + TINY
        root = np.linalg.cholesky(square + ridge * np.eye(len(square)))
        return root.astype(np.float64, copy=False), 2.0 * _ROUNDED * trace

    @cached_property
    def spread(self) -> float:
        """Largest distance of a value from their mean."""
        found = distances(self.centred.head.value, self.centred.true_mean)
        return float(found.max(initial=0.0))

    @property
    def least_spread(self) -> float:
        """Return what budgets are taken of: the same, not rounded up."""
        steps = 2.0**-52 * (len(self.centred.head.value) + 8)
        mean = length(self.centred.true_mean)
        return max(0.0, self.spread / (1.0 + 3e-8) - steps * mean)

    def budget(self, eps: float) -> float:
        """Return what a row may be off by before its result is rounded, with some room."""
        unit = float(np.finfo(self.centred.head.value.dtype).eps) / 2.0
        least = max(0.0, length(self.centred.true_mean) - self.reach)
        return 0.98 * (eps * self.least_spread + unit * least)

    @cached_property
    def reach(self) -> float:
        """Largest distance of a value from the mean that is taken off."""
        mean = self.centred.mean.astype(np.float64)
        return self.spread + float(distances(self.centred.true_mean[np.newaxis], mean)[0])

    @cached_property
    def deviation(self) -> tuple[float, float]:
        """Deviation of the values by masses, and how far their mean by masses is from the other one."""
        value, masses = self.centred.head.value, self.centred.masses
        shares = masses / masses.sum()
        mean = np.zeros(value.shape[1])
        for some in blocks(value):
            mean += shares[some] @ value[some].astype(np.float64)
        unit = self.reach or 1.0
        square = float(shares @ (distances(value, mean) / unit) ** 2)
        centre = self.centred.mean.astype(np.float64)
        away = float(distances(mean[np.newaxis], centre)[0])
        steps = 2.0**-52 * (len(value) + 8)
        rounding = steps * (self.reach + length(mean))
        return UP * unit * math.sqrt(square) + rounding, away + rounding


def _some(rows: NDArray[Any]) -> Floats:
    return rows[:: max(1, len(rows) // _SAMPLE)].astype(np.float64)


def largest_logit(centred: Centred) -> float:
    """Bound the logits around some centres by norms: what centres are compared by."""
    x, y = norms(centred.x).max(initial=0.0), norms(centred.y).max(initial=0.0)
    return float(abs(centred.head.scale) * x * y)


def _balanced(x: Floats, y: Floats) -> Basis | None:
    """Return matrices whose product is one, such that both sides have the same second moments."""
    if len(x) < 2 or len(y) < 2:
        return None
    width = x.shape[1]
    roots = []
    for rows in (x, y):
        moment = rows.T @ rows / len(rows)
        ridge = 1e-6 * np.trace(moment) / width
        if not 1e-200 < ridge < 1e200:
            return None
        roots.append(np.linalg.cholesky(moment + ridge * np.eye(width)))
    of_x, of_y = roots
    turn, values, _ = np.linalg.svd(of_x.T @ of_y)
    root = np.sqrt(values)
    return Basis(np.linalg.solve(of_x.T, turn * root), of_x @ (turn / root))


def _is_shorter(centred: Centred, basis: Basis) -> bool:
    """Decide by some queries and keys whether a basis lowers the bound on logits."""
    x, y = _some(centred.x), _some(centred.y)
    pairs = ((x, y), (x @ basis.left, y @ basis.right))
    before, after = (norms(a).max() * norms(b).max() for a, b in pairs)
    return bool(after < _GAIN * before)
