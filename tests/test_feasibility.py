"""The phase diagram: features, bounds, and who pays."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from subquad.polynomial import coefficients, feasibility

# Largest max|s| that degree g reaches at 1e-1, 1e-2 and 1e-3, by linear programmes on samples.
REACH = {
    1: (0.64, 0.20, 0.06),
    2: (1.38, 0.63, 0.29),
    3: (2.20, 1.19, 0.66),
    4: (3.06, 1.85, 1.15),
    5: (3.94, 2.56, 1.71),
    6: (4.84, 3.31, 2.33),
    7: (5.75, 4.09, 2.99),
    8: (6.67, 4.89, 3.69),
}
# The highest degree with C(d + g, g) <= n, by d and log2(n).
HIGHEST = {
    8: (6, 8, None, None, None),
    16: (3, 4, 5, 7, 8),
    32: (2, 3, 4, 4, 5),
    64: (2, 2, 3, 3, 4),
    128: (1, 2, 2, 2, 3),
}
# Between neighbours of the table's bounds, and what two digits hide.
STEP = 1.08


@pytest.mark.parametrize("column", [0, 1, 2])
def test_the_reach_of_a_degree_is_the_known_one(column: int) -> None:
    # d = 2, so that degrees up to 8 have few features.
    rows = feasibility(2, 10**6, 10.0 ** -(column + 1)).degrees
    for degree, reach in REACH.items():
        row = rows[degree - 1]
        assert row.degree == degree
        assert reach[column] / STEP - 0.005 <= row.bound <= reach[column] + 0.005
        if degree > 1:
            # Values and gradients: one degree fewer.
            assert row.grad_bound == pytest.approx(rows[degree - 2].bound, rel=STEP - 1)


@pytest.mark.parametrize("d", HIGHEST)
def test_the_highest_degree_that_pays_is_the_known_one(d: int) -> None:
    for power, degree in zip((12, 14, 16, 18, 20), HIGHEST[d], strict=True):
        best = feasibility(d, 2**power, 1e-2).best
        assert best is not None
        if degree is not None:
            assert best.degree == degree
            assert best.bound == pytest.approx(REACH[degree][1], rel=STEP - 1, abs=0.005)


@pytest.mark.parametrize(("d", "n"), [(1, 1), (1, 2), (3, 20), (64, 65), (64, 64), (64, 10**6)])
def test_features_are_counted_exactly(d: int, n: int) -> None:
    found = feasibility(d, n, 0.1)
    assert [row.degree for row in found.degrees] == list(range(1, len(found.degrees) + 1))
    assert [row.features for row in found.degrees] == [
        math.comb(d + row.degree, row.degree) for row in found.degrees
    ]
    assert [row.pays for row in found.degrees] == [row.features <= n for row in found.degrees]
    assert all(row.pays for row in found.degrees[:-1])
    assert not found.degrees[-1].pays or len(found.degrees) == 24
    assert (found.best is None) == (n <= d)


@pytest.mark.parametrize("eps", [0.3, 1e-2, 1e-4])
def test_bounds_are_those_of_the_coefficients(eps: float) -> None:
    for row in feasibility(4, 10**5, eps).degrees:
        for bound, derivative in ((row.bound, False), (row.grad_bound, True)):
            if bound:
                c, error = coefficients(bound, eps, derivative=derivative)
                assert error <= eps
                assert len(c) - 1 <= row.degree
            if bound < 8:  # far from where the table ends
                assert len(coefficients(bound * 1.001, eps, derivative=derivative)[0]) > row.degree


def test_nothing_is_promised_below_the_table() -> None:
    assert all(row.bound == 0.0 for row in feasibility(2, 100, 1e-20).degrees)


def test_the_repr_is_the_phase_diagram() -> None:
    lines = repr(feasibility(64, 65536, 1e-2)).splitlines()
    assert lines[0] == "Feasibility: d = 64, n = 65536, weights within 0.01"
    assert [line.split() for line in lines[2:6]] == [
        ["1", "65", "0.2", "0.01", "yes"],
        ["2", "2145", "0.6", "0.2", "yes"],
        ["3", "47905", "1.18", "0.6", "yes"],
        ["4", "814385", "1.8", "1.18", "no:", "more", "features", "than", "keys"],
    ]
    assert [line.split()[:3] for line in lines[-5:]] == [
        ["4096", "2", "0.6"],
        ["16384", "2", "0.6"],
        ["65536", "3", "1.18"],
        ["262144", "3", "1.18"],
        ["1048576", "4", "1.8"],
    ]


def test_the_diagram_says_where_nothing_pays() -> None:
    text = repr(feasibility(64, 30, 0.1))
    assert "30    none" in text
    assert "480   1" in text
    assert len([line for line in text.splitlines() if "none" in line]) == 3


def test_it_is_a_table_in_notebooks_too() -> None:
    html = feasibility(64, 65536, 1e-2)._repr_html_()
    assert html.count("<table>") == html.count("</table>") == 2
    for cell in ("47905", "max|s|", "log n"):
        assert f">{cell}<" in html


def test_it_is_frozen_and_compares() -> None:
    found = feasibility(3, 100, 0.1)
    assert found == feasibility(3, 100, 0.1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.d = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 1, 0.1), ValueError, "`d` must be at least 1, got 0"),
        ((1, 0, 0.1), ValueError, "`n` must be at least 1, got 0"),
        ((1.5, 1, 0.1), TypeError, "`d` must be an integer, got 1.5 of type float"),
        ((1, True, 0.1), TypeError, "`n` must be an integer, got True"),
        ((1, 1, 0), ValueError, "`eps` must satisfy 0 < eps < 1, got 0.0"),
        ((1, 1, 1.5), ValueError, "`eps` must satisfy 0 < eps < 1, got 1.5"),
        ((1, 1, "x"), TypeError, "`eps` must be a real number, got 'x'"),
    ],
)
def test_what_is_out_of_range_is_refused(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        feasibility(*arguments)
    assert str(caught.value) == message
