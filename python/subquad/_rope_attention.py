"""Softmax attention of turned queries and keys, and its gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ._arrays import Array
from ._forward import run_forward
from ._gradient import backward, in_their_types, resume, wanted
from ._info import Gradients
from ._out import take_forward, take_grad_out, take_out
from ._plan import Plan
from ._planner import check_policy, settle_if_asked
from ._problem import prepare
from ._rope import check_turning
from ._rope_problem import turn_problem

__all__ = ["attention", "attention_grad"]


def attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    theta: float = 1e4,
    layout: str = "half",
    rotary_dim: int | None = None,
    positions: Array | None = None,
    key_positions: Array | None = None,
    scaling: Mapping[str, Any] | None = None,
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
    centres: Any = "auto",
    plan: Plan | None = None,
    rng: Any = None,
    check_finite: bool = True,
    out: Array | None = None,
    workers: int | None = None,
    return_lse: bool = False,
    return_info: bool = False,
) -> Any:
    """Softmax attention of queries and keys that are turned by their positions.

    Weights are ``exp(scale * (R_p q).(R_s k) + bias)`` for a query at position p and a key at s, R as in
    `rotate`; the product depends on ``s - p`` alone.

    Parameters
    ----------
    query : array_like, shape (..., H, L, E)
    key : array_like, shape (..., Hkv, S, E)
        Before rotation.
    value : array_like, shape (..., Hkv, S, Ev)
    theta, layout, rotary_dim
        As in `rotate`.
    positions : array_like, shape (..., L), optional
        Of the queries; axes before L broadcast to those of `query`, so (B, 1, L) has one for each token of a
        batch. If not given, queries stand where `is_causal` puts them among the keys: at ``0, ..., L - 1``,
        or with "lower_right" at ``S - L, ..., S - 1``, as in decoding.
    key_positions : array_like, shape (..., S), optional
        Of the keys. If not given they are `positions`, where those are given, which needs L == S; else
        ``0, ..., S - 1``. Likewise for `positions`. What a query sees is counted by rows, not by positions.
    scaling
        As in `rotate`.
    eps, is_causal, window, mask, bias, scale, enable_gqa, method, certificate, fallback, centres, plan, \
rng, check_finite, out, workers, return_lse, return_info
        As in `subquad.attention`. `centres` that are given, and a `plan`, are of turned rows:
        ``subquad.plan(rotate(query), rotate(key), value, ...)``. `eps` covers rotation as well.

    Returns
    -------
    out : array, shape (..., H, L, Ev)
    lse : array, shape (..., H, L)
        Only with `return_lse`.
    info : Info
        Only with `return_info`. As `subquad.attention` returns them; `Info.error_bound` includes the rounding
        of rotation.

    Raises
    ------
    ValueError
        As in `rotate` and `subquad.attention`; if only one of `positions` and `key_positions` is given and
        L != S. With `check_finite` a query or key that is not finite is refused even where nobody sees it.
    TypeError, CertificateError
        As in `subquad.attention`.

    See Also
    --------
    attention_grad : The gradient.
    rotate : Turns rows; what has been turned goes to `subquad.attention`.

    Notes
    -----
    Queries and keys are turned ahead, in the type that logits are computed in: 16-bit ones are widened, not
    rounded again. That is one pass over them, O((L + S) E) operations and memory: 2 % of the time of exact
    attention over 4096 keys for E = 64, and less of longer ones. It is not part of the passes of attention,
    which read a key once for every block of queries, and would turn it as often.

    No Fourier transform is needed: ``(R_p q).(R_s k)`` is an inner product of rows turned one by one, so exact
    attention and polynomials take them as they are, with the bounds for their norms, which turning keeps. The
    almost linear algorithms of [1]_ and [2]_ are for weights ``exp(q W_{i-j} k)`` of any matrices W, which
    need one.

    A logit is off by at most ``|scale| (2 rho + rho^2) |q| max|k|`` for the rounding of rotation,
    rho four units of the last place; so a row moves by at most ``2 R x / (1 - x)``, R the spread of the values
    and x the exponential of that, less one. Where this is more than a quarter of `eps`, rows are turned and
    logits computed in float64; where that does not help, `fallback` says what to do.

    References
    ----------
    .. [1] J. Alman and Z. Song, "Fast RoPE attention: combining the polynomial method and fast Fourier
       transform", arXiv:2505.11892.
    .. [2] Y. Chen, J. Huo, X. Li, Y. Liang, Z. Shi and Z. Song, "Fast gradient computation for RoPE attention
       in almost linear time", arXiv:2412.17316.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = rng.standard_normal((3, 8, 128, 64), dtype=np.float32)
    >>> out = subquad.rope.attention(q, k, v, is_causal=True)
    >>> later = subquad.rope.attention(
    ...     q, k, v, is_causal=True, positions=np.arange(1000, 1128)
    ... )
    >>> bool(abs(out - later).max() < 1e-4)
    True
    """
    check_policy(certificate, fallback, rng)
    plain = prepare(
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
    plain.memo |= {"certificate": certificate, "rng": rng}
    target = take_out(out, plain)
    turning = check_turning(plain.shapes.width, theta, layout, rotary_dim, scaling)
    turned = turn_problem(plain, turning, positions, key_positions)
    if certificate != "none":
        turned.measure(eps, plan, asked=return_info)
    problem = turned.problem
    chosen = settle_if_asked(
        problem,
        eps=turned.left(eps) if plan is None else eps,
        method=method,
        given=plan,
        asked=return_info,
        centres=centres,
        fallback=fallback,
    )
    chosen = turned.within(chosen, fallback)
    forward = run_forward(problem, chosen, certificate, fallback, target, want_lse=return_lse)

    give_back = plain.operands["query"].give_back
    result = plain.lead(forward.result)
    results = [give_back(result, plain.dtype) if out is None else out]
    if forward.lse is not None:
        lse = plain.lead(forward.lse).astype(plain.compute, copy=False)
        results.append(give_back(lse, plain.compute.name))
    if return_info and chosen is not None:
        results.append(turned.report(chosen, forward))
    return results[0] if len(results) == 1 else tuple(results)


def attention_grad(
    grad_out: Array,
    query: Array,
    key: Array,
    value: Array,
    *,
    forward: tuple[Array, Array] | None = None,
    wrt: Iterable[str] | None = None,
    theta: float = 1e4,
    layout: str = "half",
    rotary_dim: int | None = None,
    positions: Array | None = None,
    key_positions: Array | None = None,
    scaling: Mapping[str, Any] | None = None,
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
    centres: Any = "auto",
    plan: Plan | None = None,
    rng: Any = None,
    check_finite: bool = True,
    workers: int | None = None,
    return_info: bool = False,
) -> Any:
    """Gradient of `attention` with respect to queries and keys before rotation: the exact vector-Jacobian product.

    Parameters
    ----------
    grad_out : array_like, shape (..., H, L, Ev)
        Gradient with respect to the output.
    query, key, value
        As in `attention`.
    forward : (out, lse), optional
        From ``attention(..., return_lse=True)`` on the same arguments, as in `subquad.attention_grad`.
    wrt : iterable of {"query", "key", "value", "bias"}, optional
        The arguments to differentiate with respect to; all that are given if not given.
    theta, layout, rotary_dim, positions, key_positions, scaling
        As in `attention`.
    eps, is_causal, window, mask, bias, scale, enable_gqa, method, certificate, fallback, centres, plan, \
