"""The forward pass: kernel, rounding to the output dtype, certificate, report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._approximate.forward import HeadRows
from ._approximate.lags.forward import LagRows
from ._approximate.run import approximate
from ._arrays import stored
from ._certify import Certificate, certify, combined, relative_to_mean
from ._info import Info
from ._plan import Plan
from ._problem import Problem, Stats, added
from ._sampled import Sample, certify_sample

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
    heads: list[HeadRows | LagRows | None] | None = None
    """How rows were computed, where polynomials were used."""
    sample: Sample | None = None
    """What a statistical certificate rests on."""


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
    direct = problem.dtype == problem.compute.name
    into = target if direct else None
    if plan is not None and plan.method == "polynomial":
        done = _approximate(problem, plan, certificate, fallback, into, want_lse=want_lse)
    else:
        raw, lse, stats = problem.forward(into, want_lse=want_lse)
        done = Forward(raw, raw if direct else stored(raw, problem.dtype), lse, stats, None)
        if plan is not None and certificate != "none":
            done.certificate = certify(problem, raw, done.result, lse, plan, fallback)
    if done.certificate is not None:
        done.stats = added(done.stats, done.certificate.stats)
    if target is not None and not direct:
        target[...] = done.result.reshape(target.shape)
    return done


def _approximate(
    problem: Problem,
    plan: Plan,
    certificate: str,
    fallback: str,
    into: NDArray[Any] | None,
    *,
    want_lse: bool,
) -> Forward:
    """Run a plan with polynomials, and hold the rows against the budget."""
    certified = certificate == "deterministic"
    done = approximate(problem, plan, certificate, into, want_lse=want_lse)
    result = done.raw
    if problem.dtype != problem.compute.name:
        result = stored(done.raw, problem.dtype)
    forward = Forward(done.raw, result, done.lse, done.stats, None, done.heads)
    if certificate == "statistical":
        rng = problem.memo["rng"]
        by_sample, forward.sample = certify_sample(problem, done, result, plan, rng)
        sampled = np.array([head is not None and not head.exact.all() for head in done.heads])
        sampled = sampled.reshape(done.spread.shape)
        known = (by_sample.bound, by_sample.spread)
        found = certify(problem, done.raw, result, done.lse, plan, fallback, known, sampled)
        found = combined(by_sample, found)
    elif certified:
        known = (done.bound, done.spread)
        found = certify(problem, done.raw, result, done.lse, plan, fallback, known)
    else:
        return forward
    forward.certificate = found
    for index, head in zip(problem.heads(), done.heads, strict=True):
        if head is not None:
            if forward.sample is None:
                # Rows that were computed from all keys before have been counted.
                twice = int((head.exact & found.replaced[index]).sum())
                found.stats["rows_recomputed"] -= twice
            head.exact |= found.replaced[index]
    return forward


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
        confidence=None if forward.sample is None else forward.sample.confidence,
        coverage=None if forward.sample is None else forward.sample.coverage,
        sampled_rows=None if forward.sample is None else forward.sample.rows,
    )
