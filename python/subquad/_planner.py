"""Choosing a method for a call."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np

from ._arrays import Array, Operand
from ._options import (
    CERTIFICATES,
    FALLBACKS,
    METHODS,
    check_budget,
    check_choice,
    check_rng,
)
from ._plan import Candidate, Plan, Workload
from ._problem import Problem, prepare
from ._shapes import Shape

__all__ = ["check_policy", "decide", "plan", "settle", "settle_if_asked"]


def plan(
    query: Array,
    key: Array,
    value: Array,
    *,
    eps: float | None = None,
    is_causal: bool | str = False,
    window: int | None = None,
    mask: Array | None = None,
    bias: Array | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    method: str = "auto",
    certificate: str = "deterministic",
    fallback: str = "exact",
    rng: Any = None,
    check_finite: bool = True,
    workers: int | None = None,
) -> Plan:
    """Decide how `attention` would answer, without computing it.

    Parameters
    ----------
    query, key, value, eps, is_causal, window, mask, bias, scale, enable_gqa, method, certificate, \
fallback, rng, check_finite, workers
        As in `attention`.

    Returns
    -------
    Plan
        Its ``repr`` is the table that the choice was made from. Pass it as ``plan=`` to `attention`
        to skip deciding again for arrays of the same shapes, dtypes and options.

    Raises
    ------
    ValueError, TypeError
        As in `attention`, except that no number is looked at.

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
    return settle(problem, eps=eps, method=method, given=None)


def check_policy(certificate: Any, fallback: Any, rng: Any) -> None:
    """Check the keywords that do not change what is computed."""
    check_choice("certificate", certificate, CERTIFICATES)
    check_choice("fallback", fallback, FALLBACKS)
    check_rng(rng)


def settle(problem: Problem, *, eps: Any, method: Any, given: Any) -> Plan:
    """Return the plan that was given if it fits the problem, else a new one."""
    budget = check_budget(eps)
    check_choice("method", method, METHODS)
    if given is None:
        return decide(problem, _visible_pairs(problem), budget)
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
    if method not in ("auto", given.method):
        raise ValueError(
            f'`plan` was made for method = "{given.method}", but this call has "{method}"'
        )
    return given


def settle_if_asked(
    problem: Problem, *, eps: Any, method: Any, given: Any, asked: bool
) -> Plan | None:
    """Return a plan where a budget, a given plan or the caller asks for one; else check only."""
    if asked or eps is not None or given is not None:
        return settle(problem, eps=eps, method=method, given=given)
    check_choice("method", method, METHODS)
    return None


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
        bias=shape_of("bias"),
        out=(*shapes.lead, shapes.queries, shapes.value_width),
        dtype=problem.dtype,
        scale=problem.scale,
        shift=problem.shift,
        window=problem.window,
    )


def decide(problem: Problem, pairs: int, eps: float | None) -> Plan:
    """Choose among the methods; so far there is one."""
    workload, shapes = workload_of(problem), problem.shapes
    if eps is None:
        reason = "no eps given: exact"
    else:
        reason = "no approximate method is built in yet: exact, which meets any eps above rounding"
    exact = Candidate(
        method="exact",
        flops=2 * pairs * (shapes.width + shapes.value_width),
        bytes=_bytes_of(problem.operands, workload.out, problem.compute.itemsize),
        meets_eps="not asked" if eps is None else "yes, up to rounding",
    )
    kernel = problem.kernel()
    return Plan("exact", kernel, reason, eps, pairs, (exact,), workload)


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
