"""The plain formula in numpy, in blocks of rows: what `attend` measures the library against.

Nothing here calls the library, and nothing holds an array of all queries by all keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .captures import Head

# Logits held at once: 8 MB in float32, small enough for the cache of a server, large enough that
# the interpreter costs nothing.
BLOCK_LOGITS = 1 << 21
# Logits after which the dense form is timed on a sample of its blocks: under a second.
TIMED_LOGITS = 1 << 26
# Logits after which the largest one is sought on a sample of the blocks: some seconds.
SOUGHT_LOGITS = 1 << 32
MASS = 0.9


def spans(head: Head, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First key seen and first key past those seen, for each of `rows`."""
    keys = head.key.shape[0]
    last = np.minimum(rows + 1, keys) if head.causal else np.full_like(rows, keys)
    first = np.zeros_like(rows)
    if head.window is not None:
        first = np.clip(rows + 1 - head.window, 0, last)
    return first, last


def blocks(head: Head) -> Iterator[NDArray[np.intp]]:
    """Row numbers in blocks of at most `BLOCK_LOGITS` logits."""
    rows, keys = head.query.shape[0], head.key.shape[0]
    step = max(1, BLOCK_LOGITS // keys)
    for start in range(0, rows, step):
        yield np.arange(start, min(start + step, rows))


def seen(head: Head, rows: NDArray[np.intp], start: int, stop: int) -> NDArray[np.bool_] | None:
    """Which of the keys `start` to `stop` each row sees; None where it sees them all."""
    if not head.causal:
        return None
    first, last = spans(head, rows)
    keys = np.arange(start, stop)
    return (keys >= first[:, None]) & (keys < last[:, None])


def biased(
    head: Head, logits: NDArray[Any], rows: NDArray[np.intp], start: int, stop: int
) -> NDArray[Any]:
    """Add the bias of some rows and of the keys `start` to `stop`, in place."""
    if head.bias is not None:
        logits += head.bias[np.subtract.outer(rows, np.arange(start, stop)) + len(head.key) - 1]
    return logits


def sample(head: Head, logits: int) -> list[NDArray[np.intp]]:
    """Evenly spaced blocks, as many as hold about `logits` logits."""
    every = list(blocks(head))
    enough = max(1, logits // (head.key.shape[0] * every[0].size))
    return every[:: -(-len(every) // enough)]


def largest_logit(head: Head) -> tuple[float, int]:
    """Largest magnitude of a logit that is not hidden, and how many rows were looked at."""
    largest, looked = 0.0, 0
    for rows in sample(head, SOUGHT_LOGITS):
        first, last = spans(head, rows)
        start, stop = int(first.min()), int(last.max())
        logits = head.query[rows] @ head.key[start:stop].T
        logits *= head.scale
        biased(head, logits, rows, start, stop)
        visible = seen(head, rows, start, stop)
        if visible is not None:
            logits[~visible] = 0
        logits[np.isneginf(logits)] = 0
        if logits.size:
            largest = max(largest, float(logits.max()), -float(logits.min()))
        looked += rows.size
    return largest, looked


def exact_rows(head: Head, rows: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Attention of some rows, and how many keys hold `MASS` of each row's weight.

    In float64; for float64 inputs in long double, wherever that is more.
    """
    wide = np.longdouble if head.query.dtype == np.float64 else np.float64
    query, key, value = (a.astype(wide) for a in (head.query, head.key, head.value))
    out = np.zeros((rows.size, value.shape[1]), wide)
    holders = np.zeros(rows.size, np.intp)
    for i, (row, start, stop) in enumerate(zip(rows, *spans(head, rows), strict=True)):
        if start == stop:
            continue
        logits = key[start:stop] @ query[row] * head.scale
        biased(head, logits[np.newaxis], rows[i : i + 1], start, stop)
        if np.isneginf(logits).all():
            continue
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        out[i] = weights @ value[start:stop]
        mass = np.cumsum(np.sort(weights)[::-1])
        holders[i] = min(int(np.searchsorted(mass, MASS)) + 1, stop - start)
    return out, holders


def exact_gradients(
    head: Head, rows: NDArray[np.intp], keys: NDArray[np.intp]
) -> dict[str, NDArray[np.float64]]:
    """Gradients in float64 on some rows of the query, and on some of the key and value.

    One pass over all queries, since each of them contributes to every key that it sees.
    """
    if head.grad_out is None:
        raise ValueError("`head` holds no gradient with respect to its output")
    query, key, value, grad_out = (
        a.astype(np.float64) for a in (head.query, head.key, head.value, head.grad_out)
    )
    grad_query = np.zeros_like(query)
    grad_key, grad_value = np.zeros_like(key), np.zeros_like(value)
    for block in blocks(head):
        first, last = spans(head, block)
        part = slice(int(first.min()), int(last.max()))
        logits = query[block] @ key[part].T * head.scale
        biased(head, logits, block, part.start, part.stop)
        visible = seen(head, block, part.start, part.stop)
        if visible is not None:
            logits[~visible] = -np.inf
        weights = _softmax(logits)
        flow = grad_out[block] @ value[part].T
        flow -= np.einsum("ij,ij->i", weights, flow)[:, None]
        flow *= weights
        flow *= head.scale
        grad_query[block] = flow @ key[part]
        grad_key[part] += flow.T @ query[block]
        grad_value[part] += weights.T @ grad_out[block]
    return {"query": grad_query[rows], "key": grad_key[keys], "value": grad_value[keys]}


def _softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Softmax along the last axis, in place; a row of -inf alone becomes zeros."""
    largest = logits.max(axis=-1, keepdims=True, initial=-np.inf)
    logits -= np.where(np.isfinite(largest), largest, 0)
    np.exp(logits, out=logits)
    total = logits.sum(axis=-1, keepdims=True)
    logits /= np.where(total > 0, total, 1)
    return logits


def dense_seconds(head: Head, workers: int) -> tuple[float, int]:
    """Seconds of the dense form over all rows, and how many rows were really timed.

    Blocks of rows cost the same, hidden keys included, so that a sample of them can be scaled up.
    """
    rows, keys = head.query.shape[0], head.key.shape[0]
    chosen = sample(head, TIMED_LOGITS)
    timed = sum(block.size for block in chosen)

    def dense() -> None:
        for block in chosen:
            logits = head.query[block] @ head.key.T
            logits *= head.scale
            biased(head, logits, block, 0, keys)
            visible = seen(head, block, 0, keys)
            if visible is not None:
                logits[~visible] = -np.inf
            _softmax(logits) @ head.value

    best = float("inf")
    for threads in thread_counts(workers):
        with _blas_threads(threads):
            best = min(best, best_seconds(dense))
    return best * rows / timed, timed


def thread_counts(workers: int) -> tuple[int | None, ...]:
    """Numbers of threads that numpy's products are timed with; None is its own, unknown one.

    Short products lose more to threads than they gain, hence the one thread besides.
    """
    if _thread_limits() is None:
        return (None,)
    return (1,) if workers == 1 else (1, workers)


def _blas_threads(threads: int | None) -> AbstractContextManager[Any]:
    limits = _thread_limits()
    if threads is None or limits is None:
        return nullcontext()
    held: AbstractContextManager[Any] = limits(threads, user_api="blas")
    return held


def _thread_limits() -> Callable[..., Any] | None:
    """Return what sets the threads of numpy's products, if threadpoolctl is there to do so."""
    try:
        limits: Callable[..., Any] = import_module("threadpoolctl").threadpool_limits
    except ImportError:
        return None
    return limits


def best_seconds(call: Callable[[], object], *, runs: int = 20, budget: float = 0.15) -> float:
    """Shortest of at most `runs` runs, no further one begun once `budget` seconds are spent."""
    best, spent = float("inf"), 0.0
    for _ in range(runs):
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        best, spent = min(best, seconds), spent + seconds
        if spent > budget:
            break
    return best
