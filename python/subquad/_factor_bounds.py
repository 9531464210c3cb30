r"""How far low-rank factors of exp(s) are from it: the polynomial's error, and rounding.

A logit is taken apart, :math:`s_{ij} = a_i + b_j + z_{ij}` with :math:`z = x_i \cdot y_j`, and p is
within :math:`\delta e^z` of exp for :math:`|z| \le B`. In float64 with unit :math:`u = 2^{-53}`
(`ROUNDOFF`):

1. a, b and z are wrong by at most :math:`\lambda` together, and so is exp of a and b, relatively:
   `Parts.doubt`. Hence :math:`e^{a + b} p(z)`, of the numbers that are computed, is within
   :math:`(\delta + (1 + \delta)(e^\lambda - 1)) A_{ij}` of :math:`A_{ij} = e^{s_{ij}}`.
2. Each entry of a factor is a product of at most g coordinates, a weight (2 g + 1 roundings under a
   root, which halves them, and the root) and a factor of the row, stored with one rounding of unit
   :math:`u_s`. Products of entries are within :math:`\tau = (1 + u_s)^2 (1 + u)^{4 g + 10} - 1`
   relatively. Their absolute values sum to :math:`e^{a + b} P(w)` with :math:`P(w) = \sum_t |c_t|
   w^t` and :math:`w = \sum_l |x_l y_l| \le |x| |y|`, and :math:`P(w) \le \kappa e^w`: p itself is at
   most :math:`(1 + \delta) e^w`, and :math:`w^t e^{-w}` is largest at :math:`w = t`, for the terms
   that are negative.
3. What underflows when it is stored is lost: less than the least normal number :math:`\eta` for each
   entry, times an entry of the other factor. Those of a row sum to at most :math:`e^a \sqrt{r P(B)}`.
   (Underflow before that is relative to :math:`e^a`, and far below u.)

Relatively, with :math:`w - z \le 2 B`, this is :math:`\delta + (1 + \delta)(e^\lambda - 1) + \tau
\kappa e^{\lambda + 2 B}` and the third. Absolutely, no :math:`a_i + b_j + w` exceeds
:math:`\max_i (a_i + |x_i|^2 / 2) + \max_j (b_j + |y_j|^2 / 2)`: `Parts.top`.

exp of numpy is taken to be within 8 units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Operand, wide
from ._centring import ROUNDOFF, bound_of_products, centred, longest_row
from ._tables.enclosure import LARGEST_BOUND

__all__ = ["Error", "Parts", "split"]

Floats = NDArray[np.float64]

# Logits below this change no exponential, and what makes them would underflow.
_NOTHING = 1e-100
# For the rounding of the bounds themselves, with room to spare.
_SLACK = 1.0 + 2.0**-36


@dataclass(frozen=True, slots=True)
class Parts:
    """``exp(s_ij) = rows[i] * columns[j] * exp(x[i].y[j])``."""

    x: Floats
    y: Floats
    rows: Floats
    columns: Floats
    bound: float
    """Of ``abs(x[i].y[j])``."""
    top: float
    """No logit is above it."""
    doubt: float
    """Errors of the exponents."""


@dataclass(frozen=True, slots=True)
class Error:
    """What a polynomial and the rounding of its factors do to the entries."""

    parts: Parts
    c: tuple[float, ...]
    approximation: float
    """Relative error of the polynomial."""
    dtype: np.dtype[Any]

    @property
    def degree(self) -> int:
        """Degree of the polynomial."""
        return len(self.c) - 1

    @property
    def _tiny(self) -> float:
        return float(np.finfo(self.dtype).tiny)

    def relative(self) -> float:
        """Bound the error of an entry in units of that entry."""
        parts, growth = self.parts, math.exp(self.parts.bound)
        rows, columns = (float(x.min(initial=1.0)) for x in (parts.rows, parts.columns))
        if not min(rows, columns) > 0.0:
            return math.inf
        lost = self._lost(self._tiny / rows, self._tiny / columns) * growth
        rounded = self._rounding() * math.exp(parts.doubt) * growth * growth
        return (self._values() + rounded + lost) * _SLACK

    def largest(self) -> float:
        """Bound the error of all entries."""
        parts = self.parts
        if 0 in (len(parts.x), len(parts.y)):
            return 0.0
        rows, columns = float(parts.rows.max()), float(parts.columns.max())
        lost = self._lost(self._tiny * rows, self._tiny * columns)
        size = math.exp(parts.top + 2.0 * parts.doubt)
        return (size * (self._values() + self._rounding()) + lost) * _SLACK

    def _values(self) -> float:
        """Step 1."""
        delta = self.approximation
        return delta + (1.0 + delta) * math.expm1(self.parts.doubt)

    def _rounding(self) -> float:
        """Step 2, in units of ``exp(a + b + w)``."""
        store = 0.0 if self.dtype == np.float64 else 2.0 * 2.0**-24
        tau = math.expm1(store + (4 * self.degree + 10) * ROUNDOFF)
        kappa = 1.0 + self.approximation
        for t, c in enumerate(self.c):
            if c < 0.0:
                worst = min(float(t), self.parts.bound)
                kappa += 2.0 * -c * worst**t * math.exp(-worst)
        return tau * kappa

    def _lost(self, first: float, second: float) -> float:
        """Step 3, of what is lost in units of either side; four times what it says there."""
        root = math.sqrt(math.comb(self.parts.x.shape[1] + self.degree, self.degree))
        absolute = sum(abs(c) * self.parts.bound**t for t, c in enumerate(self.c))
        return 4.0 * root * max(absolute, 1.0) * (first + second + root * first * second)


def split(query: Operand, key: Operand, scale: float, dtype: np.dtype[Any]) -> Parts:
    """Take logits apart such that what is left for the polynomial is small."""
    q, k = (wide(o.array, o.dtype).astype(np.float64) for o in (query, key))
    (q_mean, x), (k_mean, y) = centred(q), centred(k)
    bound = bound_of_products(scale, longest_row(x), longest_row(y), q.shape[1])
    if not bound <= LARGEST_BOUND:
        raise ValueError(
            f"`query` and `key` must have logits bounded by {LARGEST_BOUND:g}, beyond which no "
            "polynomial for exp is tabulated: |scale| times the longest query times the longest key, "
            f"means taken out where that helps, is {bound:.4g}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        rows, columns = scale * (q @ k_mean), scale * (y @ q_mean)
        # The same on either side, or one of them could overflow alone.
        shift = (_largest(rows) - _largest(columns)) / 2.0
        doubt = _doubt((q, k_mean, rows), (y, q_mean, columns), scale, bound)
    x, y, bound, doubt = _scaled(x, y, scale, bound, doubt)
    top = _largest(rows + np.vecdot(x, x) / 2.0) + _largest(columns + np.vecdot(y, y) / 2.0)
    highest = math.log(np.finfo(dtype).max) - 1.0
    if not top <= highest:
        raise ValueError(
            f"`query` and `key` must have logits whose exp is in the range of {dtype}, at most "
            f"{highest:.1f}, got logits of up to {top:.4g}"
        )
    if not doubt <= 1.0:
        raise ValueError(
            "`query` and `key` must have logits that float64 tells apart from others, but theirs, with "
            f"means of {_largest(np.abs(rows)):.3g}, may be wrong by {doubt:.3g}"
        )
    with np.errstate(under="ignore"):
        return Parts(x, y, np.exp(rows - shift), np.exp(columns + shift), bound, top, doubt)


def _doubt(
    first: tuple[Floats, Floats, Floats],
    second: tuple[Floats, Floats, Floats],
    scale: float,
    bound: float,
) -> float:
    """Bound the errors of exponents: of sums of d products, of their factor and shift, and of exp."""
    units, lost = 32.0, 0.0
    for vectors, mean, exponents in (first, second):
        width = mean.size
        if mean.any():
            products = longest_row(vectors) * longest_row(mean[np.newaxis])
            units += (width + 6.0) * abs(scale) * products
            units += 8.0 * _largest(np.abs(exponents))
            lost += 2.0 * width * abs(scale) * float(np.finfo(np.float64).tiny)
        # Differences, factors and norms of x and y.
        units += (2.0 * width + 32.0) * bound
    return units * ROUNDOFF + lost


def _scaled(
    x: Floats, y: Floats, scale: float, bound: float, doubt: float
) -> tuple[Floats, Floats, float, float]:
    """Multiply the scale into x and y, the longest of which are then of the same length."""
    if bound < _NOTHING:
        return 0.0 * x, 0.0 * y, 0.0, doubt + bound
    first = math.sqrt(bound) / longest_row(x)
    second = scale / first if first > 0.0 else math.inf
    if not all(np.finfo(np.float64).tiny <= abs(f) < math.inf for f in (first, second)):
        raise ValueError(
            "`query` and `key` must have sizes that float64 can balance, got rows of norm up to "
            f"{longest_row(x):.3g} and {longest_row(y):.3g} with scale={scale:.3g}"
        )
    return first * x, second * y, bound, doubt


def _largest(numbers: Floats) -> float:
    return float(numbers.max(initial=0.0 if numbers.size == 0 else -math.inf))
