"""The arguments of half-space reporting, checked once for the index and its twin in `reference`."""

from __future__ import annotations

import math
import operator
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Operand, take, wide
from ._options import check_real

__all__ = [
    "METHODS",
    "check_method",
    "check_path",
    "refused_id",
    "take_ids",
    "take_k",
    "take_keys",
    "take_one_or_many",
    "take_queries",
    "take_query",
    "take_threshold",
    "take_thresholds",
]

METHODS = ("auto", "scan", "quantized", "rotated", "tree")

# Products of numbers of these types are exact in float64, on which the exact predicate is built.
_TAKEN = ("float32", "float16", "bfloat16")
_LARGEST_DIM = 4096
# Boxes around points exclude next to nothing in higher dimensions.
_LARGEST_DIM_OF_TREES = 12

_FLOAT32 = np.dtype(np.float32)


def take_keys(keys: Any, dtype: Any, *, dim: int | None = None) -> Operand:
    """Return keys of shape (n, d); `dim` and `dtype` are those of the index that gets them."""
    operand = take("keys", keys)
    _require_shape(operand, "n", dim)
    width = operand.shape[1]
    if not 1 <= width <= _LARGEST_DIM:
        raise ValueError(
            f"`keys` must have shape (n, d) with 1 <= d <= {_LARGEST_DIM}, got {operand.shape}"
        )
    wanted = None if dtype is None else _dtype_name(dtype)
    return _of_type(operand, _TAKEN if wanted is None else (wanted,))


def check_method(method: Any, dim: int) -> str:
    """Return the name of a method that works in this dimension."""
    if not isinstance(method, str) or method not in METHODS:
        listed = ", ".join(f'"{name}"' for name in METHODS)
        raise ValueError(f"`method` must be one of {listed}, got {method!r}")
    if method == "tree" and dim > _LARGEST_DIM_OF_TREES:
        raise ValueError(
            f'`method="tree"` needs keys of shape (n, d) with d <= {_LARGEST_DIM_OF_TREES}, got '
            f"d = {dim}"
        )
    return method


def take_queries(queries: Any, dim: int) -> tuple[Operand, NDArray[np.float32]]:
    """Return queries of shape (m, d), as given and in float32."""
    operand = take("queries", queries)
    _require_shape(operand, "m", dim)
    return operand, _float32(operand)


def take_query(query: Any, dim: int) -> tuple[Operand, NDArray[np.float32]]:
    """Return one query of shape (d,), as given and in float32."""
    operand = take("query", query)
    if operand.shape != (dim,):
        raise ValueError(f"`query` must have shape (d,) = ({dim},), got {operand.shape}")
    return operand, _float32(operand)


def take_one_or_many(queries: Any, dim: int) -> tuple[Operand, NDArray[np.float32]]:
    """Return queries of shape (d,) or (m, d), as given and in float32."""
    operand = take("queries", queries)
    if len(operand.shape) not in (1, 2) or operand.shape[-1] != dim:
        raise ValueError(
            f"`queries` must have shape (d,) or (m, d) with d = {dim}, got {operand.shape}"
        )
    return operand, _float32(operand)


def take_threshold(threshold: Any) -> float:
    """Return one threshold in float64."""
    if type(threshold) not in (int, float) and np.ndim(threshold) != 0:
        raise ValueError(f"`threshold` must be one number, got shape {np.shape(threshold)}")
    number = check_real("threshold", threshold)
    if math.isnan(number):
        raise ValueError("`threshold` must be a number or infinite, got nan")
    return number


def take_thresholds(thresholds: Any, queries: int) -> NDArray[np.float64]:
    """Return one threshold per query in float64; one number serves all."""
    if type(thresholds) is float and not math.isnan(thresholds):
        return np.full(queries, thresholds)
    operand = take("thresholds", thresholds)
    if operand.dtype == "bool":
        raise TypeError("`thresholds` must be real numbers, got dtype bool")
    array = wide(operand.array, operand.dtype).astype(np.float64)
    if array.shape not in ((), (queries,)):
        raise ValueError(
            f"`thresholds` must be one number or have shape (m,) = ({queries},), got {array.shape}"
        )
    bad = np.isnan(array)
    if bad.any():
        where = f" at index ({int(np.argmax(bad))},)" if array.ndim else ""
        raise ValueError(f"`thresholds` must be numbers or infinite, got nan{where}")
    return np.ascontiguousarray(np.broadcast_to(array, queries))


