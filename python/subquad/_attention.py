"""Softmax attention."""

from __future__ import annotations

from typing import Any

from ._arrays import Array
from ._bias import Bias
from ._forward import make_info, run_forward
from ._out import take_out
from ._plan import Plan
from ._planner import check_policy, settle_if_asked
from ._problem import prepare

__all__ = ["attention"]


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
    """Softmax attention, exact or within an error budget.

    For each query the mean of the values, weighted by ``exp(scale * q.k + bias)`` over the keys that
    the query sees.

    Parameters
    ----------
    query : array_like, shape (..., H, L, E)
        Queries. numpy arrays, CPU torch tensors and other DLPack arrays are read in place whatever
        their strides, as long as the last axis is contiguous. 2-D arrays are one head.
    key : array_like, shape (..., Hkv, S, E)
        Keys. Leading axes, heads included, broadcast as in numpy.
    value : array_like, shape (..., Hkv, S, Ev)
        Values, one per key.
    eps : float, optional
        Error budget: every row must satisfy ``|out - exact| <= eps * R + 2u * |exact|`` in the
        Euclidean norm, R the largest distance of a value of the head from their mean and u the unit
        roundoff of the output dtype. Not given: exact up to rounding.
    is_causal : bool or {"upper_left", "lower_right"}
        Query i sees keys ``j <= i`` (True, "upper_left"), or ``j <= i + S - L`` ("lower_right": the
        last query sees all keys, as in decoding).
    window : int, optional
        Of the keys that `is_causal` leaves, only the last `window`, the query's own position
        counted.
    mask : array_like of bool, optional
        Broadcasts to (..., L, S); True = seen.
    bias : array_like of float, or toeplitz.Bias, optional
        Broadcasts to (..., L, S); added to the logits. ``-inf`` hides a key. A `toeplitz.Bias` stands
        for an array whose entries depend on i - j alone, which is not made.
    scale : float, optional
        Factor of the products; ``1 / sqrt(E)`` if not given.
    enable_gqa : bool
        Allow ``H`` to be a multiple of ``Hkv``: each key head serves ``H // Hkv`` query heads in a
        row.
    method : {"auto", "exact", "polynomial"}
        How to compute. "polynomial" replaces the exponential by polynomials where a bound within `eps`
        allows it, head by head and row by row, and it is cheaper; it needs `eps` or `plan`. "auto"
        does so where much is saved.
    certificate : {"deterministic", "statistical", "none"}
        "deterministic" bounds the error of every row where `eps` or `return_info` asks for it.
        "statistical" lets polynomials go further: they are chosen by some rows and checked on 300 others of
        each head against the exact ones; a head that fails is computed exactly. "none" computes no
        bound.
    fallback : {"exact", "raise", "warn"}
        What to do about a row whose bound exceeds the budget even in float64, and about heads that
        the `method` asked for does not answer: keep what is exact and say so in `Info.reason`, raise
        `CertificateError`, or warn with `AccuracyWarning`.
    centres : "auto", None, (mu_q, mu_k), or int
        What polynomials are taken around: vectors that are taken off queries and keys, shapes
        (..., H, E) and (..., Hkv, E), which changes their error and nothing else. None: nothing.
        "auto": nothing, the mean of the keys, or both means, whichever makes the logits smallest.
        An int: the means of that many tokens at the beginning. Under `is_causal` the means of "auto"
        depend on later tokens, and so do rows, within `eps`. With an int, None or given vectors, and a
        `plan`, which says what polynomials there are, they do not but for rounding.
    plan : Plan, optional
        From `subquad.plan` for the same shapes, dtypes and options.
    rng : optional
        As in `numpy.random.default_rng`; statistical certificates draw rows from it.
    check_finite : bool
        Refuse NaN and infinity. Without the check they give undefined results. Numbers that no
        query sees may go unnoticed.
    out : array, optional
        Where to write the result: C-contiguous, of its kind, shape and dtype, apart from the
        inputs.
    workers : int, optional
        Number of threads, as in `scipy.fft`: negative counts from the number of cores. Results do
        not depend on it.
    return_lse : bool
        Return the logarithm of the sum of exponentials as well.
    return_info : bool
        Return an `Info` as well.

    Returns
    -------
    out : array, shape (..., H, L, Ev)
        Of the kind of `query` and the dtype ``np.result_type(query, key, value)``; float64 where
        all are integers. A query that sees no key gives zeros.
    lse : array, shape (..., H, L)
        Only with `return_lse`. float64 for a float64 `out`, else float32; ``-inf`` where a query
        sees no key.
    info : Info
        Only with `return_info`. Method, bounds, plan and counts.

    Raises
    ------
    ValueError
        If shapes disagree, an option is not one of those listed, an input is not finite, or a logit
        exceeds the range of the dtype it is computed in.
    TypeError
        If an array is not real, not in main memory, or requires grad; if `mask` is not boolean or
        `bias` is.
    CertificateError
        See `fallback`.

    See Also
    --------
    attention_grad : The gradient.
    merge : Attention over disjoint sets of keys from the parts.

    Notes
    -----
    Takes O(L S (E + Ev)) operations per head, less the blocks of keys that `is_causal` and `window`
    hide, and beyond inputs and outputs O(L) memory: no array of shape (L, S) is made. Logits are
    computed in float64 for float64 results and in float32 for all others.

    With polynomials O((L + S) r Ev) operations for r features [3]_, and O((L + S)(E + Ev) + r Ev) memory;
    `plan` has the numbers. `lse` is within ``-log(1 - eps)`` and rounding then, unless the
    certificate is statistical or "none".

    Tiles with a running maximum and sum [1]_ [2]_; the bound is one on the rounding of just these
    operations, row by row.

    References
    ----------
    .. [1] M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax", 2018.
    .. [2] T. Dao, D. Y. Fu, S. Ermon, A. Rudra and C. Ré, "FlashAttention: fast and memory-efficient
       exact attention with IO-awareness", 2022.
    .. [3] J. Alman and Z. Song, "Fast attention requires bounded entries", arXiv:2302.13214.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = rng.standard_normal((3, 8, 128, 64), dtype=np.float32)
    >>> subquad.attention(q, k, v, is_causal=True).shape
    (8, 128, 64)
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
    )
    target = take_out(out, problem)
    forward = run_forward(problem, chosen, certificate, fallback, target, want_lse=return_lse)

    give_back = problem.operands["query"].give_back
    result = problem.lead(forward.result)
    results = [give_back(result, problem.dtype) if out is None else out]
    if forward.lse is not None:
        results.append(give_back(problem.lead(forward.lse), problem.compute.name))
    if return_info and chosen is not None:
        results.append(make_info(problem, chosen, forward))
    return results[0] if len(results) == 1 else tuple(results)
