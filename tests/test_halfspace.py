"""Half-space reporting: what an index answers."""

from __future__ import annotations

import itertools
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from halfspaces import (
    DTYPES,
    METHODS,
    Floats,
    exact_ids,
    exact_topk,
    keys_and_queries,
    methods_for,
    quantiles,
    stored_as,
)

from subquad.halfspace import Index, report

KEYS, QUERIES = keys_and_queries("gaussian", np.random.default_rng(0), 60, 6, 4)


def random(n: int, d: int, kind: str, rng: np.random.Generator) -> Floats:
    """Keys without structure, or such as models make."""
    keys = rng.standard_normal((n, d))
    if kind == "anisotropic":
        keys = keys * np.geomspace(4, 0.05, d) + np.linspace(-1, 1, d)
    elif kind == "clustered":
        keys = 0.2 * keys + rng.standard_normal((50, d))[rng.integers(0, 50, n)]
    elif kind == "sorted":
        keys = keys[np.argsort(keys[:, 0])]
    return keys.astype(np.float32)


@pytest.mark.parametrize("kind", ["gaussian", "anisotropic", "clustered", "sorted"])
@pytest.mark.parametrize("dim", [2, 6, 16, 64, 130])
def test_many_keys_are_reported_exactly(dim: int, kind: str) -> None:
    rng = np.random.default_rng(dim)
    keys = random(40_000, dim, kind, rng)
    queries = random(3, dim, kind, rng)
    cases = [(q, t, exact_ids(keys, q, t)) for q in queries for t in quantiles(keys, q)]
    for method in methods_for(dim):
        index = Index(keys, method=method, queries=queries, workers=2)
        for query, threshold, expected in cases:
            np.testing.assert_array_equal(index.report(query, threshold), expected)
            assert index.count(query, threshold) == len(expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [3, 32, 96])
