"""How many keys reach a threshold."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

from .._options import check_real
from ._arguments import check_count, check_positive, check_within

__all__ = [
    "count_bound",
    "count_bound_failure",
    "expected_count",
    "logit_std",
    "logit_std_bound",
    "quantile_threshold",
    "query_norm_bound",
    "sparse_count",
    "sparse_threshold",
    "sparsity",
]


def logit_std(query_norm: float, d: int, key_std: float = 1.0) -> float:
    r"""Return the standard deviation of the logits of one query over Gaussian keys.

    Parameters
    ----------
    query_norm : float
        :math:`\lVert q \rVert_2`, positive.
    d : int
        Numbers in a key.
    key_std : float
        Standard deviation of the entries of keys.

    Returns
    -------
    std : float
        :math:`\sigma_a = \lVert q \rVert_2 \sigma_k / \sqrt d`.

    Notes
    -----
    The :math:`\sigma_a` of Lemma E.1. It is exact: given q, every logit is a Gaussian with this
    standard deviation.
    """
    norm, width = check_positive("query_norm", query_norm), check_count("d", d)
    return norm * check_positive("key_std", key_std) / math.sqrt(width)


def query_norm_bound(d: int, t: float, query_std: float = 1.0) -> float:
    r"""Norm that a Gaussian query exceeds with a probability of at most :math:`e^{-t}`.

    Parameters
    ----------
    d : int
        Numbers in a query.
    t : float
        Not negative.
    query_std : float
        Standard deviation of its entries.

    Returns
    -------
    norm : float
        :math:`\sqrt{3 (d + t)} \, \sigma_q`.

    Notes
    -----
    Lemma E.2.
    """
    width = check_count("d", d)
    excess = check_within("t", t, 0.0, math.inf, "t >= 0")
    return math.sqrt(3.0 * (width + excess)) * check_positive("query_std", query_std)


def logit_std_bound(
    m: int, d: int, delta: float, query_std: float = 1.0, key_std: float = 1.0
) -> float:
    r"""Bound on the standard deviation of the logits of m Gaussian queries.

    Parameters
    ----------
    m : int
        Number of queries.
    d : int
        Numbers in a query and in a key.
    delta : float
        Probability with which the bound may fail, 0 < delta < 1.
    query_std, key_std : float
        Standard deviations of the entries.

    Returns
    -------
    std : float
        :math:`\sigma_a = 4 \sqrt{1 + \log(m / \delta) / d} \; \sigma_q \sigma_k`.

    See Also
    --------
    logit_std : The standard deviation for a given query.

    Notes
    -----
    The :math:`\sigma_a` of Theorems 4.1 and 5.1 and of Lemma 6.1. The standard deviation is close to
    :math:`\sigma_q \sigma_k` for nearly all queries, so a threshold that takes this bound for it lies
    more than four times too far out. Measured at d = 64, m = 32 and delta = 0.01, such a threshold
    reports no key up to n = 1 024 000, and the normalised row 0 / 0 is undefined.
    """
    queries, width = check_count("m", m), check_count("d", d)
    failure = check_real("delta", delta)
    if not 0.0 < failure < 1.0:
        raise ValueError(f"`delta` must satisfy 0 < delta < 1, got {failure}")
    stds = check_positive("query_std", query_std) * check_positive("key_std", key_std)
    return 4.0 * math.sqrt(1.0 + math.log(queries / failure) / width) * stds


def sparse_threshold(n: int, logit_std: float) -> float:
    r"""Threshold at which at most about :math:`n^{4/5}` of n keys are expected.

    Parameters
    ----------
    n : int
        Number of keys.
    logit_std : float
        Standard deviation of the logits: `logit_std`, or as the theorems state it,
        `logit_std_bound`.

    Returns
    -------
    threshold : float
        :math:`b = \sigma_a \sqrt{0.4 \log n}`, for logits.

    Notes
    -----
    Algorithms 1 and 2. It makes :math:`n \exp(-b^2 / (2 \sigma_a^2))` equal to :math:`n^{4/5}`.
    """
    return check_positive("logit_std", logit_std) * math.sqrt(0.4 * math.log(check_count("n", n)))


def quantile_threshold(n: int, count: float, logit_std: float) -> float:
    """Threshold at which a given number of Gaussian logits is expected.

    Parameters
    ----------
    n : int
        Number of keys.
    count : float
        Expected number above the threshold, 0 <= count <= n.
    logit_std : float
        Standard deviation of the logits.

    Returns
    -------
    threshold : float
        For logits; infinite for a count of 0, minus infinity for n.

    Notes
    -----
    The inverse of `expected_count`, and what to use where the keys are Gaussian: thresholds from bounds
    report fewer keys than they promise.
    """
    keys, std = check_count("n", n), check_positive("logit_std", logit_std)
    wanted = check_within("count", count, 0.0, keys, "0 <= count <= n")
    share = wanted / keys
    if share in (0.0, 1.0):
        return math.inf if share == 0.0 else -math.inf
    return -std * NormalDist().inv_cdf(share)


def expected_count(n: int, threshold: float, logit_std: float) -> float:
    r"""Return the expected number of Gaussian logits that reach a threshold.

    Parameters
    ----------
    n : int
        Number of keys.
    threshold : float
        b, for logits.
    logit_std : float
        Their standard deviation.

    Returns
    -------
    count : float
        :math:`n \, \Phi_c(b / \sigma)`, with the upper tail :math:`\Phi_c` of the normal
        distribution.

    Notes
    -----
    Exact, where Lemma E.1 bounds. At the threshold of `sparse_threshold` it is
    :math:`\Theta(n^{4/5} / \sqrt{\log n})`: of a thousand to a million keys, a fifth to a seventh of
    :math:`n^{4/5}`.
    """
    keys, std = check_count("n", n), check_positive("logit_std", logit_std)
    b = check_within("threshold", threshold, -math.inf, math.inf, "-inf <= threshold <= inf")
    return 0.5 * keys * math.erfc(b / (std * math.sqrt(2.0)))


def count_bound(n: int, threshold: float, logit_std: float) -> float:
    r"""Bound on the number of Gaussian logits that reach a threshold.

    Parameters
    ----------
    n : int
        Number of keys.
    threshold : float
        b, for logits; not negative.
    logit_std : float
        Their standard deviation.

    Returns
    -------
    count : float
        :math:`2 n \exp(-b^2 / (2 \sigma^2))`.

    See Also
    --------
    count_bound_failure : The probability with which it fails.

    Notes
    -----
    Lemma E.1. At the threshold of `sparse_threshold` it is :math:`2 n^{4/5}`, as in Lemma 6.1.
    """
    return 2.0 * _chernoff_mean(n, threshold, logit_std)


def count_bound_failure(n: int, threshold: float, logit_std: float) -> float:
    r"""Bound on the probability that more logits reach a threshold than `count_bound` says.

    Parameters
    ----------
    n : int
        Number of keys.
    threshold : float
        b, for logits; not negative.
    logit_std : float
        Their standard deviation.

    Returns
    -------
    probability : float
        :math:`\exp(-\mu / 3)` with :math:`\mu = n \exp(-b^2 / (2 \sigma^2))`.

    Notes
    -----
    Lemma E.1 has :math:`\exp(-\Omega(\mu))`. The number is binomial with a mean of at most
    :math:`\mu`, and the multiplicative Chernoff bound for twice that gives the constant 1/3.
    """
    return math.exp(-_chernoff_mean(n, threshold, logit_std) / 3.0)


def sparse_count(n: int) -> float:
    """Bound on the number of keys that a query activates, n to the power 4/5.

    Parameters
    ----------
    n : int
        Number of keys.

    Returns
    -------
    count : float
        The column "activated entries" of Table 1, before rounding down.

    Notes
    -----
    Lemma 6.1 has twice that, for all queries with a probability of at least 1 - delta, if the threshold
    is that of `sparse_threshold` with `logit_std_bound`. It is a bound, not an estimate:
    `expected_count` is the latter.
    """
    return math.pow(check_count("n", n), 0.8)


def sparsity(n: int) -> float:
    """Share of the keys that are not activated if n to the power 4/5 are.

    Parameters
    ----------
    n : int
        Number of keys.

    Returns
    -------
    share : float
        1 - n ** (-1/5): the column "sparsity" of Table 1.
    """
    return 1.0 - math.pow(check_count("n", n), -0.2)


def _chernoff_mean(n: Any, threshold: Any, logit_std: Any) -> float:
    """Return n times the bound exp(-b^2 / (2 std^2)) on the tail of a Gaussian from b >= 0 on."""
    keys, std = check_count("n", n), check_positive("logit_std", logit_std)
    b = check_within("threshold", threshold, 0.0, math.inf, "threshold >= 0")
    ratio = b / std
    # Not `ratio**2`, which overflows into an exception.
    return keys * math.exp(-0.5 * ratio * ratio)
