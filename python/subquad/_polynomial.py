"""Attention whose weights are a polynomial of the logits, and its gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _subquad
from ._arrays import FLOATS, Array, Operand, stored, wide
from ._coefficients import count_features, refuse_sum, take_coefficients
from ._finite import refuse_nonfinite, require_finite
from ._gradient import wanted
from ._info import Gradients
from ._layout import expand, laid_out, open_view
from ._out import take_grad_out, take_out
from ._problem import Problem, prepare

__all__ = ["polynomial_attention", "polynomial_attention_grad"]

# What a kernel returns of a row whose weights have no positive sum: head, row, sum, its doubt.
_Refused = tuple[int, int, float, float]


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
    """Attention with weights p(s) = sum over t of coefficients[t] s^t, s = scale * q.k.

    Linear in the length of the context: the polynomial is the definition, and this is its exact value.

    Parameters
    ----------
    query : array_like, shape (..., H, L, E)
    key : array_like, shape (..., Hkv, S, E)
    value : array_like, shape (..., Hkv, S, Ev)
        As in `attention`.
    coefficients : array_like of real numbers, shape (degree + 1,)
        By ascending powers, as in `numpy.polynomial`. They do not take part in the dtype of the
        result.
    is_causal, scale, enable_gqa, check_finite, out, workers
        As in `attention`.

    Returns
    -------
    out : array, shape (..., H, L, Ev)
        ``sum_j p(s_ij) v_j / sum_j p(s_ij)``, of the kind of `query`; zeros where a query sees no key.

    Raises
    ------
    ValueError
        As in `attention`; if the weights of a query do not certainly have a positive sum, with the
        index of the first; if the degree exceeds 64.
    TypeError
        As in `attention`.
    MemoryError
        If no memory could hold the sums over C(E + degree, degree) features.

    See Also
    --------
    polynomial_attention_grad : The gradient, also with respect to the coefficients.
    subquad.polynomial.coefficients : Polynomials that are close to the exponential.

    Notes
    -----
    p(x.y) is an inner product of r = C(E + g, g) monomials of x and of y. Sums over the keys are taken
    once for every feature: O((L + S) r Ev) operations and O(r Ev) memory for each of at most 64 parts
    of the keys [1]_; causal attention adds the keys of a tile of 96 queries at a time. A row whose sum of
    weights is not above the bound of its rounding error is computed again key by key, in float64.

    References
    ----------
    .. [1] J. Alman and Z. Song, "Fast attention requires bounded entries", arXiv:2302.13214.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = rng.standard_normal((3, 2, 1000, 16))
    >>> out = subquad.polynomial_attention(q, k, v, [1.0, 1.0, 0.5])
    >>> out.shape
    (2, 1000, 16)
    """
    problem, terms = _prepare(
        query, key, value, coefficients, is_causal, scale, enable_gqa, check_finite, workers
    )
    target = take_out(out, problem)
    direct = target is not None and problem.dtype in ("float32", "float64")
    shape = problem.shapes.out
    raw = (
        target.reshape(shape) if direct and target is not None else np.zeros(shape, problem.compute)
    )
    if problem.shapes.empty:
        raw[...] = 0
    else:
        bad, _, refused = _subquad.polynomial_forward(
            problem.query, problem.key, problem.value, terms, raw, **_options(problem)
        )
        _check(problem, bad, refused, raw)
    if direct:
        return out
    result = stored(problem.lead(raw), problem.dtype)
    if target is None:
        return problem.operands["query"].give_back(result, problem.dtype)
    target[...] = result
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
    """Gradient of `polynomial_attention`: the exact vector-Jacobian product.

    Parameters
    ----------
    grad_out : array_like, shape (..., H, L, Ev)
        Gradient with respect to the output.
    query, key, value, coefficients : array_like
        As in `polynomial_attention`.
    wrt : iterable of {"query", "key", "value", "coefficients"}, optional
        The arguments to differentiate with respect to; all if not given.
    is_causal, scale, enable_gqa, check_finite, workers
        As in `polynomial_attention`.

    Returns
    -------
    grads : Gradients
        One array of the kind of `query` per argument asked for, with that argument's shape and dtype,
        summed over the axes along which it was broadcast; None for the others. Integer arguments get the
        dtype of the output.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As in `polynomial_attention`; also if `grad_out` has another shape than the output, or `wrt` names
        what is not given.

    Notes
    -----
    Differentiates the sums over features: five passes over them where the forward direction takes two,
    O((L + S) r Ev) operations and O(L Ev) memory besides the sums.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> rng = np.random.default_rng(0)
    >>> q, k, v, g = rng.standard_normal((4, 1000, 8))
    >>> subquad.polynomial_attention_grad(g, q, k, v, [1.0, 0.0, 0.5]).coefficients.shape
    (3,)
    """
    problem, terms = _prepare(
        query, key, value, coefficients, is_causal, scale, enable_gqa, check_finite, workers
    )
    names = wanted(wrt, problem)
    upstream = take_grad_out(grad_out, problem)
    operands = problem.operands
    sums = {name: np.zeros(operands[name].shape, problem.compute) for name in names}
    if "coefficients" in sums:
        sums["coefficients"] = np.zeros(terms.shape)
    if names and not problem.shapes.empty:

        def view(name: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
            return open_view(sums[name], shape) if name in sums else None

        shapes = problem.shapes
        bad, _, refused = _subquad.polynomial_backward(
            expand(laid_out(upstream, problem.compute), shapes.out),
            problem.query,
            problem.key,
            problem.value,
            terms,
            view("query", shapes.query),
            view("key", shapes.key),
            view("value", shapes.value),
            sums.get("coefficients"),
            double=problem.compute == np.float64,
            **_options(problem),
        )
        _check(problem, bad, refused, *sums.values(), extra=(upstream,))
    give_back = operands["query"].give_back
    grads = {}
    for name, total in sums.items():
        dtype = operands[name].dtype if operands[name].dtype in FLOATS else problem.dtype
        grads[name] = give_back(stored(total, dtype), dtype)
    return Gradients(**grads)


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
) -> tuple[Problem, NDArray[np.float64]]:
    """Check the arguments; the coefficients also in float64."""
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
    operand = take_coefficients(coefficients)
    problem.operands["coefficients"] = operand
    terms = np.ascontiguousarray(wide(operand.array, operand.dtype), np.float64)
    count_features(problem.shapes.value_width + 1, problem.shapes.width, terms.size - 1)
    return problem, terms


def _options(problem: Problem) -> dict[str, Any]:
    return {"scale": problem.scale, "shift": problem.shift, "workers": problem.workers}


def _check(
    problem: Problem,
    bad: bool,
    refused: _Refused | None,
    *results: NDArray[Any],
    extra: tuple[Operand, ...] = (),
) -> None:
    """Raise what a kernel has found wrong with the numbers."""
    operands = (*problem.operands.values(), *extra)
    overflow = bad or (refused is not None and not math.isfinite(refused[2]))
    if problem.check_finite and (overflow or not all(np.isfinite(x).all() for x in results)):
        refuse_nonfinite(operands, problem.compute)
    if refused is not None:
        if problem.check_finite:
            for operand in operands:
                require_finite(operand)
        head, row, total, bound = refused
        shape = problem.shapes.out[:-2]
        index = tuple(int(i) for i in np.unravel_index(head, shape))
        refuse_sum((*(index if problem.shapes.lead else ()), row), total, bound)
