"""Products with Toeplitz matrices by their definition: the matrix, entry by entry."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._arrays import Array
from .._finite import require_finite
from .._info import Gradients
from .._toeplitz_args import Call, prepare, sum_to, take_upstream
from ..theory.toeplitz import direct_error
from ._heads import Floats, numbers
from ._heads import transpose as _transposed

__all__ = ["matmul", "matmul_grad"]


def matmul(
    weights: Array,
    x: Array,
    *,
    transpose: bool = False,
    workers: int | None = None,
    return_bound: bool = False,
) -> Any:
    """Multiply by matrices whose entries depend on the lag alone."""
    call = prepare(weights, x, transpose, workers)
    matrix, columns = _matrices(call), _columns(call)
    out = call.shaped(np.broadcast_to(matrix @ columns, (*call.lead, call.outputs, call.columns)))
    if not return_bound:
        return out
    sums = np.abs(matrix) @ np.abs(columns)
    bound = direct_error(max(call.inputs, 1)) * 2.0**-53 * sums.max(axis=-1, initial=0.0)
    return out, np.broadcast_to(bound, (*call.lead, call.outputs))


def matmul_grad(
    grad_out: Array,
    weights: Array,
    x: Array,
    *,
    transpose: bool = False,
    workers: int | None = None,
) -> Gradients:
    """Differentiate `matmul`."""
    call = prepare(weights, x, transpose, workers)
    grad = numbers(take_upstream(call, grad_out))
    matrix, columns = _matrices(call), _columns(call)
    of_matrix = grad @ _transposed(columns)
    of_columns = call.shaped(_transposed(matrix) @ grad)
    if transpose:
        of_matrix = _transposed(of_matrix)
    rows, lags = _index(call), np.zeros((*call.lead, call.lags))
    for lag in range(call.lags):
        lags[..., lag] = of_matrix[..., rows == lag].sum(axis=-1)
    return Gradients(weights=sum_to(lags, call.weights.shape), x=sum_to(of_columns, call.x.shape))


def _index(call: Call) -> Any:
    """For every entry of the matrix (L, S), the index i - j + S - 1 of its weight."""
    length, keys = call.outputs, call.inputs
    if call.transpose:
        length, keys = keys, length
    return np.arange(length)[:, np.newaxis] - np.arange(keys) + keys - 1


def _matrices(call: Call) -> Floats:
    """Write the matrices down, transposed where that is what is multiplied."""
    require_finite(call.weights)
    matrix: Floats = numbers(call.weights)[..., _index(call)]
    return _transposed(matrix) if call.transpose else matrix


def _columns(call: Call) -> Floats:
    require_finite(call.x)
    x = numbers(call.x)
    return x[:, np.newaxis] if call.is_vector else x
