"""Euclidean norms of the rows of an output, a block of rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._arrays import wide

__all__ = ["matrix", "rounding_norms", "row_norms"]

Rows: TypeAlias = Callable[[slice], NDArray[Any]]

# Numbers whose norms are taken at a time: what is held beyond inputs and outputs stays small, and in
# the cache.
_BLOCK = 1 << 15

# Sums of squares from here up have lost nothing to underflow.
_LEAST_SQUARE = 1e-280


def row_norms(rows: Rows, count: int, width: int) -> NDArray[np.float64]:
    """Norms of `count` rows of `width` numbers, correct even where a square is out of range."""
    norms = np.empty(count)
    step = max(1, _BLOCK // max(1, width))
    for start in range(0, count, step):
        block = slice(start, min(start + step, count))
        # Infinity and NaN get here only with check_finite=False; such a row has the norm NaN.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            numbers = rows(block).astype(np.float64, copy=False)
            squares = np.vecdot(numbers, numbers)
            found = np.sqrt(squares)
            lost = ~((squares >= _LEAST_SQUARE) & (squares < np.inf))
            if lost.any():
                found[lost] = _scaled_norms(numbers[lost])
        norms[block] = found
    return norms


def _scaled_norms(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = np.max(np.abs(rows), axis=-1, initial=0.0)
    scale = np.where(largest > 0.0, largest, 1.0)
    scaled = rows / scale[:, np.newaxis]
    norms: NDArray[np.float64] = scale * np.sqrt(np.vecdot(scaled, scaled))
    return norms


def rounding_norms(exact: NDArray[Any], rounded: NDArray[Any], dtype: str) -> NDArray[np.float64]:
    """Distance of each row of `exact` from the same row of `rounded`, which is stored in `dtype`."""
    a, b = matrix(exact), matrix(rounded)

    def difference(block: slice) -> NDArray[Any]:
        off: NDArray[np.float64] = np.subtract(a[block], wide(b[block], dtype), dtype=np.float64)
        return off

    return row_norms(difference, *a.shape).reshape(exact.shape[:-1])


def matrix(array: NDArray[Any]) -> NDArray[Any]:
    """Lay the rows of all heads below each other."""
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1])
