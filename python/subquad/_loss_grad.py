"""The gradient of the attention loss of arXiv:2402.04497."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._arrays import FLOATS, Array, Operand, result_dtype, stored, wide
from ._attention import attention
from ._finite import refuse_nonfinite
from ._gradient import attention_grad
from ._loss import (
    Accuracy,
    Positions,
    centred_keys,
    check_method,
    choose_by_position,
    choose_polynomial,
    scale_of,
    take_chain,
    take_positions,
)
from ._polynomial import polynomial_attention, polynomial_attention_grad
from ._toeplitz_attention import toeplitz_attention, toeplitz_attention_grad

__all__ = ["attention_loss_grad"]


def attention_loss_grad(
    A1: Array,
    X: Array,
    A2: Array,
    A3: Array,
    Y: Array,
    E: Array,
    *,
    scale: float | None = None,
    method: str = "exact",
    eps: float | None = None,
    degree: int | None = None,
    rope_weights: Array | None = None,
    support: Array | None = None,
) -> Any:
    r"""Gradient of the squared error of attention with respect to the product of its projections.

    That is dL/dX of :math:`L = \frac12 \|\text{softmax}(A_1 X A_2^T / d) A_3 Y - E\|_F^2` with
    :math:`X = W_Q W_K^T`, which [1]_ is about. The names are those of that paper.

    Parameters
    ----------
    A1 : array_like, shape (n, d)
        Tokens that ask.
    X : array_like, shape (d, k)
    A2 : array_like, shape (m, k)
        Tokens that are asked.
    A3 : array_like, shape (m, l)
    Y : array_like, shape (l, v)
    E : array_like, shape (n, v)
        What the output should be. The paper has n = m and d = k = l = v.
    scale : float, optional
        Factor of the logits; 1 / k, the paper's 1 / d, if not given. That of `subquad.attention` is
        ``1 / sqrt(k)``.
    method : {"exact", "polynomial"}
        "polynomial" differentiates the loss with a polynomial p of the logits in place of exp. There
        is no falling back from one to the other.
    eps : float, optional
        For "polynomial", of the least degree such that :math:`|p(s) - e^s|` and :math:`|p'(s) - e^s|` are
        at most :math:`\epsilon e^s` on all logits s, means of keys taken out.
    degree : int, optional
        For "polynomial", of this degree, and the best in that sense. One of the two is needed.
    rope_weights : array_like, shape (t, n + m - 1), optional
        Matrices :math:`W_{i-j}` between the two sides of a logit, :math:`(A_1 X)_i W_{i-j} A_{2,j}`, as
        the `weights` of `subquad.toeplitz_attention`: the problem of [2]_.
    support : array_like of int, shape (t, 2), optional
        With `rope_weights`, the entries of the matrices that are not zero.

    Returns
    -------
    array, shape (d, k)
        dL/dX, of the kind and dtype of X; float64 or float32, that of the other arguments, if X holds
        integers.

    Raises
    ------
    ValueError
        If shapes do not fit together or a number is not finite; if one of `rope_weights` and `support` is
        given without the other; if `method` is unknown, or `eps` or
        `degree` is given for "exact"; for "polynomial" if not one of them is given, if the bound on the
        logits exceeds 16, or no degree up to 24 reaches `eps`, or the least one that does has more
        features than there are keys, so that "exact" costs less. All with the numbers.
    TypeError
        If an array does not hold real numbers, or a keyword is of the wrong type.

    See Also
    --------
    subquad.attention_grad : All gradients of attention itself.
    feasibility : For which logits the polynomial pays, as "with gradient".

    Notes
    -----
    With :math:`f` the softmax, :math:`h = A_3 Y`, :math:`c = f h - E` and :math:`q = c h^T`, a row of
    which belongs to a query, :math:`dL/dX = \text{scale} \, A_1^T (f \circ q - \text{diag}((f \circ q) 1)
    f) A_2`. That is the gradient of attention with respect to its queries :math:`A_1 X`, given
    :math:`c`, from the left by :math:`A_1^T`; it is computed in O((n + m) (d + k + v)) memory.
    "exact" takes O(n m (k + v)) operations, "polynomial" O((n + m) r v) with r = C(k + g, g): the
    almost linear time of [1]_, by differentiating the features rather than by the paper's products of
    low-rank factors. (It prints q transposed, and leaves the scale out.)

    The bound on the logits is the longest row of :math:`A_1 X` times the longest of :math:`A_2`, from
    which the mean is taken if that makes it shorter: what this adds to a row, softmax ignores. `eps`
    is about exact sums; rounding in the dtype comes on top.

    References
    ----------
    .. [1] J. Alman and Z. Song, "The fine-grained complexity of gradient computation for training
       large language models", arXiv:2402.04497.
    .. [2] "RoPE attention can be trained in almost linear time", arXiv:2412.17316.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> rng = np.random.default_rng(0)
    >>> A1, A2, A3, E = rng.standard_normal((4, 1000, 6))
    >>> X, Y = 0.1 * rng.standard_normal((2, 6, 6))
    >>> exact = subquad.polynomial.attention_loss_grad(A1, X, A2, A3, Y, E)
    >>> close = subquad.polynomial.attention_loss_grad(
    ...     A1, X, A2, A3, Y, E, method="polynomial", eps=1e-2
    ... )
    >>> bool(np.abs(close - exact).max() < 1e-2 * np.abs(exact).max())
    True
    """
    given = take_chain(A1, X, A2, A3, Y, E)
    accuracy = check_method(method, eps, degree)
    positions = take_positions(rope_weights, support, given)
    sigma = scale_of(scale, given[1].shape[1])
    result = result_dtype(*(operand.dtype for operand in given))
    compute = np.dtype(np.float64 if result == "float64" else np.float32)
    a1, x, key, a3, y, e = (_laid_out(operand, compute) for operand in given)
    with np.errstate(over="ignore", invalid="ignore"):
        query, value = a1 @ x, a3 @ y
    _require_finite(query, value)
    with np.errstate(over="ignore", invalid="ignore"):
        if positions is not None:
            slope = _by_position(query, key, value, e, sigma, accuracy, positions)
        elif accuracy is None:
            out, lse = attention(query, key, value, scale=sigma, return_lse=True)
            slope = attention_grad(
                out - e, query, key, value, scale=sigma, forward=(out, lse), wrt=("query",)
            ).query
        else:
            key = centred_keys(key)
            c = choose_polynomial(query, key, sigma, accuracy)
            out = polynomial_attention(query, key, value, c, scale=sigma)
            slope = polynomial_attention_grad(
                out - e, query, key, value, c, scale=sigma, wrt=("query",)
            ).query
        total = a1.T @ slope
    _require_finite(total)
    dtype = given[1].dtype if given[1].dtype in FLOATS else compute.name
    return given[1].give_back(stored(total, dtype), dtype)


def _by_position(
    query: Any,
    key: Any,
    value: Any,
    e: Any,
    scale: float,
    accuracy: Accuracy | None,
    positions: Positions,
) -> Any:
    """Return the gradient with respect to the queries, with matrices for relative positions."""
    weights, support = positions
    c = None
    if accuracy is not None:
        c = choose_by_position(query, key, scale, accuracy, positions)
    arrays = (query, key, value, weights)
    out = toeplitz_attention(*arrays, support=support, coefficients=c, scale=scale)
    return toeplitz_attention_grad(
        out - e, *arrays, support=support, coefficients=c, scale=scale, wrt=("query",)
    ).query


def _laid_out(operand: Operand, compute: np.dtype[Any]) -> Any:
    return np.ascontiguousarray(wide(operand.array, operand.dtype), compute)


def _require_finite(*products: Any) -> None:
    for product in products:
        if not np.isfinite(product).all():
            refuse_nonfinite((), product.dtype)
