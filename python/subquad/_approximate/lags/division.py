"""How a head with a bias over lags is computed, and how far that is from exact attention."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..head import UP, Centred, Floats, norms
from ..measures import TINY, Measures
from .near import near_tops
from .routes import Split

__all__ = ["Facts", "Far", "LagDivision", "Polynomial", "bound_of", "facts_of", "values_of"]

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
class Far:
    """Rows from far keys: numerators and sums of weights, up to a factor for each row."""

    rows: NDArray[Any]
    masses: NDArray[Any]


def values_of(centred: Centred) -> NDArray[Any]:
    """Return values less their mean."""
    with np.errstate(over="ignore", invalid="ignore"):
        values: NDArray[Any] = centred.head.value - centred.mean
    return values


def facts_of(measures: Measures, lags: Floats, route: Split) -> Facts:
    """Measure a head whose bias is split in some way."""
    head = measures.centred.head
    logits = np.broadcast_to(measures.rows(0).logits, len(head.query))
    x, y = measures.lengths
    products = UP * abs(head.scale) * x * head.largest_seen(y)
    if route.reach < 0:
        return Facts(logits, products, np.zeros(len(logits)), 0.0)
    unit = float(np.finfo(head.value.dtype).eps) / 2.0
    width, size = head.query.shape[1], route.blocks.size
    product = UP * abs(head.scale) * norms(head.query) * float(norms(head.key).max(initial=0.0))
    finite = lags[np.isfinite(lags)]
    top = float(finite.max(initial=0.0))
    # A bias far below the largest does not count, whatever the products are: of all keys, or of the near ones
    # that a query sees, which may all be below others.
    tops = np.abs(near_tops(lags, route.blocks, route.reach))
    tops = np.maximum(np.where(np.isfinite(tops), tops, 0.0), abs(top))
    added = np.minimum(float(np.abs(finite).max(initial=0.0)), tops + 2.0 * product + 120.0)
    logit = (width + 4) * product + 8.0 * (product + added)
    steps = _KEYS + 3 * size / _KEYS + 2.0 * (product + added) / _LAG + 16.0
    largest = float(norms(head.value).max(initial=0.0))
    with np.errstate(over="ignore"):
        near = np.expm1(1.01 * unit * (logit + 3.0 * _LAG + 16.0 + steps))
    # A logarithm that is rounded moves all near weights of a row.
    near = near + 2.0 * unit * (product + added + math.log(max(2, 3 * size)))
    far = product + added > _LARGEST_LOG
    near = np.where(far, np.inf, near)
    return Facts(logits, products, near, 2.02 * unit * float(np.max(steps)) * largest)


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
