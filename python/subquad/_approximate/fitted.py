"""The choice of a polynomial by what it does to some rows, where no bound is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._products import product
from .bounds import Approximant
from .division import Cost, Division, Group
from .head import Centred, Floats, Head
from .kept import Basis, Kept, blocks_of
from .measures import Measures

__all__ = ["fit_division", "fitted_division"]

# Queries and keys that polynomials are fitted to.
_QUERIES, _KEYS, _PAIRS = 48, 2048, 1 << 14
# Degrees that are tried; the share of the budget that the rows looked at may take.
_DEGREES, _MARGIN = 8, 0.5
# Keys that are few.
_EARLY = 256
# Logits beyond have weights whose squares are no numbers.
_LARGEST = 300.0
# A try for so many operations of exact attention, within these numbers: looking must not take longer.
_PER_TRY, _TRIES = 4e8, (10, 24)


@dataclass(frozen=True, slots=True)
class _Pilot:
    """Some queries and keys, and what attention makes of them."""

    x: Floats
    y: Floats
    masses: Floats
    """Of the keys, zero where a query does not see them."""
    value: Floats
    scale: float
    workers: int

    def logits(self, lead: int | None, basis: Basis | None) -> tuple[Floats, Floats]:
        """Return logits of the leading and of the trailing directions."""
        if lead is None or basis is None:
            return self.scale * product(self.x, self.y.T, self.workers), np.zeros((1, 1))
        x, y = basis.of_queries(self.x, self.workers), basis.of_keys(self.y, self.workers)
        parts = (slice(None, lead), slice(lead, None))
        leading, trailing = (
            self.scale * product(x[:, part], y[:, part].T, self.workers) for part in parts
        )
        return leading, trailing

    def sums(self, weights: Floats) -> Floats:
        """Return sums of the values by weight."""
        return product(np.ascontiguousarray(weights), self.value, self.workers)


def fit_division(
    centred: Centred, eps: float, cost: Cost, rng: np.random.Generator, *, gradient: bool
) -> tuple[Division | None, float, str]:
    """Return the cheapest polynomial that meets the budget on some rows, and what it makes of them."""
    if _early(centred.head).all():
        return None, math.inf, "no row sees many keys"
    pilot = _draw(centred, rng)
    basis = Measures(centred).basis if centred.head.shift is None else None
    logits = pilot.logits(None, None)[0]
    spread = float(np.linalg.norm(pilot.value - pilot.value.mean(axis=0), axis=1).max()) or 1.0
    width, count = len(pilot.x.T), len(centred.head.query)
    seen = np.abs(logits[pilot.masses > 0.0])
    what = f"d = {width}, max|s| about {float(seen.max(initial=0.0)):.3g}, eps = {eps:g}"
    if seen.max(initial=0.0) > _LARGEST:
        return None, math.inf, f"{what}: no polynomial is near the exponential"
    weights = pilot.masses * np.exp(np.minimum(logits, _LARGEST))
    exact = cost.exact(count)
    worst, dearest = math.inf, 0.0
    choices = _choices(width, basis, gradient=gradient)
    costs = sorted(
        (cost.features(kept.features(width), count), i, kept) for i, kept in enumerate(choices)
    )
    costs = [one for one in costs if one[0] + cost.overhead < exact]
    tries = min(max(exact / _PER_TRY, _TRIES[0]), _TRIES[1])
    step = (exact / costs[0][0]) ** (1.0 / tries) if costs else 1.0
    for flops, _, kept in costs:
        # So much dearer than the last one.
        if flops < step * dearest:
            continue
        dearest = flops
        pair = logits, np.zeros((1, 1))
        if kept.lead is not None:
            pair = pilot.logits(kept.lead, basis)
        table = _fit(kept, pair, pilot.masses, weights, gradient=gradient)
        error = _error(kept, table, pair, pilot, weights, gradient=gradient) / spread
        worst = min(worst, error)
        if error <= _MARGIN * eps:
            return fitted_division(centred, kept, table, flops), error, ""
    return (
        None,
        worst,
        f"{what}: at best {worst:.2g} of the spread in fewer operations than {exact:.3g}",
    )


def fitted_division(centred: Centred, kept: Kept, table: Floats, flops: float) -> Division:
    """Answer all rows by one polynomial, but those that see few keys."""
    measures = Measures(centred)
    early = _early(centred.head)
    basis = None if kept.lead is None else measures.basis
    c = table[0] if kept.lead is None else table
    p = Approximant("fitted", kept, math.inf, c, (), basis)
    group = Group(p, np.zeros(1), np.flatnonzero(~early))
    exact = np.flatnonzero(early)
    return Division(measures, measures.rows(0), (group,), exact, flops, math.nan)


def _early(head: Head) -> NDArray[np.bool_]:
    """Mark rows that see few keys: they are the furthest off, and quickly computed from those."""
    if head.shift is None:
        return np.zeros(len(head.query), bool)
    return head.seen <= min(_EARLY, len(head.key) // 8)


def _choices(width: int, basis: Basis | None, *, gradient: bool) -> Iterator[Kept]:
    yield from (Kept(degree) for degree in range(1, _DEGREES + 1))
    if basis is not None:
        yield from blocks_of(width, gradient=gradient)


def _draw(centred: Centred, rng: np.random.Generator) -> _Pilot:
    head = centred.head
    late = np.flatnonzero(~_early(head))
    rows, keys = (
        np.sort(rng.choice(some, min(most, len(some)), replace=False))
        for some, most in ((late, _QUERIES), (np.arange(len(head.key)), _KEYS))
    )
    masses = np.broadcast_to(centred.masses[keys], (rows.size, keys.size))
    if head.shift is not None:
        masses = np.where(keys <= rows[:, np.newaxis] + head.shift, masses, 0.0)
    x, y, value = (
        array[some].astype(np.float64)
        for array, some in ((centred.x, rows), (centred.y, keys), (head.value, keys))
    )
    return _Pilot(x, y, masses, value, head.scale, head.workers)


def _fit(
    kept: Kept, pair: tuple[Floats, Floats], masses: Floats, weights: Floats, *, gradient: bool
) -> Floats:
    """Return the table with the least squares of errors by mass, of the slopes too for a gradient."""
    some = np.flatnonzero(masses)
    some = some[:: max(1, some.size // _PAIRS)]
    a, b = (np.broadcast_to(x, masses.shape).ravel()[some] for x in pair)
    root = np.sqrt(masses.ravel()[some])
    aim = weights.ravel()[some] / np.maximum(root, 1e-300)
    sizes = [float(np.abs(x).max(initial=0.0)) or 1.0 for x in (a, b)]
    terms = kept.terms()
    columns = [root * (a / sizes[0]) ** k * (b / sizes[1]) ** u for k, u in terms]
    matrix, goal = np.stack(columns, axis=1), aim
    if gradient:
        by = [
            np.stack([root * _slope(t, axis, a, b, sizes) for t in terms], axis=1)
            for axis in kept.axes
        ]
        matrix = np.concatenate([matrix, *by])
        goal = np.concatenate([aim] * (1 + len(by)))
    found = np.linalg.lstsq(matrix, goal)[0]
    table = np.zeros((kept.trailing + 1, kept.degree + 1))
    for (k, u), c in zip(terms, found, strict=True):
        table[u, k] = c / (sizes[0] ** k * sizes[1] ** u)
    return table


def _slope(
    term: tuple[int, int], axis: int, a: Floats, b: Floats, sizes: Sequence[float] = (1.0, 1.0)
) -> Floats:
    """Return the slope of a term by a (axis 0) or by b."""
    k, u = term
    if term[axis] == 0:
        return np.zeros(np.broadcast(a, b).shape)
    x, y = a / sizes[0], b / sizes[1]
    slope: Floats = x ** (k - (axis == 0)) * y ** (u - (axis == 1)) * (term[axis] / sizes[axis])
    return slope


def _error(
    kept: Kept,
    table: Floats,
    pair: tuple[Floats, Floats],
    pilot: _Pilot,
    weights: Floats,
    *,
    gradient: bool,
) -> float:
    """Return the largest error of a row; infinite where weights have no positive sum."""
    a, b = pair
    made = np.zeros_like(weights)
    for k, u in kept.terms():
        made += table[u, k] * a**k * b**u
    made *= pilot.masses
    total, sums = made.sum(axis=1, keepdims=True), weights.sum(axis=1, keepdims=True)
    seen = sums[:, 0] > 0.0
    if not (total[seen] > 0.0).all():
        return math.inf
    exact = pilot.sums(weights[seen]) / sums[seen]
    off = pilot.sums(made[seen]) / total[seen] - exact
    error = np.linalg.norm(off, axis=1).max(initial=0.0)
    for axis in kept.axes if gradient else ():
        # Slopes of the weights, as if they were weights.
        slopes = sum(table[u, k] * _slope((k, u), axis, a, b) for k, u in kept.terms())
        wrong = (slopes * pilot.masses - weights)[seen]
        off = (pilot.sums(wrong) - wrong.sum(axis=1, keepdims=True) * exact) / total[seen]
        error = max(error, np.linalg.norm(off, axis=1).max(initial=0.0))
    return float(error)
