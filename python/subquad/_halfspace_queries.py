"""The queries of an index: `report`, for many queries and in other orders, `count` and `topk`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, GiveBack, take
from ._finite import require_finite
from ._halfspace_args import (
    take_k,
    take_one_or_many,
    take_queries,
    take_query,
    take_threshold,
    take_thresholds,
)
from ._halfspace_info import Info

if TYPE_CHECKING:
    from ._subquad import HalfspaceIndex

__all__ = ["Queries"]

_FLOAT32 = np.dtype(np.float32)


class Queries:
    """What `subquad.halfspace.Index` answers, and the state that it takes.

    The index itself makes, changes, copies and saves what is held here.
    """

    __slots__ = ("_core", "_shape", "_workers")

    _core: HalfspaceIndex
    # That of a query; one tuple to compare with.
    _shape: tuple[int]
    _workers: int | None

    def report(
        self,
        query: Array,
        threshold: float,
        *,
        strict: bool = False,
        return_scores: bool = False,
        return_info: bool = False,
    ) -> Any:
        """Report the keys that reach a threshold.

        Parameters
        ----------
        query : array_like of float32, float16 or bfloat16, shape (d,)
            Of any of these types, whatever that of the keys.
        threshold : float
            In float64. ``-inf`` reports every key, ``inf`` none.
        strict : bool
            Report ``q.k > threshold``, as FAISS does, instead of ``q.k >= threshold``.
        return_scores : bool
            Return the scores as well.
        return_info : bool
            Return an `Info` as well.

        Returns
        -------
        ids : array of int64, shape (r,)
            Ascending; of the kind of `query`.
        scores : array of float32, shape (r,)
            Only with `return_scores`. Each is the float32 nearest to the exact score; beyond its
            range infinite.
        info : Info
            Only with `return_info`. Engine, bytes read, candidates and refinements of each stage.

        Raises
        ------
        ValueError
            If the shape is wrong, `query` is not finite, or `threshold` is NaN.
        TypeError
            If `query` is of another type or `threshold` is not a real number.

        Notes
        -----
        A key is reported if and only if the sum of the exact products of the stored numbers, taken
        over the real numbers, reaches `threshold`. O(n d) on codes, or less with "tree"; O(d) for
        each of the keys near the threshold.
        """
        give_back = None
        if not self._is_ready(query, threshold):
            operand, query = take_query(query, self._shape[0])
            give_back = operand.give_back
            threshold = take_threshold(threshold)
        try:
            ids, (scores, info) = self._core.report(
                query, threshold, strict, return_scores, return_info, self._workers
            )
        except ValueError:
            take_threshold(threshold)
            require_finite(take("query", query))
            raise
        if give_back is None and scores is None and info is None:
            return ids
        return _results(give_back, [ids, scores], info)

    def _is_ready(self, query: Any, threshold: Any) -> TypeGuard[NDArray[np.float32]]:
        """Say whether the compiled module takes both as they are.

        Nearly all calls of a loop are such, and a small index answers in a microsecond.
        """
        return (
            type(query) is np.ndarray
            and query.dtype is _FLOAT32
            and query.shape == self._shape
            and query.flags.carray
            and type(threshold) is float
        )

    def report_batch(
        self,
        queries: Array,
        thresholds: float | Array,
        *,
        strict: bool = False,
        return_scores: bool = False,
        return_info: bool = False,
    ) -> Any:
        """Report the keys that reach a threshold, for many queries.

        Parameters
        ----------
        queries : array_like of float32, float16 or bfloat16, shape (m, d)
            As in `report`.
        thresholds : float or array_like of float, shape (m,)
            One for all queries or one each, in float64.
        strict, return_scores, return_info : bool
            As in `report`.

        Returns
        -------
        lims : array of int64, shape (m + 1,)
            Query i found ``ids[lims[i]:lims[i + 1]]``.
        ids : array of int64, shape (r,)
            Ascending for each query; of the kind of `queries`.
        scores : array of float32, shape (r,)
            Only with `return_scores`, as in `report`.
        info : Info
            Only with `return_info`, for all queries together.

        Raises
        ------
        ValueError, TypeError
            As in `report`.

        See Also
        --------
        range_search : The same in the order of FAISS.

        Notes
        -----
        O(m n d) in tiles of queries and keys, so that a key is read once for many queries.
        """
        operand, array = take_queries(queries, self._shape[0])
        lims, ids, (scores, info) = self._batch(
            queries, array, thresholds, (strict, return_scores, return_info)
        )
        return _results(operand.give_back, [lims, ids, scores], info)

    def _batch(
        self, given: Array, queries: Any, thresholds: Any, options: tuple[bool, bool, bool]
    ) -> Any:
        limits = take_thresholds(thresholds, len(queries))
        try:
            return self._core.report_batch(queries, limits, *options, self._workers)
        except ValueError:
            require_finite(take("queries", given))
            raise

    def range_search(self, queries: Array, threshold: float) -> Any:
        """Report the keys that exceed a threshold, as `faiss.IndexFlatIP.range_search`.

        Parameters
        ----------
        queries : array_like of float32, float16 or bfloat16, shape (m, d)
            As in `report`.
        threshold : float
            In float64.

        Returns
        -------
        lims : array of int64, shape (m + 1,)
            Query i found ``ids[lims[i]:lims[i + 1]]``.
        scores : array of float32, shape (r,)
            Each is the float32 nearest to the exact score.
        ids : array of int64, shape (r,)
            Ascending for each query.

        Raises
        ------
        ValueError, TypeError
            As in `report`.

        Notes
        -----
        Of FAISS are the order of the results and the comparison, ``q.k > threshold``.
        """
        operand, array = take_queries(queries, self._shape[0])
        limit = take_threshold(threshold)
        lims, ids, (scores, _) = self._batch(queries, array, limit, (True, True, False))
        return _results(operand.give_back, [lims, scores, ids])

    def count(self, query: Array, threshold: float, *, strict: bool = False) -> int:
        """Count the keys that reach a threshold.

        Parameters
        ----------
        query : array_like of float32, float16 or bfloat16, shape (d,)
            As in `report`.
        threshold : float
            In float64.
        strict : bool
            Count ``q.k > threshold`` instead of ``q.k >= threshold``.

        Returns
        -------
        int
            What `report` would report.

        Raises
        ------
        ValueError, TypeError
            As in `report`.
        """
        if not self._is_ready(query, threshold):
            _, query = take_query(query, self._shape[0])
            threshold = take_threshold(threshold)
        try:
            return self._core.count(query, threshold, strict, self._workers)
        except ValueError:
            take_threshold(threshold)
            require_finite(take("query", query))
            raise

    def topk(self, queries: Array, k: int, *, return_scores: bool = False) -> Any:
        """Find the keys with the largest scores.

        Parameters
        ----------
        queries : array_like of float32, float16 or bfloat16, shape (d,) or (m, d)
            As in `report`.
        k : int
            How many, at most ``len(index)``.
        return_scores : bool
            Return the scores as well.

        Returns
        -------
        ids : array of int64, shape (k,) or (m, k)
            Best first, equal scores by ascending id; of the kind of `queries`.
        scores : array of float32, shape (k,) or (m, k)
            Only with `return_scores`, as in `report`.

        Raises
        ------
        ValueError
            If a shape is wrong, `queries` are not finite, or `k` is negative or more than
            ``len(index)``.
        TypeError
            If `queries` are of another type or `k` is not an integer.

        Notes
        -----
        The order is that of the exact scores. A sample of the keys suggests a threshold; what
        reaches it is reported and ranked.
        """
        operand, array = take_one_or_many(queries, self._shape[0])
        count = take_k(k)
        rows = array[np.newaxis] if array.ndim == 1 else array
        try:
            ids, scores = self._core.topk(rows, count, return_scores, self._workers)
        except ValueError:
            require_finite(operand)
            raise
        shape = (*array.shape[:-1], count)
        found = [x if x is None else x.reshape(shape) for x in (ids, scores)]
        return _results(operand.give_back, found)


def _results(
    give_back: GiveBack | None, arrays: list[Any], info: dict[str, Any] | None = None
) -> Any:
    """Return what was asked for: arrays of the caller's kind, then an `Info`."""
    results = [array for array in arrays if array is not None]
    if give_back is not None:
        # Asking a dtype for its name takes microseconds.
        results = [give_back(x, "float32" if x.dtype == _FLOAT32 else "int64") for x in results]
    if info is not None:
        results.append(Info(**info))
    return results[0] if len(results) == 1 else tuple(results)
