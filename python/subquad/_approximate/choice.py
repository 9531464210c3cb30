"""Which polynomial for which row of a head, and whether any is cheaper than all keys."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import _subquad
from .._tables.table import LARGEST_DEGREE, load
from .blocks import blocks_division
from .bounds import Approximant, Rounding, approximants, half_rounding, prior
from .division import Cost, Division, Group
from .head import Floats
from .measures import Measures, Rows

__all__ = ["choose", "divide"]

# Degrees that are looked at: beyond them, subsets are too many and features too.
_DEGREES = 10
# Bounds of a degree that are tried, from the largest that the budget allows downwards.
_TRIES = 3
# So many features for each coordinate are not worth looking for fewer.
_FEW = 4
# Rows that polynomials are compared on, and the share of them that is as good as all.
_SAMPLE, _ENOUGH = 512, 0.98


# A degree, and the kind and the bound of its polynomial.
Table: TypeAlias = tuple[int, str, float]


@dataclass(frozen=True, slots=True)
class _Option:
    p: Approximant
    rho: Floats
    bound: Floats
    good: NDArray[np.bool_]


def choose(
    candidates: Sequence[Measures], eps: float, rounding: Rounding, cost: Cost, *, gradient: bool
) -> tuple[Division | None, str]:
    """Return the cheapest division that is cheaper than all keys, or None; and the numbers behind it."""
    best: Division | None = None
    for measures in candidates:
        found = divide(measures, eps, rounding, cost, gradient=gradient)
        if found is not None and (best is None or found.flops < best.flops):
            best = found
    exact = cost.exact(len(cost.head.query))
    below = (exact if best is None else min(exact, best.flops)) - cost.overhead
    if best is None or _features(best) > _FEW * cost.head.query.shape[1]:
        fewer = blocks_division(candidates[0], eps, rounding, cost, below, gradient=gradient)
        best = best if fewer is None else fewer
    if best is not None and best.flops + cost.overhead < exact:
        return best, ""
    return None, _refusal(candidates, eps, best, cost, gradient)


def _features(division: Division) -> int:
    width = division.measures.centred.x.shape[1]
    return max(group.p.kept.features(width) for group in division.groups)


def divide(
    measures: Measures,
    eps: float,
    rounding: Rounding,
    cost: Cost,
    *,
    gradient: bool,
    tables: Sequence[Table] | None = None,
) -> Division | None:
    """Choose polynomials, or take those given, and say which rows each of them answers within `eps`."""
    head = measures.centred.head
    exact = cost.exact(len(head.query))
    worth = tables or [
        (degree, "", 0.0) for degree in range(1, _DEGREES + 1) if cost.sums(degree, 0) <= exact
    ]
    if not worth:
        return None
    rows = measures.rows(max(degree for degree, _, _ in worth))
    finder = Finder(measures, rows, eps, rounding, gradient)
    options = [option for table in worth if (option := finder.option(*table)) is not None]
    if not options:
        return None
    # Rows by which of the options answer them: few kinds.
    kinds = np.zeros(len(head.query), np.int64)
    for bit, option in enumerate(options):
        kinds |= option.good.astype(np.int64) << bit
    counts = np.bincount(kinds, minlength=1 << len(options))
    taken = tuple(range(len(options)))
    if tables is None:
        # Where positions count, one scan answers all rows.
        most = len(options) if head.shift is None else 1
        subsets = itertools.chain.from_iterable(
            itertools.combinations(taken, size) for size in range(1, most + 1)
        )
        taken = min(subsets, key=lambda some: _flops(some, options, counts, cost))
    flops = _flops(taken, options, counts, cost) + cost.apart(measures.apart)
    left = np.ones(len(head.query), bool)
    groups, worst = [], 0.0
    for option in (options[bit] for bit in taken):
        mine = np.flatnonzero(option.good & left)
        left[mine] = False
        if mine.size:
            groups.append(Group(option.p, option.rho, mine))
            worst = max(worst, float(option.bound[mine].max()))
    if not groups:
        return None
    groups = [finder.in_half(group) for group in groups]
    return Division(measures, finder.rows, tuple(groups), np.flatnonzero(left), flops, worst)


def _flops(
    taken: tuple[int, ...], options: list[_Option], counts: NDArray[np.int64], cost: Cost
) -> float:
    rows = dict.fromkeys(taken, 0)
    exact = 0
    for kind in np.flatnonzero(counts):
        first = next((bit for bit in taken if kind >> bit & 1), None)
        if first is None:
            exact += int(counts[kind])
        else:
            rows[first] += int(counts[kind])
    if cost.head.shift is not None:
        rows = {bit: len(cost.head.query) if count else 0 for bit, count in rows.items()}
    sums = sum(cost.sums(options[bit].p.degree, count) for bit, count in rows.items() if count)
    return sums + cost.exact(exact)


@dataclass(slots=True)
class Finder:
    """Finds the polynomial of a degree that answers most rows of a head."""

    measures: Measures
    rows: Rows
    eps: float
    rounding: Rounding
    gradient: bool

    def option(self, degree: int, kind: str, bound: float) -> _Option | None:
        """Return it, if it answers any; the kind is for a bound, or "" for the best there is."""
        best = self._best(degree, [(kind, [bound])] if kind else self._bounds(degree))
        if best is None:
            return None
        if best.kind == "moment":
            self.rows = self.measures.with_second(self.rows)
        rho, found = self._try(best, self.rows)
        # Nothing is off where no key is seen.
        found = np.where(self.measures.centred.head.seen == 0, 0.0, found)
        return _Option(best, rho, found, found <= self._budget)

    def in_half(self, group: Group) -> Group:
        """Take products in bf16 where the machine has them and the budget allows it for all rows."""
        head = self.measures.centred.head
        if head.shift is not None or self.gradient or group.p.degree < 2:
            return group
        if not (_subquad.bf16 and head.query.dtype == np.float32):
            return group
        half = half_rounding(self.measures, self.rows, group.p, self.rounding.smallest)
        bound = prior(self.measures, self.rows, group.p, group.rho, self.eps, half)
        allowed = (bound[group.rows] <= self._budget).all()
        return replace(group, half=half) if allowed else group

    def _bounds(self, degree: int) -> list[tuple[str, list[float]]]:
        largest = float(self.rows.logits.max(initial=0.0))
        relative, moments = _bounds(degree, largest, self.eps, gradient=self.gradient)
        return [("minimax", relative), ("moment", moments)]

    def _best(self, degree: int, tables: list[tuple[str, list[float]]]) -> Approximant | None:
        """Decide by some rows, as there are many polynomials."""
        count = len(self.rows.length)
        index = slice(None, None, max(1, count // _SAMPLE))
        sample = self.rows.some(index)
        best: Approximant | None = None
        share = 0.0
        for kind, bounds in tables:
            if share > _ENOUGH:
                break
            if kind == "moment" and bounds:
                sample = self.measures.with_second(sample, index)
            for bound in bounds:
                for p in approximants(degree, bound, kind, gradient=self.gradient):
                    answered = float(np.mean(self._try(p, sample)[1] <= self._budget))
                    if answered > share:
                        best, share = p, answered
        return best

    @property
    def _budget(self) -> float:
        return self.measures.budget(self.eps)

    def _try(self, p: Approximant, rows: Rows) -> tuple[Floats, Floats]:
        rho = self.rounding.of(self.measures, rows, p)
        bound = prior(self.measures, rows, p, rho, self.eps)
        return rho, np.broadcast_to(bound, rows.length.shape)


def _bounds(
    degree: int, largest: float, eps: float, *, gradient: bool
) -> tuple[list[float], list[float]]:
    """Return bounds on logits that a degree may reach: relatively, and by the second moment."""
    relative, moments = _tabulated(degree, gradient)
    # The smallest bound for all rows, and what the budget allows relatively.
    enough = next((bound for bound, _ in relative if bound >= largest), math.inf)
    within = [bound for bound, error in relative if error <= eps and bound <= enough]
    if not within:
        return [], []
    # By the second moment, more than the relative error allows.
    ceiling = min(enough, 4.0 * within[-1])
    beyond = [bound for bound in moments if within[-1] < bound <= ceiling]
    return within[::-1][:_TRIES], beyond[::2]


@lru_cache(maxsize=64)
def _tabulated(degree: int, gradient: bool) -> tuple[list[tuple[float, float]], list[float]]:
    """Return ascending bounds of a degree: with relative errors, and those by second moments."""
    table = load()
    relative = [
        (entry.bound, entry.joint_error if gradient else entry.error)
        for entry in table.value
        if entry.degree + gradient == degree
    ]
    moments = {entry.bound for entry in table.moment if entry.degree == degree}
    return relative, [] if gradient else sorted(moments)


def _refusal(
    candidates: Sequence[Measures], eps: float, best: Division | None, cost: Cost, gradient: bool
) -> str:
    rows = len(cost.head.query)
    width = cost.head.query.shape[1]
    largest = min(float(m.rows(0).logits.max(initial=0.0)) for m in candidates)
    what = f"d = {width}, max|s| <= {largest:.3g}, eps = {eps:g}"
    exact = cost.exact(rows)
    degree = next(
        (
            e.degree + gradient
            for e in load().values(largest)
            if (e.joint_error if gradient else e.error) <= eps and e.degree + gradient >= 1
        ),
        None,
    )
    if best is not None and best.exact.size < rows:
        share = 100.0 * best.exact.size / rows
        return (
            f"{what}: {best.flops:.3g} operations, {share:.0f} % of the rows by all keys, against "
            f"{exact:.3g} for exact attention"
        )
    if degree is None:
        return f"{what} needs a degree beyond {LARGEST_DEGREE}"
    features = math.comb(width + degree, degree)
    return (
        f"{what} needs degree {degree}: {features:.3g} features for {len(cost.head.key)} keys, "
        f"{cost.sums(degree, rows):.3g} operations against {exact:.3g}"
    )
