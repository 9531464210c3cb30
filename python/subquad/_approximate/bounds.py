r"""What a polynomial instead of the exponential does to a row of attention.

With weights :math:`a_j = m_j e^{s_j}`, masses :math:`m_j` summing to :math:`\Omega`, errors :math:`e_j` of the
polynomial and rounding of at most :math:`\rho` in the sums, numerator and denominator are
:math:`N + \sum m_j e_j (v_j - \bar v) + \rho` and :math:`D + \sum m_j e_j + \rho`, so that

.. math:: \tilde O - O = \Big(\sum_j m_j e_j (v_j - O) + \rho \, (v) - \rho \, (O - \bar v)\Big) / \tilde D.

Three bounds on the first sum, with R the largest distance of a value from :math:`\bar v`:

* relative, :math:`|e| \le \delta e^s`: :math:`\delta D R`, because the mean square of the distance from a
  point is least for the mean, which O is;
* by the second moment, :math:`|e| \le \alpha + \beta s^2`: :math:`E (R + |O - \bar v|)` with
  :math:`E = \Omega \alpha + \beta \sum m_j s_j^2`;
* by Cauchy and Schwarz: :math:`\sqrt{\sum m e^2} \sqrt{\sum m |v - O|^2}`, where
  :math:`\sum m e^2 \le \Omega \alpha^2 + (2 \alpha \beta + \beta^2 B^2) \sum m s^2` for logits within B.

Everything below is divided by :math:`\Omega`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._tables.table import integral, load
from .head import Floats, Head
from .kept import Basis, Kept
from .measures import TINY, Measures, Rows

__all__ = [
    "Approximant",
    "Rounding",
    "approximants",
    "half_rounding",
    "posterior",
    "prior",
    "rounding_of",
]


@dataclass(frozen=True, slots=True, eq=False)
class Approximant:
    """A polynomial, and its error for logits within a bound."""

    kind: str
    kept: Kept
    bound: float
    c: Floats
    """By ascending powers; in two blocks a row for each power of b, ascending powers of a."""
    errors: tuple[float, ...]
    """(delta,), or (alpha, beta)."""
    basis: Basis | None = None
    """Where directions are in two blocks."""

    @property
    def degree(self) -> int:
        """The degree of the polynomial."""
        return self.kept.degree


@dataclass(frozen=True, slots=True)
class Rounding:
    """What the type that is computed in does."""

    unit: float
    smallest: float
    mass_error: float

    def of(self, measures: Measures, rows: Rows, p: Approximant) -> Floats:
        """Bound the rounding of a sum of weights over the sum of masses."""
        sizes = rows.sizes(p.c, measures.centred.head.scale)
        return self.over(measures, rows, p, sizes)

    def over(self, measures: Measures, rows: Rows, p: Approximant, sizes: Floats) -> Floats:
        """Bound it from the sum of everything that is added up."""
        features = p.kept.features(measures.centred.x.shape[1])
        share = self.steps(measures.centred.head, p.degree, features) * self.unit
        if share >= 1.0:
            return np.full(rows.length.shape, np.inf)
        gamma = (1.0 + share / (1.0 - share)) * (1.0 + self.mass_error) - 1.0 + 2.0**-52
        return gamma * sizes + measures.lost(p.c, self.smallest, rows.total)

    @staticmethod
    def steps(head: Head, degree: int, features: int) -> int:
        """Count roundings between a weight and a sum: the core's, and those of centring and masses."""
        keys, rows = len(head.key), len(head.query)
        # Tokens of a tile, tiles of a part, parts.
        state = _TILE + 1 + _tiles(keys) + min(_PARTS, -(-keys // _PART))
        near = 0
        if head.shift is not None:
            # Parts of the rows begin with sums over pieces of the keys before them, and go on by tiles.
            state += -(-keys // _PART) + min(_PARTS, -(-rows // _PART)) + 2 + _tiles(rows)
            # Keys that only some rows of a tile see, one by one: logits, Horner's scheme, a sum.
            near = degree * (head.query.shape[1] + 6) + _TILE + 3
        # Features of a block, blocks.
        state += _BLOCK + -(-features // _BLOCK)
        # Centring and products of both features, and a factor; centring of values, masses.
        return 5 * degree + 12 + max(state, near)


def rounding_of(head: Head, mass_error: float) -> Rounding:
    """Return what the type of a head does."""
    kind = np.finfo(head.query.dtype)
    return Rounding(float(kind.eps) / 2.0, float(kind.smallest_normal), mass_error)


# How the core cuts sums: see `attention/polynomial.rs` there.
_TILE, _BLOCK, _PART, _PARTS = 96, 48, 170 * 96, 64


def _tiles(tokens: int) -> int:
    """Count the tiles of the largest part of so many tokens."""
    return -(-min(tokens, max(_PART, -(-tokens // _PARTS))) // _TILE)


def approximants(degree: int, bound: float, kind: str, *, gradient: bool) -> list[Approximant]:
    """Return those of one degree for the least tabulated bound that is no smaller."""
    if kind == "moment":
        return [
            Approximant(
                kind, Kept(degree), entry.bound, np.array(entry.c), (entry.alpha, entry.beta)
            )
            for entry in load().moments(bound)
            if entry.degree == degree
        ]
    found = []
    for value in load().values(bound):
        if value.degree + gradient == degree:
            c = integral(value) if gradient else value.c
            error = value.joint_error if gradient else value.error
            found.append(Approximant(kind, Kept(degree), value.bound, np.array(c), (error,)))
    return found


def prior(
    measures: Measures,
    rows: Rows,
    p: Approximant,
    rho: Floats,
    eps: float,
    half: Floats | float = 0.0,
) -> Floats:
    """Bound the error of every row before anything is computed; infinite where nothing is known.

    `rho` is the rounding of numerators and denominators, `half` that of numerators alone. Infinite also
    where sums of weights, whose logarithms are results too, are not certainly within `eps`.
    """
    if p.kind == "minimax":
        (delta,) = p.errors
        error = delta * rows.least
        top = error * measures.reach
    else:
        error, near, scatter = _moments(measures, rows, p)
        top = np.minimum(error * (measures.reach + near), scatter)
    top = top + (2.0 * rho + half) * measures.reach
    bound = _quotient(top, rows.least - error - rho)
    if measures.apart:
        bound = bound + 2.0 * measures.apart_error * measures.reach
    bound[error + rho > eps * rows.least] = np.inf
    return _within(rows, p, bound)


def posterior(
    measures: Measures,
    rows: Rows,
    p: Approximant,
    rho: Floats,
    sums: Floats,
    distance: Floats,
    half: Floats | float = 0.0,
) -> Floats:
    """Bound it afterwards, from the sums of weights and the distance of rows from the mean."""
    sums = sums / np.maximum(rows.total, TINY)
    reach = measures.reach
    if p.kind == "minimax":
        (delta,) = p.errors
        top = delta * (sums + rho) / (1.0 - delta) * reach
        linear = rho
    else:
        error, _, scatter = _moments(measures, rows, p)
        linear = rho + error
        top = np.zeros_like(rho)
    top = top + half * reach
    first = _quotient(top + linear * 2.0 * reach, sums)
    near = np.minimum(reach, distance + first)
    found = np.minimum(first, _quotient(top + linear * (reach + near), sums))
    if p.kind != "minimax":
        found = np.minimum(found, _quotient(scatter + (2.0 * rho + half) * reach, sums))
    return _within(rows, p, found)


def half_rounding(measures: Measures, rows: Rows, p: Approximant, smallest: float) -> Floats:
    """Bound what products in bf16 do to numerators: four numbers behind each are rounded to 8 bits.

    Features of degree 0 and 1 stay in the working precision, and so do sums of weights.
    """
    c = p.c.copy()
    c[:2] = 0.0
    share = 1.02 * ((1.0 + 2.0**-8) ** 4 - 1.0)
    sizes = rows.sizes(c, measures.centred.head.scale)
    # Numbers below the smallest normal one are taken for zero.
    return share * sizes + 4.0 * measures.lost(p.c, smallest, rows.total)


def _within(rows: Rows, p: Approximant, bound: Floats) -> Floats:
    """Keep what the polynomial was made for."""
    bound = np.where(rows.logits <= p.bound, bound, np.inf)
    bound[np.isnan(bound)] = np.inf
    return bound


def _quotient(top: Floats, bottom: Floats) -> Floats:
    found = np.full(np.broadcast(top, bottom).shape, np.inf)
    np.divide(top, bottom, out=found, where=bottom > 0.0)
    return found * (1.0 + 1e-7)


def _moments(measures: Measures, rows: Rows, p: Approximant) -> tuple[Floats, Floats, Floats]:
    """Return E, a bound on the distance of exact rows from the mean, and the bound by Cauchy and Schwarz."""
    alpha, beta = p.errors
    second = rows.second
    if second is None:
        nothing: Floats = np.full(rows.logits.shape, np.inf)
        return nothing, nothing, nothing
    deviation, away = measures.deviation
    # Measured by masses as computed, which are within this factor of the true ones; shares, its square.
    up = 1.0 + measures.centred.mass_error
    away += (up**2 - 1.0) * measures.reach
    if measures.apart:
        # The weights of the keys apart are not bounded by those of the others.
        moved = np.full(second.shape, np.inf)
    else:
        # The variance of exp(s) by masses is at most exp(2 B) times that of s.
        growth = np.exp(np.minimum(rows.logits, 300.0))
        moved = up**2 * growth * np.sqrt(second) / rows.least * deviation
    moved = np.minimum(moved, measures.reach + away)
    error = up * (rows.share * alpha + beta * second)
    squares = rows.share * alpha**2 + (2.0 * alpha * beta + (beta * p.bound) ** 2) * second
    scatter = up * np.sqrt(squares) * np.hypot(up * deviation, moved)
    return error, np.minimum(measures.reach, moved + away), scatter
