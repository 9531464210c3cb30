"""Exact attention to the keys in the blocks around a query's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ... import _subquad
from ..._problem import Stats, added
from ..head import Floats, Head
from .routes import Blocks

__all__ = ["near_backward", "near_forward", "near_pairs", "near_tops"]


@dataclass(frozen=True, slots=True)
class _Part:
    """Blocks of queries, each with as many keys in the same place beside it."""

    query: int
    count: int
    rows: int
    key: int
    keys: int

    def views(self, size: int, *arrays: tuple[NDArray[Any], bool]) -> list[NDArray[Any]]:
        """Return the blocks of arrays of queries (False) or keys (True), which may overlap."""
        found = []
        for array, of_keys in arrays:
            first, rows = (self.key, self.keys) if of_keys else (self.query, self.rows)
            row, column = array.strides
            found.append(
                as_strided(
                    array[first:],
                    (self.count, rows, array.shape[1]),
                    (size * row, row, column),
                )
            )
        return found

    def lags(self, lags: NDArray[Any], keys: int) -> NDArray[Any]:
        """Return the entries of a bias that the blocks meet, the same for all of them."""
        # Row 0 against the last key is the first of them.
        first = self.query - (self.key + self.keys - 1) + keys - 1
        of_one = lags[first : first + self.rows + self.keys - 1]
        return np.broadcast_to(of_one, (self.count, of_one.size))

    def shift(self, blocks: Blocks) -> int | None:
        return self.query - self.key if blocks.is_causal else None


def _parts(blocks: Blocks, reach: int) -> Iterator[_Part]:
    """Cut queries into runs of blocks that have keys in the same place."""
    size, run = blocks.size, None
    for b in range(blocks.of_queries):
        start = b * size
        first = max(0, start - reach * size)
        behind = 0 if blocks.is_causal else reach
        stop = min(blocks.keys, start + (1 + behind) * size)
        part = _Part(start, 1, min(size, blocks.queries - start), first, max(0, stop - first))
        if run is not None and _same(run, part):
            run = _Part(run.query, run.count + 1, run.rows, run.key, run.keys)
            continue
        if run is not None:
            yield run
        run = part
    if run is not None:
        yield run


def _same(run: _Part, part: _Part) -> bool:
    return (run.rows, run.keys, run.query - run.key) == (
        part.rows,
        part.keys,
        part.query - part.key,
    )


def near_pairs(blocks: Blocks, reach: int) -> int:
    """Count pairs of a query and a key that are near."""
    return sum(part.count * part.rows * part.keys for part in _parts(blocks, reach))


def near_tops(lags: Floats, blocks: Blocks, reach: int) -> Floats:
    """Return the largest bias of the near keys that each query sees, minus infinity without any."""
    tops = np.full(blocks.queries, -np.inf)
    for part in _parts(blocks, reach):
        if part.keys == 0:
            continue
        first = part.query - (part.key + part.keys - 1) + blocks.keys - 1
        seen = lags[first : first + part.rows + part.keys - 1].copy()
        if blocks.is_causal:
            seen[: max(0, blocks.keys - 1 - first)] = -np.inf
        of_rows = _largest(seen, part.keys)
        for b in range(part.count):
            start = part.query + b * blocks.size
            tops[start : start + part.rows] = of_rows
    return tops


def _largest(x: Floats, width: int) -> Floats:
    """Return the largest of every so many neighbours: of runs of a power of two, two of which overlap."""
    run, largest = 1, x
    while 2 * run <= width:
        run, largest = 2 * run, np.maximum(largest[:-run], largest[run:])
    count = len(x) - width + 1
    both: Floats = np.maximum(largest[:count], largest[width - run : width - run + count])
    return both


def near_forward(
    head: Head, lags: NDArray[Any], blocks: Blocks, reach: int
) -> tuple[NDArray[Any], NDArray[Any], Stats]:
    """Return rows of attention to near keys alone, and the logarithms of their sums of weights."""
    kind = head.value.dtype
    out = np.zeros((blocks.queries, head.value.shape[1]), kind)
    lse = np.full((blocks.queries, 1), -np.inf, kind)
    stats: Stats = {}
    for part in _parts(blocks, reach):
        if part.keys == 0:
            continue
        query, key, value, to, log = part.views(
            blocks.size,
            (head.query, False),
            (head.key, True),
            (head.value, True),
            (out, False),
            (lse, False),
        )
        _, counts = _subquad.attention_forward(
            query,
            key,
            value,
            None,
            None,
            part.lags(lags, blocks.keys),
            to,
            log[..., 0],
            scale=head.scale,
            shift=part.shift(blocks),
            window=None,
            workers=head.workers,
        )
        stats = added(stats, counts)
    return out, lse[:, 0], stats


def near_backward(
    head: Head,
    lags: NDArray[Any],
    blocks: Blocks,
    reach: int,
    passed: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    grads: dict[str, NDArray[Any]],
    of_lags: Floats | None,
) -> Stats:
    """Add the gradients through near pairs.

    Given are the gradient of the output, the output, and logarithms of sums of weights, near and far.
    """
    grad_out, out, lse = passed
    stats: Stats = {}
    for part in _parts(blocks, reach):
        if part.keys == 0:
            continue
        query, key, value, up, rows, log = part.views(
            blocks.size,
            (head.query, False),
            (head.key, True),
            (head.value, True),
            (grad_out, False),
            (out, False),
            (lse[:, np.newaxis], False),
        )
        # Blocks of keys overlap.
        of_key, of_value = (
            np.zeros(x.shape, x.dtype) if name in grads else None
            for name, x in (("key", key), ("value", value))
        )
        of_query = np.zeros(query.shape, query.dtype) if "query" in grads else None
        view = part.lags(lags, blocks.keys)
        found = None if of_lags is None else np.zeros(view.shape)
        _, counts = _subquad.attention_backward(
            up,
            query,
            key,
            value,
            None,
            None,
            view,
            rows,
            log[..., 0],
            of_query,
            of_key,
            of_value,
            None,
            found,
            scale=head.scale,
            shift=part.shift(blocks),
            window=None,
            workers=head.workers,
        )
        stats = added(stats, counts)
        _collect(part, blocks, grads, (of_query, of_key, of_value))
        if of_lags is not None and found is not None:
            first = part.query - (part.key + part.keys - 1) + blocks.keys - 1
            of_lags[first : first + view.shape[1]] += found.sum(axis=0)
    return stats


def _collect(
    part: _Part,
    blocks: Blocks,
    grads: dict[str, NDArray[Any]],
    found: tuple[NDArray[Any] | None, ...],
) -> None:
    for name, blocked in zip(("query", "key", "value"), found, strict=True):
        if blocked is None:
            continue
        first = part.query if name == "query" else part.key
        for b, rows in enumerate(blocked):
            start = first + b * blocks.size
            grads[name][start : start + len(rows)] += rows
