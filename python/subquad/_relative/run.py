"""All heads of a call, forward and backward, each by what was chosen for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._layout import open_view
from .._problem import Stats, added
from .._shapes import Shape
from .arguments import Relative
from .choice import Choice, choose
from .exact import (
    Columns,
    exact_backward,
    exact_bounds,
    exact_forward,
    exact_rows,
    take_columns,
)
from .head import Floats, kv_index, relative_head
from .polynomial import HeadDone, head_forward, head_slopes
from .rows import Slopes

__all__ = ["Done", "backward", "forward"]

Numbers = NDArray[Any]


@dataclass(slots=True)
class Done:
    """A forward pass, in the shapes used inside."""

    raw: Numbers
    lse: Numbers
    bound: Floats
    """Bounds on the errors of rows: of exact rows only where they were asked for, else NaN."""
    spread: Floats
    choices: list[Choice]
    heads: dict[Shape, HeadDone]
    """Those by polynomials."""
    columns: Columns | None
    stats: Stats = field(default_factory=dict)


def forward(call: Relative, *, gradient: bool, bounded: bool) -> Done:
    """Compute the output; with `bounded` the errors of all rows are bounded, exact ones too."""
    problem, shapes = call.problem, call.problem.shapes
    raw, lse = np.zeros(shapes.out, problem.compute), np.zeros(shapes.out[:-1], problem.compute)
    bound, spread = np.full(shapes.out[:-1], np.nan), np.full(shapes.out[:-2], np.nan)
    done = Done(raw, lse, bound, spread, [], {}, None)
    if shapes.empty:
        return done
    plain = call.coefficients is None and call.degree is None and call.eps is None
    sizes, rooms = np.zeros(shapes.out[:-1]), np.ones(shapes.out[:-2])
    exact: list[Shape] = []
    for index in problem.heads():
        if plain and not bounded:
            exact.append(index)
            continue
        head = relative_head(call, index)
        choice = choose(call, head, gradient=gradient)
        done.choices.append(choice)
        if choice.coefficients is None:
            sizes[index], rooms[index] = head.sizes, head.room
            exact.append(index)
        else:
            rows = (raw[index], bound[index])
            done.heads[index] = head_forward(call, index, head, choice, *rows)
            spread[index] = head.spread
    if exact:
        done.columns = take_columns(call)
        for some, where in _parts(call, done.columns, exact):
            done.stats = added(done.stats, exact_forward(call, some, raw[where], lse[where]))
            if bounded:
                bound[where], spread[where] = exact_bounds(
                    call, some, sizes[where], rooms[where], raw[where]
                )
    if call.eps is not None and exact:
        _meet(call, done, exact)
    _count(done)
    return done


def backward(call: Relative, done: Done, grad_out: Numbers, sums: dict[str, Numbers]) -> Stats:
    """Add the gradients to `sums`, in the shapes of the arguments."""
    problem, shapes = call.problem, call.problem.shapes
    stats: Stats = {}
    if shapes.empty or not sums:
        return stats
    to = {
        name: open_view(sums[name], shape)
        for name, shape in (
            ("query", shapes.query),
            ("key", shapes.key),
            ("value", shapes.value),
            ("weights", call.weights.shape),
        )
        if name in sums
    }
    by_power = sums.get("coefficients")
    for index, found in done.heads.items():
        upstream = grad_out[index].astype(np.float64)
        slopes = head_slopes(call, index, found, done.raw[index], upstream, to, by_power)
        _add(call, index, slopes, to)
    exact = [index for index in problem.heads() if index not in done.heads]
    if exact and done.columns is not None:
        for some, where in _parts(call, done.columns, exact):
            by_column = some.zeros(problem.compute)
            rows = (grad_out[where], done.raw[where], done.lse[where])
            stats = added(stats, exact_backward(call, some, *rows, by_column))
            for inner in np.ndindex(done.raw[where].shape[:-2]):
                index = tuple(i + (part.start or 0) for i, part in zip(inner, where, strict=True))
                _add(call, index, by_column.slopes(inner, _group(call)), to)
    return stats


def _meet(call: Relative, done: Done, exact: list[Shape]) -> None:
    """Compute the exact rows whose rounding exceeds the budget again, in float64."""
    if call.problem.compute == np.float64 or call.eps is None:
        return
    for index in exact:
        rows = np.flatnonzero(done.bound[index] > call.eps * done.spread[index])
        rows = rows[call.seen()[rows] > 0]
        if rows.size:
            head = relative_head(call, index, double=True)
            found, bound = exact_rows(call, head, rows)
            done.raw[index][rows] = found
            rounding = 2.0**-23 * np.linalg.norm(found, axis=1)
            done.bound[index][rows] = bound + rounding
            done.stats = added(done.stats, {"rows_recomputed": rows.size})


def _count(done: Done) -> None:
    """Add what was done by polynomials to the counts."""
    heads = done.heads.values()
    direct = sum(head.direct.size for head in heads)
    done.stats = added({"rows_recomputed": 0}, added(done.stats, {"rows_recomputed": direct}))
    if done.heads:
        plans = [head.choice.plan for head in heads]
        done.stats["rank"] = max(plan.features for plan in plans)
        done.stats["degree"] = max(plan.degrees[0][0] for plan in plans)
        done.stats["flops"] = done.stats.get("flops", 0) + int(sum(plan.flops for plan in plans))


def _parts(
    call: Relative, columns: Columns, exact: list[Shape]
) -> Iterator[tuple[Columns, tuple[slice, ...]]]:
    """Yield heads with what the kernel reads of them: all at once, or one at a time."""
    shape = call.problem.shapes.out[:-2]
    if len(exact) == math.prod(shape):
        yield columns, (slice(None),) * len(shape)
        return
    for index in exact:
        yield columns.of(index, _group(call)), tuple(slice(i, i + 1) for i in index)


def _group(call: Relative) -> int:
    return call.problem.shapes.heads // call.problem.shapes.kv_heads


def _add(call: Relative, index: Shape, slopes: Slopes, to: dict[str, Numbers]) -> None:
    """Add what one head gives, a head at a time because axes of the arguments may repeat."""
    kv = kv_index(call, index)
    for entry, (a, b) in enumerate(call.support):
        if "query" in to:
            to["query"][index][:, a] += slopes.left[entry]
        if "key" in to:
            to["key"][kv][:, b] += slopes.right[entry]
    if "value" in to:
        to["value"][kv] += slopes.value
    if "weights" in to:
        to["weights"][index] += slopes.weights
