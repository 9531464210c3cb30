"""Attention with a matrix for every relative position, and its gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import FLOATS, Array, Operand, stored, wide
from ._certify import relative_to_mean
from ._finite import refuse_nonfinite, require_finite
from ._gradient import wanted
from ._info import Gradients, Info
from ._layout import expand
from ._norms import rounding_norms
from ._out import take_grad_out
from ._problem import Stats, added
from ._relative.arguments import Relative, prepare_relative
from ._relative.report import make_plan
from ._relative.run import Done, backward, forward

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
    r"""Attention with logits ``scale * q_i W_{i-j} k_j``: a matrix for every relative position.

    Rotary positions are a special case that needs none of this: rotate queries and keys, then call
    `attention`. This is for matrices that do not factorise, such as learned ones, without an array of
    queries by keys.

    Parameters
    ----------
    query : array_like, shape (..., H, L, E)
    key : array_like, shape (..., Hkv, S, E)
    value : array_like, shape (..., Hkv, S, Ev)
        As in `attention`.
    weights : array_like, shape (t, L + S - 1), or (..., H, t, L + S - 1)
        ``weights[n, i - j + S - 1]`` is entry ``support[n]`` of :math:`W_{i-j}`. Two axes are shared by
        all heads, more broadcast. They do not take part in the dtype of the result.
    support : array_like of int, shape (t, 2)
        Row a and column b of the entries of the matrices that are not zero, each once.
    degree : int, optional
        Take the polynomial of this degree that is closest to exp on the logits, up to the bound on them
        below, in place of exp.
    coefficients : array_like of real numbers, shape (degree + 1,), optional
        Take this polynomial, by ascending powers: the definition, as in `polynomial_attention`.
    eps : float, optional
        Error budget, as in `attention`: take a polynomial if one is within the budget, by a bound that
        always holds, and cheaper than softmax from all keys. At most one of the three may be given;
        with none, softmax is exact.
    is_causal, scale, enable_gqa, check_finite, workers
        As in `attention`.
    return_info : bool
        Also return an `Info`.

    Returns
    -------
    out : array, shape (..., H, L, Ev)
        Of the kind of `query`; zeros where a query sees no key.
    info : Info
        Only with `return_info`. `Info.stats` has the number of Toeplitz terms (rank), the degree, and the
        rows that were computed from all keys because rounding left them open (rows_recomputed).
        `Info.error_bound` is against exact softmax; with `coefficients` against that polynomial, and
        bounds rounding alone.

    Raises
    ------
    ValueError
        As in `attention`; if `support` has entries out of range or twice; if `weights` has not L + S - 1
        numbers for each of them; if more than one polynomial is asked for; with `degree` if the logits may
        exceed 16 or no such degree is tabulated for them; with `coefficients` if the weights of a query
        do not certainly have a positive sum, with the index of the first.
    TypeError
        As in `attention`; if `support` does not hold integers.

    See Also
    --------
    toeplitz_attention_grad : The gradient, also with respect to the position weights.
    subquad.theory.polynomial.term_count : The number of Toeplitz terms.

    Notes
    -----
    Exact softmax takes O(L S (t + Ev)) operations and O((L + S) t) memory. A polynomial of degree g is a
    sum of C(t + g, g) Toeplitz matrices with scaled rows and columns [1]_, each of which takes
    O(Ev (L + S) log(L + S)) operations: it pays for long contexts and few terms, and `Info.reason` has the
    numbers.

    The logits of query i are at most ``abs(scale) * sum_n abs(q[i, a]) max(abs(weights[n])) max_j(abs(k[j, b]))``,
    (a, b) = ``support[n]``. With a relative error of exp of at most :math:`\delta` up to the largest of them
    a row is within :math:`\delta / (1 - \delta)` of the spread. Transforms round in proportion to the
    largest rows: a row whose sum of weights is not certain to half of its digits is computed from all
    keys in float64.

    References
    ----------
    .. [1] "Fast RoPE attention: combining the polynomial method and fast Fourier transform",
       arXiv:2505.11892.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = rng.standard_normal((3, 100, 4))
    >>> support = [(0, 0), (1, 1), (2, 3)]
    >>> weights = rng.standard_normal((3, 199))
    >>> subquad.toeplitz_attention(q, k, v, weights, support=support).shape
    (100, 4)
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
    problem = call.problem
    done = forward(call, gradient=False, bounded=return_info or eps is not None)
    _require_finite(call, done.raw)
    result = stored(done.raw, problem.dtype)
    out = problem.operands["query"].give_back(problem.lead(result), problem.dtype)
    return (out, _info(call, done, result, done.stats)) if return_info else out


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
    """Gradient of `toeplitz_attention`: the exact vector-Jacobian product of what was computed.

    Parameters
    ----------
    grad_out : array_like, shape (..., H, L, Ev)
        Gradient with respect to the output.
    query, key, value, weights, support
        As in `toeplitz_attention`.
    degree, coefficients, eps
        As in `toeplitz_attention`, but polynomials for a gradient are close to exp with their slopes: with
        `eps` they have one degree more, with `degree` they are those that are best in this sense. To
        differentiate one and the same polynomial as the forward pass, pass `coefficients`.
    wrt : iterable of {"query", "key", "value", "weights", "coefficients"}, optional
        The arguments to differentiate with respect to; all that are given if not given.
    is_causal, scale, enable_gqa, check_finite, workers, return_info
        As in `toeplitz_attention`.

    Returns
    -------
    grads : Gradients
        One array of the kind of `query` per argument asked for, with that argument's shape and dtype,
        summed over the axes along which it was broadcast; None for the others. Integer arguments get the
        dtype of the output.
    info : Info
        Only with `return_info`: about the forward pass, with the counts of both. Nothing is known of the
        error of the gradient.

    Raises
    ------
    ValueError, TypeError
        As in `toeplitz_attention`; also if `grad_out` has another shape than the output, or `wrt` names
        what is not given.

    Notes
    -----
    This is the gradient of arXiv:2412.17316 with respect to all that is given, the position weights
    included. It differentiates the Toeplitz terms, or, where softmax is exact, computes weights again
    from the log-sum-exp.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> rng = np.random.default_rng(0)
    >>> q, k, v, g = rng.standard_normal((4, 100, 4))
    >>> weights = rng.standard_normal((2, 199))
    >>> grads = subquad.toeplitz_attention_grad(g, q, k, v, weights, support=[(0, 0), (1, 1)])
    >>> grads.weights.shape
    (2, 199)
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
    problem = call.problem
    names = wanted(wrt, problem)
    upstream = take_grad_out(grad_out, problem)
    if check_finite:
        require_finite(upstream)
    done = forward(call, gradient=True, bounded=return_info or eps is not None)
    operands = problem.operands
    sums = {name: np.zeros(operands[name].shape, problem.compute) for name in names}
    # These are sums over all pairs of a query and a key.
    for name in ("weights", "coefficients"):
        if name in sums:
            sums[name] = np.zeros(operands[name].shape)
    stats = backward(call, done, _rows_of(call, upstream), sums)
    _require_finite(call, done.raw, *sums.values())
    give_back = operands["query"].give_back
    grads = {}
    for name, total in sums.items():
        dtype = operands[name].dtype if operands[name].dtype in FLOATS else problem.dtype
        grads[name] = give_back(stored(total, dtype), dtype)
    result = Gradients(**grads)
    if not return_info:
        return result
    out = stored(done.raw, problem.dtype)
    return result, _info(call, done, out, added(done.stats, stats))


def _rows_of(call: Relative, upstream: Operand) -> NDArray[Any]:
    array = np.ascontiguousarray(wide(upstream.array, upstream.dtype), call.problem.compute)
    return expand(array, call.problem.shapes.out)


def _require_finite(call: Relative, *results: NDArray[Any]) -> None:
    problem = call.problem
    if problem.check_finite and not all(np.isfinite(x).all() for x in results):
        refuse_nonfinite((), problem.compute)


def _info(call: Relative, done: Done, result: NDArray[Any], stats: Stats) -> Info:
    problem = call.problem
    plan = make_plan(call, done)
    bound, spread = np.nan_to_num(done.bound, nan=math.inf), done.spread
    if problem.shapes.empty:
        bound, spread = np.zeros(bound.shape), np.zeros(spread.shape)
    if result is not done.raw:
        bound = bound + rounding_norms(done.raw, result, problem.dtype)
    relative = relative_to_mean(problem, result, bound)
    return Info(
        method=plan.method,
        error_bound=problem.lead(bound),
        relative_bound=problem.lead(relative),
        spread=problem.lead(spread[..., np.newaxis])[..., 0],
        plan=plan,
        reason=plan.reason,
        stats=stats,
    )
