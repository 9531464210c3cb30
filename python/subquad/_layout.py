"""Arrays in the layout that the compiled module reads and writes, copied only where they must be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Operand
from ._shapes import Shape

__all__ = ["expand", "laid_out", "open_view"]


def laid_out(
    operand: Operand, compute: np.dtype[Any], *, any_strides: bool = False
) -> NDArray[Any]:
    """Return the numbers as the kernels read them, copied only where they cannot."""
    array = operand.array
    dtype = array.dtype
    if dtype.kind != "f" and operand.dtype != "bfloat16":
        return _converted(array, compute)
    item, strides = dtype.itemsize, array.strides
    readable = (
        dtype.isnative
        and array.flags.aligned
        and math.gcd(item, *strides) == item
        and (any_strides or strides[-1] == item or array.shape[-1] == 1)
    )
    return array if readable else _converted(array, dtype.newbyteorder("="))


def _converted(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    # Axes of stride 0 repeat one slice: copy it once, and repeat the copy.
    once = tuple(slice(0, 1) if not stride else slice(None) for stride in array.strides[:-1])
    return expand(np.array(array[once], dtype, order="C"), array.shape)


def expand(array: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """Broadcast without copying; the result is for reading."""
    if array.shape == shape:
        return array
    # `broadcast_to` takes microseconds; for one head there is nothing to repeat.
    return array[np.newaxis] if (1, *array.shape) == shape else np.broadcast_to(array, shape)


def open_view(array: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """Broadcast without copying, writeable: what is added along an expanded axis accumulates."""
    if array.shape == shape:
        return array
    strides = np.broadcast_to(array, shape).strides
    return np.lib.stride_tricks.as_strided(array, shape, strides)
