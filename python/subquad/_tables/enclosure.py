"""Upper bounds on the error of a polynomial for exp, proved in integer arithmetic.

Every error of interest is a supremum of ``f(s) = q(s) exp(-s) + c`` over [-bound, bound], q a polynomial
with float64 coefficients. Its derivative is ``(q' - q)(s) exp(-s)``: a polynomial decides where f can
have an extremum, and that is computed exactly, for floats are integers over a power of two. Only exp is
enclosed. The interval is bisected until the bound is within a few parts in 10^5 of an attained value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

__all__ = ["LARGEST_BOUND", "derivative", "moment_holds", "relative_error", "supremum"]

# exp(16) needs 24 bits; beyond it ascending powers cancel more digits than float64 has.
LARGEST_BOUND = 16.0

# Fixed point: numbers are integers over 2**BITS.
BITS = 192
ONE = 1 << BITS
# More units than `_exp` can be wrong by, which its docstring counts.
EXP_ERROR = 1 << 40
# Bits of an interval's end after the point: those of a bound, and as many bisections as it takes.
POINT_BITS = 64
BOUND_BITS = 24
# A bound is accepted within this share of an attained value, or below a size that no one asks for.
LOOSENESS = 1 << 14
NEGLIGIBLE = ONE >> 70


def relative_error(c: Sequence[float | Fraction], bound: float) -> float:
    """Bound ``|p(s) - exp(s)| / exp(s)`` for abs(s) <= bound.

    Parameters
    ----------
    c : sequence of float or Fraction
        Coefficients of p in ascending powers.
    bound : float
        0 <= bound <= 16.

    Returns
    -------
    error : float
        Never below the supremum; above it by a few parts in 10^5 and 2^-70 at most.
    """
    return max(supremum(c, -1, bound), supremum([-x for x in c], 1, bound))


def moment_holds(c: Sequence[float], alpha: float, beta: float, bound: float) -> bool:
    """Prove ``|p(s) - exp(s)| <= alpha + beta s**2`` for abs(s) <= bound; False if that fails."""
    weight = [Fraction(alpha), Fraction(0), Fraction(beta)]
    for sign in (1, -1):
        q = [Fraction(sign * x) for x in c] + [Fraction(0)] * (3 - len(c))
        q[:3] = [x - w for x, w in zip(q, weight, strict=False)]
        if supremum(q, -sign, bound, goal=0) > 0.0:
            return False
    return True


def derivative(c: Sequence[float | Fraction]) -> list[Fraction]:
    """Coefficients of p', exactly."""
    return [k * Fraction(x) for k, x in enumerate(c)][1:]


def supremum(
    q: Sequence[float | Fraction], constant: int, bound: float, goal: int | None = None
) -> float:
    """Bound ``q(s) exp(-s) + constant`` from above for abs(s) <= bound.

    Parameters
    ----------
    q : sequence of float or Fraction
        Coefficients in ascending powers, integers over powers of two.
    constant : int
        The constant.
    bound : float
        0 <= bound <= 16. Rounded up to 24 bits, for short integers.
    goal : int, optional
        Only tell whether this is exceeded.

    Returns
    -------
    bound : float
        Never below the supremum.
    """
    curve = _Curve(q, constant)
    end = _round_up(bound)
    left, right = curve.value(-end), curve.value(end)
    attained = proved = max(left, right)
    cells = [(-end, end, left, right)]
    while cells:
        a, b, at_a, at_b = cells.pop()
        if b == a:
            continue
        middle = (a + b) // 2
        highest = max(at_a, at_b) + curve.rise(a, b, middle)
        enough = attained + max(attained, 0) // LOOSENESS + NEGLIGIBLE
        if goal is not None:
            enough = max(attained, goal * ONE)
        if highest <= enough or b - a <= 2:
            proved = max(proved, highest)
            continue
        at_middle = curve.value(middle)
        attained = max(attained, at_middle)
        cells += [(a, middle, at_a, at_middle), (middle, b, at_middle, at_b)]
    return _to_float(proved)


