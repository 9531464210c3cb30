"""Choosing a method for a call."""

from __future__ import annotations

import math
import warnings
from dataclasses import fields
from typing import Any

import numpy as np

from ._approximate.centres import check_centres
from ._approximate.planning import plan_head
from ._arrays import Array, Operand
from ._bias import Bias
from ._errors import AccuracyWarning, CertificateError
from ._options import (
    CERTIFICATES,
    FALLBACKS,
    METHODS,
    check_budget,
    check_choice,
    check_rng,
)
from ._plan import Candidate, HeadPlan, Plan, Workload
from ._problem import Problem, prepare
from ._shapes import Shape

__all__ = ["check_method", "check_policy", "decide", "plan", "settle", "settle_if_asked"]

# Operations that a head by polynomials costs besides, for "auto": what is measured and decided first.
_OVERHEAD = 3 * 10**8


def plan(
    query: Array,
    key: Array,
    value: Array,
    *,
    eps: float | None = None,
    is_causal: bool | str = False,
    window: int | None = None,
    mask: Array | None = None,
    bias: Array | Bias | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    method: str = "auto",
    certificate: str = "deterministic",
    fallback: str = "exact",
    centres: Any = "auto",
    rng: Any = None,
    check_finite: bool = True,
    workers: int | None = None,
) -> Plan:
    """Decide how `attention` would answer, without computing it.

    Parameters
    ----------
    query, key, value, eps, is_causal, window, mask, bias, scale, enable_gqa, method, certificate, \
fallback, centres, rng, check_finite, workers
        As in `attention`.

    Returns
    -------
    Plan
        Its ``repr`` is the table that the choice was made from. Pass it as ``plan=`` to `attention`
        to skip deciding again for arrays of the same shapes, dtypes and options.

    Raises
    ------
    ValueError, TypeError
        As in `attention`, except that numbers that are not finite go unnoticed.

    Notes
    -----
    Looks at shapes alone unless polynomials are considered, which takes O(L E + S (E + Ev)) operations for
    centres and norms, and O((L + S) E^2) where a second moment could help. Where no polynomial
    within `eps` is cheaper than all keys, the reason begins with "quadratic" and names the numbers.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> q = np.ones((4, 64, 16), np.float32)
    >>> subquad.plan(q, q, q, is_causal=True).pairs
    8320
    """
    check_policy(certificate, fallback, rng)
    problem = prepare(
        query,
        key,
        value,
        mask=mask,
        bias=bias,
        is_causal=is_causal,
        window=window,
        scale=scale,
        enable_gqa=enable_gqa,
        workers=workers,
        check_finite=check_finite,
    )
    problem.memo |= {"certificate": certificate, "rng": rng}
    return settle(problem, eps=eps, method=method, given=None, centres=centres)


def check_policy(certificate: Any, fallback: Any, rng: Any) -> None:
    """Check the keywords that do not change what is computed."""
    check_choice("certificate", certificate, CERTIFICATES)
    check_choice("fallback", fallback, FALLBACKS)
    check_rng(rng)


def settle(
    problem: Problem,
    *,
    eps: Any,
    method: Any,
    given: Any,
    centres: Any = "auto",
    fallback: str = "exact",
    gradient: bool = False,
) -> Plan:
    """Return the plan that was given if it fits the problem, else a new one."""
    budget = check_budget(eps)
    check_method(method, budget, given)
    problem.memo["centres"] = check_centres(centres, problem)
    if given is None:
        found = decide(problem, _visible_pairs(problem), budget, method, gradient=gradient)
        if method == "polynomial":
            _require_polynomials(found, fallback)
        return found
    if not isinstance(given, Plan):
        raise TypeError(f"`plan` must be a Plan, got {type(given).__name__}")
    workload = workload_of(problem)
    for field in fields(Workload):
        planned, found = getattr(given.workload, field.name), getattr(workload, field.name)
        if planned != found:
            raise ValueError(
                f"`plan` was made for {field.name} = {planned}, but this call has {found}"
            )
    if budget is not None and budget != given.eps:
        raise ValueError(f"`plan` was made for eps = {given.eps}, but this call has {budget}")
    if method not in ("auto", given.method) and not (method == "polynomial" and given.heads):
        raise ValueError(
            f'`plan` was made for method = "{given.method}", but this call has "{method}"'
        )
    return given


def settle_if_asked(
    problem: Problem,
    *,
    eps: Any,
    method: Any,
    given: Any,
    asked: bool,
    centres: Any = "auto",
    fallback: str = "exact",
    gradient: bool = False,
) -> Plan | None:
    """Return a plan where a budget, a given plan or the caller asks for one; else check only."""
    if asked or eps is not None or given is not None:
        return settle(
            problem,
            eps=eps,
            method=method,
            given=given,
            centres=centres,
            fallback=fallback,
            gradient=gradient,
        )
    check_method(method, None, None)
    check_centres(centres, problem)
    return None


def check_method(method: Any, eps: float | None, given: Any) -> None:
    """Check the method; one that approximates needs to know how well."""
    check_choice("method", method, METHODS)
    if method == "polynomial" and eps is None and given is None:
        raise ValueError('`eps` or `plan` must be given with method="polynomial", got neither')


def _require_polynomials(plan: Plan, fallback: str) -> None:
    """Do what the caller wants where the method asked for does not answer every head."""
    left = [head.reason for head in plan.heads if head.method == "exact"]
    if plan.heads and not left:
        return
    message = (
        plan.reason if not plan.heads else f"{len(left)} of {len(plan.heads)} heads: {left[0]}"
    )
    message = f'method="polynomial" does not answer this call: {message}'
    if fallback == "raise":
        raise CertificateError(message, plan)
    if fallback == "warn":
        # Four frames up: `settle`, `settle_if_asked`, the public function, its caller.
        warnings.warn(message, AccuracyWarning, stacklevel=5)


