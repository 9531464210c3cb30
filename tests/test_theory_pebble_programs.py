"""The programs behind the tables, and the powers between which they grow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from subquad.theory import _pebble_maximum as maximum
from subquad.theory import _pebble_programs as programs
from subquad.theory import _pebble_tables as tables
from subquad.theory._pebble_attention import SHARES

Floats = NDArray[np.float64]

ALL = [
    programs.at_hand_outputs,
    partial(programs.at_hand_both, weight=1.0, price=1.0),
    programs.at_hand_slopes,
    programs.at_hand_four,
    programs.at_hand_all,
]


def four(x: Floats, y: Floats, left: Floats) -> Floats:
    """What the program of four products bounds, for a grid of divisions of `left` into pairs and results."""
    pairs = left * np.linspace(0.0, 1.0, 201)[:, None]
    rows, whole = y**2 / 4, np.minimum(x, y) ** 2 / 4
    done = x / 2 * np.sqrt(rows + pairs) + np.sqrt((whole + pairs) * y * (left - pairs))
    return np.asarray(done.max(axis=0))


PROGRAMS: dict[str, maximum.Program] = {
    **{f"both {w}": tables._both(w, price) for w, price in SHARES},
    "slopes": tables._slopes,
    "four": four,
    "all": tables._all,
}
TABLES: dict[str, Callable[[], tables.Table]] = {
    **{f"both {w}": partial(tables.table_of_both, w, price) for w, price in SHARES},
    "slopes": tables.table_of_slopes,
    "four": tables.table_of_four,
    "all": tables.table_of_all,
}


def divisions(rng: np.random.Generator, count: int, name: str) -> Floats:
    words = rng.dirichlet(np.full(3, 0.7), count).T
    if name == "all":
        words[2] += words[1]
        words[1] = 0.0
    return np.asarray(words)


@pytest.mark.parametrize("at_hand", ALL)
def test_bounds_grow_between_their_powers(at_hand: Callable[[Floats, int], Floats]) -> None:
    sizes = np.geomspace(1.0, 1e12, 3000)
    for d in (1, 16, 1000):
        values = at_hand(sizes, d)
        powers = np.diff(np.log(values)) / np.diff(np.log(sizes))
        # Where the table is coarse, pieces of power 3 / 2 and 2 follow each other.
        assert powers.min() > 1.45
        assert powers.max() < 2.05
        scaled = at_hand(sizes * float(d * d), d) / float(d) ** 3
        np.testing.assert_allclose(scaled, at_hand(sizes, 1), rtol=1e-9)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_grow_between_their_powers(name: str) -> None:
    program, rng = PROGRAMS[name], np.random.default_rng(3)
    words = divisions(rng, 20_000, name)
    words *= np.exp(rng.uniform(np.log(0.01), np.log(300.0), words.shape[1]))
    by = np.exp(rng.uniform(0.0, np.log(3.0), words.shape[1]))
    ratios = program(*(words * by)) / program(*words)
    assert (ratios >= by**1.5 * (1 - 1e-9)).all()
    assert (ratios <= by**2 * (1 + 1e-9)).all()


def test_where_the_first_bound_of_slopes_grows_slowly_the_second_is_less() -> None:
    # s^2 / 16 + 3 C for s words of operands and results, a part u of them operands.
    u, c = np.meshgrid(np.linspace(0.0, 1.0, 401), np.linspace(1 / 48, 1 / 36, 101))
    second = np.sqrt((1 - u) * (4 / 81 * u**3 + c * u))
    assert second.max() <= 0.106
    assert (1 / 16 + 3 * c).min() >= 1 / 8 - 1e-12
    np.testing.assert_allclose(tables._slopes(u, 1 - u, c), second, rtol=1e-12)
    # The first alone does have a smaller power there, so this is needed.
    power = (1 / 8 + 3 * c) / (1 / 16 + 3 * c)
    assert power.min() < 1.44
    assert power.max() == pytest.approx(1.5)


@pytest.mark.parametrize("name", PROGRAMS)
def test_tables_bound_all_divisions(name: str) -> None:
    program, rng = PROGRAMS[name], np.random.default_rng(4)
    points, values = TABLES[name]()
    # Between the points, too, and most of all where the power of slopes is small.
    budgets = np.concatenate([np.geomspace(0.05, 3000.0, 60), np.linspace(25.0, 31.0, 60)])
    most = np.array([program(*divisions(rng, 2000, name) * size).max() for size in budgets])
    bounds = maximum.between(points, values, budgets)
    assert (most <= bounds).all()
    assert (most >= 0.85 * bounds).all()


def test_the_program_of_four_is_a_bound_for_every_division() -> None:
    rng = np.random.default_rng(5)
    words = divisions(rng, 20_000, "four")
    words *= np.exp(rng.uniform(np.log(0.01), np.log(300.0), words.shape[1]))
    assert (four(*words) <= tables._four(*words) * (1 + 1e-12)).all()
