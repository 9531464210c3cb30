"""All heads of a problem: forward, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._finite import refuse_nonfinite
from .._layout import open_view
from .._plan import HeadPlan, Plan
from .._problem import Problem, Stats, added
from .._shapes import Shape
from .backward import exact_backward, head_backward
from .forward import HeadRows, exact_rows, head_forward
from .grad_bounds import grad_bounds
from .head import Floats
from .lags.backward import lag_backward
from .lags.forward import LagRows, lag_forward
from .planning import head_of, redo, redo_lag_head

__all__ = ["Approximation", "approximate", "approximate_grad"]


@dataclass(slots=True)
class Approximation:
    """A forward pass by polynomials, in the shapes used inside."""

    raw: NDArray[Any]
    lse: NDArray[Any] | None
    stats: Stats
    bound: Floats
    spread: Floats
    heads: list[HeadRows | LagRows | None]
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
    heads: list[HeadRows | LagRows | None] = []
    wants_bounds = certificate != "none"
    for index, of_head in zip(problem.heads(), plan.heads, strict=True):
        log = None if lse is None else lse[index]
        certified = certificate == "deterministic"
        done, counts = _forward(problem, index, (plan, of_head), (raw[index], log), certified)
        exact = np.ones(shape[-2], bool)
        if done is not None:
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


def _forward(
    problem: Problem,
    index: Shape,
    planned: tuple[Plan, HeadPlan],
    to: tuple[NDArray[Any], NDArray[Any] | None],
    certified: bool,
) -> tuple[HeadRows | LagRows | None, Stats]:
    """Do with a head what is planned; None where that is to compute it from all keys."""
    plan, of_head = planned
    if of_head.method != "polynomial" or plan.eps is None:
        return None, {}
    if problem.relative is not None:
        split = redo_lag_head(problem, index, of_head, plan.eps, gradient=plan.derivative)
        return (None, {}) if split is None else lag_forward(split, *to, certified=certified)
    division = redo(problem, index, of_head, plan.eps, gradient=plan.derivative)
    if division is None:
        return None, {}
    return head_forward(problem, index, division, *to, certified=certified)


def _spread(problem: Problem, index: tuple[int, ...], done: HeadRows | LagRows | None) -> float:
    if done is not None:
        return done.division.measures.least_spread
    part = problem.rows(index, slice(0, 1), problem.compute)
    first = (0,) * len(index)
    return float(part.bounds(np.zeros(part.shapes.out, problem.compute))[1][first])


def approximate_grad(
    problem: Problem,
    heads: list[HeadRows | LagRows | None],
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
    views = {name: open_view(sums[name], getattr(shapes, name)) for name in sums if name != "bias"}
    of_lags = None
    if problem.lags is not None and "bias" in sums:
        of_lags = np.zeros(problem.lags.shape)
    stats: Stats = {}
    if not sums:
        return stats, None
    bounds: dict[str, Floats] | None = None
    if bound is not None and problem.dtype in ("float32", "float64") and problem.lags is None:
        bounds = {name: np.zeros(total.shape[:-1]) for name, total in sums.items()}
    with np.errstate(over="ignore", invalid="ignore"):
        for index, done in zip(problem.heads(), heads, strict=True):
            of_keys = (*index[:-1], index[-1] // group)
            grads = {
                name: view[index if name == "query" else of_keys] for name, view in views.items()
            }
            if of_lags is not None:
                grads["bias"] = of_lags[index]
            upstream = grad_out[index].astype(problem.compute, copy=False)
            exact = np.ones(shapes.queries, bool)
            if done is not None:
                exact = done.exact
                if isinstance(done, LagRows):
                    counts = lag_backward(done, upstream, raw[index], grads)
                else:
                    counts = head_backward(problem, done, upstream, raw[index], grads)
                stats = added(stats, counts)
                done.division.measures.centred.forget()
            found = exact_backward(problem, index, exact, upstream, raw[index], lse[index], grads)
            stats = added(stats, found)
            if bounds is not None and bound is not None and not isinstance(done, LagRows):
                head = head_of(problem, index)
                rows = grad_bounds(head, done, bound[index], upstream, len(heads))
                bounds = None if rows is None else _added(bounds, rows, problem, (index, of_keys))
    if of_lags is not None and problem.relative is not None:
        sums["bias"] = problem.relative.pullback(of_lags, shapes.queries, shapes.keys)
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
