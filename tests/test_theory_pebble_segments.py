"""What words at hand can do: counted on all small sets of words, and on those that a search finds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from subquad.theory import _pebble_maximum as maximum
from subquad.theory import _pebble_programs as programs
from subquad.theory._pebble_attention import SHARES
from subquad.theory._pebble_segments import fewest_words

Bits = NDArray[np.bool_]
Counts = NDArray[np.float64]
HALF_ROOT = np.sqrt(3.0) / 2.0
BOTH = partial(programs.at_hand_both, weight=1.0, price=1.0)


# Segments


@pytest.mark.parametrize("exponent", [1.2, 1.5, 2.0])
@pytest.mark.parametrize("needed", [1.0, 37.0, 4000.0])
def test_fewer_words_do_not_suffice(needed: float, exponent: float) -> None:
    def at_hand(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((sizes / 3) ** exponent)

    def reached(size: int) -> float:
        return float((size / 3) ** exponent)

    for memory in (1, 4, 13):
        bound = int(fewest_words(needed, at_hand, np.array([memory]))[0])
        # With one word less, some cutting leaves too few products.
        short = []
        for most in range(memory + 1, 400):
            left, total = bound - 1, 0.0
            for segment in itertools.count():
                spent = min(left, most if segment == 0 else most - memory)
                total += reached(spent if segment == 0 else memory + spent)
                left -= spent
                if left == 0:
                    break
            short.append(total < needed)
        assert any(short)
        slack = int(fewest_words(needed, at_hand, np.array([memory]), slack=2.0)[0])
        assert slack == max(0, bound - 2)


# Words at hand


def test_loomis_and_whitney() -> None:
    pairs = list(itertools.product(range(2), repeat=2))
    tight = 0
    for chosen in itertools.product([False, True], repeat=12):
        first, second, third = (
            {pair for pair, is_in in zip(pairs, chosen[at : at + 4], strict=True) if is_in}
            for at in (0, 4, 8)
        )
        triples = sum(
            (i, j) in first and (i, k) in second and (j, k) in third
            for i, j, k in itertools.product(range(2), repeat=3)
        )
        assert triples**2 <= len(first) * len(second) * len(third)
        tight += triples**2 == len(first) * len(second) * len(third) > 0
    assert tight > 0


class Words:
    """All products that can be done with words at hand, exactly, for r queries, c keys and width d."""

    def __init__(self, r: int, c: int, d: int, direction: str) -> None:
        self.shape, self.direction = (r, c, d), direction
        rows = {"q": r, "k": c, "v": c, "o": r}
        if direction == "backward":
            rows |= {"dq": r, "dk": c, "dv": c}
        self.places = dict(
            zip(rows, itertools.accumulate([0, *(n * d for n in rows.values())]), strict=False)
        )
        self.rows = rows
        self.bits = d * sum(rows.values())

    def rows_of(self, words: Bits) -> dict[str, Bits]:
        """Return which words of each row are there, for each array."""
        d = self.shape[2]
        return {
            name: words[:, start : start + self.rows[name] * d].reshape(len(words), -1, d)
            for name, start in self.places.items()
        }

    def best(self, words: Bits, weights: dict[str, float]) -> Counts:
        """Most products with the words of operands in each row and 0, 1, ... words of pairs."""
        r, c, _ = self.shape
        total = np.zeros((len(words), 1))
        at = self.rows_of(words)
        for i, j in itertools.product(range(r), range(c)):
            gains = self.pair(
                {name: a[:, i if name in ("q", "o", "dq") else j] for name, a in at.items()},
                weights,
            )
            spread = np.full((len(words), total.shape[1] + gains.shape[1] - 1), -1.0)
            for more in range(gains.shape[1]):
                part = spread[:, more : more + total.shape[1]]
                np.maximum(part, total + gains[:, more : more + 1], out=part)
            total = spread
        return total

    def pair(self, at: dict[str, Bits], weights: dict[str, float]) -> Counts:
        """Most products of a pair with 0, 1, ... words of it."""

        def both(x: str, y: str) -> Counts:
            return np.asarray((at[x] & at[y]).sum(axis=1), dtype=np.float64)

        whole: Bits = np.all(at["q"], axis=1) & np.all(at["k"], axis=1)
        if self.direction == "forward":
            made = whole * both("o", "v") * weights["o"]
            kept = both("o", "v") * weights["o"] + both("q", "k") * weights["s"]
            return np.stack([made, np.maximum(made, kept)], axis=1)
        also: Bits = np.all(at["o"], axis=1) & np.all(at["v"], axis=1)
        gains = np.zeros((len(whole), 4))
        for score, slope, product in itertools.product([False, True], repeat=3):
            p, dp = whole | score, also | slope
            ds = (p & dp) | product
            gain = p * both("o", "dv") * weights["dv"]
            gain = gain + ds * (both("k", "dq") * weights["dq"] + both("q", "dk") * weights["dk"])
            gain = (
                gain
                + score * both("q", "k") * weights["s"]
                + slope * both("o", "v") * weights["dp"]
            )
            for many in range(score + slope + product, 4):
                gains[:, many] = np.maximum(gains[:, many], gain)
        return gains


PROGRAMS: list[
    tuple[str, Callable[[NDArray[np.float64], int], NDArray[np.float64]], dict[str, float]]
] = [
    ("forward", programs.at_hand_outputs, {"o": 1.0, "s": 0.0}),
    ("forward", BOTH, {"o": 1.0, "s": 1.0}),
    ("backward", programs.at_hand_slopes, {"dv": 1.0, "dq": 1.0, "dk": 1.0, "s": 0.0, "dp": 0.0}),
    ("backward", programs.at_hand_four, {"dv": 1.0, "dq": 1.0, "dk": 1.0, "s": 0.0, "dp": 1.0}),
    (
        "backward",
        programs.at_hand_all,
        {"dv": 1.0, "dq": HALF_ROOT, "dk": HALF_ROOT, "s": HALF_ROOT, "dp": 1.0},
    ),
]


@pytest.mark.parametrize(("direction", "at_hand", "weights"), PROGRAMS)
@pytest.mark.parametrize("sizes", [(2, 2, 1), (3, 1, 1), (1, 1, 2)])
def test_all_sets_of_words(
    sizes: tuple[int, int, int],
    direction: str,
    at_hand: Callable[[NDArray[np.float64], int], NDArray[np.float64]],
    weights: dict[str, float],
) -> None:
    words = Words(*sizes, direction)
    shifts = np.arange(words.bits, dtype=np.uint32)
    most: dict[int, float] = {}
    for start in range(0, 1 << words.bits, 1 << 16):
        sets = np.arange(start, min(start + (1 << 16), 1 << words.bits), dtype=np.uint32)
        chosen = (sets[:, None] >> shifts & 1).astype(np.bool_)
        found = words.best(chosen, weights)
        size = chosen.sum(axis=1)
        for many in np.unique(size):
            for more, gain in enumerate(found[size == many].max(axis=0)):
                most[many + more] = max(most.get(many + more, 0.0), float(gain))
    sizes_found = np.array([float(size) for size in most if size > 0])
    gains = np.array([most[int(size)] for size in sizes_found])
    bounds = at_hand(sizes_found, sizes[2])
    assert (gains <= bounds * (1 + 1e-12)).all()
    assert gains.max() > 0


@pytest.mark.parametrize(("direction", "at_hand", "weights"), PROGRAMS)
@pytest.mark.parametrize("sizes", [(2, 2, 2), (3, 3, 2), (4, 4, 4), (3, 3, 7)])
def test_no_set_of_words_that_a_search_finds_does_more(
    sizes: tuple[int, int, int],
    direction: str,
    at_hand: Callable[[NDArray[np.float64], int], NDArray[np.float64]],
    weights: dict[str, float],
) -> None:
    words, rng = Words(*sizes, direction), np.random.default_rng(7)

    def ratios(chosen: Bits) -> NDArray[np.float64]:
        gains = words.best(chosen, weights)
        size = chosen.sum(axis=1, keepdims=True) + np.arange(gains.shape[1])
        bounds = at_hand(np.maximum(size, 1).astype(np.float64).ravel(), sizes[2])
        return np.asarray((gains / bounds.reshape(size.shape)).max(axis=1))

    found = 0.0
    for _ in range(4):
        chosen = rng.random(words.bits) < rng.choice([0.2, 0.5, 0.9])
        best = ratios(chosen[None])[0]
        while True:
            near = chosen ^ np.eye(words.bits, dtype=np.bool_)
            value = ratios(near)
            if value.max() <= best:
                break
            best, chosen = value.max(), near[value.argmax()]
        found = max(found, float(best))
    assert 0.2 < found <= 1.0 + 1e-12


@pytest.mark.parametrize(("weight", "price"), SHARES)
@pytest.mark.parametrize("sizes", [(2, 2, 1), (1, 2, 2), (2, 1, 2)])
def test_all_sets_of_words_with_cheap_starts(
    sizes: tuple[int, int, int], weight: float, price: float
) -> None:
    r, c, d = sizes
    words = Words(r, c, d, "forward")
    shifts = np.arange(words.bits, dtype=np.uint32)
    chosen = (np.arange(1 << words.bits, dtype=np.uint32)[:, None] >> shifts & 1).astype(np.bool_)
    at = words.rows_of(chosen)
    best = 0.0
    # Of each pair nothing is at hand, or a word is, or its sum is started.
    for states in itertools.product("nws", repeat=r * c):
        gain = np.zeros(len(chosen))
        for state, (i, j) in zip(states, itertools.product(range(r), range(c)), strict=True):
            whole = np.all(at["q"][:, i], axis=1) & np.all(at["k"][:, j], axis=1)
            outs = (at["o"][:, i] & at["v"][:, j]).sum(axis=1)
            scores = (at["q"][:, i] & at["k"][:, j]).sum(axis=1)
            gain += (whole | (state == "w")) * outs + weight * (state != "n") * scores
        size = chosen.sum(axis=1) + states.count("w") + price * states.count("s")
        bounds = programs.at_hand_both(np.maximum(size, 1e-9), d, weight, price)
        assert (gain <= bounds * (1 + 1e-12) + 1e-12).all()
        best = max(best, float((gain / bounds).max()))
    assert best > 0.5


@pytest.mark.parametrize("kinds", [2, 3])
def test_a_maximum_is_bounded_closely(kinds: int) -> None:
    budgets = np.array([0.1, 1.0, 30.0])

    def root(x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]) -> Counts:
        return np.asarray(np.sqrt(x * z) if kinds == 2 else np.cbrt(x * y * z))

    found = maximum.most(root, budgets, kinds)
    assert (budgets / kinds <= found).all()
    assert (found <= budgets / kinds * 1.0041).all()


def test_boxes_of_rows_reach_the_bounds() -> None:
    # Whole rows of r queries and r keys, and the results they go to: U = 4 r d words, r^2 d products.
    for d, rows in ((4, 4000), (64, 64_000)):
        size = np.array([4.0 * rows * d])
        assert rows * rows * d <= programs.at_hand_outputs(size, d)[0] <= 1.001 * rows * rows * d
        # Likewise dV alone.
        assert rows * rows * d <= programs.at_hand_slopes(size, d)[0] <= 1.03 * rows * rows * d
    # Squares of scores: a third of the words each.
    for at_hand in (programs.at_hand_outputs, BOTH, programs.at_hand_four):
        size = np.array([3.0 * 900])
        assert 900**1.5 <= at_hand(size, 4000)[0] <= 1.02 * 900**1.5