class _Curve:
    """q(s) exp(-s) + constant, at integers over 2**POINT_BITS."""

    def __init__(self, q: Sequence[float | Fraction], constant: int) -> None:
        exact = [Fraction(x) for x in q] or [Fraction(0)]
        slope = [*(k * x for k, x in enumerate(exact) if k), Fraction(0)]
        self.q = _Integers(exact)
        self.slope = _Integers([d - x for d, x in zip(slope, exact, strict=True)])
        self.constant = constant * ONE
        self.powers: dict[int, int] = {}

    def exp(self, point: int) -> int:
        """Return exp(-s), within EXP_ERROR."""
        if point not in self.powers:
            self.powers[point] = _exp(-point)
        return self.powers[point]

    def value(self, point: int) -> int:
        """Bound the value at a point from above."""
        q = self.q.fixed(self.q.at(point)) + 1
        power = self.exp(point) + (EXP_ERROR if q >= 0 else -EXP_ERROR)
        return ((q * power) >> BITS) + 1 + self.constant

    def rise(self, a: int, b: int, middle: int) -> int:
        """Bound by how much the curve between a and b exceeds both ends."""
        half = max(middle - a, b - middle)
        terms = self.slope.taylor(middle)
        power, rest = 1, 0
        for term in terms[1:]:
            power *= half
            rest += abs(term) * power
        if abs(terms[0]) > rest:
            return 0  # q' - q has no zero there: monotone
        steepest = self.slope.fixed(abs(terms[0]) + rest) + 1
        steepest = (steepest * (self.exp(a) + EXP_ERROR) >> BITS) + 1
        # No point is further than `half` from the nearer end.
        return (steepest * half >> POINT_BITS) + 1


class _Integers:
    """A polynomial of s = x / 2**POINT_BITS as one of x with integer coefficients, times 2**shift."""

    def __init__(self, exact: Sequence[Fraction]) -> None:
        places = max(x.denominator.bit_length() - 1 for x in exact)
        degree = len(exact) - 1
        self.coefficients = [
            int(x * (1 << places)) << (POINT_BITS * (degree - k)) for k, x in enumerate(exact)
        ]
        self.shift = places + POINT_BITS * degree

    def at(self, x: int) -> int:
        total = 0
        for c in reversed(self.coefficients):
            total = total * x + c
        return total

    def taylor(self, x: int) -> list[int]:
        """Coefficients of the polynomial in powers of distance from x (Horner's scheme)."""
        c = self.coefficients.copy()
        for first in range(len(c) - 1):
            for k in range(len(c) - 2, first - 1, -1):
                c[k] += x * c[k + 1]
        return c

    def fixed(self, value: int) -> int:
        """Return a value over 2**shift in fixed point, rounded down."""
        shift = self.shift - BITS
        return value >> shift if shift >= 0 else value << -shift


def _exp(point: int) -> int:
    """Return exp(s) in fixed point for abs(s) <= 16, by its series.

    A term is wrong by at most 2 units, and by abs(s) / k times what the one before is wrong by: a
    unit grows to no more than exp(16) < 2**24 of them in all the terms that follow, and there are
    fewer than 2**10, so 2**35 units in all. What is left out is smaller than the last term.
    """
    x = point << (BITS - POINT_BITS)
    total = term = ONE
    k = 0
    while abs(term) > 1 or k < 40:
        k += 1
        term = (term * x >> BITS) // k
        total += term
    return total


def _round_up(bound: float) -> int:
    """Return the bound over 2**-POINT_BITS, with few bits."""
    if not 0.0 <= bound <= LARGEST_BOUND:
        raise ValueError(f"`bound` must satisfy 0 <= bound <= {LARGEST_BOUND:g}, got {bound}")
    spare = max(0, POINT_BITS + math.frexp(bound)[1] - BOUND_BITS)
    return math.ceil(Fraction(bound) * (1 << POINT_BITS) / (1 << spare)) << spare


def _to_float(value: int) -> float:
    """Return a float64 that is no smaller."""
    exact = Fraction(value, ONE)
    nearest = float(exact)
    return nearest if Fraction(nearest) >= exact else math.nextafter(nearest, math.inf)
