"""Arguments of products with Toeplitz matrices, checked once for the library and its twin."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Operand, result_dtype, take, wide
from ._finite import require_finite
from ._threads import resolve_workers

__all__ = ["Call", "prepare", "sum_to", "take_upstream"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """A product: what comes in, and the shapes of it."""

    weights: Operand
    x: Operand
    transpose: bool
    workers: int
    lead: Shape
    """Leading axes of the result."""
    inputs: int
    """Rows of x; S, or L for a transposed matrix."""
    outputs: int
    """Rows of the result."""
    columns: int
    is_vector: bool
    dtype: str
    compute: np.dtype[Any]

    @property
    def lags(self) -> int:
        """L + S - 1."""
        return self.weights.shape[-1]

    @property
    def filters(self) -> int:
        """How many rows of weights there are."""
        return math.prod(self.weights.shape[:-1])

    @property
    def which(self) -> list[int]:
        """For each matrix of the result, in order, the row of weights."""
        rows = np.arange(self.filters).reshape(self.weights.shape[:-1])
        which: list[int] = np.broadcast_to(rows, self.lead).ravel().tolist()
        return which

    def numbers(self, compute: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return weights in two axes and x with all leading axes, as the kernels read them."""
        weights, x = (
            np.require(wide(operand.array, operand.dtype), compute, "A")
            for operand in (self.weights, self.x)
        )
        columns = x[:, np.newaxis] if self.is_vector else x
        shape = (*self.lead, self.inputs, self.columns)
        return weights.reshape(self.filters, self.lags), np.broadcast_to(columns, shape)

    def shaped(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Return a result without the axis that a vector does not have."""
        return raw[..., 0] if self.is_vector else raw

    def of(self, upstream: Operand) -> Call:
        """Return the product that takes the gradient of the result to that of x."""
        return replace(
            self,
            x=upstream,
            transpose=not self.transpose,
            inputs=self.outputs,
            outputs=self.inputs,
            is_vector=False,
        )

    def summed(self, full: NDArray[Any]) -> NDArray[Any]:
        """Sum a gradient over the axes along which x was repeated."""
        return sum_to(self.shaped(full), self.x.shape)


def prepare(weights: Any, x: Any, transpose: Any, workers: Any) -> Call:
    """Check shapes and types, and the numbers of what has no result to show them."""
    w, columns = take("weights", weights), take("x", x)
    if not isinstance(transpose, bool | np.bool_):
        raise TypeError(f"`transpose` must be True or False, got {transpose!r}")
    if not w.shape:
        raise ValueError("`weights` must have shape (..., L + S - 1), got a number")
    if not columns.shape:
        raise ValueError("`x` must have shape (..., S, c) or (S,), got a number")
    is_vector = len(columns.shape) == 1
    lead_x, inputs = (
        (() if is_vector else columns.shape[:-2]),
        columns.shape[0 if is_vector else -2],
    )
    outputs = w.shape[-1] - inputs + 1
    if outputs < 1 or w.shape[-1] < 1:
        rows, other = ("L", "S") if transpose else ("S", "L")
        raise ValueError(
            f"`weights` must have L + S - 1 numbers in the last axis, at least {rows} = {inputs} of `x` for "
            f"{other} >= 1, got shape {w.shape}"
        )
    try:
        lead = np.broadcast_shapes(w.shape[:-1], lead_x)
    except ValueError:
        raise ValueError(
            f"leading axes of `weights` and `x` must broadcast, got {w.shape[:-1]} and {lead_x}"
        ) from None
    dtype = result_dtype(w.dtype, columns.dtype)
    call = Call(
        w,
        columns,
        bool(transpose),
        resolve_workers(workers),
        lead,
        inputs,
        outputs,
        1 if is_vector else columns.shape[-1],
        is_vector,
        dtype,
        np.dtype(np.float64 if dtype == "float64" else np.float32),
    )
    if 0 in (*lead, inputs, call.columns):
        require_finite(w)
        require_finite(columns)
    return call


def take_upstream(call: Call, grad_out: Any) -> Operand:
    """Return the gradient of the result, in the shape of columns."""
    operand = take("grad_out", grad_out)
    shape: Shape = (*call.lead, call.outputs)
    shape = shape if call.is_vector else (*shape, call.columns)
    if operand.shape != shape:
        raise ValueError(
            f"`grad_out` must have the shape of the result, {shape}, got {operand.shape}"
        )
    require_finite(operand)
    array = operand.array[..., np.newaxis] if call.is_vector else operand.array
    return replace(operand, array=array)


def sum_to(full: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """Sum over the axes along which an array of this shape was repeated."""
    full = full.sum(axis=tuple(range(full.ndim - len(shape))))
    repeated = tuple(i for i, n in enumerate(shape) if n == 1 and full.shape[i] != 1)
    total: NDArray[Any] = full.sum(axis=repeated, keepdims=True)
    return total