rng, check_finite, workers, return_info
        As in `attention` and `subquad.attention_grad`.

    Returns
    -------
    grads : Gradients
        As from `subquad.attention_grad`, for the arguments as given.
    info : Info
        Only with `return_info`; without bounds of gradients.

    Raises
    ------
    ValueError, TypeError, CertificateError
        As in `attention` and `subquad.attention_grad`.

    See Also
    --------
    attention : The forward pass.

    Notes
    -----
    Gradients of turned rows are turned back, and multiplied with the attention factor of "yarn" if there is one:
    the transpose of `rotate`, not its inverse.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> rng = np.random.default_rng(0)
    >>> q, k, v, g = rng.standard_normal((4, 2, 16, 8))
    >>> subquad.rope.attention_grad(g, q, k, v, is_causal=True).key.shape
    (2, 16, 8)
    """
    check_policy(certificate, fallback, rng)
    plain = prepare(
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
    plain.memo |= {"certificate": certificate, "rng": rng}
    names = wanted(wrt, plain)
    upstream = take_grad_out(grad_out, plain)
    given = None if forward is None else take_forward(forward, plain)
    turning = check_turning(plain.shapes.width, theta, layout, rotary_dim, scaling)
    turned = turn_problem(plain, turning, positions, key_positions)
    if certificate != "none":
        turned.measure(eps, plan, asked=return_info)
    chosen = settle_if_asked(
        turned.problem,
        eps=turned.left(eps) if plan is None else eps,
        method=method,
        given=plan,
        asked=return_info,
        centres=centres,
        fallback=fallback,
        gradient=True,
    )
    chosen = turned.within(chosen, fallback)
    if given is None or (chosen is not None and chosen.method == "polynomial"):
        problem = replace(turned.problem, extra=(upstream,))
        done = run_forward(problem, chosen, certificate, fallback, want_lse=True)
    else:
        problem = replace(turned.problem, extra=(upstream, *given))
        done = resume(problem, *given)
    sums, stats, _ = backward(problem, upstream, done, names, bounded=False)
    for name in sums.keys() & {"query", "key"}:
        sums[name] = turned.back(name, sums[name])
    grads: Gradients = in_their_types(plain, sums)
    if return_info and chosen is not None:
        return grads, turned.report(chosen, done, stats)
    return grads
