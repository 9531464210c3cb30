"""Polynomial weights of one head by products with Toeplitz matrices, and their gradient.

The power s^u of a logit is a sum over words of u entries of the support (`_terms`), and what a word
adds to all weights is a Toeplitz matrix, of the products of its weights, with rows and columns scaled
by the products of its coordinates (arXiv:2505.11892). A causal mask is zeros among the numbers of each of
them, the empty word's too.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _subquad
from .._centring import ROUNDOFF
from .._terms import Words, add_slopes, multiply, words
from ..theory.toeplitz import product_error
from .head import Floats, RelativeHead
from .rows import Slopes

__all__ = ["Sums", "take_sums", "take_sums_grad"]

Numbers = NDArray[Any]

# Arguments whose gradients the kernel adds up, in its order.
_NAMES = ("query", "key", "value", "weights")

# Words that are multiplied at a time: their sum is in the compute type, that of all chunks in float64.
_MOST_WORDS = 64
# Bytes that the products of a chunk may take, up to a factor for what is held besides.
_MOST_BYTES = 1 << 26


@dataclass(slots=True)
class Sums:
    """Weighted sums of one head, and how far rounding may have moved them."""

    rows: Floats
    """Weighted sums of the values less their mean, over `unit`: shape (L, Ev)."""
    total: Floats
    """Sums of the weights."""
    doubt: Floats
    """Bound on the error of each number of `total`, and on that of each of `rows` by its norm."""
    unit: float
    """A power of two, at least the spread of the values: the sums of the two are alike in size."""
    terms: int
    roundoff: float

    @property
    def safe(self) -> NDArray[np.bool_]:
        """Rows that are not lost in rounding: half of the digits of their sum of weights are certain."""
        with np.errstate(invalid="ignore"):
            certain = self.total * math.sqrt(self.roundoff) > self.doubt
        finite = np.isfinite(self.rows).all(axis=1) & np.isfinite(self.total)
        safe: NDArray[np.bool_] = certain & finite
        return safe

    def means(self, safe: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Return weighted means less the mean of the values, and bounds on their errors."""
        total, doubt = self.total[safe], self.doubt[safe]
        rows = self.rows[safe] / total[:, np.newaxis]
        error = doubt * (1.0 + np.linalg.norm(rows, axis=1)) / (total - doubt)
        return self.unit * rows, self.unit * 1.01 * error


def take_sums(head: RelativeHead, coefficients: Floats) -> Sums:
    """Sum over all keys, some words of the support after others."""
    compute, (columns, unit) = head.value.dtype, _columns(head)
    shape = (head.queries, columns.shape[1])
    totals, doubt, sizes = np.zeros(shape), np.zeros(head.queries), np.zeros(head.queries)
    roundoff, tiny = float(np.finfo(compute).eps) / 2.0, float(np.finfo(compute).tiny)
    lost, terms, chunks = 0.0, 0, 0
    by_product = product_error(max(1, head.weights.shape[1]))
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for some in _chunks(head, coefficients):
            left = _counts(head, some) * compute.type(coefficients[some.length])
            left = left * multiply(head.left, some)
            right, weights = multiply(head.right, some), _by_lag(head, some)
            part = np.zeros(shape, compute)
            _multiply(weights, left, right, columns, part, workers=head.workers)
            totals += part
            # No entry of a product exceeds the norms of its factors, nor its error the same times
            # `by_product`. Rows of `columns` have norms of at most the square root of 2; two columns share a
            # transform, where that of ones may be beside one of the values.
            norms = math.sqrt(3.0) * _norms(weights) * _norms(right)
            size = norms @ np.abs(left).astype(np.float64)
            steps = 3.0 * some.length + len(left) + 16.0
            doubt += (by_product + steps) * roundoff * size
            sizes += size
            lost += tiny * float(_room(head, some, coefficients).sum())
            terms, chunks = terms + len(left), chunks + 1
    doubt += chunks * ROUNDOFF * sizes + len(coefficients) * (head.keys + 8.0) * lost
    return Sums(totals[:, :-1], totals[:, -1], 1.01 * doubt, unit, terms, roundoff)


