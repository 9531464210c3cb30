"""What the twins of every kind of attention share: numbers, heads, visible keys, sums."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._arrays import Operand, wide
from .._problem import Problem

__all__ = ["Floats", "numbers", "of_query_heads", "sum_to", "transpose", "visible_keys"]

Floats = NDArray[np.float64]


def numbers(operand: Operand) -> Floats:
    """Return an argument in float64."""
    return wide(operand.array, operand.dtype).astype(np.float64)


def of_query_heads(problem: Problem, name: str) -> Floats:
    """Return `key` or `value` with every head repeated for the query heads of its group."""
    array, heads = numbers(problem.operands[name]), problem.shapes.heads
    if array.ndim == 2 or array.shape[-3] in (1, heads):
        return array
    return np.repeat(array, heads // array.shape[-3], axis=-3)


def visible_keys(problem: Problem) -> NDArray[np.bool_]:
    """Return which keys `is_causal` and `window` leave to which query, shape (L, S)."""
    i = np.arange(problem.shapes.queries)[:, np.newaxis]
    j = np.arange(problem.shapes.keys)
    if problem.shift is None:
        return np.ones((i.size, j.size), bool)
    visible = j <= i + problem.shift
    if problem.window is not None:
        visible &= j > i + problem.shift - problem.window
    return visible


def transpose(matrix: Floats) -> Floats:
    """Swap the last two axes."""
    return np.swapaxes(matrix, -1, -2)


def sum_to(full: Floats, shape: tuple[int, ...]) -> Floats:
    """Sum a gradient over the axes along which its argument was repeated."""
    if len(shape) > 2 and shape[-3] not in (1, full.shape[-3]) and full.shape[-3] > shape[-3]:
        # Query heads of one group follow each other.
        group = full.shape[-3] // shape[-3]
        full = full.reshape(*full.shape[:-3], shape[-3], group, *full.shape[-2:]).sum(axis=-3)
    added = full.ndim - len(shape)
    full = full.sum(axis=tuple(range(added)))
    repeated = tuple(i for i, n in enumerate(shape) if n == 1 and full.shape[i] != 1)
    total: Floats = full.sum(axis=repeated, keepdims=True)
    return total
