"""The choice of a polynomial by what it does to some rows, where no bound is asked for."""

from __future__ import annotations

import math

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial
from numpy.typing import NDArray

from .bounds import Approximant
from .choice import Cost, Division, Group
from .head import Centred, Floats
from .measures import Measures

__all__ = ["fit_division", "fitted_division"]

# Rows that polynomials are fitted to.
_PILOT = 48
# Degrees that are tried, and the share of the budget that the pilot rows may take.
_DEGREES, _MARGIN = 8, 0.7
# Logits that are looked at for a fit.
_LOGITS = 1 << 18


def fit_division(
    centred: Centred, eps: float, cost: Cost, rng: np.random.Generator, *, gradient: bool
) -> tuple[Division | None, float, str]:
    """Return the polynomial of least degree that meets the budget on some rows, and what it makes there."""
    head = centred.head
    rows = np.sort(rng.choice(len(head.query), min(_PILOT, len(head.query)), replace=False))
    logits, seen = _logits(centred, rows)
    weights = np.where(seen, centred.masses * np.exp(np.minimum(logits, 700.0)), 0.0)
    value = head.value.astype(np.float64)
    spread = float(np.linalg.norm(value - value.mean(axis=0), axis=1).max())
    exact = _means(weights, value)
    largest = float(np.abs(logits[seen]).max(initial=0.0))
    what = (
        f"d = {logits.shape[1] and head.query.shape[1]}, max|s| about {largest:.3g}, eps = {eps:g}"
    )
    worst = math.inf
    for degree in range(1, _DEGREES + 1):
        flops = cost.sums(degree, len(head.query))
        if flops + cost.overhead >= cost.exact(len(head.query)):
            return (
                None,
                worst,
                f"{what}: degree {degree} takes {flops:.3g} operations, all keys less",
            )
        for c in _polynomials(degree, logits, centred.masses, seen, gradient=gradient):
            made = np.where(seen, centred.masses * Polynomial(c)(logits), 0.0)
            total = made.sum(axis=1, keepdims=True)
            if not (total > 0.0).all():
                continue
            off = _means(made, value) - exact
            error = np.linalg.norm(off, axis=1).max() / (spread or 1.0)
            if gradient:
                # Slopes of the weights, as if they were weights.
                slopes = (
                    np.where(seen, centred.masses * Polynomial(c).deriv()(logits), 0.0) - weights
                )
                off = (slopes @ value - slopes.sum(axis=1, keepdims=True) * exact) / total
                error = max(error, np.linalg.norm(off, axis=1).max() / (spread or 1.0))
            worst = min(worst, float(error))
            if error <= _MARGIN * eps:
                return fitted_division(centred, tuple(c), flops), float(error), ""
    return None, worst, f"{what}: {worst:.2g} of the spread at degree {_DEGREES}"


def fitted_division(centred: Centred, c: tuple[float, ...], flops: float) -> Division:
    """Answer all rows by one polynomial."""
    measures = Measures(centred)
    count = len(centred.head.query)
    p = Approximant("fitted", len(c) - 1, math.inf, c, ())
    group = Group(p, np.zeros(1), np.arange(count))
    none = np.zeros(0, np.intp)
    return Division(measures, measures.rows(0), (group,), none, flops, math.nan)


def _logits(centred: Centred, rows: NDArray[np.intp]) -> tuple[Floats, NDArray[np.bool_]]:
    """Logits around the centres, and which keys the rows see."""
    head = centred.head
    logits: Floats = head.scale * (centred.x[rows].astype(np.float64) @ centred.y.T)
    keys = len(head.key)
    if head.shift is None:
        return logits, np.ones(logits.shape, bool)
    return logits, np.arange(keys) <= rows[:, np.newaxis] + head.shift


def _means(weights: Floats, value: Floats) -> Floats:
    total = weights.sum(axis=1, keepdims=True)
    shares = np.divide(weights, total, out=np.zeros_like(weights), where=total != 0.0)
    means: Floats = shares @ value
    return means


def _polynomials(
    degree: int, logits: Floats, masses: Floats, seen: NDArray[np.bool_], *, gradient: bool
) -> list[Floats]:
    """Taylor's, and the one with the least squares of errors by mass."""
    taylor = np.array([1.0 / math.factorial(t) for t in range(degree + 1)])
    step = max(1, logits.size // _LOGITS)
    s = logits[seen][::step]
    mass = np.broadcast_to(masses, logits.shape)[seen][::step]
    domain = [float(s.min()), float(s.max())]
    if s.size <= degree + 1 or not domain[0] < domain[1]:
        return [taylor]
    weights, powers = np.sqrt(mass), np.exp(s)
    # With the derivative: the integral of what is close to it.
    fit = Chebyshev.fit(s, powers, degree - gradient, domain=domain, w=weights)
    if gradient:
        fit = fit.integ()
        fit += float(np.average(powers - fit(s), weights=mass))
    c = fit.convert(kind=Polynomial).coef
    return [taylor, np.pad(c, (0, degree + 1 - len(c)))]
