"""Which degree a polynomial needs to be close to exp on an interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ._arguments import LARGEST, check_count, check_within

__all__ = [
    "chebyshev_degree",
    "chebyshev_error",
    "decay_degree_growth",
    "degree_growth",
    "taylor_degree",
    "taylor_error",
]


def degree_growth(bound: float, delta: float) -> float:
    r"""Growth of the least degree for exp on [0, bound], to an absolute error of delta.

    Parameters
    ----------
    bound : float
        B >= 1.
    delta : float
        Absolute error, 0 < delta < 1.

    Returns
    -------
    growth : float
        :math:`\max\{B, L / \log(L / B)\}` with :math:`L = \log(1 / \delta)`, the least degree up to
        constant factors. The logarithm is taken to be at least 1, where B is the larger one anyway
        (up to a factor of e).

    Notes
    -----
    The main theorem of arXiv:2205.06249 on :math:`e^x`, asymptotic in both directions. An error relative to
    :math:`e^s` for abs(s) <= b is an absolute one on an interval of length B = 2 b, up to the factor
    :math:`e^{2b}` between its ends. For a number use `taylor_degree` and `chebyshev_degree`, or
    `subquad.polynomial.coefficients`, which is exact.
    """
    b, log = check_within("bound", bound, 1.0, LARGEST, "1 <= bound < inf"), _log(delta)
    return max(b, log / max(1.0, math.log(log / b)))


def decay_degree_growth(bound: float, delta: float) -> float:
    r"""Growth of the least degree for exp(-x) on [0, bound], to an absolute error of delta.

    Parameters
    ----------
    bound : float
        B >= 1.
    delta : float
        Absolute error, 0 < delta < 1.

    Returns
    -------
    growth : float
        :math:`\max\{\sqrt{B L}, L / \log(L / B)\}` with :math:`L = \log(1 / \delta)`, the least
        degree up to constant factors; the logarithm taken to be at least 1.

    Notes
    -----
    The main theorem of arXiv:2205.06249 on :math:`e^{-x}`, asymptotic in both directions. An absolute error
    lets small weights go: it is what Gaussian kernels need, not what softmax does, whose rows may
    consist of small weights.
    """
    b, log = check_within("bound", bound, 1.0, LARGEST, "1 <= bound < inf"), _log(delta)
    return max(math.sqrt(b * log), log / max(1.0, math.log(log / b)))


def taylor_error(degree: int, bound: float) -> float:
    r"""Bound the relative error of Taylor's polynomial for abs(s) <= bound.

    Parameters
    ----------
    degree : int
        g >= 0.
    bound : float
        B >= 0.

    Returns
    -------
    error : float
        :math:`B^{g+1} e^B / (g+1)!`, with :math:`|p(s) - e^s| \le` this times :math:`e^s`.

    Notes
    -----
    Taylor's theorem with Lagrange's remainder. It holds at -B within a factor of :math:`e^B`, because
    the remainder alternates there.
    """
    g, b = (
        check_count("degree", degree, least=0),
        check_within("bound", bound, 0.0, LARGEST, _RANGE),
    )
    if b == 0.0:
        return 0.0
    return _exp((g + 1) * math.log(b) + b - math.lgamma(g + 2))


def chebyshev_error(degree: int, bound: float) -> float:
    r"""Bound the relative error of the truncated Chebyshev series for abs(s) <= bound.

    Parameters
    ----------
    degree : int
        g >= 0.
    bound : float
        B >= 0.

    Returns
    -------
    error : float
        :math:`2 e^B \sum_{k > g} \frac{(B/2)^k}{k!} e^{B^2 / (4(k+1))}`.

    Notes
    -----
    By the theorem that :math:`e^{Bt} = I_0(B) + 2 \sum_k I_k(B) T_k(t)`, where :math:`|T_k| \le 1`,
    and :math:`I_k(B) \le \frac{(B/2)^k}{k!} e^{B^2 / (4(k+1))}` from the series of the Bessel
    function. The factor :math:`e^B` turns the absolute error into a relative one.
    """
    g, b = (
        check_count("degree", degree, least=0),
        check_within("bound", bound, 0.0, LARGEST, _RANGE),
    )
    if b == 0.0:
        return 0.0
    total, k = 0.0, g
    while True:
        k += 1
        term = _exp(b + k * math.log(b / 2) - math.lgamma(k + 1) + b * (b / (4 * (k + 1))))
        total += 2.0 * term
        # From k >= b on every term is at most half of the one before.
        if total == math.inf or (k >= b and term <= 1e-17 * total):
            return total * (1.0 + 1e-12)


def taylor_degree(bound: float, eps: float) -> int:
    """Least degree for which `taylor_error` is at most eps.

    Parameters
    ----------
    bound : float
        0 <= bound <= 1000.
    eps : float
        Relative error, 0 < eps < 1.

    Returns
    -------
    degree : int
        Sufficient; a polynomial of lower degree may do.

    Notes
    -----
    Taylor's theorem.
    """
    return _least(taylor_error, bound, eps)


def chebyshev_degree(bound: float, eps: float) -> int:
    """Least degree for which `chebyshev_error` is at most eps.

    Parameters
    ----------
    bound : float
        0 <= bound <= 1000.
    eps : float
        Relative error, 0 < eps < 1.

    Returns
    -------
    degree : int
        Sufficient; a polynomial of lower degree may do.

    Notes
    -----
    The theorem of `chebyshev_error`.
    """
    return _least(chebyshev_error, bound, eps)


_RANGE = "0 <= bound < inf"


def _log(delta: Any) -> float:
    share = check_within("delta", delta, math.ulp(0.0), 1.0 - 2.0**-53, "0 < delta < 1")
    return -math.log(share)


def _exp(x: float) -> float:
    """Return exp(x), infinite where float64 ends."""
    return math.exp(x) if x < 709.0 else math.inf


def _least(error: Callable[[int, float], float], bound: Any, eps: Any) -> int:
    """Bisect: the errors rise, if at all, only at degrees where they exceed 1."""
    b = check_within("bound", bound, 0.0, 1000.0, "0 <= bound <= 1000")
    share = check_within("eps", eps, math.ulp(0.0), 1.0 - 2.0**-53, "0 < eps < 1")
    low, high = -1, 1
    while error(high, b) > share:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if error(middle, b) <= share else (middle, high)
    return high
