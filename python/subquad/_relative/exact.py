"""Softmax attention of many heads by the compiled kernel, over the columns that the support names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _subquad
from .._arrays import Operand, wide
from .._finite import refuse_nonfinite
from .._layout import expand
from .._problem import Problem, Stats
from .._shapes import Shape
from .arguments import Relative
from .head import Floats, RelativeHead
from .rows import Slopes

__all__ = [
    "Columns",
    "exact_backward",
    "exact_bounds",
    "exact_forward",
    "exact_rows",
    "exact_rows_grad",
    "take_columns",
]

# Rows that lie this close are computed as one block: a tile costs the same for one row as for all.
_GAP = 64

# More than this is not divided by.
_ROOM = 1e280

Numbers = NDArray[Any]


@dataclass(slots=True)
class Columns:
    """What the kernel reads of heads: coordinates of queries and keys, one for each entry of the support."""

    left: Numbers
    """Shape (..., H, L, t)."""
    right: Numbers
    """Shape (..., Hkv, S, t)."""
    value: Numbers
    weights: Numbers
    """Shape (..., H, t, L + S - 1)."""

    @property
    def arrays(self) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """All of them, in the order of the kernel."""
        return self.left, self.right, self.value, self.weights

    def of(self, head: Shape, group: int) -> Columns:
        """Return those of one head, with all axes."""
        one = tuple(slice(i, i + 1) for i in head)
        kv = (*one[:-1], slice(head[-1] // group, head[-1] // group + 1))
        return Columns(self.left[one], self.right[kv], self.value[kv], self.weights[one])

    def zeros(self, compute: np.dtype[Any]) -> Columns:
        """Return gradients to add to."""
        left, right, value = (
            np.zeros(x.shape, compute) for x in (self.left, self.right, self.value)
        )
        return Columns(left, right, value, np.zeros(self.weights.shape))

    def slopes(self, head: Shape, group: int) -> Slopes:
        """Return gradients of one head; those of keys that heads share, with its first."""
        kv = (*head[:-1], head[-1] // group)
        right, value = self.right[kv].T, self.value[kv]
        if head[-1] % group:
            right, value = np.zeros_like(right), np.zeros_like(value)
        return Slopes(self.left[head].T, right, value, self.weights[head])


def take_columns(call: Relative) -> Columns:
    """Copy the coordinates; what broadcasts is copied once."""
    problem, operands, entries = call.problem, call.problem.operands, len(call.support)
    left = _gather(operands["query"], call.support[:, 0], problem.compute)
    right = _gather(operands["key"], call.support[:, 1], problem.compute)
    return Columns(
        expand(left, (*problem.shapes.query[:-1], entries)),
        expand(right, (*problem.shapes.key[:-1], entries)),
        problem.value,
        call.weights,
    )


def exact_forward(call: Relative, columns: Columns, out: Numbers, lse: Numbers) -> Stats:
    """Compute the rows of the heads, and their log-sum-exps."""
    problem = call.problem
    found = _subquad.toeplitz_forward(
        *columns.arrays,
        out,
        lse,
        scale=problem.scale,
        shift=problem.shift,
        workers=problem.workers,
    )
    return _counts(call, *found)


def exact_backward(
    call: Relative,
    columns: Columns,
    grad_out: Numbers,
    out: Numbers,
    lse: Numbers,
    slopes: Columns,
) -> Stats:
    """Add the gradients into `slopes`, whose axes may repeat."""
    problem = call.problem
    found = _subquad.toeplitz_backward(
        grad_out,
        *columns.arrays,
        out,
        lse,
        *slopes.arrays,
        scale=problem.scale,
        shift=problem.shift,
        workers=problem.workers,
    )
    return _counts(call, *found)


def _counts(call: Relative, bad: bool, stats: Stats) -> Stats:
    """Raise what a kernel has found wrong with the numbers; else return its counts."""
    if bad and call.problem.check_finite:
        refuse_nonfinite(call.problem.operands.values(), call.problem.compute)
    return stats


def exact_bounds(
    call: Relative, columns: Columns, sizes: Floats, rooms: Floats, out: Numbers
) -> tuple[Floats, Floats]:
    """Bound the rounding errors of `exact_forward`, and measure the spread.

    The kernel is that of `attention`, whose bound takes from queries and keys no more than the largest
    logit and the number of operations behind one: `sizes` stand in for them. What underflows there is
    multiplied with keys at most, here with what `rooms` has for every head.
    """
    return _bounds(call.problem, sizes, rooms, columns, out, call.problem.shift)


def exact_rows(call: Relative, head: RelativeHead, rows: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Compute some rows of a head in float64, and bound the error of each."""
    out, bound = np.empty((len(rows), head.value.shape[1])), np.empty(len(rows))
    for where, block, columns, shift in _runs(head, rows):
        found, _ = _forward_rows(head, columns, shift)
        out[where] = found[rows[where] - block.start]
        room = np.array(head.room)
        bounds, _ = _bounds(call.problem, head.sizes[block], room, columns, found, shift)
        bound[where] = bounds[rows[where] - block.start]
    return out, bound


