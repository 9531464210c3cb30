"""What was decided for a call, as a plan."""

from __future__ import annotations

import numpy as np

from .._plan import Candidate, Plan, Workload
from .arguments import Relative
from .run import Done

__all__ = ["make_plan"]


def make_plan(call: Relative, done: Done) -> Plan:
    """Say how each head was computed, and why."""
    problem, shapes = call.problem, call.problem.shapes
    choices = done.choices
    chosen = [choice for choice in choices if choice.coefficients is not None]
    exact_flops = int(sum(choice.exact_flops for choice in choices))
    total = int(sum(choice.flops for choice in choices))
    operands = problem.operands.values()
    least = (
        sum(x.array.nbytes for x in operands) + int(np.prod(shapes.out)) * problem.compute.itemsize
    )
    meets = "not asked" if call.eps is None else "yes, up to rounding"
    candidates = [Candidate("exact", exact_flops, least, meets)]
    if chosen:
        worst = max(choice.share for choice in chosen)
        meets = (
            "the definition"
            if call.coefficients is not None
            else f"{worst:.2g} of the spread at most"
        )
        candidates.append(Candidate("polynomial", total, least, meets))
    return Plan(
        method="polynomial" if chosen else "exact",
        kernel="Toeplitz products" if chosen else "tiled",
        reason=_reason(call, done, total, exact_flops),
        eps=call.eps,
        pairs=int(call.seen().sum()) * int(np.prod(shapes.out[:-2])),
        candidates=tuple(candidates),
        workload=Workload(
            query=problem.operands["query"].shape,
            key=problem.operands["key"].shape,
            value=problem.operands["value"].shape,
            mask=None,
            bias=None,
            out=(*shapes.lead, shapes.queries, shapes.value_width),
            dtype=problem.dtype,
            scale=problem.scale,
            shift=problem.shift,
            window=None,
            # No plan for `attention` has these: one of the two cannot be passed as the other.
            centres="relative positions",
            certificate="deterministic",
        ),
        heads=tuple(choice.plan for choice in choices),
    )


def _reason(call: Relative, done: Done, total: int, exact_flops: int) -> str:
    reason = _choice(call, done, total, exact_flops)
    again = done.stats.get("rows_recomputed", 0)
    if again:
        reason += f"; {again} rows that rounding left open were computed from all keys in float64"
    return reason


def _choice(call: Relative, done: Done, total: int, exact_flops: int) -> str:
    chosen = [choice for choice in done.choices if choice.coefficients is not None]
    if not done.choices:
        return "no query: nothing to compute"
    if not chosen:
        if call.eps is None:
            return "no polynomial asked for: exact"
        nearest = min(done.choices, key=lambda choice: choice.plan.largest_logit)
        return f"quadratic: {nearest.plan.reason}"
    degree = max(choice.plan.degrees[0][0] for choice in chosen)
    terms = max(choice.plan.features for choice in chosen)
    why = "asked for"
    if call.eps is not None:
        why = f"{total:.3g} operations by transforms against {exact_flops:.3g} for all keys"
    return (
        f"{len(chosen)} of {len(done.choices)} heads by polynomials of degree {degree} in {terms} "
        f"Toeplitz terms: {why}"
    )
