"""The gradient of softmax attention."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._approximate.run import approximate_grad
from ._arrays import FLOATS, Array, Operand, stored, wide
from ._bias import Bias
from ._forward import Forward, make_info, run_forward
from ._info import Gradients
from ._layout import expand, laid_out
from ._out import take_forward, take_grad_out
from ._plan import Plan
from ._planner import check_policy, settle_if_asked
from ._problem import Problem, prepare

__all__ = ["attention_grad", "backward", "in_their_types", "resume", "wanted"]

Sums = dict[str, NDArray[Any]]

_DIFFERENTIABLE = ("query", "key", "value", "bias", "coefficients", "weights")


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
    """Gradient of softmax attention: the exact vector-Jacobian product of what was computed.

    Parameters
    ----------
    grad_out : array_like, shape (..., H, L, Ev)
        Gradient with respect to the output of `attention`.
    query, key, value : array_like
        As in `attention`.
    forward : (out, lse), optional
        From ``attention(..., return_lse=True)`` on the same arguments; saves computing them again
        where the gradient is that of exact attention.
    wrt : iterable of {"query", "key", "value", "bias"}, optional
        The arguments to differentiate with respect to; all that are given if not given.
    eps, is_causal, window, mask, bias, scale, enable_gqa, method, certificate, fallback, centres, plan, \
rng, check_finite, workers, return_info
        As in `attention`. `eps` chooses the method by the budget of the forward pass. Polynomials for a
        gradient have one degree more, and their slopes are as close to the exponential as they are.

    Returns
    -------
    grads : Gradients
        One array of the kind of `query` per argument asked for, with that argument's shape and
        dtype, summed over the axes along which it was broadcast; None for the others. Integer
        arguments get the dtype of the output. For a `toeplitz.Bias` that of its parameters, of their
        kind, from sums in float64 over pairs of the same lag.
    info : Info
        Only with `return_info`. Counts of both passes; bounds of the forward pass if it was
        computed here; with polynomials `Info.grad_bound`, which is loose, where their slopes have a
        bound. With a statistical certificate nothing is known of the gradient.

    Raises
    ------
    ValueError, TypeError, CertificateError
        As in `attention`; also if `grad_out` or `forward` has another shape or dtype than
        `attention` returns, or `wrt` names what is not given.

    See Also
    --------
    attention : The forward pass.

    Notes
    -----
    Takes 2.5 times the operations of the forward pass and O((L + S)(E + Ev)) memory, as it computes
    the weights again from the log-sum-exp [1]_. A query that sees no key has a zero gradient and
    gives none.

    References
    ----------
    .. [1] T. Dao, D. Y. Fu, S. Ermon, A. Rudra and C. Ré, "FlashAttention: fast and memory-efficient
       exact attention with IO-awareness", 2022.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> rng = np.random.default_rng(0)
    >>> q, k, v, g = rng.standard_normal((4, 2, 16, 8))
    >>> grads = subquad.attention_grad(g, q, k, v, is_causal=True)
    >>> grads.key.shape
    (2, 16, 8)
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
    chosen = settle_if_asked(
        problem,
        eps=eps,
        method=method,
        given=plan,
        asked=return_info,
        centres=centres,
        fallback=fallback,
        gradient=True,
    )
    names = wanted(wrt, problem)
    upstream = take_grad_out(grad_out, problem)
    if forward is None or (chosen is not None and chosen.method == "polynomial"):
        if forward is not None:
            take_forward(forward, problem)
        problem = replace(problem, extra=(upstream,))
        done = run_forward(problem, chosen, certificate, fallback, want_lse=True)
    else:
        given = take_forward(forward, problem)
        problem = replace(problem, extra=(upstream, *given))
        done = resume(problem, *given)
    # Of a plan for the forward pass alone, the slopes of the polynomials are not known to be close.
    bounded = return_info and chosen is not None and chosen.derivative
    sums, stats, bounds = backward(problem, upstream, done, names, bounded=bounded)
    grads = in_their_types(problem, sums)
    if return_info and chosen is not None:
        info = make_info(problem, chosen, done, stats)
        return grads, info if bounds is None else replace(info, grad_bound=Gradients(**bounds))
    return grads


def wanted(wrt: Iterable[str] | None, problem: Problem) -> list[str]:
    """Return the names that `wrt` asks for, checked."""
    known = [name for name in _DIFFERENTIABLE if name in problem.operands]
    if wrt is None:
        return known
    if isinstance(wrt, str):
        raise TypeError(f"`wrt` must be several names, such as ({wrt!r},), got the string {wrt!r}")
    names = list(wrt)
    for name in names:
        if name not in known:
            listed = ", ".join(f'"{one}"' for one in known)
            raise ValueError(f"`wrt` must name arguments that were given ({listed}), got {name!r}")
    return names


def resume(problem: Problem, out: Operand, lse: Operand) -> Forward:
    """Take a forward pass that was computed earlier; nothing is known about its error."""
    shape = problem.shapes.out
    raw = np.ascontiguousarray(wide(out.array, out.dtype), problem.compute).reshape(shape)
    log = np.ascontiguousarray(lse.array, problem.compute).reshape(shape[:-1])
    return Forward(raw, raw, log, {}, None)


def backward(
    problem: Problem, upstream: Operand, done: Forward, names: list[str], *, bounded: bool
) -> tuple[Sums, dict[str, int], dict[str, NDArray[np.float64]] | None]:
    """Compute the gradients in the compute type, in the shapes of the arguments."""
    operands = problem.operands
    sums = {name: np.zeros(operands[name].shape, problem.compute) for name in names}
    assert done.lse is not None  # both ways to a forward pass keep it here
    grad_out = expand(laid_out(upstream, problem.compute), problem.shapes.out)
    if done.heads is None:
        return sums, problem.backward(grad_out, done.raw, done.lse, sums), None
    certified = bounded and done.certificate is not None and done.sample is None
    known = done.certificate.bound if certified and done.certificate is not None else None
    stats, bounds = approximate_grad(problem, done.heads, grad_out, done.raw, done.lse, sums, known)
    return sums, stats, bounds


def in_their_types(problem: Problem, sums: Sums) -> Gradients:
    """Return gradients as arrays of the kind of the query, in the dtypes of the arguments."""
    operands = problem.operands
    give_back = operands["query"].give_back
    grads = {}
    for name, total in sums.items():
        dtype = operands[name].dtype if operands[name].dtype in FLOATS else problem.dtype
        is_parameters = name == "bias" and problem.relative is not None
        back = operands[name].give_back if is_parameters else give_back
        grads[name] = back(stored(total, dtype), dtype)
    return Gradients(**grads)