def workload_of(problem: Problem) -> Workload:
    """Return what a plan depends on."""
    operands, shapes = problem.operands, problem.shapes

    def shape_of(name: str) -> Shape | None:
        return operands[name].shape if name in operands else None

    return Workload(
        query=operands["query"].shape,
        key=operands["key"].shape,
        value=operands["value"].shape,
        mask=shape_of("mask"),
        bias=shape_of("bias") if problem.relative is None else repr(problem.relative),
        out=(*shapes.lead, shapes.queries, shapes.value_width),
        dtype=problem.dtype,
        scale=problem.scale,
        shift=problem.shift,
        window=problem.window,
        centres=problem.memo["centres"].name,
        certificate=_kind(problem),
    )


def _kind(problem: Problem) -> str:
    """Return what rows are held against: bounds or samples."""
    sampled = problem.memo.get("certificate") == "statistical"
    return "statistical" if sampled else "deterministic"


def decide(
    problem: Problem,
    pairs: int,
    eps: float | None,
    method: str = "auto",
    *,
    gradient: bool = False,
) -> Plan:
    """Choose among the methods."""
    workload, shapes = workload_of(problem), problem.shapes
    flops = 2 * pairs * (shapes.width + shapes.value_width)
    least = _bytes_of(problem.operands, workload.out, problem.compute.itemsize)
    meets = "not asked" if eps is None else "yes, up to rounding"
    exact = Candidate(method="exact", flops=flops, bytes=least, meets_eps=meets)
    kernel = problem.kernel()
    reason = _why_exact(problem, eps, method, flops)
    if reason or eps is None:
        return Plan("exact", kernel, reason, eps, pairs, (exact,), workload)
    overhead = 0 if method == "polynomial" else _OVERHEAD
    sampled = _kind(problem) == "statistical"
    rng = np.random.default_rng(problem.memo["rng"]) if sampled else None
    heads = tuple(
        plan_head(
            problem,
            index,
            eps,
            problem.memo["centres"],
            overhead=overhead,
            gradient=gradient,
            rng=rng,
        )
        for index in problem.heads()
    )
    chosen = [head for head in heads if head.method == "polynomial"]
    total = int(sum(head.flops for head in heads))
    if not chosen:
        nearest = min(heads, key=lambda head: head.largest_logit)
        reason = f"quadratic: {nearest.reason}; {_threshold(nearest, shapes.keys)}"
        return Plan("exact", kernel, reason, eps, pairs, (exact,), workload, heads)
    degree = max(degree for head in chosen for degree, _ in head.degrees)
    routes = sorted({head.route for head in chosen if head.route})
    by = f", the bias by {', '.join(routes)}" if routes else ""
    reason = (
        f"{len(chosen)} of {len(heads)} heads by polynomials of degree {degree} and less{by}: "
        f"{total:.3g} operations against {flops:.3g}"
    )
    bound = max(head.bound for head in chosen)
    meets = f"{bound:.2g} of the spread " + ("on some rows" if sampled else "at most")
    polynomial = Candidate("polynomial", total, least, meets)
    return Plan(
        "polynomial",
        "sums over features",
        reason,
        eps,
        pairs,
        (exact, polynomial),
        workload,
        heads,
        gradient,
    )


def _why_exact(problem: Problem, eps: float | None, method: str, flops: int) -> str:
    """Return why nothing but exact attention is considered; empty where more is."""
    if eps is None:
        return "no eps given: exact"
    if method == "exact":
        return "asked for: exact, which meets any eps above rounding"
    if problem.shapes.empty or problem.shapes.keys == 0:
        return "no query or no key: nothing to compute"
    for name, given in (("mask", problem.mask), ("bias", problem.bias), ("window", problem.window)):
        if given is not None:
            return f"`{name}` is given, which polynomials cannot take: exact"
    if problem.lags is not None:
        if _kind(problem) == "statistical":
            return "`bias` is given, which polynomials take by what is proved alone: exact"
        if problem.shift not in (None, 0):
            return (
                "`bias` is given, which polynomials take where keys are seen from lag 0 on: exact"
            )
    heads = math.prod(problem.shapes.batch) * problem.shapes.heads
    if method == "auto" and flops < heads * _OVERHEAD:
        return "so few operations that choosing would take longer: exact"
    return ""


def _threshold(head: HeadPlan, keys: int) -> str:
    """Say where the logits stand against the threshold of the theorems, which is asymptotic."""
    log = math.log(keys)
    side = "above" if head.largest_logit > log else "below"
    return f"max|s| is {side} log n = {log:.3g}, where the hardness theorems begin asymptotically"


def _bytes_of(operands: dict[str, Operand], out: Shape, out_item: int) -> int:
    read = sum(operand.array.size * operand.array.itemsize for operand in operands.values())
    return read + math.prod(out) * out_item


def _visible_pairs(problem: Problem) -> int:
    shapes = problem.shapes
    heads = math.prod(shapes.batch) * shapes.heads
    if problem.shift is None:
        return heads * shapes.queries * shapes.keys
    stop = np.arange(shapes.queries, dtype=np.int64) + (problem.shift + 1)
    start = np.zeros_like(stop) if problem.window is None else stop - problem.window
    visible = np.clip(stop, 0, shapes.keys) - np.clip(start, 0, shapes.keys)
    return heads * int(visible.sum())
