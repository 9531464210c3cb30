"""How a head with a bias over lags is computed, and how far that is from exact attention."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._problem import Stats
from ..head import UP, Centred, Floats
from ..measures import TINY, Measures
from .near import near_tops
from .routes import Split

__all__ = [
    "Facts",
    "Far",
    "LagDivision",
    "Polynomial",
    "Sides",
    "bound_of",
    "facts_of",
    "sides_of",
    "underflow_of",
    "units_of",
    "values_of",
]

# How the core cuts sums, and how far a logit may exceed what its exponential refers to: see
# `attention/dense.rs`, `strip.rs` and `polynomial.rs` there.
_KEYS, _LAG, _TILE, _FEATURES = 192, 5.5, 96, 48
# Logarithms of sums of weights whose rounding would show; the compiled gradient sums anew then.
_LARGEST_LOG = 900.0


@dataclass(frozen=True, slots=True, eq=False)
class Polynomial:
    """A polynomial that is close to the exponential, relatively, for logits within a bound."""

    c: Floats
    bound: float
    error: float

    @property
    def degree(self) -> int:
        """Its degree."""
        return len(self.c) - 1

    def size(self, logits: Floats) -> Floats:
        """Bound the sum of the absolute terms."""
        total = np.zeros(logits.shape)
        for coefficient in np.abs(self.c[::-1]):
            total = total * logits + coefficient
        return total


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What is known of the rows of a head before anything is computed."""

    logits: Floats
    """Bound on ``|scale x.y|`` for every row, or one for all."""
    products: Floats
    """The same of ``|scale| |x| |y|``: no metric makes terms of the sums smaller."""
    near: Floats
    """Relative error of a weight of a near key, and of sums of them."""
    near_rounding: float
    """What rounding of sums adds to a row of near keys alone."""


@dataclass(frozen=True, slots=True, eq=False)
class LagDivision:
    """How the rows of a head are computed."""

    measures: Measures
    lags: Floats
    """The bias, for lags from -(S - 1) to L - 1."""
    route: Split
    p: Polynomial
    facts: Facts
    exact: NDArray[np.intp]
    flops: float
    bound: float
    """The largest bound, before anything is computed, over the rows with polynomials."""
    shares_lags: bool
    """Whether lags that have numbers of their own are taken as one."""


@dataclass(slots=True)
class Sides:
    """Centred queries and keys in units of their own: ``scale x.y`` is a logit."""

    x: NDArray[Any]
    y: NDArray[Any]
    units: tuple[float, float]
    scale: float


@dataclass(slots=True)
class Far:
    """Rows from far keys: numerators and sums of weights, up to a factor for each row."""

    rows: NDArray[Any]
    masses: NDArray[Any]
    stats: Stats


def values_of(centred: Centred) -> NDArray[Any]:
    """Return values less their mean."""
    with np.errstate(over="ignore", invalid="ignore"):
        values: NDArray[Any] = centred.head.value - centred.mean
    return values


def units_of(division: LagDivision) -> tuple[float, float, float]:
    """Return powers of two that make queries and keys as long as each other, and what is left of the scale.

    Monomials then stay within the range, and terms of all degrees are alike in size on both sides.
    """
    measures = division.measures
    x, y = measures.lengths
    scale = measures.centred.head.scale
    longest = (float(np.delete(x, division.exact).max(initial=0.0)), float(y.max(initial=0.0)))
    exponents = [math.log2(z) if 0.0 < z < math.inf else 0.0 for z in (*longest, abs(scale))]
    difference = (exponents[1] - exponents[0]) / 2.0
    # Neither leaves the range of float32.
    to_x, to_y = (
        2.0 ** round(min(max(exponents[2] / 2.0 + sign * difference, -120.0), 120.0))
        for sign in (1, -1)
    )
    return to_x, to_y, scale / to_x / to_y


def sides_of(division: LagDivision, exact: NDArray[Any] | None = None) -> Sides:
    """Return both sides of the sums; rows computed from all keys, by default those planned, are zero."""
    centred = division.measures.centred
    to_x, to_y, scale = units_of(division)
    kind = centred.head.value.dtype
    x, y = centred.x.copy(), centred.y * kind.type(to_y)
    x[division.exact if exact is None else exact] = 0
    x *= kind.type(to_x)
    return Sides(x, y, (to_x, to_y), scale)


