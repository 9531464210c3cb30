"""Attention with a matrix for every relative position, by its definition: explicit matrices, float64."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.polynomial.polynomial import polyder, polyval

from .._arrays import Array
from .._coefficients import refuse_sum
from .._finite import refuse_nonfinite, require_finite
from .._gradient import wanted
from .._info import Gradients, Info
from .._out import take_grad_out
from .._relative.arguments import Relative, prepare_relative
from .._relative.choice import choose
from .._relative.head import relative_head
from .._relative.report import make_plan
from .._relative.run import Done
from ._heads import Floats, numbers, of_query_heads, sum_to, transpose, visible_keys

__all__ = ["toeplitz_attention", "toeplitz_attention_grad"]


def toeplitz_attention(
    query: Array,
    key: Array,
    value: Array,
    weights: Array,
    *,
    support: Array,
    degree: int | None = None,
    coefficients: Array | None = None,
    eps: float | None = None,
    is_causal: bool | str = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    check_finite: bool = True,
    workers: int | None = None,
    return_info: bool = False,
) -> Any:
    """Attention with logits ``scale * q_i W_{i-j} k_j``; arguments as in `subquad.toeplitz_attention`.

    With `eps` it is exact.
    """
    call = prepare_relative(
        query,
        key,
        value,
        weights,
        support,
        degree=degree,
        coefficients=coefficients,
        eps=eps,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=enable_gqa,
        workers=workers,
        check_finite=check_finite,
    )
    shares, _ = _shares(call, _logits(call), _polynomials(call, gradient=False))
    out = shares @ of_query_heads(call.problem, "value")
    return (out, _info(call, out)) if return_info else out


def toeplitz_attention_grad(
    grad_out: Array,
    query: Array,
    key: Array,
    value: Array,
    weights: Array,
    *,
    support: Array,
    degree: int | None = None,
    coefficients: Array | None = None,
    eps: float | None = None,
    wrt: Iterable[str] | None = None,
    is_causal: bool | str = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    check_finite: bool = True,
    workers: int | None = None,
    return_info: bool = False,
) -> Any:
    """Gradient by the chain rule; arguments as in `subquad.toeplitz_attention_grad`."""
    call = prepare_relative(
        query,
        key,
        value,
        weights,
        support,
        degree=degree,
        coefficients=coefficients,
        eps=eps,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=enable_gqa,
        workers=workers,
        check_finite=check_finite,
    )
    problem = call.problem
    names = wanted(wrt, problem)
    upstream = take_grad_out(grad_out, problem)
    if check_finite:
        require_finite(upstream)
    logits = _logits(call)
    polynomials = _polynomials(call, gradient=True)
    shares, slopes = _shares(call, logits, polynomials)
    d_out, v = numbers(upstream), of_query_heads(problem, "value")

    # out = (weights / total) v with total = sum of the weights, so that
    # d out / d weight_j = (v_j - out) / total.
    out = shares @ v
    moved = d_out @ transpose(v) - np.sum(d_out * out, axis=-1, keepdims=True)
    d_logits = problem.scale * slopes * moved
    q, k = numbers(problem.operands["query"]), of_query_heads(problem, "key")
    full = {
        name: np.zeros((*d_logits.shape[:-2], *x.shape[-2:]))
        for name, x in (("query", q), ("key", k))
    }
    full["value"] = transpose(shares) @ d_out
    full["weights"] = np.zeros((*d_logits.shape[:-2], *problem.operands["weights"].shape[-2:]))
    lags, by_lag = _lags(call), numbers(problem.operands["weights"])
    for t, (a, b) in enumerate(call.support):
        matrix = by_lag[..., t, :][..., lags]
        full["query"][..., a] += (d_logits * matrix * k[..., np.newaxis, :, b]).sum(axis=-1)
        full["key"][..., b] += (d_logits * matrix * q[..., :, a, np.newaxis]).sum(axis=-2)
        by_pair = d_logits * q[..., :, a, np.newaxis] * k[..., np.newaxis, :, b]
        for lag in range(full["weights"].shape[-1]):
            full["weights"][..., t, lag] = by_pair[..., lags == lag].sum(axis=-1)
    if call.coefficients is not None:
        total = _totals(call, logits, polynomials)
        d_weights = np.where(visible_keys(problem), moved, 0.0) / total
        full["coefficients"] = np.array(
            [np.sum(d_weights * logits**t) for t in range(call.coefficients.size)]
        )
    grads = Gradients(**{name: sum_to(full[name], problem.operands[name].shape) for name in names})
    return (grads, _info(call, out)) if return_info else grads


def _lags(call: Relative) -> Any:
    """Return i - j + S - 1 for every query and key."""
    shapes = call.problem.shapes
    return np.arange(shapes.queries)[:, np.newaxis] - np.arange(shapes.keys) + shapes.keys - 1


def _logits(call: Relative) -> Floats:
    """``scale * q_i W_{i-j} k_j``, and 0 where a key is hidden."""
    problem = call.problem
    q, k = numbers(problem.operands["query"]), of_query_heads(problem, "key")
    by_lag, lags = numbers(problem.operands["weights"]), _lags(call)
    shapes = problem.shapes
    total = np.zeros((*shapes.lead, shapes.queries, shapes.keys))
    with np.errstate(over="ignore", invalid="ignore"):
        for t, (a, b) in enumerate(call.support):
            matrix = by_lag[..., t, :][..., lags]
            total += q[..., :, a, np.newaxis] * matrix * k[..., np.newaxis, :, b]
        total *= problem.scale
    if problem.check_finite and not np.isfinite(total).all():
        refuse_nonfinite((), problem.compute)
    return np.where(visible_keys(problem), total, 0.0)


def _polynomials(call: Relative, *, gradient: bool) -> list[Floats] | None:
    """Return the polynomial of every head; None for exp."""
    if call.coefficients is None and call.degree is None:
        return None
    found = []
    for index in call.problem.heads():
        c = choose(call, relative_head(call, index), gradient=gradient).coefficients
        assert c is not None  # a degree is a polynomial
        found.append(c)
    return found


def _evaluate(logits: Floats, polynomials: list[Floats], derivative: int = 0) -> Floats:
    """Evaluate the polynomial of every head on its logits."""
    heads = logits.reshape(len(polynomials), *logits.shape[-2:])
    values = np.empty_like(heads)
    for value, s, c in zip(values, heads, polynomials, strict=True):
        value[:] = polyval(s, polyder(c, derivative))
    return values.reshape(logits.shape)


def _shares(
    call: Relative, logits: Floats, polynomials: list[Floats] | None
) -> tuple[Floats, Floats]:
    """Weights over their sums, and the slopes of the weights over the same; zeros where all is hidden."""
    visible = visible_keys(call.problem)
    if polynomials is None:
        hidden = np.where(visible, logits, -np.inf)
        top = hidden.max(axis=-1, keepdims=True, initial=-np.inf)
        powers = np.exp(hidden - np.where(np.isfinite(top), top, 0.0))
        total = powers.sum(axis=-1, keepdims=True)
        shares = powers / np.where(total > 0.0, total, 1.0)
        return shares, shares
    total = _totals(call, logits, polynomials)
    shares = np.where(visible, _evaluate(logits, polynomials), 0.0) / total
    return shares, np.where(visible, _evaluate(logits, polynomials, 1), 0.0) / total


def _totals(call: Relative, logits: Floats, polynomials: list[Floats] | None) -> Floats:
    """Sum the polynomial weights of every query; 1 where it sees no key."""
    visible = visible_keys(call.problem)
    assert polynomials is not None  # of exp, nobody asks
    weights = np.where(visible, _evaluate(logits, polynomials), 0.0)
    total = weights.sum(axis=-1, keepdims=True)
    sees_none = ~visible.any(axis=-1, keepdims=True)
    doubt = logits.shape[-1] * 2.0**-50 * np.abs(weights).sum(axis=-1, keepdims=True)
    unsafe = ~sees_none & (total <= doubt)
    if unsafe.any():
        index = tuple(int(i) for i in np.unravel_index(np.argmax(unsafe), unsafe.shape))
        refuse_sum(index[:-1], float(total[index]), float(doubt[index]))
    return np.where(sees_none, 1.0, total)


def _info(call: Relative, out: Floats) -> Info:
    shape = (*call.problem.shapes.batch, call.problem.shapes.heads)
    nothing = np.zeros(shape)
    plan = make_plan(call, Done(out, nothing, nothing, nothing, [], {}, None))
    return Info("reference", None, None, None, plan, "the definition, in float64")
