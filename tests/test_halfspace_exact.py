"""Half-space reporting is exact: every method against rational arithmetic, down to the last bit."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from halfspaces import (
    DTYPES,
    FAMILIES,
    Case,
    a_case,
    cases,
    exact_ids,
    exact_scores,
    exact_topk,
    float64_scores,
    keys_and_queries,
    methods_for,
    stored_as,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from subquad.halfspace import Index
from subquad.reference import halfspace as reference
from subquad.reference.halfspace import _nearest_float32


class Truth:
    """What is true of a case."""

    def __init__(self, case: Case) -> None:
        twin = reference.Index(case.keys, dtype=case.dtype)
        self.scores = [list(twin._scores(query).values()) for query in case.queries]
        self.rounded = [np.array([_nearest_float32(x) for x in of]) for of in self.scores]
        self.ids = {
            strict: [
                np.array([i for i, s in enumerate(of) if (s > b if strict else s >= b)], np.int64)
                for of, b in zip(self.scores, case.thresholds.tolist(), strict=True)
            ]
            for strict in (False, True)
        }

    def topk(self, query: int, k: int) -> list[int]:
        scores = self.scores[query]
        return sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]


def assert_equal(found: NDArray[Any], expected: Any) -> None:
    """Equal numbers of equal signs, zeros included."""
    np.testing.assert_array_equal(found, expected)
    if found.dtype == np.float32:
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


def check(case: Case, truth: Truth, index: Any, strict: bool) -> None:
    """Compare all that an index can be asked with the truth."""
    ids, rounded = truth.ids[strict], truth.rounded
    for i, (query, threshold) in enumerate(zip(case.queries, case.thresholds, strict=True)):
        found, scores, info = index.report(
            query, float(threshold), strict=strict, return_scores=True, return_info=True
        )
        assert_equal(found, ids[i])
        assert_equal(scores, rounded[i][ids[i]])
        assert info.reported == len(ids[i])
        assert_equal(index.report(query, float(threshold), strict=strict), ids[i])
        assert index.count(query, threshold, strict=strict) == len(ids[i])

    lims = np.cumsum([0, *map(len, ids)])
    every = np.concatenate(ids)
    scores = np.concatenate([r[of] for r, of in zip(rounded, ids, strict=True)])
    batch = index.report_batch(case.queries, case.thresholds, strict=strict, return_scores=True)
    for found, expected in zip(batch, (lims, every, scores), strict=True):
        assert_equal(found, expected)


def check_one_threshold(case: Case, truth: Truth, index: Any) -> None:
    """Compare what takes one threshold, and what takes none."""
    threshold = float(case.thresholds[0])
    lims, scores, ids = index.range_search(case.queries, threshold)
    for i, exact in enumerate(truth.scores):
        expected = [j for j, score in enumerate(exact) if score > threshold]
        part = slice(lims[i], lims[i + 1])
        assert_equal(ids[part], expected)
        assert_equal(scores[part], truth.rounded[i][expected])

    k = case.seed % (len(case.keys) + 1)
    best, scores = index.topk(case.queries, k, return_scores=True)
    for i in range(len(case.queries)):
        expected = truth.topk(i, k)
        assert_equal(best[i], expected)
        assert_equal(scores[i], truth.rounded[i][expected])
        assert_equal(index.topk(case.queries[i], k), expected)


def check_everything(case: Case) -> None:
    truth = Truth(case)
    for method in methods_for(case.queries.shape[1]):
        workers, strict = 1 + case.seed % 3, case.seed % 2 == 1
        options = {"queries": case.queries} if case.seed % 5 == 0 else {}
        index = case.index(method, workers, **options)
        check(case, truth, index, strict)
        check(case, truth, index, not strict)
        check_one_threshold(case, truth, index)


# Five queries with a threshold each to a case: 5000 and 100 000 of them. Each is put to every method,
# alone and in batches.
@settings(max_examples=1000, suppress_health_check=list(HealthCheck))
@given(cases())
def test_every_method_reports_the_exact_set(case: Case) -> None:
    check_everything(case)


@pytest.mark.long
@pytest.mark.timeout(6 * 3600)
@settings(max_examples=20_000, suppress_health_check=list(HealthCheck))
@given(cases())
def test_every_method_reports_the_exact_set_of_very_many_cases(case: Case) -> None:
    check_everything(case)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_every_type(family: str, dtype: str) -> None:
    for seed, (n, d) in enumerate([(33, 3), (77, 12), (65, 33), (130, 64)]):
        check_everything(a_case(family, n, d, dtype, seed))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_high_dimensions(family: str) -> None:
    for seed, (n, d) in enumerate([(37, 1030), (20, 2049), (19, 4096)]):
        check_everything(a_case(family, n, d, DTYPES[seed], seed, m=2))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("dim", [6, 40])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_among_so_many_keys_that_every_engine_is_used(
    family: str, dim: int, dtype: str
) -> None:
    rng = np.random.default_rng(dim)
    raw, queries = keys_and_queries(family, rng, 6000, dim, 12)
    keys = stored_as(raw, dtype)
    thresholds = np.empty(12)
    for i, query in enumerate(queries):
        # The scores of keys of all ranks, some of them a little raised.
        order = np.argsort(float64_scores(keys, query)[0])
        rank = (1, 2, 6, 30, 60, 300, 600, 1000, 3000, 5900, 5990, 6000)[i]
        (score,) = exact_scores(keys[order[-rank]][np.newaxis], dtype, query)
        thresholds[i] = float(score) if i % 3 else np.nextafter(float(score), np.inf)
    expected = [exact_ids(keys, q, b) for q, b in zip(queries, thresholds, strict=True)]
    best = exact_topk(keys, queries[0], 70)
    for method in methods_for(dim):
        index = Index(keys, method=method, queries=queries, workers=2)
        for query, threshold, ids in zip(queries, thresholds, expected, strict=True):
            assert_equal(index.report(query, float(threshold)), ids)
        assert_equal(index.report_batch(queries, thresholds)[1], np.concatenate(expected))
        # One threshold alone, so that a batch reports little or much of the keys as a whole.
        for i in (2, 6, 9):
            lims, ids = index.report_batch(np.repeat(queries[i : i + 1], 20, 0), thresholds[i])
            assert_equal(lims, len(expected[i]) * np.arange(21))
            assert_equal(ids, np.tile(expected[i], 20))
        assert_equal(index.topk(queries[0], 70), best)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_survives_a_file(family: str, dtype: str, tmp_path: Path) -> None:
    for n, d in ((130, 5), (300, 24)):
        case = a_case(family, n, d, dtype, seed=n)
        truth = Truth(case)
        for method in methods_for(d):
            case.index(method).save(tmp_path / method)
            check(case, truth, Index.load(tmp_path / method), strict=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_that_come_one_block_at_a_time_are_the_same_keys(family: str) -> None:
    case = a_case(family, 130, 12, "float32", 7)
    truth = Truth(case)
    for method in methods_for(12):
        index = Case(family, 7, case.keys[:1], "float32", case.queries, case.thresholds).index(
            method
        )
        for start, stop in ((1, 16), (16, 33), (33, 128), (128, 130)):
            index.add(case.keys[start:stop])
        check(case, truth, index, strict=False)
        check_one_threshold(case, truth, index)


# Run apart: threads inherit the mode of the thread that starts them, and it must not leak into other
# tests. What is true is computed before the mode is set, for it changes what Python computes too.
FLUSHED = """
import sys
sys.path.insert(0, {tests!r})
import flush, halfspaces, numpy as np, test_halfspace_exact as exact
from subquad.reference import halfspace as reference
todo = [
    halfspaces.a_case(family, n, d, dtype, seed)
    for family in ("denormal", "tiny", "gaussian", "spread")
    for dtype in halfspaces.DTYPES
    for seed, (n, d) in enumerate([(33, 3), (77, 12), (65, 33), (130, 64)])
]
truths = [exact.Truth(case) for case in todo]
bits = [[r.view(np.uint32) for r in truth.rounded] for truth in truths]
before = [case.index("quantized") for case in todo]
if not flush.denormals():
    print("cannot set the mode")
    sys.exit(0)