def test_batches_are_reported_exactly(dim: int, dtype: str) -> None:
    rng = np.random.default_rng(dim)
    keys = stored_as(random(9000, dim, "anisotropic", rng), dtype)
    wide = (keys.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else keys
    queries = random(30, dim, "anisotropic", rng)
    levels = np.array([quantiles(wide, query) for query in queries]).T
    expected = [
        [exact_ids(wide, query, b) for query, b in zip(queries, thresholds, strict=True)]
        for thresholds in levels
    ]
    for method in methods_for(dim):
        index = Index(keys, dtype=dtype, method=method)
        for thresholds, sets in zip(levels, expected, strict=True):
            lims, ids = index.report_batch(queries, thresholds)
            assert (lims.dtype, ids.dtype) == (np.int64, np.int64)
            np.testing.assert_array_equal(lims, np.cumsum([0, *map(len, sets)]))
            np.testing.assert_array_equal(ids, np.concatenate(sets))


@pytest.mark.parametrize("dim", [2, 24])
@pytest.mark.parametrize("k", [0, 1, 7, 300, 20_000])
def test_the_best_keys_come_in_order(dim: int, k: int) -> None:
    rng = np.random.default_rng(k)
    keys = np.rint(4 * rng.standard_normal((20_000, dim))).astype(np.float32)
    queries = np.rint(4 * rng.standard_normal((2, dim))).astype(np.float32)
    expected = np.array([exact_topk(keys, query, k) for query in queries])
    for method in methods_for(dim):
        index = Index(keys, method=method)
        np.testing.assert_array_equal(index.topk(queries, k), expected)
        np.testing.assert_array_equal(index.topk(queries[0], k), expected[0])
        ids, scores = index.topk(queries, k, return_scores=True)
        assert (ids.shape, scores.shape, scores.dtype) == ((2, k), (2, k), np.float32)
        products = np.einsum("md,mkd->mk", queries, keys[ids])
        np.testing.assert_array_equal(scores, products)  # integers: exact in float32


@pytest.mark.parametrize("method", METHODS)
def test_keys_by_hand(method: str) -> None:
    keys = np.array([[1, 0], [0, 1], [2, -1], [0, 0], [1, 1]], np.float32)
    index = Index(keys, method=method)
    query = np.array([1, 2], np.float32)  # scores 1, 2, 0, 0, 3
    assert index.report(query, 2.0).tolist() == [1, 4]
    assert index.report(query, 2.0, strict=True).tolist() == [4]
    assert index.report(query, 0.0).tolist() == [0, 1, 2, 3, 4]
    assert index.report(query, -0.0, strict=True).tolist() == [0, 1, 4]
    assert index.report(query, np.nextafter(2.0, 3.0)).tolist() == [4]
    assert index.report(query, -np.inf, strict=True).tolist() == [0, 1, 2, 3, 4]
    assert index.report(query, np.inf).tolist() == []
    assert index.count(query, 1) == 3
    assert index.topk(query, 5).tolist() == [4, 1, 0, 2, 3]
    ids, scores = index.report(query, 1.0, return_scores=True)
    assert (ids.tolist(), scores.tolist()) == ([0, 1, 4], [1.0, 2.0, 3.0])
    lims, ids = index.report_batch(np.array([[1, 2], [0, 0], [-1, 0]], np.float32), [3, 0, 0])
    assert (lims.tolist(), ids.tolist()) == ([0, 1, 6, 8], [4, 0, 1, 2, 3, 4, 1, 3])
    lims, scores, ids = index.range_search(np.array([[1, 2], [0, 1]], np.float32), 1.0)
    assert (lims.tolist(), ids.tolist(), scores.tolist()) == ([0, 2, 2], [1, 4], [2.0, 3.0])


def test_range_search_is_that_of_faiss() -> None:
    faiss = pytest.importorskip("faiss")
    rng = np.random.default_rng(1)
    # Integers, on which float32 arithmetic is exact in any order.
    keys, queries = (rng.integers(-9, 10, (n, 24)).astype(np.float32) for n in (3000, 17))
    theirs = faiss.IndexFlatIP(24)
    theirs.add(keys)
    for threshold in (-100.0, 0.0, 150.0, 1e6):
        lims, scores, ids = theirs.range_search(queries, threshold)
        ours = Index(keys).range_search(queries, threshold)
        np.testing.assert_array_equal(ours[0], lims)
        for a, b in itertools.pairwise(lims):
            order = np.argsort(ids[a:b])  # theirs come in no order
            np.testing.assert_array_equal(ours[2][a:b], ids[a:b][order])
            np.testing.assert_array_equal(ours[1][a:b], scores[a:b][order])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dim", [1, 5, 12])
def test_an_index_without_keys(method: str, dim: int) -> None:
    index = Index(np.empty((0, dim)), method=method)
    query = np.ones(dim, np.float32)
    assert (len(index), index.stats.dtype) == (0, "float32")
    assert index.report(query, -np.inf).size == 0
    assert index.count(query, 0.0) == 0
    assert index.topk(query, 0).shape == (0,)
    lims, ids = index.report_batch(np.ones((3, dim), np.float32), -1.0)
    assert (lims.tolist(), ids.size) == ([0, 0, 0, 0], 0)
    index.compact()
    assert index.add(np.ones((2, dim), np.float32)).tolist() == [0, 1]
    assert index.report(query, dim).tolist() == [0, 1]
    assert index.add(np.empty((0, dim))).size == 0
    index.remove([])
    index.remove([0, 1])
    assert index.report(query, -np.inf).size == 0
    assert index.topk(np.ones((2, dim), np.float32), 0).shape == (2, 0)
    index.compact()
    assert index.add(np.ones((1, dim), np.float32)).tolist() == [2]


@pytest.mark.parametrize("method", METHODS)
def test_no_queries_have_no_answers(method: str) -> None:
    index = Index(KEYS, method=method)
    for queries in (np.empty((0, 6)), np.empty((0, 6), np.float16)):
        lims, ids = index.report_batch(queries, 0.0)
        assert (lims.tolist(), ids.size) == ([0], 0)
        lims, scores, ids = index.range_search(queries, 0.0)
        assert (lims.tolist(), scores.size, ids.size) == ([0], 0, 0)
        assert index.topk(queries, 3).shape == (0, 3)
        assert index.report_batch(queries, np.empty(0))[0].tolist() == [0]


def test_permuting_keys_permutes_ids() -> None:
    order = np.random.default_rng(1).permutation(60)
    for method in METHODS:
        straight, shuffled = Index(KEYS, method=method), Index(KEYS[order], method=method)
        for query in QUERIES:
            found = order[shuffled.report(query, 0.4)]
            np.testing.assert_array_equal(np.sort(found), straight.report(query, 0.4))


def test_powers_of_two_scale_out() -> None:
    for method in METHODS:
        expected = Index(KEYS, method=method).report(QUERIES[0], 0.25)
        for power in (-60, -5, 5, 60):
            factor = np.float32(2.0**power)
            index = Index(KEYS * factor, method=method)
            np.testing.assert_array_equal(index.report(QUERIES[0], 0.25 * float(factor)), expected)


def test_what_is_not_reported_is_strictly_on_the_other_side() -> None:
    for method in METHODS:
        index = Index(KEYS, method=method)
        inside = index.report(QUERIES[1], 0.1)
        outside = index.report(-QUERIES[1], -0.1, strict=True)
        np.testing.assert_array_equal(np.sort(np.concatenate([inside, outside])), np.arange(60))


@pytest.mark.parametrize("method", METHODS)
def test_info_counts(method: str) -> None:
    index = Index(KEYS, method=method)
    ids, scores, info = index.report(QUERIES[0], 0.5, return_scores=True, return_info=True)
    assert scores.shape == ids.shape
    assert info.reported == ids.size <= info.candidates <= info.scanned or info.engine == "tree"
    assert info.engine in ("scan", "int8", "int4", "rotated", "tree")
    assert "engine" in repr(info)
    assert "<table>" in info._repr_html_()
    with pytest.raises(FrozenInstanceError):
        info.reported = 0
    lims, ids, batch = index.report_batch(QUERIES, 0.5, return_info=True)
    assert batch.reported == lims[-1] == ids.size
    for threshold, reported in ((np.inf, 0), (-np.inf, 60)):
        _, info = index.report(QUERIES[0], threshold, return_info=True)
        assert (info.engine, info.bytes_read, info.reported) == ("none", 0, reported)


def test_the_scan_reads_every_key() -> None:
    _, info = Index(KEYS, method="scan").report(QUERIES[0], 0.5, return_info=True)
    assert (info.engine, info.scanned) == ("scan", 60)


@pytest.mark.parametrize("dtype", DTYPES)
def test_reporting_once_is_reporting_from_an_index(dtype: str) -> None:
    keys = stored_as(KEYS, dtype)
    index = Index(keys, dtype=dtype)
    for strict in (False, True):
        options: dict[str, Any] = {"strict": strict, "return_scores": True}
        once = report(keys, QUERIES[0], 0.5, dtype=dtype, workers=2, **options)
        for found, expected in zip(once, index.report(QUERIES[0], 0.5, **options), strict=True):
            np.testing.assert_array_equal(found, expected)
    ids, info = report(keys, QUERIES[0], 0.5, dtype=dtype, return_info=True)
    assert info.reported == ids.size
