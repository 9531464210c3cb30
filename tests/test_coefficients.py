"""Polynomials for exp: as close as they claim to be, and of the least degree."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import polynomial as numpy_polynomial

from subquad._tables.enclosure import moment_holds, relative_error, supremum
from subquad._tables.generate import holds, main, moment_entry, value_entry
from subquad._tables.remez import best
from subquad._tables.series import chebyshev, taylor
from subquad._tables.table import LARGEST_DEGREE, load
from subquad.polynomial import coefficients

EPS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
BOUNDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# Least degrees by bound, for the errors above: linear programmes on samples, done independently.
DEGREES: dict[tuple[str, bool], tuple[tuple[int | None, ...], ...]] = {
    ("taylor", False): (
        (1, 2, 3, 4, 5),
        (2, 3, 4, 5, 6),
        (3, 5, 6, 7, 8),
        (7, 8, 10, 11, 12),
        (14, None, None, None, None),
    ),
    ("chebyshev", False): (
        (1, 2, 2, 3, 4),
        (1, 2, 3, 4, 5),
        (3, 4, 5, 6, 6),
        (5, 6, 7, 8, 9),
        (9, 10, 12, 13, 14),
        (18, 19, 20, None, None),
    ),
    ("minimax", False): (
        (1, 2, 2, 3, 4),
        (1, 2, 3, 4, 5),
        (2, 3, 4, 5, 6),
        (3, 5, 6, 7, 8),
        (6, 7, 9, 10, 12),
        (10, 12, 14, 16, 17),
    ),
    ("minimax", True): (
        (2, 3, 3, 4, 5),
        (2, 3, 4, 5, 6),
        (3, 4, 5, 6, 7),
        (4, 6, 7, 8, 9),
        (7, 8, 10, 11, 13),
        (11, 13, 15, 17, 18),
    ),
}


def exp(s: Fraction) -> Fraction:
    """exp, to 1e-40 of itself."""
    halvings = max(0, math.ceil(abs(s))).bit_length() + 4
    x, term, total = s / 2**halvings, Fraction(1), Fraction(1)
    for k in range(1, 30):
        term = term * x / k
        total += term
    for _ in range(halvings):
        total *= total
        # Short again: a relative error of 2^-200 doubles with each squaring.
        total = Fraction(round(total * 2**220), 2**220)
    return total


def horner(c: Any, s: Fraction) -> Fraction:
    total = Fraction(0)
    for x in reversed(list(c)):
        total = total * s + Fraction(x)
    return total


def points(bound: float, count: int = 41) -> list[Fraction]:
    inner = [Fraction(-bound * math.cos(math.pi * i / (count - 1))) for i in range(1, count - 1)]
    return [-Fraction(bound), *inner, Fraction(0), Fraction(bound)]


def sampled_error(c: Any, bound: float, count: int = 41) -> Fraction:
    return max(abs(horner(c, s) / exp(s) - 1) for s in points(bound, count))


# Degrees


@pytest.mark.parametrize(("kind", "derivative"), DEGREES)
def test_degrees_are_the_least_known_ones(kind: Any, derivative: bool) -> None:
    for bound, degrees in zip(BOUNDS, DEGREES[kind, derivative], strict=False):
        for eps, degree in zip(EPS, degrees, strict=True):
            if degree is not None:
                c, error = coefficients(bound, eps, kind=kind, derivative=derivative)
                assert (len(c) - 1, error <= eps) == (degree, True), (bound, eps)


@pytest.mark.parametrize("bound", [0.3, 1.0, 2.5, 7.1])
def test_a_derivative_costs_exactly_one_degree(bound: float) -> None:
    for eps in EPS:
        c, error = coefficients(bound, eps)
        both, joint_error = coefficients(bound, eps, derivative=True)
        assert len(both) == len(c) + 1 or len(c) == 2
        if len(both) == len(c) + 1:
            assert joint_error == pytest.approx(error, rel=1e-3)
            # Up to float64: the derivative is the value polynomial.
            np.testing.assert_allclose(numpy_polynomial.polyder(both), c, rtol=1e-15)


@pytest.mark.parametrize("kind", ["minimax", "taylor", "chebyshev"])
def test_a_larger_bound_or_a_smaller_error_needs_no_lower_degree(kind: Any) -> None:
    degrees = np.array(
        [[len(coefficients(b, eps, kind=kind)[0]) for eps in EPS[:3]] for b in (0, 0.1, 0.7, 3)]
    )
    assert (np.diff(degrees, axis=0) >= 0).all()
    assert (np.diff(degrees, axis=1) >= 0).all()


def test_moments_need_lower_degrees_than_bounds() -> None:
    # A bound of 4 on logits of deviation 0.5.
    c, (alpha, beta) = coefficients(4.0, 1e-2, kind="moment", second_moment=0.25)
    assert alpha + beta * 0.25 <= 1e-2
    assert len(c) < len(coefficients(4.0, 1e-2)[0])
    # Degree by degree, C1 of the research text: 1, 1, 2, 3, 3 at 0.25 with d = 64.
    for eps, degree in zip(EPS, (1, 1, 2, 3, 3), strict=True):
        assert len(coefficients(0.25, eps, kind="moment", second_moment=0.003)[0]) - 1 <= degree


# Errors


@given(
    bound=st.floats(0, 8),
    exponent=st.integers(1, 5),
    kind=st.sampled_from(["minimax", "taylor", "chebyshev"]),
    derivative=st.booleans(),
)
def test_errors_hold_in_exact_arithmetic(
    bound: float, exponent: int, kind: Any, derivative: bool
) -> None:
    eps = 10.0**-exponent
    if kind != "minimax":
        bound = min(bound, 4.0)  # beyond, degree 24 may not suffice
    c, error = coefficients(bound, eps, kind=kind, derivative=derivative)
    assert 0 <= error <= eps
    assert len(c) >= 2
    assert sampled_error(c, bound, 11) <= error
    if derivative:
        slope = [k * Fraction(x) for k, x in enumerate(c)][1:]
        assert sampled_error(slope, bound, 11) <= error


@given(bound=st.floats(0, 8), share=st.floats(0, 1), exponent=st.integers(1, 4))
def test_moments_hold_in_exact_arithmetic(bound: float, share: float, exponent: int) -> None:
    m2, eps = share * bound * bound / 16, 10.0**-exponent
    c, (alpha, beta) = coefficients(bound, eps, kind="moment", second_moment=m2)
    assert alpha + beta * m2 <= eps
    for s in points(bound, 11):
        error = abs(horner(c, s) - exp(s))
        assert error <= Fraction(alpha) + Fraction(beta) * s * s


def test_errors_are_tight() -> None:
    table = load()
    for entry in table.value[7::97]:
        sampled = float(sampled_error(entry.c, entry.bound, 201))
        assert entry.error * (1 - 5e-2) <= sampled <= entry.error, entry


def test_coefficients_can_be_changed_without_changing_the_table() -> None:
    c, _ = coefficients(1.0, 0.1)
    c[:] = 0
    assert coefficients(1.0, 0.1)[0].all()
    assert coefficients(1.0, 0.1)[0].dtype == np.float64


# The table


def test_entries_are_proved_again() -> None:
    for entry in load().entries[::37]:
        assert holds(entry), entry


@pytest.mark.long
def test_the_whole_table_is_proved_again(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--check"])
    assert "proved" in capsys.readouterr().out


def test_entries_are_generated_again() -> None:
    table = load()
    for entry in table.value[3::211]:
        again = value_entry(entry.bound, entry.degree)
        assert again.error == pytest.approx(entry.error, rel=1e-3)
        assert again.joint_error == pytest.approx(entry.joint_error, rel=1e-3)
        np.testing.assert_allclose(again.c, entry.c, rtol=1e-3)
    for item in table.moment[5::173]:
        ratio = item.alpha / (item.beta * item.bound**2)
        repeated = moment_entry(item.bound, item.degree, ratio)
        assert repeated is not None
        assert repeated.beta == pytest.approx(item.beta, rel=1e-2)


def test_a_claim_that_is_too_good_is_not_proved() -> None:
    entry = load().values(1.0)[3]
    assert holds(entry)
    assert not holds(entry._replace(error=entry.error * (1 - 1e-3)))
    assert not holds(entry._replace(joint_error=entry.joint_error * (1 - 1e-3)))
    assert not holds(entry._replace(bound=1.01))
    item = load().moments(1.0)[3]
    assert holds(item)
    assert not holds(item._replace(alpha=item.alpha * 0.9, beta=item.beta * 0.98))


def test_the_table_is_in_order_and_small() -> None:
    entries = load().value
    assert [(e.bound, e.degree) for e in entries] == sorted((e.bound, e.degree) for e in entries)
    assert all(len(e.c) == e.degree + 1 <= LARGEST_DEGREE + 1 for e in entries)
    assert sum(len(e.c) for e in load().entries) < 30_000
    bounds = sorted({e.bound for e in entries})
    assert bounds[0] == 1e-3
    assert bounds[-1] == 16.0
    assert max(np.diff(bounds) / bounds[:-1]) < 0.08
    assert load().values(16.1) == []


def test_the_best_polynomial_alternates() -> None:
    for degree, bound in ((0, 0.5), (1, 1.0), (4, 1.0), (9, 4.0)):
        c = best(degree, bound)
        s = -bound * np.cos(np.linspace(0, np.pi, 4001))
        error = numpy_polynomial.polyval(s, c) * np.exp(-s) - 1
        level = relative_error(c, bound)
        signs = np.sign(error[np.abs(error) > (1 - 1e-3) * level])
        assert np.count_nonzero(np.diff(signs)) == degree + 1
    # By hand: c exp(-s) is between 1 - e and 1 + e for c = 1 / cosh(b), e = tanh(b).
    assert best(0, 0.5)[0] == pytest.approx(1 / math.cosh(0.5), rel=1e-4)


def test_series_by_hand() -> None:
    assert taylor(3) == [1.0, 1.0, 0.5, 1 / 6]
    # Numpy interpolates where we project; at degree 20 both are exp to rounding.
    np.testing.assert_allclose(chebyshev(20, 1.0)[:10], taylor(9), rtol=1e-10)
    # I_0(1) and 2 I_1(1).
    assert chebyshev(1, 1.0) == pytest.approx([1.2660658777520084, 1.1303182079849700])


# The enclosure


@pytest.mark.parametrize("bound", [0.0, 1e-12, 0.1, 1.0, 16.0])
def test_suprema_by_hand(bound: float) -> None:
    # exp(-s), s exp(-s) with its maximum at 1, and a constant.
    assert supremum([1.0], 0, bound) == pytest.approx(math.exp(bound), rel=1e-4)
    assert supremum([1.0], 0, bound) >= math.exp(bound) * (1 - 1e-15)
    top = min(bound, 1.0) * math.exp(-min(bound, 1.0))
    assert supremum([0.0, 1.0], 0, bound) == pytest.approx(top, rel=1e-4, abs=1e-20)
    assert supremum([0.0], -2, bound) == pytest.approx(-2)
    assert supremum([], 3, bound) == pytest.approx(3)


@given(
    c=st.lists(st.floats(-4, 4), min_size=1, max_size=7),
    bound=st.floats(0, 4),
    constant=st.integers(-1, 1),
)
def test_suprema_are_above_every_sample_and_not_far(
    c: list[float], bound: float, constant: int
) -> None:
    proved = Fraction(supremum(c, constant, bound))
    samples = [horner(c, s) / exp(s) + constant for s in points(bound, 21)]
    assert all(sample <= proved for sample in samples)
    s = np.linspace(-bound, bound, 2001)
    seen = float((numpy_polynomial.polyval(s, c) * np.exp(-s)).max()) + constant
    scale = sum(map(abs, c)) * max(1.0, bound) ** 6 * math.exp(bound) + 1
    assert float(proved) <= seen + 1e-3 * scale


def test_a_weight_that_is_too_small_is_refused() -> None:
    # |1 + s - exp(s)| is at most 0.718 s^2 at 1, where that is exp(1) - 2.
    assert moment_holds([1.0, 1.0], 1e-9, 0.7183, 1.0)
    assert not moment_holds([1.0, 1.0], 1e-9, 0.7182, 1.0)
    # At 0 both sides are 0, which no enclosure proves.
    assert not moment_holds([1.0, 1.0], 0.0, 0.7183, 1.0)


# Refusals

REFUSALS: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((-0.5, 0.1), {}, "`bound` must satisfy 0 <= bound <= 16, got -0.5"),
    ((17, 0.1), {}, "`bound` must satisfy 0 <= bound <= 16, got 17.0"),
    ((math.nan, 0.1), {}, "`bound` must satisfy 0 <= bound <= 16, got nan"),
    (("1", 0.1), {}, "`bound` must be a real number, got '1'"),
    ((1, 0.0), {}, "`eps` must satisfy 0 < eps < 1, got 0.0"),
    ((1, 1), {}, "`eps` must satisfy 0 < eps < 1, got 1.0"),
    ((1, None), {}, "`eps` must be a real number, got None"),
    (
        (1, 0.1),
        {"kind": "remez"},
        '`kind` must be one of "taylor", "chebyshev", "minimax", "moment", got \'remez\'',
    ),
    ((1, 0.1), {"derivative": 1}, "`derivative` must be True or False, got 1"),
    (
        (1, 0.1),
        {"second_moment": 1.0},
        "`second_moment` is for kind=\"moment\", got 1.0 with 'minimax'",
    ),
    ((1, 0.1), {"kind": "moment"}, '`second_moment` must be given for kind="moment", got None'),
    (
        (1, 0.1),
        {"kind": "moment", "second_moment": -1},
        "`second_moment` must satisfy 0 <= second_moment < inf, got -1.0",
    ),
    (
        (1, 0.1),
        {"kind": "moment", "second_moment": 1, "derivative": True},
        '`derivative` must be False for kind="moment", got True',
    ),
]


@pytest.mark.parametrize(("arguments", "keywords", "message"), REFUSALS)
def test_what_is_out_of_range_is_refused(
    arguments: tuple[Any, ...], keywords: dict[str, Any], message: str
) -> None:
    wrong_type = "real number" in message or "True or False" in message
    with pytest.raises(TypeError if wrong_type else ValueError) as caught:
        coefficients(*arguments, **keywords)
    assert str(caught.value) == message


@pytest.mark.parametrize("kind", ["minimax", "taylor", "chebyshev"])
@pytest.mark.parametrize("derivative", [False, True])
def test_an_error_out_of_reach_says_what_is_reached(kind: Any, derivative: bool) -> None:
    with pytest.raises(
        ValueError, match=r"`eps` must be reached by a degree of at most 24"
    ) as caught:
        coefficients(16.0, 1e-6, kind=kind, derivative=derivative)
    found = re.search(r"got (\S+) at degree (\d+)$", str(caught.value))
    assert found is not None
    error, degree = float(found[1]), int(found[2])
    assert 1 <= degree <= 24
    if kind == "minimax":
        # What was offered can be had.
        c, achieved = coefficients(16.0, error * 1.01, derivative=derivative)
        assert achieved == pytest.approx(error, rel=1e-2)
        assert len(c) - 1 == degree


def test_a_moment_out_of_reach_says_what_is_reached() -> None:
    with pytest.raises(ValueError, match=r"takes more than degree 16, got \S+ at degree 16"):
        coefficients(8.0, 1e-9, kind="moment", second_moment=1.0)