def take_k(k: Any) -> int:
    """Return how many keys are wanted; whether there are so many is for the index to say."""
    try:
        if isinstance(k, bool | np.bool_):
            raise TypeError
        number = operator.index(k)
    except TypeError:
        raise TypeError(f"`k` must be an integer, got {k!r} of type {type(k).__name__}") from None
    if number < 0:
        raise ValueError(f"`k` must be at least 0 and at most the number of keys, got {number}")
    # More than any index holds, and fits a machine word.
    return min(number, 1 << 62)


def take_ids(ids: Any) -> tuple[Operand, NDArray[np.int64]]:
    """Return ids of shape (r,), as given and in int64."""
    operand = take("ids", ids)
    if len(operand.shape) != 1:
        raise ValueError(f"`ids` must have shape (r,), got {operand.shape}")
    kind = operand.array.dtype.kind
    if operand.dtype == "bfloat16" or (kind not in "iu" and operand.array.size):
        hint = ": `numpy.flatnonzero` turns a mask into indices" if kind == "b" else ""
        raise TypeError(f"`ids` must be integers, got dtype {operand.dtype}{hint}")
    # What does not fit wraps to a negative number, which is no id either.
    return operand, np.ascontiguousarray(operand.array.astype(np.int64))


def refused_id(operand: Operand, ids: NDArray[np.int64], id_: int) -> KeyError:
    """Return what to raise about an id that is named twice or is not in the index."""
    where = np.flatnonzero(ids == id_)
    number = operand.array[where[0]]
    if where.size == 1:
        return KeyError(f"`ids` must be in the index, got {number} at index ({where[0]},)")
    pair = f"({where[0]},) and ({where[1]},)"
    return KeyError(f"`ids` must not repeat themselves, got {number} at indices {pair}")


def check_path(path: Any) -> str:
    """Return a path as a string."""
    try:
        return os.fsdecode(path)
    except TypeError:
        raise TypeError(
            f"`path` must be a string or os.PathLike, got {path!r} of type {type(path).__name__}"
        ) from None


def _require_shape(operand: Operand, rows: str, dim: int | None) -> None:
    if len(operand.shape) != 2:
        raise ValueError(f"`{operand.name}` must have shape ({rows}, d), got {operand.shape}")
    if dim is not None and operand.shape[1] != dim:
        raise ValueError(
            f"`{operand.name}` must have shape ({rows}, d) with d = {dim}, got {operand.shape}"
        )


def _dtype_name(dtype: Any) -> str:
    try:
        # numpy knows the name only once ml_dtypes is loaded.
        named = isinstance(dtype, str) and dtype == "bfloat16"
        name = "bfloat16" if named else np.dtype(dtype).name
    except TypeError:
        name = None
    if name not in _TAKEN:
        raise ValueError(f"`dtype` must be one of {_listed(_TAKEN)}, got {dtype!r}")
    return name


def _of_type(operand: Operand, taken: tuple[str, ...]) -> Operand:
    """Return the operand if it has one of these types, laid out as the compiled module reads it."""
    name, dtype, array = operand.name, operand.dtype, operand.array
    if dtype in taken and array.flags.carray and array.dtype.isnative:
        return operand
    if dtype == "uint16" and taken == ("bfloat16",):
        dtype = "bfloat16"
    elif dtype == "float64" and array.shape[0] == 0:
        # `numpy.empty((0, d))`: without numbers there is nothing to round.
        dtype = taken[0]
        array = np.empty(array.shape, np.uint16 if dtype == "bfloat16" else dtype)
    if dtype not in taken:
        cast = "ml_dtypes.bfloat16" if taken == ("bfloat16",) else f"numpy.{taken[0]}"
        hint = f"pass `{name}.astype({cast})`"
        if dtype == "uint16":
            hint += ', or `dtype="bfloat16"` with an index of such keys if these are their bits'
        raise TypeError(f"`{name}` must be {_listed(taken)}, got {dtype}: {hint}")
    if not (array.dtype.isnative and array.flags.aligned and _whole_strides(array)):
        array = np.array(array, array.dtype.newbyteorder("="), order="C")
    return Operand(name, array, dtype, operand.give_back)


def _whole_strides(array: NDArray[Any]) -> bool:
    item = array.dtype.itemsize
    return all(stride % item == 0 for stride in array.strides)


def _float32(operand: Operand) -> NDArray[np.float32]:
    """Return queries in float32, exactly, in rows without gaps."""
    operand = _of_type(operand, _TAKEN)
    array: NDArray[np.float32] = operand.array
    if operand.dtype != "float32":
        array = wide(array, operand.dtype).astype(_FLOAT32, copy=False)
    gaps = array.shape[-1] > 1 and array.strides[-1] != _FLOAT32.itemsize
    return np.ascontiguousarray(array) if gaps else array


def _listed(names: tuple[str, ...]) -> str:
    return " or ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} or {names[-1]}"
