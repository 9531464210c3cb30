"""What softmax attention loses to keys that are left out."""

from __future__ import annotations

import math

import numpy as np

from .._arrays import Array, take, wide
from .._finite import require_finite
from ._arguments import LARGEST, check_count, check_positive, check_within

__all__ = [
    "discarded_mass_error",
    "massive_activation",
    "massive_activation_error",
]


def discarded_mass_error(discarded: float, total: float, value_max: float) -> float:
    r"""Bound on the error of softmax attention over a part of the keys.

    Parameters
    ----------
    discarded : float
        :math:`\bar\alpha`, the sum of :math:`\exp(s_i)` over the keys that are left out.
    total : float
        :math:`\alpha`, that over all keys; positive.
    value_max : float
        :math:`\lVert V \rVert_\infty`, the largest absolute value of an entry.

    Returns
    -------
    error : float
        :math:`2 (\bar\alpha / \alpha) \lVert V \rVert_\infty`, which no entry of the output is off by
        more than.

    Notes
    -----
    Lemma G.1.
    """
    mass = check_positive("total", total)
    lost = check_within("discarded", discarded, 0.0, mass, "0 <= discarded <= total")
    return (
        2.0
        * (lost / mass)
        * check_within("value_max", value_max, 0.0, LARGEST, "0 <= value_max < inf")
    )


def massive_activation(scores: Array, query_norm: float, r: int) -> tuple[float, float, float]:
    r"""How far the r largest scores of a query stand out.

    Parameters
    ----------
    scores : array_like of float, shape (n,)
        The exponents of softmax, one per key; n >= 2.
    query_norm : float
        :math:`\lVert q \rVert_2`, positive.
    r : int
        How many of the largest scores are kept, 1 <= r <= n.

    Returns
    -------
    gamma, beta1, beta2 : float
        With :math:`n^\gamma = r`, the largest :math:`\beta_1` and the smallest
        :math:`\beta_2 \ge 0` for which the activation is :math:`(\gamma, \beta_1, \beta_2)`-massive:
        the mean of the r largest scores is :math:`\beta_1 \lVert q \rVert_2 \log n`, and no other
        score exceeds :math:`\beta_2 \lVert q \rVert_2 \log n`.

    Raises
    ------
    ValueError
        If the mean of the r largest scores is negative: no :math:`\beta_1 \ge 0` exists then.

    See Also
    --------
    massive_activation_error : What follows from it.

    Notes
    -----
    Definition B.3. (It has :math:`\langle q, k_i \rangle` for scores, without the usual
    :math:`1/\sqrt d`; pass whatever softmax exponentiates.) Of a hundred Gaussian logits of
    standard deviation 1 or more of them, the :math:`n^{4/5}` largest do not stand out enough: the
    error that follows is no better than the trivial one.
    """
    operand = take("scores", scores)
    if len(operand.shape) != 1 or operand.shape[0] < 2:
        raise ValueError(f"`scores` must have shape (n,) with n >= 2, got {operand.shape}")
    require_finite(operand)
    n, kept = operand.shape[0], check_count("r", r)
    if kept > n:
        raise ValueError(f"`r` must satisfy 1 <= r <= n, got {kept} with n={n}")
    unit = check_positive("query_norm", query_norm) * math.log(n)
    ordered = np.sort(wide(operand.array, operand.dtype).astype(np.float64))[::-1]
    beta1 = float(ordered[:kept].mean()) / unit
    if beta1 < 0.0:
        raise ValueError(
            f"`scores` must have {kept} largest ones of a mean of at least 0, got {beta1 * unit}"
        )
    beta2 = max(0.0, float(ordered[kept]) / unit) if kept < n else 0.0
    return math.log(kept) / math.log(n), max(beta1, beta2), beta2


def massive_activation_error(
    n: int, gamma: float, beta1: float, beta2: float, query_norm: float, value_max: float
) -> float:
    r"""Bound on the error of softmax attention over the :math:`n^\gamma` largest scores.

    Parameters
    ----------
    n : int
        Number of keys.
    gamma, beta1, beta2 : float
        As from `massive_activation`, 0 <= gamma <= 1 and beta1 >= beta2 >= 0.
    query_norm : float
        :math:`\lVert q \rVert_2`, positive.
    value_max : float
        :math:`\lVert V \rVert_\infty`, the largest absolute value of an entry.

    Returns
    -------
    error : float
        :math:`2 \lVert V \rVert_\infty / n^{\gamma + (\beta_1 - \beta_2) \lVert q \rVert_2 - 1}`,
        which no entry of the output is off by more than.

    Notes
    -----
    Theorem 4.3, which is Theorem G.2. No entry is ever off by more than
    :math:`2 \lVert V \rVert_\infty`, so it says something only if the exponent is positive.
    """
    keys, norm = check_count("n", n), check_positive("query_norm", query_norm)
    share = check_within("gamma", gamma, 0.0, 1.0, "0 <= gamma <= 1")
    low = check_within("beta2", beta2, 0.0, LARGEST, "0 <= beta2 < inf")
    high = check_within("beta1", beta1, low, LARGEST, "beta2 <= beta1 < inf")
    size = check_within("value_max", value_max, 0.0, LARGEST, "0 <= value_max < inf")
    exponent = share + (high - low) * norm - 1.0
    return 2.0 * size * math.exp(-exponent * math.log(keys))
