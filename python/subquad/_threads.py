"""How many threads a call may use."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import _subquad

__all__ = ["num_threads", "resolve_workers", "set_num_threads", "thread_limit"]

# A limit on threads, not a promise of them: beyond this many a pool costs more than it could bring.
_MAX_THREADS = 1024


def num_threads() -> int:
    """Return the number of threads a call uses when `workers` is not given.

    Returns
    -------
    int
        What `thread_limit` or `set_num_threads` set last; before that ``SUBQUAD_NUM_THREADS``,
        ``OMP_NUM_THREADS``, or the number of cores this process may use, in this order.
    """
    return _subquad.get_num_threads()


def set_num_threads(n: int | None) -> None:
    """Set the number of threads a call uses when `workers` is not given.

    Parameters
    ----------
    n : int or None
        At least 1. None restores what held at import.

    Raises
    ------
    ValueError
        If `n` is below 1.
    TypeError
        If `n` is neither an integer nor None.
    """
    _subquad.set_num_threads(_initial_limit if n is None else _count("n", n))


@contextmanager
def thread_limit(n: int) -> Iterator[None]:
    """Limit calls inside a ``with`` block to `n` threads.

    The limit is one of the process: other Python threads see it too.

    Parameters
    ----------
    n : int
        At least 1.

    Examples
    --------
    >>> import subquad
    >>> with subquad.thread_limit(1):
    ...     subquad.num_threads()
    1
    """
    limit = _count("n", n)
    before = _subquad.get_num_threads()
    _subquad.set_num_threads(limit)
    try:
        yield
    finally:
        _subquad.set_num_threads(before)


def resolve_workers(workers: Any) -> int:
    """Return the number of threads `workers` stands for, as `scipy.fft` reads it."""
    if workers is None:
        return _subquad.get_num_threads()
    n = _integer("workers", workers)
    if n > 0:
        return min(n, _MAX_THREADS)
    cores = _subquad.cores()
    if n == 0 or n < -cores:
        raise ValueError(
            f"`workers` must be positive, or -1 (all {cores} cores) down to -{cores}, got {n}"
        )
    return cores + 1 + n


def _count(name: str, value: Any) -> int:
    n = _integer(name, value)
    if n < 1:
        raise ValueError(f"`{name}` must be at least 1, got {n}")
    return min(n, _MAX_THREADS)


def _integer(name: str, value: Any) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(
            f"`{name}` must be an integer, got {value!r} of type {type(value).__name__}"
        ) from None


def _limit_from_environment() -> int:
    """Return the limit that the environment sets, 0 (one per core) where it sets none."""
    own = os.environ.get("SUBQUAD_NUM_THREADS")
    if own is not None:
        if not (own.strip().isdecimal() and int(own) >= 1):
            raise ValueError(f"SUBQUAD_NUM_THREADS must be a positive integer, got {own!r}")
        return min(int(own), _MAX_THREADS)
    # OpenMP allows one number per nesting level; the outermost is the one that fits. What it would
    # itself reject is not ours to judge.
    outermost = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(int(outermost), _MAX_THREADS) if outermost.isdecimal() else 0


def _register_with_threadpoolctl() -> None:
    """Let `threadpoolctl.threadpool_limits` see this package, where it is installed."""
    try:
        import threadpoolctl
    except ImportError:
        return

    class SubquadController(threadpoolctl.LibController):  # type: ignore[misc]
        """Reads and writes the limit through the C symbols of the compiled module."""

        user_api = "subquad"
        internal_api = "subquad"
        filename_prefixes = ("_subquad",)
        check_symbols = ("subquad_get_num_threads", "subquad_set_num_threads")

        def get_num_threads(self) -> int:
            return int(self.dynlib.subquad_get_num_threads())

        def set_num_threads(self, num_threads: int) -> None:
            self.dynlib.subquad_set_num_threads(num_threads)

        def get_version(self) -> str:
            return _subquad.__version__

        def set_additional_attributes(self) -> None:
            pass

    threadpoolctl.register(SubquadController)


_initial_limit = _limit_from_environment()
_subquad.set_num_threads(_initial_limit)
_register_with_threadpoolctl()
