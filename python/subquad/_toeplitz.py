"""Products with Toeplitz matrices, and their gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _subquad
from ._arrays import FLOATS, Array, stored
from ._finite import refuse_nonfinite
from ._info import Gradients
from ._toeplitz_args import Call, prepare, take_upstream
from ._toeplitz_bound import with_bound

__all__ = ["matmul", "matmul_grad"]


def matmul(
    weights: Array,
    x: Array,
    *,
    transpose: bool = False,
    workers: int | None = None,
    return_bound: bool = False,
) -> Any:
    r"""Multiply by matrices whose entries depend on the lag alone.

    ``out[i] = sum_j w(i - j) x[j]`` for i < L, j < S, in time n log n with n about L + S.

    Parameters
    ----------
    weights : array_like, shape (..., L + S - 1)
        The weight of lag i - j at index i - j + S - 1: from lag 1 - S, the upper right corner of the matrix,
        to lag L - 1, the lower left one.
    x : array_like, shape (..., S, c) or (S,)
        Columns; a vector is one. With `transpose`, of L rows. Leading axes are broadcast against those of
        `weights`.
    transpose : bool
        Multiply by the transposed matrices: ``out[j] = sum_i w(i - j) x[i]``, of S rows.
    workers : int, optional
        As in `subquad.attention`.
    return_bound : bool
        Also return a bound on the rounding error, and compute anew the rows that are below it.

    Returns
    -------
    out : array, shape (..., L, c), or (..., L) for a vector
        Of the kind of `x`; its dtype is numpy's promotion of both, float64 for integers. With `transpose`, S
        in place of L. L is what the lengths of `weights` and `x` leave.
    bound : ndarray of float64, shape (..., L)
        Only with `return_bound`: on the error of every entry of a row, before it is rounded to float16 or
        bfloat16 if it is. Underflow is not in it.

    Raises
    ------
    ValueError
        If the lengths do not fit, that is if L + S - 1 weights leave no row; if a number is not finite, with
        its index; if leading axes cannot be broadcast.
    TypeError
        If an argument does not hold real numbers.

    See Also
    --------
    matmul_grad : The gradient.
    subquad.theory.toeplitz.product_error : The proof of the bound.

    Notes
    -----
    Computed by transforms of a vector of columns at a time [1]_, two columns in each lane; small matrices
    entry by entry. The bound is :math:`c u \|w\|_2 \sqrt2 \max_k \|x_k\|_2` over the columns that have the same
    weights, u the unit roundoff and c some hundreds. With `return_bound`, rows of whose result nothing exceeds it
    are computed anew: directly in float64, if they are at most 64 and an L-th part in 64; else in float64 by
    transforms, and the smallest of those that are still below the bound directly. So weights that grow
    or decay by up to e^30 leave small rows with correct digits.

    References
    ----------
    .. [1] Higham, "Accuracy and Stability of Numerical Algorithms", chapter 24.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> x = np.arange(3.0)
    >>> subquad.toeplitz.matmul([0.0, 0.0, 1.0, 10.0, 100.0], x).round(9)  # lags -2 to 2
    array([ 0.,  1., 12.])
    """
    call = prepare(weights, x, transpose, workers)
    raw = _product(call, call.compute)
    bound = None
    if return_bound:
        raw, bound = with_bound(call, raw, _product)
    out = call.x.give_back(stored(call.shaped(raw), call.dtype), call.dtype)
    return (out, bound) if return_bound else out


def _product(call: Call, compute: np.dtype[Any]) -> NDArray[Any]:
    """Return the product with all leading axes, computed in one type."""
    shape = (*call.lead, call.outputs, call.columns)
    if not call.inputs:
        return np.zeros(shape, compute)
    out = np.empty(shape, compute)
    if out.size:
        weights, x = call.numbers(compute)
        try:
            _subquad.toeplitz_product(
                weights,
                x,
                out,
                transpose=call.transpose,
                workers=call.workers,
                which=call.which,
            )
        except ValueError:
            refuse_nonfinite((call.weights, call.x), compute)
    return out


def matmul_grad(
    grad_out: Array,
    weights: Array,
    x: Array,
    *,
    transpose: bool = False,
    workers: int | None = None,
) -> Gradients:
    """Gradient of `matmul`: the vector-Jacobian product.

    Parameters
    ----------
    grad_out : array_like, shape (..., L, c), or (..., L) if `x` is a vector
        Gradient with respect to the output.
    weights, x, transpose, workers
        As in `matmul`.

    Returns
    -------
    grads : Gradients
        Its `weights` and `x`, each of the kind of `x` and with the shape and dtype of the argument, summed over
        axes along which it was broadcast. Integer arguments get the dtype of the output.

    Raises
    ------
    ValueError, TypeError
        As in `matmul`; also if `grad_out` has another shape than the output.

    Notes
    -----
    The gradient of x is a product with the transposed matrices. That of the weight of a lag is the sum of
    ``grad_out[i] . x[j]`` over i - j = lag: transforms of both are multiplied and added up over all columns, and
    one transform goes back.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> g = subquad.toeplitz.matmul_grad([1.0, 0.0], np.zeros(3), [3.0, 5.0])
    >>> g.weights.round(9)  # lags -1, 0 and 1
    array([5., 3., 0.])
    """
    call = prepare(weights, x, transpose, workers)
    upstream = take_upstream(call, grad_out)
    back = call.of(upstream)
    of_x = call.summed(_product(back, call.compute))
    of_weights = np.zeros((call.filters, call.lags), call.compute)
    if call.which and call.inputs and call.outputs and call.columns:
        grad, columns = back.numbers(call.compute)[1], call.numbers(call.compute)[1]
        if transpose:
            grad, columns = columns, grad
        try:
            _subquad.toeplitz_product_grad(
                grad, columns, of_weights, workers=call.workers, which=call.which
            )
        except ValueError:
            refuse_nonfinite((upstream, call.weights, call.x), call.compute)
    found = {"weights": of_weights.reshape(call.weights.shape), "x": of_x}
    grads = {}
    for name, total in found.items():
        operand = getattr(call, name)
        dtype = operand.dtype if operand.dtype in FLOATS else call.dtype
        grads[name] = call.x.give_back(stored(total, dtype), dtype)
    return Gradients(**grads)