def take_sums_grad(
    head: RelativeHead,
    coefficients: Floats,
    rows: Floats,
    total: Floats,
    into: Slopes,
    *,
    wanted: Container[str],
    by_power: Floats | None,
) -> None:
    """Add the gradient of the sums, given that with respect to `Sums.rows` and `Sums.total`.

    Of `into` only what belongs to arguments in `wanted`; the gradient with respect to the coefficients
    goes to `by_power` if given.
    """
    compute, (columns, unit), counted = head.value.dtype, _columns(head), by_power is not None
    given = np.concatenate([rows, total[:, np.newaxis]], axis=1).astype(compute)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for some in _chunks(head, np.ones(len(coefficients)) if counted else coefficients):
            counts = _counts(head, some)
            left, right = counts * multiply(head.left, some), multiply(head.right, some)
            weights = _by_lag(head, some)
            slopes = [
                np.zeros_like(x) if name in wanted or (name == "query" and counted) else None
                for name, x in zip(_NAMES, (left, right, columns, weights), strict=True)
            ]
            _subquad.rescaled_toeplitz_grad(
                weights, left, right, columns, given, *slopes, workers=head.workers
            )
            if by_power is not None and slopes[0] is not None:
                by_power[some.length] += np.vdot(left.astype(np.float64), slopes[0])
            # The coefficient is left out above, so that its own gradient does not vanish with it.
            c = compute.type(coefficients[some.length])
            if c == 0:
                continue
            d_left, d_right, d_columns, d_weights = slopes
            if d_left is not None and "query" in wanted:
                add_slopes(head.left, some, c * counts * d_left, into.left, head.workers)
            if d_right is not None:
                add_slopes(head.right, some, c * d_right, into.right, head.workers)
            if d_columns is not None:
                into.value += (c / unit) * d_columns[:, :-1]
            if d_weights is not None:
                d_weights[:, : head.hidden_lags] = 0
                add_slopes(head.weights, some, c * d_weights, into.weights, head.workers)


def _multiply(*arrays: Numbers, workers: int) -> None:
    """Call the kernel; numbers that leave the range are those of the result, for the caller to look at."""
    try:
        _subquad.rescaled_toeplitz(*arrays, workers=workers)
    except ValueError:
        if np.isfinite(arrays[-1]).all():
            raise


def _columns(head: RelativeHead) -> tuple[Numbers, float]:
    """Return what is summed: the values from their mean, in a unit of their spread, and ones."""
    unit = 1.0
    if 0.0 < head.spread < math.inf:
        unit = math.ldexp(1.0, min(math.frexp(head.spread)[1], 1023))
    columns = np.ones((head.keys, head.value.shape[1] + 1), head.value.dtype)
    columns[:, :-1] = (head.value - head.mean) / unit
    return columns, unit


def _chunks(head: RelativeHead, coefficients: Floats) -> Iterator[Words]:
    lags = head.weights.shape[1]
    for length in np.flatnonzero(coefficients):
        one = head.value.dtype.itemsize * (int(length) + 2) * (lags + head.queries + head.keys)
        most = max(1, min(_MOST_WORDS, _MOST_BYTES // max(one, 1)))
        yield from words(head.entries, int(length), most)


def _room(head: RelativeHead, some: Words, coefficients: Floats) -> Floats:
    """For every word, what a number that underflows in its products may be multiplied with."""
    powers = np.abs(np.float64(head.scale) ** some.length * coefficients[some.length])
    room: Floats = np.maximum(1.0, some.counts * powers) * head.factors[:, some.letters].prod(
        axis=(0, 2)
    )
    return room


def _counts(head: RelativeHead, some: Words) -> Numbers:
    factors = some.counts * np.float64(head.scale) ** some.length
    return factors.astype(head.value.dtype)[:, np.newaxis]


def _by_lag(head: RelativeHead, some: Words) -> Numbers:
    weights = multiply(head.weights, some)
    weights[:, : head.hidden_lags] = 0
    return weights


def _norms(rows: Numbers) -> Floats:
    norms: Floats = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return norms
