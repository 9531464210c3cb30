"""Attention by its definition: explicit matrices of queries by keys, float64 throughout."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .._approximate.centres import check_centres
from .._arrays import Array, Operand, stored
from .._bias import Bias
from .._finite import refuse_nonfinite, require_finite
from .._gradient import wanted
from .._info import Gradients, Info
from .._merge import take_parts
from .._options import check_budget
from .._out import take_forward, take_grad_out, take_out
from .._plan import Plan
from .._planner import check_method, check_policy, decide, settle
from .._problem import Problem, prepare
from ._heads import Floats, numbers, of_query_heads, sum_to, transpose, visible_keys

__all__ = ["attend", "attention", "attention_grad", "differentiate", "merge", "plan"]


def attention(
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
    plan: Plan | None = None,
    rng: Any = None,
    check_finite: bool = True,
    out: Array | None = None,
    workers: int | None = None,
    return_lse: bool = False,
    return_info: bool = False,
) -> Any:
    """Softmax attention by its definition; arguments as in `subquad.attention`."""
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
    return attend(
        problem,
        eps=eps,
        method=method,
        centres=centres,
        plan=plan,
        out=out,
        return_lse=return_lse,
        return_info=return_info,
    )


def attend(
    problem: Problem,
    *,
    eps: Any,
    method: Any,
    centres: Any,
    plan: Any,
    out: Any,
    return_lse: bool,
    return_info: bool,
) -> Any:
    """Softmax attention of a checked problem."""
    chosen = settle(problem, eps=eps, method=method, given=plan, centres=centres)
    target = take_out(out, problem)

    weights, lse = _softmax(_logits(problem))
    result = weights @ of_query_heads(problem, "value")
    lse = np.broadcast_to(lse, result.shape[:-1])

    if target is not None:
        target[...] = stored(result, problem.dtype)
    results: list[Any] = [result if out is None else out]
    if return_lse:
        results.append(lse)
    if return_info:
        results.append(Info("reference", None, None, None, chosen, "the definition, in float64"))
    return results[0] if len(results) == 1 else tuple(results)


def attention_grad(
    grad_out: Array,
    query: Array,
    key: Array,
    value: Array,
    *,
    forward: tuple[Array, Array] | None = None,
    wrt: Iterable[str] | None = None,
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
    plan: Plan | None = None,
    rng: Any = None,
    check_finite: bool = True,
    workers: int | None = None,
    return_info: bool = False,
) -> Any:
    """Gradient of attention by the chain rule; arguments as in `subquad.attention_grad`."""
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
    return differentiate(
        problem,
        grad_out,
        forward=forward,
        wrt=wrt,
        eps=eps,
        method=method,
        centres=centres,
        plan=plan,
        return_info=return_info,
    )


def differentiate(
    problem: Problem,
    grad_out: Any,
    *,
    forward: Any,
    wrt: Any,
    eps: Any,
    method: Any,
    centres: Any,
    plan: Any,
    return_info: bool,
) -> Any:
    """Gradients of a checked problem by the chain rule."""
    chosen = settle(problem, eps=eps, method=method, given=plan, centres=centres)
    names = wanted(wrt, problem)
    upstream = take_grad_out(grad_out, problem)
    d_out = numbers(upstream)
    handed_in = () if forward is None else take_forward(forward, problem)
    logits = _logits(problem, upstream, *handed_in)
    q = numbers(problem.operands["query"])
    k, v = (of_query_heads(problem, name) for name in ("key", "value"))
    if not handed_in:
        weights, _ = _softmax(logits)
        inner = np.sum(d_out * (weights @ v), axis=-1, keepdims=True)
    else:
        result, lse = map(numbers, handed_in)
        sees_none = np.isneginf(lse)
        weights = np.exp(logits - np.where(sees_none, 0.0, lse)[..., np.newaxis])
        inner = np.sum(d_out * result, axis=-1, keepdims=True)

    # out = softmax(logits) v, and the Jacobian of softmax is diag(w) - w w^T.
    d_logits = weights * (d_out @ transpose(v) - inner)
    full = {
        "query": problem.scale * (d_logits @ k),
        "key": problem.scale * (transpose(d_logits) @ q),
        "value": transpose(weights) @ d_out,
        "bias": d_logits,
    }
    grads = {}
    for name in names:
        if name == "bias" and problem.relative is not None:
            grads[name] = problem.relative.pullback(_sum_by_lag(d_logits), *d_logits.shape[-2:])
        else:
            grads[name] = sum_to(full[name], problem.operands[name].shape)
    if return_info:
        info = Info("reference", None, None, None, chosen, "the definition, in float64")
        return Gradients(**grads), info
    return Gradients(**grads)


def merge(outs: Iterable[Array], lses: Iterable[Array]) -> tuple[Any, Any]:
    """Combine parts by their total weights; arguments as in `subquad.merge`."""
    parts, logs = take_parts(outs, lses)
    weights, lse = _softmax(np.stack([numbers(log) for log in logs], axis=-1))
    out = sum(weights[..., i, np.newaxis] * numbers(part) for i, part in enumerate(parts))
    return out, lse


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
    """Plan with the visible pairs counted one by one; arguments as in `subquad.plan`."""
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
    budget = check_budget(eps)
    check_method(method, budget, None)
    problem.memo |= {"centres": check_centres(centres, problem), "certificate": certificate}
    problem.memo["rng"] = rng
    one_head = visible_keys(problem)
    pairs = np.count_nonzero(np.broadcast_to(one_head, problem.shapes.logits))
    return decide(problem, int(pairs), budget, method)


def _logits(problem: Problem, *extra: Operand) -> Floats:
    """``scale * q.k + bias``, and -inf where a key is hidden."""
    operands = problem.operands
    if problem.check_finite:
        for operand in (*operands.values(), *extra):
            require_finite(operand)
    with np.errstate(over="ignore", invalid="ignore"):
        logits = numbers(operands["query"]) @ transpose(of_query_heads(problem, "key"))
        logits *= problem.scale
    if problem.check_finite and not np.isfinite(logits).all():
        refuse_nonfinite((), problem.compute)
    if problem.relative is not None:
        logits = logits + problem.relative.dense(*logits.shape[-2:])
    elif "bias" in operands:
        logits = logits + numbers(operands["bias"])
    visible = visible_keys(problem)
    if "mask" in operands:
        visible = visible & operands["mask"].array
    return np.where(visible, logits, -np.inf)


def _sum_by_lag(full: Floats) -> Floats:
    """Sum over pairs of the same lag i - j, which ascends from 1 - S; with a head axis."""
    queries, keys = full.shape[-2:]
    sums = [np.trace(full, -lag, -2, -1) for lag in range(1 - keys, queries)]
    by_lag = np.stack(sums, axis=-1) if sums else np.zeros((*full.shape[:-2], 0))
    return by_lag if full.ndim > 2 else by_lag[np.newaxis]


def _softmax(logits: Floats) -> tuple[Floats, Floats]:
    """Weights and log-sum-exp along the last axis; zeros and -inf where everything is hidden."""
    top = np.max(logits, axis=-1, keepdims=True, initial=-np.inf)
    seen = top > -np.inf
    top = np.where(seen, top, 0.0)
    powers = np.exp(logits - top)
    total = powers.sum(axis=-1, keepdims=True)
    weights = np.divide(powers, total, out=np.zeros_like(powers), where=seen)
    lse = np.where(seen, top + np.log(np.where(seen, total, 1.0)), -np.inf)
    return weights, lse[..., 0]
