"""From a head of a problem with a bias over lags to what is done with it."""

from __future__ import annotations

import math

import numpy as np

from ..._plan import HeadPlan
from ..division import Cost
from ..head import Centred, Head
from ..measures import Measures, largest_logit
from .division import LagDivision
from .planning import Wish, choose_lags, divide, polynomial_of, route_of, whole_of
from .routes import Blocks, Split

__all__ = ["lag_head_plan", "plan_lags", "redo_lags"]


def plan_lags(
    around: list[Centred], wish: Wish, cost: Cost
) -> tuple[LagDivision | None, float, str]:
    """Choose; also return the bound on the logits, and why not if it is none."""
    sizes = [largest_logit(centred) for centred in around]
    centred = around[int(np.argmin(sizes))]
    division, reason = choose_lags(Measures(centred), wish, cost)
    return division, min(sizes), reason


def lag_head_plan(division: LagDivision) -> HeadPlan:
    """Return what a plan says of a head."""
    measures, p, route = division.measures, division.p, division.route
    head = measures.centred.head
    rows = len(head.query) - int(division.exact.size)
    bound = max(0.0, division.bound - measures.budget(0.0))
    return HeadPlan(
        method="polynomial",
        centres=measures.centred.centres.name,
        degrees=((p.degree, rows),),
        tables=(("minimax", p.bound),),
        features=math.comb(head.query.shape[1] + p.degree, p.degree),
        exact_rows=int(division.exact.size),
        exact_keys=0,
        largest_logit=float(division.facts.logits.max()),
        bound=bound / measures.spread if measures.spread > 0.0 else 0.0,
        flops=division.flops,
        reason="",
        route=route.name,
        block=route.blocks.size,
    )


def redo_lags(centred: Centred, plan: HeadPlan, wish: Wish) -> LagDivision | None:
    """Return what a plan says for a head, for these numbers; None where they do not allow it."""
    head = centred.head
    ((degree, _),), ((_, bound),) = plan.degrees, plan.tables
    p = polynomial_of(degree - wish.gradient, bound, gradient=wish.gradient)
    route = _route(head, plan, wish, degree)
    if route is None or route.name != plan.route:
        return None
    return divide(Measures(centred), wish, route, p, Cost(head, 0), plan.flops)


def _route(head: Head, plan: HeadPlan, wish: Wish, degree: int) -> Split | None:
    whole = whole_of(wish, head, degree)
    if plan.route == whole.name:
        return whole
    blocks = Blocks(len(head.query), len(head.key), plan.block, head.shift is not None)
    return route_of(wish, blocks)