def exact_rows_grad(
    head: RelativeHead, rows: NDArray[np.intp], upstream: Floats, into: Slopes
) -> None:
    """Add the gradient of `exact_rows`; `upstream` has one row for each of `rows`."""
    for where, block, columns, shift in _runs(head, rows):
        out, lse = _forward_rows(head, columns, shift)
        grad_out = np.zeros_like(out)
        grad_out[rows[where] - block.start] = upstream[where]
        slopes = columns.zeros(np.dtype(np.float64))
        _subquad.toeplitz_backward(
            grad_out,
            *columns.arrays,
            out,
            lse,
            *slopes.arrays,
            scale=head.scale,
            shift=shift,
            workers=head.workers,
        )
        into.left[:, block] += slopes.left.T
        into.right += slopes.right.T
        into.value += slopes.value
        into.weights[:, block.start : block.stop + head.keys - 1] += slopes.weights


def _runs(
    head: RelativeHead, rows: NDArray[np.intp]
) -> Iterator[tuple[slice, slice, Columns, int | None]]:
    """Yield blocks of neighbouring rows: which of `rows`, which of the head, their columns and shift."""
    ends = [0, *(np.flatnonzero(np.diff(rows) > _GAP) + 1), len(rows)]
    for start, stop in pairwise(ends):
        first, last = int(rows[start]), int(rows[stop - 1]) + 1
        columns = Columns(
            np.ascontiguousarray(head.left[:, first:last].T),
            np.ascontiguousarray(head.right.T),
            head.value,
            head.weights[:, first : last + head.keys - 1],
        )
        shift = None if head.shift is None else head.shift + first
        yield slice(start, stop), slice(first, last), columns, shift


def _forward_rows(head: RelativeHead, columns: Columns, shift: int | None) -> tuple[Floats, Floats]:
    count = len(columns.left)
    out, lse = np.empty((count, head.value.shape[1])), np.empty(count)
    _subquad.toeplitz_forward(
        *columns.arrays, out, lse, scale=head.scale, shift=shift, workers=head.workers
    )
    return out, lse


def _bounds(
    problem: Problem,
    sizes: Floats,
    rooms: Floats,
    columns: Columns,
    out: Numbers,
    shift: int | None,
) -> tuple[Floats, Floats]:
    """Bound the errors of rows of `attention` whose logits are as large, after as many operations."""
    width = 2 * columns.left.shape[-1] + 2
    room = float(rooms.max(initial=1.0))
    if not room < _ROOM:
        # Nothing is known of what underflows.
        room, sizes = 1.0, np.full(sizes.shape, _ROOM)
    query = np.zeros((*sizes.shape, width))
    query[..., 0] = sizes / room
    key = np.zeros((1, width))
    key[0, 0] = room
    key = np.broadcast_to(key, (*columns.value.shape[:-1], width))
    return replace(
        problem, query=query, key=key, value=columns.value, scale=1.0, shift=shift
    ).bounds(out)


def _gather(operand: Operand, columns: NDArray[np.intp], compute: np.dtype[Any]) -> Numbers:
    array = wide(operand.array[..., columns], operand.dtype)
    return np.ascontiguousarray(array, compute)