def underflow_of(division: LagDivision, smallest: float) -> float:
    """Bound what underflows in a sum of weights, as `Measures.underflow` does, in these units."""
    measures, p = division.measures, division.p
    to_x, to_y, scale = units_of(division)
    x, y = measures.lengths
    width = measures.centred.x.shape[1]
    most = width * max(1.0, abs(scale)) * max(1.0, to_y * float(y.max(initial=0.0)))
    most *= max(1.0, to_x * float(np.delete(x, division.exact).max(initial=0.0)))
    size = 0.0
    for coefficient in np.abs(p.c[::-1]):
        size = size * most + 1.0 + float(coefficient)
    return len(y) * (2.0 * len(p.c) + 10.0) * smallest * size


def facts_of(measures: Measures, lags: Floats, route: Split) -> Facts:
    """Measure a head whose bias is split in some way."""
    centred = measures.centred
    head = centred.head
    logits = np.broadcast_to(measures.logits, len(head.query))
    x, y = measures.lengths
    products = UP * abs(head.scale) * x * head.largest_seen(y)
    if route.reach < 0:
        return Facts(logits, products, np.zeros(len(logits)), 0.0)
    unit = float(np.finfo(head.value.dtype).eps) / 2.0
    width, size = head.query.shape[1], route.blocks.size
    product = UP * abs(head.scale) * centred.query_norms * centred.longest_key
    finite = lags[np.isfinite(lags)]
    top = float(finite.max(initial=0.0))
    # A bias far below the largest does not count, whatever the products are: of all keys, or of the near ones
    # that a query sees, which may all be below others.
    tops = np.abs(near_tops(lags, route.blocks, route.reach))
    tops = np.maximum(np.where(np.isfinite(tops), tops, 0.0), abs(top))
    added = np.minimum(float(np.abs(finite).max(initial=0.0)), tops + 2.0 * product + 120.0)
    logit = (width + 4) * product + 8.0 * (product + added)
    steps = _KEYS + 3 * size / _KEYS + 2.0 * (product + added) / _LAG + 16.0
    with np.errstate(over="ignore"):
        near = np.expm1(1.01 * unit * (logit + 3.0 * _LAG + 16.0 + steps))
    # A logarithm that is rounded moves all near weights of a row.
    near = near + 2.0 * unit * (product + added + math.log(max(2, 3 * size)))
    far = product + added > _LARGEST_LOG
    near = np.where(far, np.inf, near)
    return Facts(logits, products, near, 2.02 * unit * float(np.max(steps)) * centred.longest_value)


def bound_of(
    measures: Measures,
    facts: Facts,
    route: Split,
    p: Polynomial,
    lost: Floats | float = 0.0,
) -> Floats:
    """Bound the error of every row but for the rounding of the result.

    `lost` is what underflows, or rounding that does not depend on the weights, over their sum.
    """
    head = measures.centred.head
    kind = np.finfo(head.value.dtype)
    features = math.comb(head.query.shape[1] + p.degree, p.degree)
    steps = 5 * p.degree + 20 + _TILE + route.blocks.size // _TILE + 2
    steps += _FEATURES + -(-features // _FEATURES) + route.steps + 2 * route.functions
    share = steps * float(kind.eps) / 2.0
    if share >= 0.5:
        return np.full(facts.logits.shape, np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        size = route.growth * p.size(facts.products) * np.exp(np.minimum(facts.logits, 300.0))
        rho = share / (1.0 - share) * size
        far = (1.0 + p.error) * (1.0 + route.error) * (1.0 + measures.centred.mass_error) - 1.0
        off = np.maximum(far, facts.near)
        top = (off + 2.0 * rho + 2.0 * lost) * measures.reach
        bottom = 1.0 - off - rho - lost
    bound = np.full(facts.logits.shape, np.inf)
    np.divide(top, bottom, out=bound, where=bottom > TINY)
    bound = UP * (bound + facts.near_rounding)
    bound[~(facts.logits <= p.bound)] = np.inf
    return bound
