"""The theory of the polynomial method: right by hand, and never below what is measured."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable

import numpy as np
import pytest

from subquad._tables.enclosure import relative_error
from subquad._tables.series import chebyshev, taylor
from subquad.polynomial import coefficients
from subquad.theory import polynomial as theory

BOUNDS = (0.01, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


# Definitions


def test_growth_by_hand() -> None:
    # L = 100, B = 100 / e^2: the logarithm is 2.
    delta, bound = math.exp(-100), 100 / math.e**2
    assert theory.degree_growth(bound, delta) == pytest.approx(50)
    assert theory.decay_degree_growth(bound, delta) == pytest.approx(50)
    assert theory.degree_growth(1000, delta) == 1000
    assert theory.decay_degree_growth(1000, delta) == pytest.approx(math.sqrt(1e5))


def test_errors_by_hand() -> None:
    assert theory.taylor_error(1, 2.0) == pytest.approx(2 * math.exp(2))
    assert theory.taylor_error(0, 0.0) == theory.chebyshev_error(0, 0.0) == 0.0
    assert theory.taylor_error(0, 1000.0) == math.inf
    assert theory.chebyshev_error(3, 1e5) == math.inf
    first = 2 * math.exp(0.1) * (0.05**2 / 2) * math.exp(0.01 / 12)
    second = 2 * math.exp(0.1) * (0.05**3 / 6) * math.exp(0.01 / 16)
    assert theory.chebyshev_error(1, 0.1) == pytest.approx(first + second, rel=2e-3)


def test_degrees_by_hand() -> None:
    # 1 e > 0.5, 1/2 e > 0.5, 1/6 e <= 0.5
    assert theory.taylor_degree(1.0, 0.5) == 2
    assert theory.taylor_degree(0.0, 1e-9) == theory.chebyshev_degree(0.0, 1e-9) == 0
    assert theory.taylor_degree(1e-3, 0.5) == 0


@pytest.mark.parametrize("degree", [theory.taylor_degree, theory.chebyshev_degree])
@pytest.mark.parametrize("bound", [*BOUNDS, 100.0, 1000.0])
def test_degrees_are_the_least_of_their_errors(
    degree: Callable[[float, float], int], bound: float
) -> None:
    error = theory.taylor_error if degree is theory.taylor_degree else theory.chebyshev_error
    for eps in (0.9, 0.1, 1e-3, 1e-12):
        g = degree(bound, eps)
        assert error(g, bound) <= eps
        assert g == 0 or min(error(k, bound) for k in range(g)) > eps


def test_counts_and_costs_by_hand() -> None:
    assert [theory.feature_count(64, g) for g in range(5)] == [1, 65, 2145, 47905, 814385]
    assert theory.feature_count(128, 4) == 12_082_785
    assert theory.attention_flops(10, 3, 4) == 200 * 7
    assert theory.attention_flops(10, 3, 4, grad=True) == 200 * 17
    assert theory.polynomial_flops(10, 6, 4) == 4 * 10 * 6 * 5
    assert theory.polynomial_flops(10, 6, 4, grad=True) == 8 * 10 * 6 * 5
    # d = d_v: r, but for the denominator; half of it at a rate of 2.
    assert theory.crossover(2145, 64, 64) == pytest.approx(2145 * 65 / 64)
    assert theory.crossover(2145, 64, 64, 2.0) == pytest.approx(2145 / 2, rel=0.02)
    assert theory.crossover(2145, 64, 64, grad=True) == pytest.approx(0.8 * 2145 * 65 / 64)
    n = theory.crossover(2145, 64, 48, grad=True)
    assert theory.attention_flops(round(n), 64, 48, grad=True) == pytest.approx(
        theory.polynomial_flops(round(n), 2145, 48, grad=True), rel=1e-3
    )


def test_thresholds_by_hand() -> None:
    n = round(math.exp(9))
    assert theory.entry_threshold(n) == pytest.approx(3, rel=1e-4)
    assert theory.logit_threshold(n) == pytest.approx(9, rel=1e-4)
    assert theory.entry_threshold(n, 3) == pytest.approx(9 ** (1 / 3), rel=1e-4)
    assert theory.entry_threshold(1) == theory.logit_threshold(1) == 0.0
    assert theory.output_error(0.5, 3.0) == 1.5
    assert theory.output_error(0.0, 3.0) == 0.0


# Theorems


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("degree", range(0, 16, 3))
def test_series_are_within_their_bounds(bound: float, degree: int) -> None:
    # What float64 coefficients add.
    slack = 2.0**-52 * math.exp(2 * bound)
    for series, error in (
        (taylor(degree), theory.taylor_error(degree, bound)),
        (chebyshev(degree, bound), theory.chebyshev_error(degree, bound)),
    ):
        assert relative_error(series, bound) <= error * (1 + 1e-4) + slack


@pytest.mark.parametrize("eps", [1e-1, 1e-3, 1e-6])
def test_the_best_polynomial_needs_no_higher_degree(eps: float) -> None:
    for bound in (0.25, 0.5, 1.0, 2.0, 4.0):
        g = len(coefficients(bound, eps)[0]) - 1
        assert g <= max(1, theory.chebyshev_degree(bound, eps))
        assert g <= max(1, theory.taylor_degree(bound, eps))


def test_degrees_grow_as_the_theorem_says() -> None:
    ratios = []
    for bound in (1.0, 2.0, 4.0, 8.0):
        for eps in (1e-1, 1e-3, 1e-5):
            # On [0, 2 bound], where exp(2 bound) is the largest value.
            growth = theory.degree_growth(2 * bound, eps * math.exp(-2 * bound))
            ratios.append((len(coefficients(bound, eps)[0]) - 1) / growth)
    assert max(ratios) <= 4 * min(ratios)


@pytest.mark.parametrize("delta", [1e-3, 0.1, 0.5, 0.9])
def test_no_error_of_the_weights_moves_the_output_further(delta: float) -> None:
    rng = np.random.default_rng(0)
    worst = 0.0
    for n in (2, 3, 50):
        for _ in range(50):
            values = rng.standard_normal(n) if n > 2 else np.array([0.0, 1.0])
            weights = np.exp(rng.standard_normal(n)) if n > 2 else np.array([1.0, 1 - delta])
            exact = weights @ values / weights.sum()
            # The worst signs: more of what is above the output, less of what is below.
            for sign in (1, -1):
                wrong = weights * (1 + sign * delta * np.sign(values - exact))
                error = abs(wrong @ values / wrong.sum() - exact)
                bound = theory.output_error(delta, float(np.ptp(values)))
                assert error <= bound * (1 + 1e-12)
                worst = max(worst, error / bound)
    assert worst > (1 - delta) * 0.5


# Refusals

REFUSALS: list[tuple[Callable[..., object], tuple[object, ...], str]] = [
    (theory.degree_growth, (0.5, 0.5), "`bound` must satisfy 1 <= bound < inf, got 0.5"),
    (theory.degree_growth, (2, 1.0), "`delta` must satisfy 0 < delta < 1, got 1.0"),
    (theory.decay_degree_growth, (2, 0), "`delta` must satisfy 0 < delta < 1, got 0.0"),
    (theory.taylor_error, (-1, 1), "`degree` must be at least 0, got -1"),
    (theory.taylor_error, (1, -1), "`bound` must satisfy 0 <= bound < inf, got -1.0"),
    (theory.chebyshev_error, (1.0, 1), "`degree` must be an integer, got 1.0 of type float"),
    (theory.taylor_degree, (1001, 0.1), "`bound` must satisfy 0 <= bound <= 1000, got 1001.0"),
    (theory.chebyshev_degree, (1, 1), "`eps` must satisfy 0 < eps < 1, got 1.0"),
    (theory.feature_count, (0, 1), "`d` must be at least 1, got 0"),
    (theory.attention_flops, (1, 1, 0), "`value_dim` must be at least 1, got 0"),
    (theory.polynomial_flops, (1, 0, 1), "`r` must be at least 1, got 0"),
    (theory.crossover, (1, 1, 1, 0), "`rate` must be positive and finite, got 0.0"),
    (theory.output_error, (1, 1), "`delta` must satisfy 0 <= delta < 1, got 1.0"),
    (theory.output_error, (0, -1), "`value_range` must satisfy 0 <= value_range < inf, got -1.0"),
    (theory.entry_threshold, (10, 1), "`order` must be at least 2, got 1"),
    (theory.logit_threshold, (0,), "`n` must be at least 1, got 0"),
    (theory.term_count, (-1, 2), "`support` must be at least 0, got -1"),
    (theory.term_flops, (1, 0), "`columns` must be at least 1, got 0"),
    (theory.relative_flops, (1, 1, 0.5), "`columns` must be an integer, got 0.5 of type float"),
]


@pytest.mark.parametrize(("function", "arguments", "message"), REFUSALS)
def test_what_is_out_of_range_is_refused(
    function: Callable[..., object], arguments: tuple[object, ...], message: str
) -> None:
    wrong_type = "must be an integer" in message or "must be a real number" in message
    with pytest.raises(TypeError if wrong_type else ValueError) as caught:
        function(*arguments)
    assert str(caught.value) == message


def test_every_function_has_a_refusal_and_names_its_source() -> None:
    assert {function.__name__ for function, _, _ in REFUSALS} == set(theory.__all__)
    source = re.compile(r"[Tt]heorem|[Ll]emma|Definition")
    unnamed = [n for n in theory.__all__ if not source.search(getattr(theory, n).__doc__ or "")]
    assert unnamed == []


def test_asymptotic_statements_say_so() -> None:
    for name in ("degree_growth", "decay_degree_growth", "entry_threshold", "logit_threshold"):
        assert "asymptotic" in (getattr(theory, name).__doc__ or "").lower()


def test_toeplitz_terms_are_the_words_over_the_support() -> None:
    for support in range(4):
        for degree in range(4):
            words = sum(
                len(list(itertools.combinations_with_replacement(range(support), length)))
                for length in range(degree + 1)
            )
            assert theory.term_count(support, degree) == words
    # Rotary positions of width 64.
    assert theory.term_count(128, 2) == math.comb(130, 2)


def test_what_toeplitz_terms_cost() -> None:
    # One transform of the lags, and one each way for the column, of 16 numbers.
    assert theory.term_flops(14, 1) == 3 * 2.5 * 16 * 4 + 3 * (16 + 15)
    assert theory.relative_flops(10, 3, 4) == 10 * (9 + 8)
    for wrong in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="must be at least 1"):
            theory.term_flops(*wrong)
