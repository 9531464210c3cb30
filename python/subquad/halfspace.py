"""Half-space reporting: which keys reach a threshold.

`Index` holds keys and reports, for a query q and a threshold b, the ids of all keys k with
``q.k >= b``: the question of attention that ignores small weights, of "all pairs above a similarity
of 0.7", and of `faiss.IndexFlatIP.range_search`. `report` answers it once.

The answer is the exact set over the real numbers. The numbers stored in keys and query, float32,
float16 or bfloat16, are taken for what they are, and the threshold in float64; no rounding of a sum
decides, so the answer does not depend on the method, the processor, the number of threads, or the
order in which keys came.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from . import _subquad
from ._arrays import Array
from ._finite import require_finite
from ._halfspace_args import (
    check_method,
    check_path,
    refused_id,
    take_ids,
    take_keys,
    take_queries,
)
from ._halfspace_info import Info, Stats
from ._halfspace_queries import Queries
from ._threads import resolve_workers

__all__ = ["Index", "Info", "Stats", "report"]


class Index(Queries):
    """Keys, arranged to report which of them reach a threshold.

    Parameters
    ----------
    keys : array_like of float32, float16 or bfloat16, shape (n, d)
        Copied; 1 <= d <= 4096. numpy arrays of whatever strides, CPU torch tensors and other DLPack
        arrays. They get the ids 0 to n - 1. Start an index without keys from ``numpy.empty((0,
        d))``.
    queries : array_like of float32, float16 or bfloat16, shape (m, d), optional
        Queries like those to come. They tell in which directions keys are worth more bits; they
        change speed, never results.
    dtype : {"float32", "float16", "bfloat16"}, optional
        The type of the keys, needed only where it cannot be seen: "bfloat16" takes uint16 arrays for
        its bits, and keys that are yet to come may be of any of the three.
    method : {"auto", "scan", "quantized", "rotated", "tree"}
        How to find answers. "scan" reads every key. "quantized" reads 8 or 4 bits per coordinate
        and then the keys near the threshold, "rotated" still less in a basis learnt from the keys;
        both are certified by bounds. "tree" is for d <= 12 and sub-linear there for few answers.
        "auto" chooses by n, d, a sample, and the query.
    workers : int, optional
        Number of threads of each call, as in `scipy.fft`: negative counts from the number of cores.
        Not given: `subquad.num_threads` at the time of the call. Results do not depend on it.

    Attributes
    ----------
    workers : int or None
        May be set.
    stats : Stats
        Size, memory, engines.

    Raises
    ------
    ValueError
        If the shapes, d, `method` or `dtype` are not as above, or a number is not finite.
    TypeError
        If `keys` or `queries` are of another type, float64 and integers included: what is
        reported depends on the last bit, so rounding is left to the caller's ``.astype``.

    Notes
    -----
    Building takes O(n d), and O(d^3) more where a basis is learnt. Memory per key is ``4 d`` bytes
    (``2 d`` for 16-bit keys) for the key itself; ``d + 4`` for codes of 8 bits; ``d + 8`` more where
    codes of 4 bits pay, or some ``3 d / 4 + 8`` more in a learnt basis; about ``4 d + 5`` for "tree"; and
    8 for ids once `compact` has removed some. `stats` has the figures of an index.

    A report takes O(n d) operations on codes, or visits the boxes that the half-space cuts with
    "tree", and O(d) more for each key near the threshold; exact arithmetic is left to the few keys
    whose score is within rounding of it.

    Ids count insertions. They are never reused or renumbered, not by `compact` either.

    Any number of threads may use an index. Calls that read run side by side; `add`, `remove` and
    `compact` wait for them and run alone; so an answer is that of the index before a change or after
    it. Arrays passed in must not be modified during the call. A signal handler or finalizer that
    runs during a call and uses the same index gets a RuntimeError. A change that Ctrl-C stops is made
    as a whole or not at all.

    Copies and pickles are independent of their original. A pickle or file that is damaged or of a
    newer version is refused.

    Reporting in a half-space is how [1]_ computes attention whose small weights vanish; its Theorem
    B.11, after Agarwal, Eppstein and Matoušek, and Corollary 3.1 state the asymptotic cost of the
    structure that it builds on.

    References
    ----------
    .. [1] "HSR-enhanced sparse attention acceleration", arXiv:2410.10165.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> keys = np.eye(4, dtype=np.float32)
    >>> index = subquad.halfspace.Index(keys)
    >>> query = np.array([0.1, 0.4, 0.2, 0.3], np.float32)
    >>> index.report(query, 0.25)
    array([1, 3])
    >>> index.add(2 * keys[:2])
    array([4, 5])
    >>> index.remove([3])
    >>> index.topk(query, 3)
    array([5, 1, 2])
    """

    __slots__ = ("__weakref__", "_dtype")

    _dtype: str

    def __init__(
        self,
        keys: Array,
        *,
        queries: Array | None = None,
        dtype: Any = None,
        method: str = "auto",
        workers: int | None = None,
    ) -> None:
        taken = take_keys(keys, dtype)
        dim = taken.shape[1]
        method = check_method(method, dim)
        typical = None
        if queries is not None:
            operand, typical = take_queries(queries, dim)
            require_finite(operand)
        self.workers = workers
        try:
            core = _subquad.HalfspaceIndex(taken.array, typical, method, self._workers)
        except ValueError:
            require_finite(taken)
            raise
        self._hold(core)

    def _hold(self, core: _subquad.HalfspaceIndex) -> None:
        stats = core.stats()
        self._core, self._shape, self._dtype = core, (stats["dim"],), stats["dtype"]

    def _like(self, core: _subquad.HalfspaceIndex) -> Index:
        new = object.__new__(type(self))
        new._workers = self._workers
        new._hold(core)
        return new

    @property
    def workers(self) -> int | None:
        """Number of threads of each call; None is `subquad.num_threads` at the time of the call."""
        return self._workers

    @workers.setter
    def workers(self, workers: int | None) -> None:
        self._workers = None if workers is None else resolve_workers(workers)

    @property
    def stats(self) -> Stats:
        """Size, memory, engines."""
        figures = self._core.stats()
        return Stats(**{**figures, "engines": tuple(figures["engines"])})

    def __len__(self) -> int:
        """Return the number of keys that can be reported."""
        return len(self._core)

    def __repr__(self) -> str:
        """Return size and method."""
        stats = self._core.stats()
        return (
            f"<subquad.halfspace.Index of {stats['keys']} keys, d = {stats['dim']}, "
            f"{stats['dtype']}, method {stats['method']!r}>"
        )

    def add(self, keys: Array) -> Any:
        """Add keys.

        Parameters
        ----------
        keys : array_like, shape (m, d)
            Of the type of the keys that are there; uint16 bits where those are bfloat16. Copied.

        Returns
        -------
        ids : array of int64, shape (m,)
            Of the new keys, in their order; of the kind of `keys`.

        Raises
        ------
        ValueError
            If the shape is wrong or a number is not finite; nothing is added then.
        TypeError
            If the type differs.

        Notes
        -----
        O(d) per key, amortised. New keys take the basis of "rotated" that is there; `compact` may
        learn another. An index that is mapped from a file is copied into memory first.
        """
        operand = take_keys(keys, self._dtype, dim=self._shape[0])
        try:
            first, end = self._core.add(operand.array, self._workers)
        except ValueError:
            require_finite(operand)
            raise
        return operand.give_back(np.arange(first, end, dtype=np.int64), "int64")

    def remove(self, ids: Array) -> None:
        """Remove keys, all of those that are named or none.

        Parameters
        ----------
        ids : array_like of int, shape (r,)
            Ids from `add`, or rows of the keys that the index began with.

        Raises
        ------
        KeyError
            If an id is not in the index or is named twice; nothing is removed then.
        ValueError
            If the shape is wrong.
        TypeError
            If `ids` are not integers.

        Notes
        -----
        O(r log n). The memory of removed keys is kept until `compact`.
        """
        operand, array = take_ids(ids)
        try:
            self._core.remove(array)
        except KeyError as err:
            raise refused_id(operand, array, err.args[1]) from None

    def compact(self) -> None:
        """Free the memory of removed keys, and adapt to those that are left.

        Notes
        -----
        As long as building anew. Ids stay.
        """
        self._core.compact(self._workers)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to a file.

        Parameters
        ----------
        path : str or os.PathLike
            Replaced if it exists. The file is complete or is not there: it is written under
            another name in the same folder, synchronised, and renamed.

        Raises
        ------
        OSError
            If the file cannot be written; what was at `path` is as it was.
        TypeError
            If `path` is no path.
        """
        self._core.save(check_path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = True) -> Index:
        """Read an index from a file.

        Parameters
        ----------
        path : str or os.PathLike
            A file of `save`.
        mmap : bool
            Map the file instead of reading it: opening is quick, and processes share the memory. The
            file may be replaced by `save`; a program that shortens or rewrites it in place breaks
            the index, which ``mmap=False`` rules out.

        Returns
        -------
        Index
            With the keys, ids and method of the index that was saved, and ``workers=None``.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not a file of `save`, damaged, or of a newer version.
        TypeError
            If `path` is no path.

        Notes
        -----
        All of the file is read once to compare checksums.
        """
        new = object.__new__(cls)
        new._workers = None
        new._hold(_subquad.HalfspaceIndex.load(check_path(path), mmap))
        return new

    def __copy__(self) -> Index:
        """Return an index of its own with the same keys and ids."""
        return self._like(self._core.copy())

    def __deepcopy__(self, memo: dict[int, Any]) -> Index:
        """As `copy.copy`: there is nothing to share."""
        return self._like(self._core.copy())

    def __getstate__(self) -> tuple[bytes, int | None]:
        """Return the contents of the file that `save` would write."""
        return self._core.to_bytes(), self._workers

    def __setstate__(self, state: tuple[bytes, int | None]) -> None:
        """Become what was pickled."""
        data, self._workers = state
        self._hold(_subquad.HalfspaceIndex.from_bytes(data))


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
    """Report the keys that reach a threshold, once.

    Parameters
    ----------
    keys : array_like of float32, float16 or bfloat16, shape (n, d)
        As in `Index`.
    query : array_like of float32, float16 or bfloat16, shape (d,)
        As in `Index.report`.
    threshold : float
        In float64.
    strict : bool
        Report ``q.k > threshold`` instead of ``q.k >= threshold``.
    dtype : {"float32", "float16", "bfloat16"}, optional
        As in `Index`.
    workers : int, optional
        As in `Index`.
    return_scores, return_info : bool
        As in `Index.report`.

    Returns
    -------
    ids : array of int64, shape (r,)
        Rows of `keys`, ascending; of the kind of `query`.
    scores : array of float32, shape (r,)
        Only with `return_scores`, as in `Index.report`.
    info : Info
        Only with `return_info`.

    Raises
    ------
    ValueError, TypeError
        As in `Index` and `Index.report`.

    Notes
    -----
    O(n d), and a copy of the keys: worth an `Index` from the second query on.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> keys = np.array([[1, 2], [3, -1], [0, 5]], np.float32)
    >>> subquad.halfspace.report(keys, np.array([1, 1], np.float32), 3.0)
    array([0, 2])
    """
    index = Index(keys, dtype=dtype, method="scan", workers=workers)
    return index.report(
        query, threshold, strict=strict, return_scores=return_scores, return_info=return_info
    )
