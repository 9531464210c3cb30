"""Polynomial attention by its definition: the polynomial of every logit, float64 throughout."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
from numpy.polynomial.polynomial import polyder, polyval

from .._arrays import Array, Operand, stored
from .._coefficients import refuse_sum, take_coefficients
from .._finite import refuse_nonfinite, require_finite
from .._gradient import wanted
from .._info import Gradients
from .._out import take_grad_out, take_out
from .._problem import Problem, prepare
from ._heads import Floats, numbers, of_query_heads, sum_to, transpose, visible_keys

__all__ = ["polynomial_attention", "polynomial_attention_grad"]

_ROUNDOFF = 2.0**-53


def polynomial_attention(
    query: Array,
    key: Array,
    value: Array,
    coefficients: Array,
    *,
    is_causal: bool | str = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    check_finite: bool = True,
    out: Array | None = None,
    workers: int | None = None,
) -> Any:
    """Attention with weights p(scale * q.k); arguments as in `subquad.polynomial_attention`."""
    problem = _prepare(
        query, key, value, coefficients, is_causal, scale, enable_gqa, check_finite, workers
    )
    target = take_out(out, problem)
    weights, total = _weights(problem, _logits(problem))
    result = (weights / total) @ of_query_heads(problem, "value")
    if target is None:
        return result
    target[...] = stored(result, problem.dtype)
    return out


def polynomial_attention_grad(
    grad_out: Array,
    query: Array,
    key: Array,
    value: Array,
    coefficients: Array,
    *,
    wrt: Iterable[str] | None = None,
    is_causal: bool | str = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    check_finite: bool = True,
    workers: int | None = None,
) -> Gradients:
    """Gradient by the chain rule; arguments as in `subquad.polynomial_attention_grad`."""
    problem = _prepare(
        query, key, value, coefficients, is_causal, scale, enable_gqa, check_finite, workers
    )
    names = wanted(wrt, problem)
    upstream = take_grad_out(grad_out, problem)
    logits = _logits(problem, upstream)
    weights, total = _weights(problem, logits)
    d_out = numbers(upstream)
    q, c = (numbers(problem.operands[name]) for name in ("query", "coefficients"))
    k, v = (of_query_heads(problem, name) for name in ("key", "value"))

    # out = (weights / total) v with total = sum of the weights, so that
    # d out / d weight_j = (v_j - out) / total.
    shares = weights / total
    inner = np.sum(d_out * (shares @ v), axis=-1, keepdims=True)
    d_weights = visible_keys(problem) * (d_out @ transpose(v) - inner) / total
    d_logits = d_weights * polyval(logits, polyder(c))
    full = {
        "query": problem.scale * (d_logits @ k),
        "key": problem.scale * (transpose(d_logits) @ q),
        "value": transpose(shares) @ d_out,
        # One number per coefficient: weight = sum of coefficient_t * logit^t.
        "coefficients": np.array([np.sum(d_weights * logits**t) for t in range(c.size)]),
    }
    return Gradients(
        **{name: sum_to(full[name], problem.operands[name].shape) for name in names},
    )


def _prepare(
    query: Array,
    key: Array,
    value: Array,
    coefficients: Array,
    is_causal: bool | str,
    scale: float | None,
    enable_gqa: bool,
    check_finite: bool,
    workers: int | None,
) -> Problem:
    problem = prepare(
        query,
        key,
        value,
        mask=None,
        bias=None,
        is_causal=is_causal,
        window=None,
        scale=scale,
        enable_gqa=enable_gqa,
        workers=workers,
        check_finite=check_finite,
    )
    problem.operands["coefficients"] = take_coefficients(coefficients)
    return problem


def _logits(problem: Problem, *extra: Operand) -> Floats:
    """``scale * q.k``, and 0 where a key is hidden."""
    if problem.check_finite:
        for operand in (*problem.operands.values(), *extra):
            require_finite(operand)
    q, k = numbers(problem.operands["query"]), of_query_heads(problem, "key")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(visible_keys(problem), problem.scale * (q @ transpose(k)), 0.0)


def _weights(problem: Problem, logits: Floats) -> tuple[Floats, Floats]:
    """Weights, and their sums as columns; sums of 1 where a query sees no key."""
    c, visible = numbers(problem.operands["coefficients"]), visible_keys(problem)
    with np.errstate(over="ignore", invalid="ignore"):
        weights = np.where(visible, polyval(logits, c), 0.0)
        total = weights.sum(axis=-1, keepdims=True)
    if problem.check_finite and not (np.isfinite(weights).all() and np.isfinite(total).all()):
        refuse_nonfinite((), problem.compute)
    sees_none = ~visible.any(axis=-1, keepdims=True)
    bound = _rounding(problem)
    unsafe = ~sees_none & (total <= bound)
    if unsafe.any():
        _refuse_first(problem, unsafe, total, bound)
    return weights, np.where(sees_none, 1.0, total)


def _refuse_first(problem: Problem, unsafe: Any, total: Floats, bound: Floats) -> NoReturn:
    shape = (*problem.shapes.lead, problem.shapes.queries, 1)
    unsafe, total, bound = (np.broadcast_to(x, shape) for x in (unsafe, total, bound))
    index = tuple(int(i) for i in np.unravel_index(np.argmax(unsafe), shape))
    refuse_sum(index[:-1], float(total[index]), float(bound[index]))


def _rounding(problem: Problem) -> Floats:
    """Bound the rounding error of the sums of weights: sums of that many absolute values."""
    q, k = numbers(problem.operands["query"]), of_query_heads(problem, "key")
    c = numbers(problem.operands["coefficients"])
    steps = problem.shapes.keys + (problem.shapes.width + 4) * c.size
    with np.errstate(over="ignore", invalid="ignore"):
        size = abs(problem.scale) * (np.abs(q) @ transpose(np.abs(k)))
        largest = np.where(visible_keys(problem), polyval(size, np.abs(c)), 0.0)
        # Products too small for float64 are lost.
        tiny = np.finfo(np.float64).tiny * problem.shapes.keys
        bound: Floats = steps * _ROUNDOFF * largest.sum(axis=-1, keepdims=True) + tiny
    return bound
