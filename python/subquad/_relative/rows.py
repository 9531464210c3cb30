"""Some rows of one head by a polynomial of every logit, in float64, a block of rows by keys at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.polynomial.polynomial import polyder, polyval
from numpy.typing import NDArray

from .._centring import ROUNDOFF
from .._coefficients import refuse_sum
from .head import Floats, RelativeHead

__all__ = [
    "Slopes",
    "polynomial_rows",
    "polynomial_rows_grad",
    "require_sums",
]

# Logits that are held at a time.
_BLOCK = 1 << 18

# Products that are too small for float64 are lost.
_TINY = float(np.finfo(np.float64).tiny)

Rows = NDArray[np.intp]


@dataclass(slots=True)
class Slopes:
    """Gradients of one head with respect to its numbers, in their shapes; added to."""

    left: NDArray[Any]
    right: NDArray[Any]
    value: NDArray[Any]
    weights: NDArray[Any]

    @staticmethod
    def zeros(head: RelativeHead) -> Slopes:
        """Begin."""
        return Slopes(
            *(np.zeros(x.shape) for x in (head.left, head.right, head.value, head.weights))
        )


def polynomial_rows(
    head: RelativeHead, rows: Rows, coefficients: Floats
) -> tuple[Floats, Floats, Floats]:
    """Attention of some queries by a polynomial: rows, their sums of weights, and the doubt of these."""
    out = np.empty((len(rows), head.value.shape[1]))
    total, doubt = np.empty(len(rows)), np.empty(len(rows))
    steps = head.keys + (head.entries + 4.0) * len(coefficients)
    largest = head.absolute()
    with np.errstate(over="ignore", invalid="ignore"):
        slopes = polyval(head.sizes[rows], np.abs(polyder(coefficients)))
        lost = _TINY * head.keys * (1.0 + head.room * slopes)
    for (block, logits), (_, sizes) in zip(
        _blocks(head, rows), _blocks(largest, rows), strict=True
    ):
        seen = np.isfinite(logits)
        weights = np.where(seen, polyval(np.where(seen, logits, 0.0), coefficients), 0.0)
        total[block] = weights.sum(axis=1)
        # Every step on the way to a sum rounds no more than the same sum of absolute values.
        most = polyval(np.where(seen, sizes, 0.0), np.abs(coefficients))
        doubt[block] = steps * ROUNDOFF * np.where(seen, most, 0.0).sum(axis=1) + lost[block]
        with np.errstate(divide="ignore", invalid="ignore"):
            out[block] = (weights / total[block, np.newaxis]) @ head.value
    return out, total, doubt


def polynomial_rows_grad(
    head: RelativeHead, rows: Rows, upstream: Floats, coefficients: Floats, into: Slopes
) -> Floats:
    """Add the gradient of `polynomial_rows`; return that with respect to the coefficients."""
    by_power = np.zeros(len(coefficients))
    for block, logits in _blocks(head, rows):
        seen = np.isfinite(logits)
        logits = np.where(seen, logits, 0.0)
        weights = np.where(seen, polyval(logits, coefficients), 0.0)
        total = weights.sum(axis=1, keepdims=True)
        slopes = np.where(seen, polyval(logits, polyder(coefficients)), 0.0) / total
        moved = _add(head, rows[block], upstream[block], weights / total, slopes, into)
        moved = np.where(seen, moved, 0.0) / total
        for power in range(len(coefficients)):
            by_power[power] += float((moved * logits**power).sum())
    return by_power


def require_sums(index: tuple[int, ...], rows: Rows, total: Floats, doubt: Floats) -> None:
    """Refuse the first row whose weights have no certain sum."""
    unsafe = ~(total > doubt)
    if unsafe.any():
        first = int(np.argmax(unsafe))
        refuse_sum((*index, int(rows[first])), float(total[first]), float(doubt[first]))


def _blocks(head: RelativeHead, rows: Rows) -> Iterator[tuple[slice, Floats]]:
    """Yield the logits of some queries at a time, minus infinity where a key is hidden."""
    step = max(1, _BLOCK // max(1, head.keys))
    by_query = sliding_window_view(head.weights, head.keys, axis=1)[:, :, ::-1]
    positions = np.arange(head.keys)
    for start in range(0, len(rows), step):
        block = slice(start, min(start + step, len(rows)))
        logits = np.zeros((len(rows[block]), head.keys))
        # What leaves the range is no number, and no sum of it is certain.
        with np.errstate(over="ignore", invalid="ignore"):
            for entry in range(head.entries):
                part = by_query[entry, rows[block]] * head.right[entry]
                logits += part * head.left[entry, rows[block], np.newaxis]
            logits *= head.scale
        if head.shift is not None:
            logits[positions > rows[block, np.newaxis] + head.shift] = -np.inf
        yield block, logits


def _add(
    head: RelativeHead,
    rows: Rows,
    upstream: Floats,
    shares: Floats,
    slopes: Floats,
    into: Slopes,
) -> Floats:
    """Add what rows with these weights and slopes of the weights give; return what weights would."""
    inner = upstream @ head.value.T
    moved: Floats = inner - (shares * inner).sum(axis=1, keepdims=True)
    into.value += shares.T @ upstream
    d_logits = head.scale * (slopes * moved)
    by_query = sliding_window_view(head.weights, head.keys, axis=1)[:, :, ::-1]
    for entry in range(head.entries):
        left, right = head.left[entry, rows], head.right[entry]
        windows = by_query[entry, rows]
        by_key = d_logits * windows
        into.left[entry, rows] += by_key @ right
        into.right[entry] += left @ by_key
        by_lag = (d_logits * left[:, np.newaxis] * right)[:, ::-1]
        for row, part in zip(rows, by_lag, strict=True):
            into.weights[entry, row : row + head.keys] += part
    return moved
