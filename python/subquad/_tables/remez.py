"""The best polynomials for exp, to sixty digits, by exchange (Remez).

For a weight W > 0, the p of a degree with the least ``max |p(s) - exp(s)| / W(s)`` is the one whose
weighted error takes that value with alternating signs at ``degree + 2`` points. Nothing here is
trusted: what is found is rounded to float64, and `enclosure` proves what it is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from functools import lru_cache
from math import cos, pi

__all__ = ["best", "joint_constant", "moment"]

DIGITS = 60
# Where the error is looked at on either side of 0: 15 points per alternation at degree 24.
POINTS = 200
# The levels of the alternation agree to this share when the exchange stops.
LEVEL = Decimal("1e-5")
EXCHANGES = 30

Weight = Callable[[Decimal, Decimal], Decimal]


def best(degree: int, bound: float) -> list[float]:
    """Minimise ``max |p(s) - exp(s)| / exp(s)`` over abs(s) <= bound."""
    return _exchange(degree, bound, lambda _, power: power)


def moment(degree: int, bound: float, ratio: float) -> tuple[list[float], float]:
    """Minimise beta in ``|p(s) - exp(s)| <= beta (ratio bound**2 + s**2)``.

    Returns
    -------
    c : list of float
        Coefficients in ascending powers.
    beta : float
        About the least; not proved.
    """
    shift = Decimal(ratio) * Decimal(bound) ** 2
    c = _exchange(degree, bound, lambda s, _: shift + s * s)
    with localcontext() as context:
        context.prec = DIGITS
        exact = [Decimal(x) for x in c]
        errors = (abs(_horner(exact, s) - e) / (shift + s * s) for s, e in _samples(bound))
        return c, float(max(errors))


def joint_constant(c: Sequence[float], bound: float) -> float:
    """Constant term that makes a polynomial exact at -bound; ``c[0]`` is not read."""
    with localcontext() as context:
        context.prec = DIGITS
        left = Decimal(-bound)
        return float(left.exp() - _horner([Decimal(0), *map(Decimal, c[1:])], left))


def _exchange(degree: int, bound: float, weight: Weight) -> list[float]:
    with localcontext() as context:
        context.prec = DIGITS
        points = degree + 2
        reference = [Decimal(-bound * cos(pi * i / (points - 1))) for i in range(points)]
        samples = _samples(bound)
        weights = [weight(s, e) for s, e in samples]
        for _ in range(EXCHANGES):
            c, level = _levelled(reference, weight)
            errors = [(_horner(c, s) - e) / w for (s, e), w in zip(samples, weights, strict=True)]
            if max(map(abs, errors)) <= abs(level) * (1 + LEVEL):
                break
            reference = _extrema([s for s, _ in samples], errors, points)
        return [float(x) for x in c]


def _levelled(reference: list[Decimal], weight: Weight) -> tuple[list[Decimal], Decimal]:
    """Return the polynomial whose weighted error alternates on a reference, and its level.

    Divided differences of order ``degree + 1`` vanish on polynomials: that gives the level, and the
    lower ones the Newton form.
    """
    powers = [s.exp() for s in reference]
    signed = [
        weight(s, e) * (-1) ** i for i, (s, e) in enumerate(zip(reference, powers, strict=True))
    ]
    of_exp, of_weight = _differences(reference, powers), _differences(reference, signed)
    level = of_exp[-1] / of_weight[-1]
    c = [Decimal(0)]
    for node, f, w in reversed(list(zip(reference, of_exp, of_weight, strict=True))[:-1]):
        # c (s - node) + f - level w
        c = [a - node * b for a, b in zip([Decimal(0), *c], [*c, Decimal(0)], strict=True)]
        c[0] += f - level * w
    return c[:-1], level


def _differences(nodes: list[Decimal], values: list[Decimal]) -> list[Decimal]:
    table = values.copy()
    for order in range(1, len(nodes)):
        for i in range(len(nodes) - 1, order - 1, -1):
            table[i] = (table[i] - table[i - 1]) / (nodes[i] - nodes[i - order])
    return table


def _extrema(s: list[Decimal], errors: list[Decimal], points: int) -> list[Decimal]:
    """Return where the error is largest between its changes of sign, `points` of them."""
    peaks: list[int] = []
    for i, error in enumerate(errors):
        if peaks and (error > 0) == (errors[peaks[-1]] > 0):
            if abs(error) > abs(errors[peaks[-1]]):
                peaks[-1] = i
        else:
            peaks.append(i)
    while len(peaks) > points:
        # The signs go on alternating when an end is dropped.
        peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
    if len(peaks) < points:
        raise ArithmeticError(f"the error alternates {len(peaks)} times, {points} are needed")
    return [_vertex(s, errors, i) for i in peaks]


def _vertex(s: list[Decimal], errors: list[Decimal], i: int) -> Decimal:
    """Return where the parabola through a sample and its neighbours has its extremum."""
    if i in (0, len(s) - 1):
        return s[i]
    before, after = s[i] - s[i - 1], s[i + 1] - s[i]
    falls, rises = (errors[i] - errors[i - 1]) / before, (errors[i + 1] - errors[i]) / after
    if falls == rises:
        return s[i]
    shift = (falls * after + rises * before) / (falls - rises) / 2
    return s[i] + max(-before, min(after, shift))


@lru_cache(maxsize=2)
def _samples(bound: float) -> list[tuple[Decimal, Decimal]]:
    """Points, dense near the ends and, for weights that are small there, near 0; and exp of them."""
    right = [Decimal(bound * (1 - cos(pi * i / POINTS)) / 2) for i in range(1, POINTS + 1)]
    nodes = [*(-s for s in reversed(right)), Decimal(0), *right]
    return [(s, s.exp()) for s in nodes]


def _horner(c: Sequence[Decimal], s: Decimal) -> Decimal:
    total = Decimal(0)
    for x in reversed(c):
        total = total * s + x
    return total
