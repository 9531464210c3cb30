"""The argument behind the bounds, counted on random plays that compute values again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray
from pebble_theory_cuts import (
    Parts,
    attention,
    counted_products,
    matrix_product,
    segments,
)
from pebble_theory_plays import Play, final_products, random_play

from subquad.theory import _pebble_programs as programs
from subquad.theory import pebble as theory
from subquad.theory._pebble_attention import SHARES
from subquad.theory._pebble_segments import three_products

AtHand = Callable[[NDArray[np.float64]], NDArray[np.float64]]
# What products of each array count, and the price of starts.
Bound = tuple[AtHand, dict[str, float], dict[str, float]]

HALF_ROOT = np.sqrt(3.0) / 2.0
SLOPES = {"dv": 1.0, "dq": 1.0, "dk": 1.0}
ALL = {"dv": 1.0, "dp": 1.0, "s": HALF_ROOT, "dq": HALF_ROOT, "dk": HALF_ROOT}


def bounds_of(direction: str, d: int) -> list[Bound]:
    if direction == "backward":
        return [
            (partial(programs.at_hand_slopes, d=d), SLOPES, {}),
            (partial(programs.at_hand_four, d=d), {**SLOPES, "dp": 1.0}, {}),
            (partial(programs.at_hand_all, d=d), ALL, {}),
        ]
    both = [
        (
            partial(programs.at_hand_both, d=d, weight=w, price=price),
            {"o": 1.0, "s": w},
            {"s": price},
        )
        for w, price in SHARES
    ]
    return [(partial(programs.at_hand_outputs, d=d), {"o": 1.0}, {}), *both]


def check(
    play: Play, parts: Parts, bound: Bound, memory: int, rng: random.Random
) -> tuple[float, int]:
    """Hold a play against each step of the proof; return how near segments come, and most starts not of results."""
    at_hand, weights, price = bound
    way = final_products(play, parts.outputs, parts.operands)
    kept = counted_products(play, way, parts, weights, rng)
    # Each product is there once.
    made = Counter(parts.products[play[step][1]] for step in kept)
    asked = [product for product in parts.products.values() if product[0][0] in weights]
    assert made == Counter(asked)
    needed = sum(weights[place[0]] for place, _ in asked)
    words = sum(op in ("load", "store") for op, _ in play)
    stores = Counter(parts.places[v] for op, v in play if op == "store" and v in parts.places)
    results = {parts.places[v][0] for v in parts.outputs}
    slack = {place: 1 for place, _ in asked if place[0] not in results}
    nearest, started = 0.0, 0
    for most in (memory + 1, memory + 3, 2 * memory, 3 * memory, 3 * memory + 2):
        found, starts = segments(play, parts, kept, price, most, memory)
        for place, many in starts.items():
            assert many <= stores[place] + slack.get(place, 0)
        free = sum(price.get(place[0], 1.0) for place in slack)
        assert sum(segment.charge for segment in found) <= words + free + 1e-6
        assert max(segment.at_hand for segment in found) <= most + 1e-9
        done = np.array([segment.done for segment in found])
        limits = at_hand(np.array([max(segment.at_hand, 1e-3) for segment in found]))
        assert (done <= limits * (1 + 1e-9) + 1e-9).all()
        assert done.sum() == pytest.approx(needed, abs=1e-6)
        nearest = max(nearest, float((done / limits).max()))
        started = max(started, *(starts[place] for place in slack), 0)
    return nearest, started


def again(play: Play, parts: Parts) -> int:
    """Count scores and slopes of which several occurrences lead to results."""
    way = final_products(play, parts.outputs, parts.operands)
    seen = Counter(play[step][1] for step in way)
    return sum(seen[v] > 1 for place, v in parts.whole.items() if place[0] in ("s", "dp"))


def test_products_of_matrices() -> None:
    nearest = []
    for seed in range(60):
        rng = random.Random(seed)
        parts = matrix_product(*rng.choice([(2, 2, 3), (3, 2, 2), (1, 2, 4), (2, 3, 3)]))
        memory = rng.choice([4, 5, 7])
        play = random_play(parts.operands, parts.outputs, memory, rng)
        nearest.append(check(play, parts, (three_products, {"c": 1.0}, {}), memory, rng)[0])
    assert max(nearest) > 0.5


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_attention(direction: str) -> None:
    nearest, recomputed, started = [], 0, 0
    least, seeds = (6, 60) if direction == "forward" else (7, 30)
    for seed in range(seeds):
        rng = random.Random(seed)
        n, m, d = rng.choice(
            [(2, 2, 1), (2, 2, 2), (2, 3, 2), (3, 2, 1), (1, 3, 2), (1, 2, 4), (2, 2, 3)]
        )
        parts = attention(n, m, d, direction, rng)
        memory = rng.choice([least, least + 1, 10, 12])
        play = random_play(parts.operands, parts.outputs, memory, rng)
        recomputed += again(play, parts)
        for bound in bounds_of(direction, d):
            near, many = check(play, parts, bound, memory, rng)
            nearest.append(near)
            started = max(started, many)
        words = sum(op in ("load", "store") for op, _ in play)
        assert words >= theory.attention_lower_bound(
            max(n, m), d, memory, scores=n * m, direction=direction
        )
    # The plays are what the proof is about: scores are made again, and started in several segments.
    assert recomputed > seeds / 2
    assert started > 1
    assert max(nearest) > 0.6
