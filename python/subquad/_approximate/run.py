"""All heads of a problem: forward, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._finite import refuse_nonfinite
from .._layout import open_view
from .._plan import Plan
from .._problem import Problem, Stats, added
from .backward import exact_backward, head_backward
from .forward import HeadRows, exact_rows, head_forward
from .grad_bounds import grad_bounds
from .head import Floats
from .planning import head_of, redo

__all__ = ["Approximation", "approximate", "approximate_grad"]


@dataclass(slots=True)
class Approximation:
    """A forward pass by polynomials, in the shapes used inside."""

    raw: NDArray[Any]
    lse: NDArray[Any] | None
    stats: Stats
    bound: Floats
    spread: Floats
    heads: list[HeadRows | None]
    """What the rows of each head come from; None for a head computed from all keys."""


def approximate(
    problem: Problem, plan: Plan, certificate: str, out: NDArray[Any] | None, *, want_lse: bool
) -> Approximation:
    """Compute what a plan with polynomials says."""
    assert plan.eps is not None
    shape = problem.shapes.out
    raw = np.empty(shape, problem.compute) if out is None else out.reshape(shape)
    lse = np.empty(shape[:-1], problem.compute) if want_lse else None
    bound, spread = np.zeros(shape[:-1]), np.zeros(shape[:-2])
    stats: Stats = {"rows_recomputed": 0}
    heads: list[HeadRows | None] = []
    wants_bounds = certificate != "none"
    for index, of_head in zip(problem.heads(), plan.heads, strict=True):
        division = None
        if of_head.method == "polynomial":
            division = redo(problem, index, of_head, plan.eps, gradient=plan.derivative)
        log = None if lse is None else lse[index]
        done = None
        exact = np.ones(shape[-2], bool)
        if division is not None:
            done, counts = head_forward(
                problem, index, division, raw[index], log, certified=certificate == "deterministic"
            )
            stats = added(stats, counts)
            exact = done.exact
            bound[index] = done.bound
        if of_head.method == "polynomial":
            stats["rows_recomputed"] += int(exact.sum())
        to = bound[index] if wants_bounds else None
        stats = added(stats, exact_rows(problem, index, exact, raw[index], log, to))
        if wants_bounds:
            spread[index] = _spread(problem, index, done)
        if done is not None:
            done.division.measures.centred.forget()
        heads.append(done)
        problem.memo.pop(index, None)
    stats["degree"] = max(degree for head in plan.heads for degree, _ in head.degrees)
    stats["rank"] = max(head.features for head in plan.heads)
    return Approximation(raw, lse, stats, bound, spread, heads)


def _spread(problem: Problem, index: tuple[int, ...], done: HeadRows | None) -> float:
    if done is not None:
        return done.division.measures.least_spread
    part = problem.rows(index, slice(0, 1), problem.compute)
    first = (0,) * len(index)
    return float(part.bounds(np.zeros(part.shapes.out, problem.compute))[1][first])


def approximate_grad(
    problem: Problem,
    heads: list[HeadRows | None],
    grad_out: NDArray[Any],
    raw: NDArray[Any],
    lse: NDArray[Any],
    sums: dict[str, NDArray[Any]],
    bound: Floats | None = None,
) -> tuple[Stats, dict[str, Floats] | None]:
    """Add the gradients into `sums`, zero arrays in the shapes of the arguments.

    With bounds of the rows of the output also return bounds of those of the gradients, or None where there
    are none.
    """
    shapes = problem.shapes
    group = shapes.heads // shapes.kv_heads
    views = {name: open_view(sums[name], getattr(shapes, name)) for name in sums}
    stats: Stats = {}
    if not sums:
        return stats, None
    bounds: dict[str, Floats] | None = None
    if bound is not None and problem.dtype in ("float32", "float64"):
        bounds = {name: np.zeros(total.shape[:-1]) for name, total in sums.items()}
    with np.errstate(over="ignore", invalid="ignore"):
        for index, done in zip(problem.heads(), heads, strict=True):
            of_keys = (*index[:-1], index[-1] // group)
            grads = {
                name: view[index if name == "query" else of_keys] for name, view in views.items()
            }
            upstream = grad_out[index].astype(problem.compute, copy=False)
            exact = np.ones(shapes.queries, bool)
            if done is not None:
                exact = done.exact
                stats = added(stats, head_backward(problem, done, upstream, raw[index], grads))
                done.division.measures.centred.forget()
            found = exact_backward(problem, index, exact, upstream, raw[index], lse[index], grads)
            stats = added(stats, found)
            if bounds is not None and bound is not None:
                head = head_of(problem, index)
                rows = grad_bounds(head, done, bound[index], upstream, len(heads))
                bounds = None if rows is None else _added(bounds, rows, problem, (index, of_keys))
    if problem.check_finite and not all(np.isfinite(total).all() for total in sums.values()):
        refuse_nonfinite((*problem.operands.values(), *problem.extra), problem.compute)
    return stats, bounds


def _added(
    bounds: dict[str, Floats],
    rows: dict[str, Floats],
    problem: Problem,
    where: tuple[tuple[int, ...], tuple[int, ...]],
) -> dict[str, Floats]:
    """Add the bounds of a head to those of what it shares with others."""
    of_query, of_keys = where
    for name, total in bounds.items():
        view = open_view(total, getattr(problem.shapes, name)[:-1])
        view[of_query if name == "query" else of_keys] += rows[name]
    return bounds
