"""Half-space reporting by its definition, in exact arithmetic: a dictionary of ids and keys.

Every float16, bfloat16 and float32 is a whole number of units of 2**-149, so products and their sums
are whole numbers of units of 2**-298, which Python's integers hold.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays import Array, wide
from .._finite import require_finite
from .._halfspace_args import (
    check_method,
    refused_id,
    take_ids,
    take_k,
    take_keys,
    take_one_or_many,
    take_queries,
    take_query,
    take_threshold,
    take_thresholds,
)
from .._halfspace_info import Info
from .._threads import resolve_workers

__all__ = ["Index", "report"]

_UNITS = 2**149


class Index:
    """Keys as exact numbers, by id; arguments of all methods as in `subquad.halfspace.Index`."""

    def __init__(
        self,
        keys: Array,
        *,
        queries: Array | None = None,
        dtype: Any = None,
        method: str = "auto",
        workers: int | None = None,
    ) -> None:
        """Take keys; what only changes speed is checked and forgotten."""
        taken = take_keys(keys, dtype)
        self._dtype, self._dim = taken.dtype, taken.shape[1]
        check_method(method, self._dim)
        if queries is not None:
            require_finite(take_queries(queries, self._dim)[0])
        if workers is not None:
            resolve_workers(workers)
        self._keys: dict[int, list[int]] = {}
        self._next_id = 0
        self.add(keys)

    def __len__(self) -> int:
        """Return the number of keys that can be reported."""
        return len(self._keys)

    def report(
        self,
        query: Array,
        threshold: float,
        *,
        strict: bool = False,
        return_scores: bool = False,
        return_info: bool = False,
    ) -> Any:
        """Report the ids whose exact score reaches the threshold, ascending."""
        operand, array = take_query(query, self._dim)
        require_finite(operand)
        found = self._found(array, take_threshold(threshold), strict)
        results = [_int64(found), _float32(found.values())][: 1 + return_scores]
        return _with_info(results, len(self), len(found), return_info)

    def report_batch(
        self,
        queries: Array,
        thresholds: float | Array,
        *,
        strict: bool = False,
        return_scores: bool = False,
        return_info: bool = False,
    ) -> Any:
        """Report for every query, one after the other."""
        operand, array = take_queries(queries, self._dim)
        limits = take_thresholds(thresholds, len(array))
        require_finite(operand)
        found = [self._found(q, float(b), strict) for q, b in zip(array, limits, strict=True)]
        lims = np.cumsum([0, *map(len, found)], dtype=np.int64)
        ids = _int64(id_ for one in found for id_ in one)
        scores = _float32(score for one in found for score in one.values())
        results = [lims, ids, scores][: 2 + return_scores]
        return _with_info(results, len(array) * len(self), len(ids), return_info)

    def range_search(self, queries: Array, threshold: float) -> Any:
        """Report what exceeds the threshold, in the order of FAISS."""
        take_queries(queries, self._dim)
        limit = take_threshold(threshold)
        lims, ids, scores = self.report_batch(queries, limit, strict=True, return_scores=True)
        return lims, scores, ids

    def count(self, query: Array, threshold: float, *, strict: bool = False) -> int:
        """Count what `report` reports."""
        return len(self.report(query, threshold, strict=strict))

    def topk(self, queries: Array, k: int, *, return_scores: bool = False) -> Any:
        """Sort the keys of every query by descending score and ascending id."""
        operand, array = take_one_or_many(queries, self._dim)
        k = take_k(k)
        if k > len(self):
            raise ValueError(f"`k` must be at most the number of keys, {len(self)}, got {k}")
        require_finite(operand)
        ids, scores = [], []
        for query in np.atleast_2d(array):
            exact = self._scores(query)
            best = sorted(exact, key=lambda id_, exact=exact: (-exact[id_], id_))[:k]  # type: ignore[misc]
            ids += best
            scores += [exact[id_] for id_ in best]
        shape = (*array.shape[:-1], k)
        results = [_int64(ids).reshape(shape), _float32(scores).reshape(shape)]
        return tuple(results) if return_scores else results[0]

    def add(self, keys: Array) -> Any:
        """Give the next ids to keys."""
        operand = take_keys(keys, self._dtype, dim=self._dim)
        require_finite(operand)
        rows = [_whole(row) for row in wide(operand.array, operand.dtype)]
        ids = range(self._next_id, self._next_id + len(rows))
        self._keys.update(zip(ids, rows, strict=True))
        self._next_id += len(rows)
        return _int64(ids)

    def remove(self, ids: Array) -> None:
        """Forget keys, all of those that are named or none."""
        operand, array = take_ids(ids)
        named: set[int] = set()
        for id_ in array.tolist():
            if id_ in named or id_ not in self._keys:
                raise refused_id(operand, array, id_)
            named.add(id_)
        for id_ in named:
            del self._keys[id_]

    def compact(self) -> None:
        """Do nothing: removed keys are gone already."""

    def _scores(self, query: NDArray[np.float32]) -> dict[int, Fraction]:
        """Return the exact score of every key, by id, ascending."""
        numbers = _whole(query)
        return {
            id_: Fraction(sum(map(operator.mul, numbers, key)), _UNITS**2)
            for id_, key in self._keys.items()
        }

    def _found(
        self, query: NDArray[np.float32], threshold: float, strict: bool
    ) -> dict[int, Fraction]:
        # Python compares fractions with floats exactly, infinite ones included.
        reaches = operator.gt if strict else operator.ge
        return {id_: s for id_, s in self._scores(query).items() if reaches(s, threshold)}


def report(
    keys: Array,
    query: Array,
    threshold: float,
    *,
    strict: bool = False,
    dtype: Any = None,
    workers: int | None = None,
    return_scores: bool = False,
    return_info: bool = False,
) -> Any:
    """Report once; arguments as in `subquad.halfspace.report`."""
    index = Index(keys, dtype=dtype, workers=workers)
    return index.report(
        query, threshold, strict=strict, return_scores=return_scores, return_info=return_info
    )


def _whole(numbers: NDArray[Any]) -> list[int]:
    """Return numbers in whole units."""
    ratios = (float(x).as_integer_ratio() for x in numbers)
    return [numerator * (_UNITS // denominator) for numerator, denominator in ratios]


def _nearest_float32(x: Fraction) -> np.float32:
    """Round once, ties to even."""
    _, exponent = math.frexp(float(x))
    # Of 24 binary digits from the first one on, but no smaller than the smallest number.
    spacing = Fraction(2) ** max(exponent - 24, -149)
    rounded = float(round(x / spacing) * spacing)
    with np.errstate(over="ignore"):
        return np.float32(math.copysign(rounded, x))


def _float32(scores: Iterable[Fraction]) -> NDArray[np.float32]:
    return np.array([_nearest_float32(score) for score in scores], np.float32)


def _int64(ids: Iterable[int]) -> NDArray[np.int64]:
    return np.fromiter(ids, np.int64)


def _with_info(results: list[Any], pairs: int, reported: int, wanted: bool) -> Any:
    if wanted:
        results.append(Info("reference", 0, pairs, pairs, 0, 0, 0, 0, pairs, reported))
    return results[0] if len(results) == 1 else tuple(results)
