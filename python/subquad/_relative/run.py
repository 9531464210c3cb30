"""All heads of a call, forward and backward, each by what was chosen for it."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
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
    exact_rows_grad,
    take_columns,
)
from .head import Floats, RelativeHead, kv_index, relative_head
from .rows import (
    Slopes,
    polynomial_rows,
    polynomial_rows_grad,
    require_sums,
)
from .sums import Sums, take_sums, take_sums_grad

__all__ = ["Done", "backward", "forward"]

Numbers = NDArray[Any]


@dataclass(slots=True)
class HeadDone:
    """How a head was computed by a polynomial."""

    choice: Choice
    double: bool
    """Whether in float64, because float32 left too few digits."""
    unit: float
    total: Floats
    """Sums of weights, of the rows that are by transforms."""
    direct: NDArray[np.intp]
    """Rows that were computed from all keys."""


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
    sizes = np.zeros(shapes.out[:-1])
    exact: list[Shape] = []
    for index in problem.heads():
        if plain and not bounded:
            exact.append(index)
            continue
        head = relative_head(call, index)
        choice = choose(call, head, gradient=gradient)
        done.choices.append(choice)
        if choice.coefficients is None:
            sizes[index] = head.sizes
            exact.append(index)
        else:
            done.heads[index] = _by_polynomial(call, index, head, choice, done)
    if exact:
        done.columns = take_columns(call)
        for some, where in _parts(call, done.columns, exact):
            done.stats = added(done.stats, exact_forward(call, some, raw[where], lse[where]))
            if bounded:
                bound[where], spread[where] = exact_bounds(call, some, sizes[where], raw[where])
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
        head = _in_type(relative_head(call, index), found.double)
        upstream = grad_out[index].astype(np.float64)
        slopes = _head_slopes(call, head, found, done.raw[index], upstream, to, by_power)
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


def _by_polynomial(
    call: Relative, index: Shape, head: RelativeHead, choice: Choice, done: Done
) -> HeadDone:
    """Compute one head by transforms, and the rows that rounding leaves open from all keys."""
    assert choice.coefficients is not None  # what this is called for
    seen, double = head.seen > 0, False
    budget = np.inf if call.eps is None else call.eps * head.spread
    sums = take_sums(head, choice.coefficients)
    certain = _certain(sums, seen, choice.share * head.spread, budget)
    if head.value.dtype == np.float32 and not certain[seen].all():
        head, double = head.double(), True
        sums = take_sums(head, choice.coefficients)
        certain = _certain(sums, seen, choice.share * head.spread, budget)
    raw, bound = done.raw[index], done.bound[index]
    means, error = sums.means(certain)
    raw[certain] = means + head.mean
    bound[:] = 0.0
    bound[certain] = choice.share * head.spread + error
    done.spread[index] = head.spread
    direct = np.flatnonzero(seen & ~certain)
    if direct.size:
        if not double:
            head = head.double()
        if call.coefficients is None:
            raw[direct], bound[direct] = exact_rows(call, head, direct)
        else:
            rows, total, doubt = polynomial_rows(head, direct, call.coefficients)
            require_sums(index if call.problem.shapes.lead else (), direct, total, doubt)
            raw[direct] = rows
            bound[direct] = 4.0 * doubt / (total - doubt) * head.largest_value
    bound[seen] += np.finfo(raw.dtype).eps * np.linalg.norm(raw[seen].astype(np.float64), axis=1)
    return HeadDone(choice, double, sums.unit, sums.total, direct)


def _certain(
    sums: Sums, seen: NDArray[np.bool_], approximation: float, budget: float
) -> NDArray[np.bool_]:
    """Rows that rounding leaves enough of, and within the budget."""
    certain = sums.safe & seen
    certain[certain] = approximation + sums.means(certain)[1] <= budget
    return certain


def _head_slopes(
    call: Relative,
    head: RelativeHead,
    found: HeadDone,
    out: Numbers,
    upstream: Floats,
    wanted: Container[str],
    by_power: Numbers | None,
) -> Slopes:
    """Differentiate one head by a polynomial: its sums, and the rows from all keys."""
    c = found.choice.coefficients
    assert c is not None  # what this is called for
    slopes = Slopes.zeros(head)
    summed = head.seen > 0
    summed[found.direct] = False
    total = np.where(summed, found.total, 1.0)
    by_row = np.where(summed[:, np.newaxis], upstream / total[:, np.newaxis], 0.0)
    by_total = -(by_row * (out - head.mean)).sum(axis=1)
    rows = found.unit * by_row
    take_sums_grad(head, c, rows, by_total, slopes, wanted=wanted, by_power=by_power)
    if found.direct.size:
        exact, given = _in_type(head, double=True), upstream[found.direct]
        if call.coefficients is None:
            exact_rows_grad(exact, found.direct, given, slopes)
        else:
            moved = polynomial_rows_grad(exact, found.direct, given, c, slopes)
            if by_power is not None:
                by_power += moved
    return slopes


def _meet(call: Relative, done: Done, exact: list[Shape]) -> None:
    """Compute the exact rows whose rounding exceeds the budget again, in float64."""
    if call.problem.compute == np.float64 or call.eps is None:
        return
    for index in exact:
        rows = np.flatnonzero(done.bound[index] > call.eps * done.spread[index])
        rows = rows[call.seen()[rows] > 0]
        if rows.size:
            head = relative_head(call, index).double()
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


def _in_type(head: RelativeHead, double: bool) -> RelativeHead:
    return head.double() if double and head.value.dtype != np.float64 else head


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
