"""The rounding error of products with Toeplitz matrices, and rows that drown in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ._toeplitz_args import Call
from .theory.toeplitz import direct_error, embedding_length, product_error

__all__ = ["with_bound"]

Floats: TypeAlias = NDArray[np.float64]
Product: TypeAlias = Callable[[Call, np.dtype[Any]], NDArray[Any]]

_DOUBLE = np.dtype(np.float64)
# Rows that are computed one by one: so many, or such a part of all. They take about as long as the product.
_ROWS, _PART = 64, 64
# At a time.
_BLOCK = 16
# The compiled module adds up products one by one where that takes no longer than transforms: below so many
# multiplications for each of their rows, for the most lanes a pack can have.
_MULTIPLICATIONS, _PACK = 40, 32


def with_bound(call: Call, raw: NDArray[Any], product: Product) -> tuple[NDArray[Any], Floats]:
    """Return a product with a bound for every row, rows below their bound computed anew."""
    sizes = _Sizes(call)
    unit = _unit_roundoff(call.compute)
    limits = sizes.limits(unit)
    largest = _largest(raw)
    bound = np.broadcast_to(limits[..., np.newaxis], largest.shape).copy()
    small = _drowned(largest, limits)
    if call.compute != _DOUBLE and (small.sum(axis=-1) > _most(call)).any():
        raw = product(call, _DOUBLE)
        limits = sizes.limits(_unit_roundoff(_DOUBLE))
        largest = _largest(raw)
        # Rounded once more, to the type of the result.
        bound = limits[..., np.newaxis] + 1.01 * unit * largest
        small = _drowned(largest, limits)
    raw = raw.astype(call.compute, copy=False)
    for matrix in np.ndindex(*call.lead):
        rows = np.flatnonzero(small[matrix])
        order = np.argsort(largest[matrix][rows], kind="stable")
        for at in range(0, min(len(rows), _most(call)), _BLOCK):
            some = np.sort(rows[order[at : min(at + _BLOCK, _most(call))]])
            exact, error = sizes.directly(matrix, some)
            raw[(*matrix, some)] = exact
            rounding = 0.0 if call.compute == _DOUBLE else 1.01 * unit
            bound[(*matrix, some)] = error + rounding * np.abs(exact).max(axis=-1, initial=0.0)
    return raw, bound


def _most(call: Call) -> int:
    return max(_ROWS, call.outputs // _PART)


def _unit_roundoff(compute: np.dtype[Any]) -> float:
    return float(np.finfo(compute).eps) / 2


def _largest(raw: NDArray[Any]) -> Floats:
    largest: Floats = np.abs(raw).max(axis=-1, initial=0.0).astype(np.float64)
    return largest


def _drowned(largest: Floats, limits: Floats) -> NDArray[np.bool_]:
    """Tell which rows have no digit that is certainly right."""
    drowned: NDArray[np.bool_] = (largest <= limits[..., np.newaxis]) & (limits > 0)[
        ..., np.newaxis
    ]
    return drowned


class _Sizes:
    """Norms of weights and columns, and rows of the matrices."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.weights, self.x = call.numbers(_DOUBLE)
        self.which = np.array(call.which, np.intp).reshape(call.lead)
        norms = _column_norms(self.x).max(axis=-1, initial=0.0)
        # A column shares a lane with one of any matrix that has the same weights.
        self.columns = np.zeros(call.filters)
        np.maximum.at(self.columns, self.which.ravel(), norms.ravel())

    def limits(self, unit: float) -> Floats:
        """Bound on the error of every entry, for each matrix."""
        call = self.call
        factor = product_error(call.lags)
        columns = math.prod(call.lead) * call.columns
        rows = embedding_length(call.lags) * (columns + _PACK)
        if call.inputs * call.outputs * columns <= _MULTIPLICATIONS * rows and call.inputs:
            factor = max(factor, direct_error(call.inputs))
        norms = _column_norms(self.weights.T)
        limits: Floats = (math.sqrt(2.0) * factor * unit * norms * self.columns)[self.which]
        return limits

    def directly(self, matrix: tuple[Any, ...], rows: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Return rows of the result as sums of products, and a bound for each."""
        call = self.call
        windows = sliding_window_view(self.weights[self.which[matrix]], call.inputs)
        entries = windows[call.outputs - 1 - rows] if call.transpose else windows[rows, ::-1]
        x = self.x[matrix]
        unit = direct_error(call.inputs) * _unit_roundoff(_DOUBLE)
        longest = _column_norms(x).max(initial=0.0)
        return entries @ x, unit * _column_norms(entries.T) * longest


def _column_norms(x: Floats) -> Floats:
    """Norms along the axis before the last, without overflow."""
    largest = np.abs(x).max(axis=-2, initial=0.0)
    scale = np.where(largest > 0.0, largest, 1.0)
    norms: Floats = scale * np.sqrt(np.square(x / scale[..., np.newaxis, :]).sum(axis=-2))
    return norms
