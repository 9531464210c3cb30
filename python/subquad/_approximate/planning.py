"""From the numbers of a problem to what is done with each head."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._plan import HeadPlan
from .._problem import Problem
from .._shapes import Shape
from .blocks import blocks_division
from .bounds import rounding_of
from .centres import CentresOption, centres_of
from .choice import choose, divide
from .division import Cost, Division
from .fitted import fit_division, fitted_division
from .head import Centred, Centres, Head, length
from .kept import Kept
from .lags.division import LagDivision
from .lags.heads import lag_head_plan, plan_lags, redo_lags
from .lags.planning import Wish
from .measures import Measures, largest_logit

__all__ = ["head_of", "plan_head", "redo", "redo_lag_head"]

# Keys whose weights may be computed one by one.
_APART = (16, 128)
# What the longest of them must exceed the rest by.
_LONGER = 1.15
_TOO_LARGE = "the inputs are not finite, or too large"


def head_of(problem: Problem, index: Shape) -> Head:
    """Return one head in the compute type."""
    group = problem.shapes.heads // problem.shapes.kv_heads
    of_keys = (*index[:-1], index[-1] // group)

    def array(name: str) -> NDArray[Any]:
        part: NDArray[Any] = getattr(problem, name)[index if name == "query" else of_keys]
        return problem.widened(name, part).astype(problem.compute, copy=False)

    query, key, value = array("query"), array("key"), array("value")
    return Head(query, key, value, problem.scale, problem.shift, problem.workers)


def plan_head(
    problem: Problem,
    index: Shape,
    eps: float,
    centres: CentresOption,
    *,
    overhead: int,
    gradient: bool,
    rng: np.random.Generator | None,
) -> HeadPlan:
    """Choose what to do with a head, and keep it for the pass that may follow.

    With `rng` by what random rows say, else by what is proved.
    """
    head = head_of(problem, index)
    cost = Cost(head, overhead)
    if min(len(head.query), len(head.key), head.query.shape[1]) == 0:
        return _exact(cost, 0.0, "nothing to save: no query, no key or no coordinate")
    around = [Centred(head, c) for c in centres_of(problem, index, head, centres)]
    with np.errstate(all="ignore"):
        sizes = [largest_logit(centred) for centred in around]
    if not np.isfinite(sizes).all():
        return _exact(cost, math.inf, _TOO_LARGE)
    if problem.relative is not None:
        return _plan_lag_head(problem, index, around, cost, eps, gradient=gradient)
    centred = around[int(np.argmin(sizes))]
    with np.errstate(all="ignore"):
        whole = Measures(centred)
        if not _in_range(whole):
            return _exact(cost, min(sizes), _TOO_LARGE)
        if rng is not None:
            division, bound, reason = fit_division(centred, eps, cost, rng, gradient=gradient)
        else:
            candidates = _with_keys_apart(whole)
            division, reason = choose(
                candidates, eps, rounding_of(head, centred.mass_error), cost, gradient=gradient
            )
            bound = 0.0 if division is None else _over_spread(division)
    if division is None:
        return _exact(cost, min(sizes), reason)
    centred.forget()
    problem.memo[index] = division
    measures, first = division.measures, division.groups[0].p
    width = head.query.shape[1]
    return HeadPlan(
        method="polynomial",
        centres=centred.centres.name,
        degrees=tuple((g.p.degree, int(g.rows.size)) for g in division.groups),
        tables=tuple((g.p.kind, g.p.bound) for g in division.groups),
        features=max(g.p.kept.features(width) for g in division.groups),
        exact_rows=int(division.exact.size),
        exact_keys=measures.apart,
        largest_logit=float(division.rows.logits.max()),
        bound=bound,
        flops=division.flops,
        reason="",
        half=any(group.half is not None for group in division.groups),
        lead=first.kept.lead,
        trailing=first.kept.trailing,
        coefficients=() if rng is None else tuple(map(tuple, np.atleast_2d(first.c).tolist())),
    )


def _plan_lag_head(
    problem: Problem,
    index: Shape,
    around: list[Centred],
    cost: Cost,
    eps: float,
    *,
    gradient: bool,
) -> HeadPlan:
    """Choose for a head with a bias of relative positions."""
    with np.errstate(all="ignore"):
        if not _in_range(Measures(around[0])):
            return _exact(cost, math.inf, _TOO_LARGE)
        wish = _wish(problem, index, eps, gradient=gradient)
        division, largest, reason = plan_lags(around, wish, cost)
    if division is None:
        return _exact(cost, largest, reason)
    division.measures.centred.forget()
    problem.memo[index] = division
    return lag_head_plan(division)


def _wish(problem: Problem, index: Shape, eps: float, *, gradient: bool) -> Wish:
    relative, lags = problem.relative, problem.lags
    assert relative is not None
    assert lags is not None
    return Wish(*relative.of_head(index[-1]), lags[index], eps, gradient)


def redo_lag_head(
    problem: Problem, index: Shape, plan: HeadPlan, eps: float, *, gradient: bool
) -> LagDivision | None:
    """As `redo`, with a bias of relative positions."""
    division: LagDivision | None = problem.memo.get(index)
    if division is None:
        head = head_of(problem, index)
        centres = centres_of(problem, index, head, problem.memo["centres"])
        chosen = next((c for c in centres if c.name == plan.centres), centres[0])
        wish = _wish(problem, index, eps, gradient=gradient)
        with np.errstate(all="ignore"):
            centred = Centred(head, chosen)
            if not math.isfinite(largest_logit(centred)) or not _in_range(Measures(centred)):
                return None
            division = redo_lags(centred, plan, wish)
    # A learned bias has a gradient for every lag, also those that are alike.
    for_all = problem.extra and isinstance(division, LagDivision) and division.shares_lags
    return None if for_all else division


def _over_spread(division: Division) -> float:
    """Return the bound of a division over the spread, less what is allowed whatever the spread is."""
    measures = division.measures
    bound = max(0.0, division.bound - measures.budget(0.0))
    return bound / measures.spread if measures.spread > 0.0 else 0.0


def redo(
    problem: Problem, index: Shape, plan: HeadPlan, eps: float, *, gradient: bool
) -> Division | None:
    """Return what a plan says for a head, for these numbers; None where they do not allow it."""
    division: Division | None = problem.memo.get(index)
    if division is None:
        division = _redo(problem, index, plan, eps, gradient=gradient)
    if division is None or not problem.extra:
        return division
    # A gradient is that of sums in the working precision.
    groups = tuple(replace(group, half=None) for group in division.groups)
    return replace(division, groups=groups)


def _redo(
    problem: Problem, index: Shape, plan: HeadPlan, eps: float, *, gradient: bool
) -> Division | None:
    head = head_of(problem, index)
    centres: list[Centres] = centres_of(problem, index, head, problem.memo["centres"])
    centred = next(
        (Centred(head, c) for c in centres if c.name == plan.centres), Centred(head, centres[0])
    )
    tables = [(g, *table) for (g, _), table in zip(plan.degrees, plan.tables, strict=True)]
    with np.errstate(all="ignore"):
        if not math.isfinite(largest_logit(centred)):
            return None
        measures = Measures(centred, plan.exact_keys)
        if not _in_range(measures):
            return None
        kept = Kept(max(table[0] for table in tables), plan.lead, plan.trailing)
        if plan.coefficients:
            return fitted_division(centred, kept, np.array(plan.coefficients), plan.flops)
        if plan.lead is not None:
            return blocks_division(
                measures,
                eps,
                rounding_of(head, centred.mass_error),
                Cost(head, 0),
                math.inf,
                gradient=gradient,
                choices=[kept],
            )
        return divide(
            measures,
            eps,
            rounding_of(head, centred.mass_error),
            Cost(head, 0),
            gradient=gradient,
            tables=tables,
        )


def _in_range(measures: Measures) -> bool:
    """Say whether centred values, their squares and the masses are numbers of their types."""
    centred = measures.centred
    largest = min(float(np.finfo(centred.head.value.dtype).max), 1e150)
    size = measures.reach + length(centred.true_mean)
    return size < largest and bool(np.isfinite(centred.exponents).all())


def _exact(cost: Cost, largest: float, reason: str) -> HeadPlan:
    rows = len(cost.head.query)
    flops = cost.exact(rows)
    return HeadPlan("exact", "none", (), (), 0, rows, 0, largest, 0.0, flops, reason)


def _with_keys_apart(whole: Measures) -> list[Measures]:
    """Consider taking out the longest keys, where they are much longer than the rest."""
    found = [whole]
    if whole.centred.head.shift is None:
        lengths = whole.in_metric[1]
        some = [apart for apart in _APART if 4 * apart < lengths.size]
        ranks = [lengths.size - 1 - apart for apart in (0, *some)]
        longest, *rest = np.partition(lengths, ranks)[ranks]
        found += [
            whole.without(apart)
            for apart, length in zip(some, rest, strict=True)
            if longest > _LONGER * length
        ]
    return found
