"""The papers' bounds: right by hand, and not exceeded by what is measured."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import subquad
from subquad.theory import halfspace as theory

Floats = NDArray[np.float64]

# Table 1 of arXiv:2410.10165: thousands of keys, activated entries, sparsity.
TABLE_1 = (
    (1, 251, 0.75),
    (2, 437, 0.78),
    (4, 761, 0.81),
    (8, 1325, 0.83),
    (16, 2308, 0.86),
    (32, 4019, 0.87),
    (64, 6997, 0.89),
    (128, 12183, 0.90),
    (256, 21212, 0.92),
    (512, 36933, 0.93),
    (1024, 64304, 0.94),
)


# Definitions


def test_table_1_of_the_paper() -> None:
    for thousands, activated, sparsity in TABLE_1:
        n = 1000 * thousands
        assert math.floor(theory.sparse_count(n)) == activated
        assert round(theory.sparsity(n), 2) == sparsity
        assert theory.sparse_count(n) == pytest.approx(n * (1 - theory.sparsity(n)))


def test_deviations_by_hand() -> None:
    assert theory.logit_std(6.0, 9, 0.5) == 1.0
    assert theory.query_norm_bound(4, 0.0) == pytest.approx(math.sqrt(12))
    assert theory.query_norm_bound(1, 2.0, 5.0) == 15.0
    # log(m / delta) = d doubles the radicand.
    assert theory.logit_std_bound(1, 2, math.exp(-2), 3.0, 0.5) == pytest.approx(6 * math.sqrt(2))
    # The paper's 4 is a rounded sqrt(3) of Lemma E.2, with t = log(m / delta).
    norm = theory.query_norm_bound(64, math.log(32 / 0.01))
    ratio = theory.logit_std_bound(32, 64, 0.01) / theory.logit_std(norm, 64)
    assert ratio == pytest.approx(4 / math.sqrt(3))


@pytest.mark.parametrize("n", [1, 2, 1000, 10**6, 10**18])
@pytest.mark.parametrize("std", [1e-300, 0.3, 1.0, 1e300])
def test_thresholds_and_counts_agree(n: int, std: float) -> None:
    b = theory.sparse_threshold(n, std)
    assert theory.count_bound(n, b, std) == pytest.approx(2 * theory.sparse_count(n))
    assert theory.expected_count(n, b, std) <= theory.count_bound(n, b, std) / 2
    for share in (0.9, 0.5, 1e-3):
        threshold = theory.quantile_threshold(n, share * n, std)
        assert theory.expected_count(n, threshold, std) == pytest.approx(share * n)


def test_thresholds_at_the_ends() -> None:
    assert theory.sparse_threshold(1, 7.0) == 0.0
    assert theory.quantile_threshold(5, 0, 1.0) == math.inf
    assert theory.quantile_threshold(5, 5, 1.0) == -math.inf
    assert theory.expected_count(5, math.inf, 1.0) == 0.0
    assert theory.expected_count(5, -math.inf, 1.0) == 5.0
    assert theory.expected_count(5, 0.0, 1.0) == 2.5
    assert theory.count_bound(5, 0.0, 1.0) == 10.0
    assert theory.count_bound(5, math.inf, 1.0) == 0.0
    assert theory.count_bound(5, 1e300, 1e-300) == 0.0
    assert theory.count_bound_failure(5, math.inf, 1.0) == 1.0


@pytest.mark.parametrize(
    ("d", "build", "query", "update"),
    [
        (2, (1, 1), (0, 0), (0, 0)),
        (3, (1, 1), (0, 0), (0, 0)),
        (4, (1, 2), (1 / 2, 0), (0, 1)),
        (7, (1, 3), (2 / 3, 0), (0, 2)),
        (64, (1, 32), (31 / 32, 0), (0, 31)),
    ],
)
def test_exponents_by_hand(
    d: int, build: tuple[int, int], query: tuple[float, int], update: tuple[int, int]
) -> None:
    for i, part in enumerate((1, 2)):
        assert theory.build_exponent(d, part) == build[i]
        assert theory.query_exponent(d, part) == pytest.approx(query[i])
        assert theory.update_exponent(d, part) == update[i]


@pytest.mark.parametrize("d", [2, 3, 4, 8, 64])
@pytest.mark.parametrize("n", [1, 2, 10**6])
def test_the_corollary_is_the_theorem_at_the_ends_of_the_trade_off(n: int, d: int) -> None:
    for part, trade_off in ((1, float(n)), (2, float(n) ** (d // 2))):
        assert theory.space(n, d, trade_off) == pytest.approx(n ** theory.build_exponent(d, part))
        steps = math.log(n) * n ** theory.query_exponent(d, part) + 1
        assert theory.query_steps(n, d, trade_off, count=1) == pytest.approx(steps)
        updates = n ** theory.update_exponent(d, part)
        assert theory.update_steps(n, d, trade_off) == pytest.approx(updates)
        assert theory.space(n, d, trade_off, 0.5) == pytest.approx(trade_off**1.5)
    assert theory.space(10**6, 4096, 1e300, eps=1.0) == math.inf


def test_costs_of_attention_by_hand() -> None:
    assert theory.decoding_steps(3, 32, 5) == pytest.approx(3 * 16 * 5)
    # Exponents 1 (log n apart), 1.5 and 1.8.
    assert theory.prefill_steps(32, 2) == pytest.approx((32 + 512) * 2)
    assert theory.prefill_steps(1024, 4) == pytest.approx((2**15 + 2**18) * 4)


def test_lost_mass_by_hand() -> None:
    assert theory.discarded_mass_error(0.0, 3.0, 5.0) == 0.0
    assert theory.discarded_mass_error(3.0, 3.0, 5.0) == 10.0
    assert theory.discarded_mass_error(1.0, 4.0, 2.0) == 1.0
    assert theory.massive_activation_error(100, 0.5, 0.75, 0.25, 2.0, 3.0) == pytest.approx(0.6)
    assert theory.massive_activation_error(1, 0.5, 1.0, 0.0, 2.0, 3.0) == 6.0


def test_massive_activation_by_hand() -> None:
    unit = 2.0 * math.log(16)
    scores = unit * np.array([0.1] * 12 + [0.5, 0.7, 0.2, 0.6])
    gamma, beta1, beta2 = theory.massive_activation(scores, 2.0, 4)
    assert (gamma, beta1, beta2) == pytest.approx((0.5, 0.5, 0.1))
    assert theory.massive_activation(scores, 2.0, 1) == pytest.approx((0.0, 0.7, 0.6))
    assert theory.massive_activation(scores, 2.0, 16)[::2] == (1.0, 0.0)
    # Equal scores: none stands out, whichever are kept.
    assert theory.massive_activation(np.full(8, 3.0), 1.0, 2)[1:] == pytest.approx(
        (3 / math.log(8),) * 2
    )
    # Negative ones do not count, and no beta1 fits them.
    assert theory.massive_activation([1, -5, -7], 1.0, 1)[2] == 0.0
    with pytest.raises(ValueError, match="`scores` must have 2 largest ones of a mean of at least"):
        theory.massive_activation([1, -5, -7], 1.0, 2)


# Theorems

GRID = [(1, 1), (1, 64), (2, 2), (16, 3), (300, 1), (1000, 64), (4000, 16)]


def problems(n: int, d: int, queries: int) -> Iterator[tuple[subquad.halfspace.Index, Any]]:
    """Fresh Gaussian keys of a deviation other than 1, and queries."""
    rng = np.random.default_rng([n, d])
    for _ in range(queries // 10):
        keys = 2 * rng.standard_normal((n, d), dtype=np.float32)
        index = subquad.halfspace.Index(keys)
        for query in rng.standard_normal((10, d), dtype=np.float32):
            yield index, query


@pytest.mark.parametrize(("n", "d"), GRID)
def test_counts_are_as_expected_and_within_the_bound(n: int, d: int) -> None:
    trials = 200
    relative = np.array([0.0, 0.5, 1.0, math.sqrt(0.4 * math.log(n)), 2.5])
    counts = np.zeros((trials, len(relative)))
    for i, (index, query) in enumerate(problems(n, d, trials)):
        std = theory.logit_std(float(np.linalg.norm(query.astype(np.float64))), d, key_std=2.0)
        for j, b in enumerate(relative * std):
            # The index compares products without the factor 1 / sqrt(d) of logits.
            counts[i, j] = index.count(query, float(b) * math.sqrt(d))
    for j, b in enumerate(relative):
        expected = theory.expected_count(n, b, 1.0)
        # Counts of one set of keys are correlated: those of its ten queries count as one.
        error = math.sqrt(expected * (1 - expected / n) / (trials / 10))
        assert abs(counts[:, j].mean() - expected) <= 4 * error
        failures = np.mean(counts[:, j] > theory.count_bound(n, b, 1.0))
        allowed = theory.count_bound_failure(n, b, 1.0)
        assert failures <= allowed + 4 * math.sqrt(allowed / (trials / 10))


@pytest.mark.parametrize(("n", "d"), [(1000, 2), (8000, 64), (64_000, 64)])
def test_the_paper_s_own_threshold_reports_nothing(n: int, d: int) -> None:
    m, delta = 32, 0.01
    rng = np.random.default_rng(n)
    index = subquad.halfspace.Index(rng.standard_normal((n, d), dtype=np.float32))
    queries = rng.standard_normal((m, d), dtype=np.float32)
    b = theory.sparse_threshold(n, theory.logit_std_bound(m, d, delta))
    counts = np.diff(index.report_batch(queries, b * math.sqrt(d))[0])
    # Which is within Lemma 6.1, and of no use.
    assert (counts <= 2 * theory.sparse_count(n)).all()
    assert not counts.any()
    norms = np.linalg.norm(queries.astype(np.float64), axis=1)
    own = [theory.sparse_threshold(n, theory.logit_std(float(x), d)) for x in norms]
    counts = np.diff(index.report_batch(queries, np.array(own) * math.sqrt(d))[0])
    assert (counts <= 2 * theory.sparse_count(n)).all()
    assert counts.all()


GALLERY = Path(__file__).parents[1] / "python" / "docs" / "gallery"


def test_the_gallery_s_table_is_what_the_theory_says() -> None:
    path = GALLERY / "halfspace_table1.json"
    if not path.is_file():
        pytest.skip("the source tree is not here: its gallery is not checked")
    results = json.loads(path.read_text(encoding="utf-8"))
    table = path.with_suffix(".inc").read_text(encoding="utf-8")
    rows = [(row["keys"], row["paper"]) for row in results["rows"]]
    assert rows == [(1000 * thousands, activated) for thousands, activated, _ in TABLE_1]
    for row in results["rows"]:
        n, counts = row["keys"], np.array(row["counts"])
        assert row["expected"] == pytest.approx(
            theory.expected_count(n, theory.sparse_threshold(n, 1.0), 1.0)
        )
        # One set of keys for all queries: their counts vary together, a little.
        assert abs(counts.mean() - row["expected"]) <= 2 * math.sqrt(row["expected"])
        assert (counts <= 2 * theory.sparse_count(n)).all()
        assert not any(row["stated_threshold"])
        assert f"   {n // 1000}k, {row['paper']}, 0, " in table
        assert f", {counts.mean():.0f}, {row['expected']:.0f}" in table


@pytest.mark.parametrize("d", [1, 2, 64])
@pytest.mark.parametrize("t", [0.0, 0.5, 3.0])
def test_norms_exceed_their_bound_rarely(d: int, t: float) -> None:
    rng = np.random.default_rng(d)
    norms = np.linalg.norm(3 * rng.standard_normal((20_000, d)), axis=1)
    share = np.mean(norms > theory.query_norm_bound(d, t, 3.0))
    assert share <= math.exp(-t)
    if d == 1 and t == 0.0:
        assert share > 0


@pytest.mark.parametrize("d", [4, 5, 6])
def test_the_tree_reads_less_than_the_theorem_allows_to_grow(d: int) -> None:
    rng = np.random.default_rng(d)
    sizes = [2**12, 2**16]
    read = []
    for n in sizes:
        index = subquad.halfspace.Index(
            rng.standard_normal((n, d), dtype=np.float32), method="tree"
        )
        queries = rng.standard_normal((20, d), dtype=np.float32)
        total = 0
        for query in queries:
            b = theory.quantile_threshold(n, 64, float(np.linalg.norm(query)))
            total += index.report(query, b, return_info=True)[1].bytes_read
        read.append(total)
    exponent = math.log(read[1] / read[0]) / math.log(sizes[1] / sizes[0])
    assert exponent <= theory.query_exponent(d, 1)


def kept_attention(scores: Floats, values: Floats, r: int) -> tuple[Floats, Floats, Floats]:
    """Attention over all keys, over the r with the largest scores, and all weights, best first."""
    order = np.argsort(-scores, kind="stable")
    weights = np.exp(scores[order] - scores.max())
    values = values[order]
    return (
        weights @ values / weights.sum(),
        weights[:r] @ values[:r] / weights[:r].sum(),
        weights,
    )


@pytest.mark.parametrize("n", [2, 10, 1000])
@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0, 6.0])
def test_what_is_left_out_changes_no_entry_by_more_than_the_bounds(n: int, spread: float) -> None:
    rng = np.random.default_rng(n)
    informative = 0
    for norm in (0.5, 1.0, 8.0):
        scores = spread * rng.standard_normal(n)
        # Values that agree with the order of the scores are the worst case.
        values = np.column_stack([rng.standard_normal(n), np.sign(scores - np.median(scores))])
        values = np.where(values == 0, 1.0, values)
        for r in sorted({1, 2, round(n**0.5), round(n**0.8), n - 1, n}):
            exact, kept, weights = kept_attention(scores, values, r)
            error, largest = np.abs(exact - kept).max(), float(np.abs(values).max())
            slack = 1e-13 * largest
            lost = theory.discarded_mass_error(weights[r:].sum(), weights.sum(), largest)
            assert error <= lost + slack
            try:
                activation = theory.massive_activation(scores, norm, r)
            except ValueError:
                assert np.sort(scores)[-r:].mean() < 0
                continue
            bound = theory.massive_activation_error(n, *activation, norm, largest)
            assert error <= bound + slack
            informative += bound < 2 * largest
    assert informative > 0 or spread <= 1.0


def test_gaussian_logits_do_not_stand_out() -> None:
    rng = np.random.default_rng(0)
    for n in (100, 10_000, 1_000_000):
        activation = theory.massive_activation(rng.standard_normal(n), 1.0, round(n**0.8))
        assert theory.massive_activation_error(n, *activation, 1.0, 1.0) >= 2.0


# Refusals

REFUSALS: list[tuple[Callable[..., object], tuple[object, ...], str]] = [
    (theory.sparse_count, (0,), "`n` must be at least 1, got 0"),
    (theory.sparse_count, (True,), "`n` must be an integer, got True"),
    (theory.sparsity, (2.5,), "`n` must be an integer, got 2.5 of type float"),
    (theory.logit_std, (1, 0), "`d` must be at least 1, got 0"),
    (theory.logit_std, (0, 2), "`query_norm` must be positive and finite, got 0.0"),
    (theory.logit_std, (1, 2, math.inf), "`key_std` must be positive and finite, got inf"),
    (theory.query_norm_bound, (2, "1"), "`t` must be a real number, got '1'"),
    (theory.query_norm_bound, (2, -1), "`t` must satisfy t >= 0, got -1.0"),
    (theory.logit_std_bound, (1, 1, 1), "`delta` must satisfy 0 < delta < 1, got 1.0"),
    (theory.logit_std_bound, (1, 1, math.nan), "`delta` must satisfy 0 < delta < 1, got nan"),
    (theory.sparse_threshold, (2, -1), "`logit_std` must be positive and finite, got -1.0"),
    (theory.quantile_threshold, (5, 6, 1), "`count` must satisfy 0 <= count <= n, got 6.0"),
    (
        theory.expected_count,
        (5, math.nan, 1),
        "`threshold` must satisfy -inf <= threshold <= inf, got nan",
    ),
    (theory.count_bound, (5, -1, 1), "`threshold` must satisfy threshold >= 0, got -1.0"),
    (
        theory.count_bound_failure,
        (5, 1, math.nan),
        "`logit_std` must be positive and finite, got nan",
    ),
    (theory.query_exponent, (1, 1), "`d` must be at least 2, got 1"),
    (theory.build_exponent, (4, 3), "`part` must be 1 or 2, got 3"),
    (theory.update_exponent, (4, 0), "`part` must be at least 1, got 0"),
    (
        theory.space,
        (10, 4, 9),
        "`trade_off` must satisfy n <= trade_off <= n ** floor(d / 2), got 9.0",
    ),
    (
        theory.query_steps,
        (10, 4, 101),
        "`trade_off` must satisfy n <= trade_off <= n ** floor(d / 2), got 101.0",
    ),
    (theory.query_steps, (10, 4, 50, 11), "`count` must satisfy 0 <= count <= n, got 11.0"),
    (theory.update_steps, (10, 4, 50, -0.5), "`eps` must satisfy 0 <= eps < inf, got -0.5"),
    (theory.decoding_steps, (0, 2, 2), "`m` must be at least 1, got 0"),
    (theory.prefill_steps, (2, 1), "`d` must be at least 2, got 1"),
    (
        theory.discarded_mass_error,
        (2, 1, 1),
        "`discarded` must satisfy 0 <= discarded <= total, got 2.0",
    ),
    (theory.discarded_mass_error, (0, 0, 1), "`total` must be positive and finite, got 0.0"),
    (
        theory.discarded_mass_error,
        (0, 1, -1),
        "`value_max` must satisfy 0 <= value_max < inf, got -1.0",
    ),
    (
        theory.massive_activation,
        ([1.0], 1, 1),
        "`scores` must have shape (n,) with n >= 2, got (1,)",
    ),
    (
        theory.massive_activation,
        ([1.0, math.inf], 1, 1),
        "`scores` must be finite, got inf at index (1,)",
    ),
    (theory.massive_activation, ([1, 2], 1, 3), "`r` must satisfy 1 <= r <= n, got 3 with n=2"),
    (
        theory.massive_activation_error,
        (2, 1.5, 0, 0, 1, 1),
        "`gamma` must satisfy 0 <= gamma <= 1, got 1.5",
    ),
    (
        theory.massive_activation_error,
        (2, 0.5, 0.5, 0.75, 1, 1),
        "`beta1` must satisfy beta2 <= beta1 < inf, got 0.5",
    ),
    (
        theory.massive_activation_error,
        (2, 0.5, 0.5, -1, 1, 1),
        "`beta2` must satisfy 0 <= beta2 < inf, got -1.0",
    ),
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
    refusing = {function.__name__ for function, _, _ in REFUSALS}
    assert refusing == set(theory.__all__)
    source = re.compile(r"Theorem|Lemma|Corollary|Definition|Algorithm|Table 1")
    unnamed = {
        name for name in theory.__all__ if not source.search(getattr(theory, name).__doc__ or "")
    }
    # The inverse of a lemma's count, which the paper does not have.
    assert unnamed == {"quantile_threshold"}
