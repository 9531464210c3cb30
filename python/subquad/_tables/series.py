"""Truncated series of the exponential, to sixty digits, rounded to float64 at the end."""

from __future__ import annotations

from decimal import Decimal, localcontext
from math import factorial

__all__ = ["chebyshev", "taylor"]

DIGITS = 60
NEGLIGIBLE = Decimal("1e-40")


def taylor(degree: int) -> list[float]:
    """Return 1 / k! for k = 0 to the degree."""
    return [1 / factorial(k) for k in range(degree + 1)]


def chebyshev(degree: int, bound: float) -> list[float]:
    r"""Truncate :math:`e^{bt} = I_0(b) + 2 \sum_k I_k(b) T_k(t)`, in ascending powers of s = b t.

    The sum in monomials cancels most of its digits, hence sixty of them.
    """
    with localcontext() as context:
        context.prec = DIGITS
        b = Decimal(bound)
        total = [Decimal(0)] * (degree + 1)
        before, current = [0], [1]  # T_{k-1} and T_k, in powers of t
        for k in range(degree + 1):
            weight = _bessel(k, b) * (1 if k == 0 else 2)
            for j, x in enumerate(current):
                total[j] += weight * x
            twice = [0, *(2 * x for x in current)]
            after = [x - y for x, y in zip(twice, before + [0] * len(twice), strict=False)]
            before, current = current, after if k else [0, 1]
        return [float(x / b**j) for j, x in enumerate(total)]


def _bessel(k: int, b: Decimal) -> Decimal:
    """Return I_k(b), the modified Bessel function, by its series."""
    term = (b / 2) ** k / factorial(k)
    total, m = term, 0
    while term > NEGLIGIBLE * total:
        m += 1
        term *= b * b / 4 / (m * (m + k))
        total += term
    return total
