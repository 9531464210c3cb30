"""Which way a head with a bias over lags is computed, and whether any is cheaper than all keys."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..._tables.table import LARGEST_DEGREE, integral, load
from ...theory.toeplitz import convolution_flops
from ..division import Cost
from ..head import Floats, Head
from ..measures import Measures
from .division import LagDivision, Polynomial, bound_of, facts_of
from .near import near_pairs
from .routes import Blocks, Decay, Plateau, Route, Split
from .smooth import Kerple, smooth_route
from .whole import Whole

__all__ = ["Wish", "choose_lags", "divide", "polynomial_of", "route_of", "whole_of"]

# Tokens of a block, in whole tiles of the core; so few queries at the end of the last one would be read in another
# order of sums.
_SIZES, _FEW = (192, 384, 960, 1920, 3840), 32
# Share of the budget for the split of a smooth bias.
_FOR_SPLIT = 0.2
# Operations that an exact row takes besides, for every key.
_FOR_ROW = 50.0
# Operations that take as long as bounds and splits do, for every query and key.
_PER_TOKEN = 4e4
# Degrees that are looked at, and the numbers that sums may take.
_DEGREES, _NUMBERS = 10, 1 << 27


@dataclass(frozen=True, slots=True)
class Wish:
    """What the bias of a head is, and what is asked for."""

    kind: str
    """As in `Bias`."""
    numbers: Floats
    """Its parameters for the head."""
    lags: Floats
    """It, for lags from -(S - 1) to L - 1."""
    eps: float
    gradient: bool


def choose_lags(measures: Measures, wish: Wish, cost: Cost) -> tuple[LagDivision | None, str]:
    """Return the cheapest division that is cheaper than all keys, or None; and the numbers behind it."""
    head = cost.head
    exact = cost.exact(len(head.query))
    besides = cost.overhead + _PER_TOKEN * (len(head.query) + len(head.key))
    best: LagDivision | None = None
    largest = float(measures.logits.max(initial=0.0))
    for degree in range(1, _DEGREES + 1):
        p = polynomial_for(degree, largest, wish)
        if p is None:
            continue
        for route, flops in sorted(_ways(wish, cost, degree), key=lambda way: way[1]):
            if flops >= (exact - besides if best is None else best.flops):
                break
            found = divide(measures, wish, route, p, cost, flops)
            if found is not None and (best is None or found.flops < best.flops):
                best = found
    if best is not None and best.flops + besides < exact:
        return best, ""
    return None, _refusal(measures, wish, best, cost)


def divide(
    measures: Measures, wish: Wish, route: Split, p: Polynomial, cost: Cost, flops: float
) -> LagDivision | None:
    """Say which rows a polynomial answers; None where those are none."""
    facts = facts_of(measures, wish.lags, route)
    bound = bound_of(measures, facts, route, p)
    good = bound <= measures.budget(wish.eps)
    if not good.any():
        return None
    left = np.flatnonzero(~good)
    worst = float(bound[good].max())
    # They are few at a time, and every time all keys are read, also for the bounds.
    flops += cost.exact(left.size) + _FOR_ROW * left.size * len(cost.head.key)
    shares_lags = wish.kind == "learned" and isinstance(route, Plateau)
    return LagDivision(measures, wish.lags, route, p, facts, left, flops, worst, shares_lags)


def polynomial_for(degree: int, largest: float, wish: Wish) -> Polynomial | None:
    """Return the one for all logits, or else the one for the most that the budget allows."""
    known = [
        (value, value.joint_error if wish.gradient else value.error)
        for value in load().value
        if value.degree + wish.gradient == degree
    ]
    # Some of the budget is for rounding.
    within = [value for value, error in known if error <= 0.95 * wish.eps / (1.0 + wish.eps)]
    if not within:
        return None
    value = next((value for value in within if value.bound >= largest), within[-1])
    return polynomial_of(value.degree, value.bound, gradient=wish.gradient)


def polynomial_of(degree: int, bound: float, *, gradient: bool) -> Polynomial:
    """Return a tabulated polynomial; of a gradient the integral of that degree."""
    value = next(v for v in load().values(bound) if v.degree == degree)
    c = integral(value) if gradient else value.c
    error = value.joint_error if gradient else value.error
    return Polynomial(np.array(c), value.bound, error)


def _ways(wish: Wish, cost: Cost, degree: int) -> Iterator[tuple[Split, float]]:
    """Give splits of the bias that fit into memory, and their operations."""
    head = cost.head
    queries, keys, is_causal = len(head.query), len(head.key), head.shift is not None
    features = math.comb(int(head.query.shape[1]) + degree, degree)
    columns = int(head.value.shape[1]) + 1
    for size in _SIZES:
        if 2 * size > max(queries, keys):
            break
        route = route_of(wish, Blocks(queries, keys, _fitting(queries, size), is_causal))
        if route is None:
            continue
        held = route.blocks.of_keys + 2 * route.blocks.of_queries
        if features * columns * route.functions * held <= _NUMBERS:
            yield route, _operations(route, cost, features)
    if features * (queries + keys) <= _NUMBERS:
        yield whole_of(wish, head, degree), _transforms(queries + keys - 1) * features * columns


def whole_of(wish: Wish, head: Head, degree: int) -> Whole:
    """Return Toeplitz products of all pairs."""
    queries, keys = len(head.query), len(head.key)
    blocks = Blocks(queries, keys, max(queries, keys), head.shift is not None)
    seen = wish.lags[keys - 1 :] if blocks.is_causal else wish.lags
    top = float(seen.max(initial=-math.inf))
    features = math.comb(int(head.query.shape[1]) + degree, degree)
    return Whole(blocks, top if math.isfinite(top) else 0.0, features)


def _transforms(lags: int) -> float:
    """Operations that take as long as one product, whose own run at half the rate of others."""
    return 2.0 * convolution_flops(lags)


def _operations(route: Route, cost: Cost, features: int) -> float:
    head = cost.head
    near = near_pairs(route.blocks, route.reach)
    width = int(head.query.shape[1] + head.value.shape[1])
    sums = cost.features(features, len(head.query)) * route.functions
    # Sums of blocks go through memory a few times.
    pushed = 8.0 * features * (int(head.value.shape[1]) + 1) * route.functions
    return 2.0 * near * width + sums + pushed * (route.blocks.of_keys + route.blocks.of_queries)


def _fitting(queries: int, size: int) -> int:
    while 0 < queries % size <= _FEW:
        size += 96
    return size


def route_of(wish: Wish, blocks: Blocks) -> Route | None:
    """Return the split of a bias for blocks of a size, if there is one."""
    if wish.kind == "alibi":
        slope = float(wish.numbers[0])
        return Decay(blocks, slope) if slope >= 0.0 else None
    if wish.kind.startswith("kerple"):
        kernel = Kerple(wish.kind.removeprefix("kerple "), *map(float, wish.numbers))
        return smooth_route(blocks, kernel, _FOR_SPLIT * wish.eps)
    zero = blocks.keys - 1
    before, behind = wish.lags[zero + blocks.size + 1 :], wish.lags[: max(0, zero - blocks.size)]
    if blocks.is_causal:
        behind = behind[:0]
    if wish.kind == "learned" and wish.gradient:
        # Every lag has a gradient of its own.
        return None
    ends = []
    for far in (before, behind):
        if far.size and not (np.isfinite(far[0]) and (far == far[0]).all()):
            return None
        ends.append(float(far[0]) if far.size else -math.inf)
    if max(ends) == -math.inf:
        return None
    return Plateau(blocks, *ends)


def _refusal(measures: Measures, wish: Wish, best: LagDivision | None, cost: Cost) -> str:
    rows = len(cost.head.query)
    largest = float(measures.logits.max(initial=0.0))
    what = f"d = {cost.head.query.shape[1]}, max|s| <= {largest:.3g}, eps = {wish.eps:g}"
    exact = cost.exact(rows)
    if best is not None:
        share = 100.0 * best.exact.size / rows
        return (
            f"{what}, {best.route.name}: {best.flops:.3g} operations, {share:.0f} % of the rows by "
            f"all keys, against {exact:.3g} for exact attention"
        )
    if largest > load().value[-1].bound:
        return f"{what} needs a degree beyond {LARGEST_DEGREE}"
    return f"{what}: no split of the bias saves operations against {exact:.3g} for exact attention"
