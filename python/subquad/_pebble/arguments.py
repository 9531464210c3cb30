"""Arguments that the functions of `subquad.pebble` share, checked."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .dag import Dag
    from .model import Model

__all__ = [
    "require_memory",
    "take_count",
    "take_dag",
    "take_flag",
    "take_integers",
    "take_memory",
    "take_vertices",
]

_LARGEST_WORD = 2**64 - 1


def take_dag(dag: Any) -> Dag:
    """Return `dag`, which must be a graph."""
    from .dag import Dag

    if not isinstance(dag, Dag):
        raise TypeError(f"`dag` must be a subquad.pebble.Dag, got one of {type(dag).__name__}")
    return dag


def take_count(name: str, value: Any, *, least: int = 1, most: int | None = None) -> int:
    """Return an integer that is not too small."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        count = operator.index(value)
    except TypeError:
        raise TypeError(
            f"`{name}` must be an integer, got {value!r} of type {type(value).__name__}"
        ) from None
    if count < least:
        raise ValueError(f"`{name}` must be at least {least}, got {count}")
    if most is not None and count > most:
        raise ValueError(f"`{name}` must be at most {most}, got {count}")
    return count


def take_flag(name: str, value: Any) -> bool:
    """Return a value that must be true or false."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False, got {value!r}")
    return bool(value)


def take_memory(memory: Any) -> int:
    """Return the words of fast memory."""
    return take_count("memory", memory, most=_LARGEST_WORD)


def require_memory(dag: Dag, memory: int, model: Model) -> None:
    """Refuse a memory with which no play of the game ends."""
    least = dag.least_memory(model)
    if memory < least:
        raise ValueError(
            f"`memory` must be at least {least} for this graph and {model!r}, got {memory}"
        )


def take_integers(name: str, values: Any) -> NDArray[Any]:
    """Return integers as an array, of whatever shape; nothing is an array of no integers.

    An array of objects comes back where some integer takes more than 63 bits: whoever calls must refuse it.
    """
    if isinstance(values, Iterable) and not (
        isinstance(values, Sequence) or hasattr(values, "__array__")
    ):
        values = list(values)
    try:
        array = np.asarray(values)
    except ValueError as err:
        raise ValueError(f"`{name}` must be an array of integers: {err}") from None
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind == "O" or (array.dtype.kind == "f" and not hasattr(values, "dtype")):
        # Where a list has integers beyond 63 bits, numpy makes floats or objects of them.
        exact = np.asarray(values, dtype=object)
        whole = all(type(item) is int or isinstance(item, np.integer) for item in exact.flat)
        if whole and any(not -(2**63) <= item < 2**63 for item in exact.flat):
            return exact
    if array.dtype.kind not in "iu":
        raise TypeError(f"`{name}` must be integers, got an array of {array.dtype}")
    return array


def take_vertices(name: str, values: Any, vertices: int) -> NDArray[np.uint32]:
    """Return an array whose entries are vertices of a graph that has so many."""
    array = take_integers(name, values)
    outside = (array < 0) | (array >= vertices)
    if outside.any():
        first = int(np.argmax(outside))
        index = first if array.ndim == 1 else tuple(int(i) for i in np.argwhere(outside)[0])
        found = int(array.flat[first])
        raise ValueError(
            f"`{name}` must hold vertices below {vertices}, got {found} at index {index}"
        )
    return np.ascontiguousarray(array, dtype=np.uint32)