assert np.all(np.full(4, 1e-45, np.float32) * np.float32(1) == 0)
for case, truth, rounded, old in zip(todo, truths, bits, before):
    for method in (*halfspaces.methods_for(case.queries.shape[1]), "old"):
        for workers in (1, 2):
            index = old if method == "old" else case.index(method, workers)
            for i, (query, threshold) in enumerate(zip(case.queries, case.thresholds)):
                ids, scores = index.report(query, threshold, return_scores=True)
                assert np.array_equal(ids, truth.ids[False][i]), (case, method, i)
                assert np.array_equal(scores.view(np.uint32), rounded[i][ids]), (case, method, i)
            lims, ids = index.report_batch(case.queries, case.thresholds, strict=True)
            assert np.array_equal(ids, np.concatenate(truth.ids[True])), (case, method)
            k = len(case.keys) // 2
            best = index.topk(case.queries, k)
            assert all(list(best[i]) == truth.topk(i, k) for i in range(5)), (case, method)
assert np.all(np.full(4, 1e-45, np.float32) * np.float32(1) == 0), "the caller's mode has changed"
print("done")
"""


def test_the_hosts_flushing_of_denormals_changes_nothing() -> None:
    code = FLUSHED.format(tests=str(Path(__file__).parent))
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=250
    )
    assert child.returncode == 0, child.stderr
    if "cannot set the mode" in child.stdout:
        pytest.skip("neither the C library nor torch can set the mode of the processor")
    assert "done" in child.stdout


@given(st.integers(-(2**80), 2**80), st.integers(-300, 300))
def test_the_reference_rounds_to_the_nearest(numerator: int, exponent: int) -> None:
    x = Fraction(numerator) * Fraction(2) ** exponent
    near = _nearest_float32(x)
    largest = float(np.finfo(np.float32).max)
    beyond = Fraction(2) ** 128
    value = {np.inf: beyond, -np.inf: -beyond}.get(float(near)) or Fraction(float(near))
    for away in (-np.inf, np.inf):
        with np.errstate(over="ignore"):
            other = float(np.nextafter(near, np.float32(away)))
        neighbour = (
            Fraction(min(max(other, -largest), largest)) if np.isinf(other) else Fraction(other)
        )
        assert abs(x - value) <= abs(x - neighbour) or abs(x) > largest
    assert np.signbit(near) == (x < 0)
