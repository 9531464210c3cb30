"""The forward pass: kernel, rounding to the output dtype, certificate, report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import stored
from ._certify import Certificate, certify, relative_to_mean
from ._info import Info
from ._plan import Plan
from ._problem import Problem, Stats, added

__all__ = ["Forward", "make_info", "run_forward"]


@dataclass(slots=True)
class Forward:
    """What a forward pass left, in the shapes used inside; not changed once made."""

    raw: NDArray[Any]
    """The output in the type it was computed in."""
    result: NDArray[Any]
    """The output as stored in the dtype of the result; `raw` itself where that is the same."""
    lse: NDArray[Any] | None
    stats: Stats
    certificate: Certificate | None


def run_forward(
    problem: Problem,
    plan: Plan | None,
    certificate: str,
    fallback: str,
    target: NDArray[Any] | None = None,
    *,
    want_lse: bool,
) -> Forward:
    """Compute the output, into `target` if given, and certify it where a plan asks for that."""
    direct = problem.dtype in ("float32", "float64")
    raw, lse, stats = problem.forward(target if direct else None, want_lse=want_lse)
    result = raw if direct else stored(raw, problem.dtype)
    found = None
    if plan is not None and certificate == "deterministic":
        found = certify(problem, raw, result, lse, plan, fallback)
        stats = added(stats, found.stats)
    if target is not None and not direct:
        target[...] = result.reshape(target.shape)
    return Forward(raw, result, lse, stats, found)


def make_info(problem: Problem, plan: Plan, forward: Forward, stats: Stats | None = None) -> Info:
    """Report a forward pass; `stats` are counts of a pass that followed, and add to its own."""
    counts = added(forward.stats, stats or {})
    found = forward.certificate
    if found is None:
        reason = f"{plan.reason}; nothing certified"
        return Info(plan.method, None, None, None, plan, reason, counts)
    relative = relative_to_mean(problem, forward.result, found.bound)
    return Info(
        method=plan.method,
        error_bound=problem.lead(found.bound),
        relative_bound=problem.lead(relative),
        spread=problem.lead(found.spread[..., np.newaxis])[..., 0],
        plan=plan,
        reason=f"{plan.reason}; {found.reason}" if found.reason else plan.reason,
        stats=counts,
    )
