"""Half-space reporting on captured keys: duplicates, anisotropy, outliers as models make them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from halfspaces import Array, Floats, Ids, exact_ids, exact_scores, exact_topk, float64_scores

from subquad.halfspace import Index
from subquad.reference.halfspace import _nearest_float32

FOLDER = os.environ.get("SUBQUAD_DATA")
METHODS = ("auto", "scan", "quantized", "rotated")
CACHES = ("minilm_cache_n65536_L0H2.npz", "minilm_cache_n65536_L3H8.npz")


def capture(name: str) -> dict[str, Array]:
    if FOLDER is None:
        pytest.skip("SUBQUAD_DATA does not name the folder of the larger captures")
    with np.load(Path(FOLDER) / "captures" / name, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def own_thresholds(keys: Array, query: Floats) -> Iterator[float]:
    """The query's own 1st, 10th, 100th, n^0.5-th and n^0.8-th score, and a little beside it."""
    n = len(keys)
    best = np.argsort(-float64_scores(keys, query)[0])
    for rank in (1, 10, 100, int(n**0.5), int(n**0.8)):
        (score,) = exact_scores(keys[best[rank - 1]][np.newaxis], keys.dtype.name, query)
        yield float(score)
        yield float(np.nextafter(float(score), np.inf))


@pytest.mark.parametrize("widened", [False, True])
@pytest.mark.parametrize("name", CACHES)
def test_scores_of_the_keys_themselves_as_thresholds(name: str, widened: bool) -> None:
    data = capture(name)
    keys = data["k"].astype(np.float32) if widened else data["k"]
    queries = data["q"].astype(np.float32)
    rows = np.linspace(0, len(queries) - 1, 6).astype(int)
    indices = [Index(keys, queries=queries[1::2], method=method) for method in METHODS]
    for query in queries[rows]:
        best = exact_topk(keys, query, 100)
        thresholds = list(own_thresholds(keys, query))
        expected = [exact_ids(keys, query, threshold) for threshold in thresholds]
        for index in indices:
            for threshold, ids in zip(thresholds, expected, strict=True):
                np.testing.assert_array_equal(index.report(query, threshold), ids)
            np.testing.assert_array_equal(index.topk(query, 100), best)


@pytest.mark.parametrize("name", CACHES)
def test_batches_of_real_queries(name: str) -> None:
    data = capture(name)
    keys, queries = data["k"], data["q"].astype(np.float32)[:40]
    for share in (1e-3, 0.1):
        rank = int(share * len(keys))
        thresholds = np.array([np.sort(float64_scores(keys, q)[0])[-rank] for q in queries])
        expected: list[Ids] = [
            exact_ids(keys, query, b) for query, b in zip(queries, thresholds, strict=True)
        ]
        for method in METHODS:
            lims, ids = Index(keys, method=method).report_batch(queries, thresholds)
            np.testing.assert_array_equal(lims, np.cumsum([0, *map(len, expected)]))
            np.testing.assert_array_equal(ids, np.concatenate(expected))


def test_duplicates_are_reported_together() -> None:
    keys = capture(CACHES[0])["k"]
    query = capture(CACHES[0])["q"].astype(np.float32)[3]
    # The key of the first token of every passage is the same.
    same = np.flatnonzero((keys == keys[0]).all(axis=1))
    assert len(same) >= 128
    (score,) = exact_scores(keys[:1], "float16", query)
    for method in METHODS:
        index = Index(keys, method=method)
        inside = index.report(query, float(score))
        outside = index.report(query, float(score), strict=True)
        assert np.isin(same, inside).all()
        assert not np.isin(same, outside).any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_sentence_embeddings(dtype: type) -> None:
    data = capture("minilm_embeddings.npz")
    base: Array = data["base"].astype(dtype)
    queries = data["queries"].astype(np.float32)
    for method in METHODS:
        index = Index(base, queries=queries[::4], method=method)
        for similarity in (0.4, 0.5, 0.6):
            lims, scores, ids = index.range_search(queries, similarity)
            for i in range(0, len(queries), 32):
                part = slice(lims[i], lims[i + 1])
                expected = exact_ids(base, queries[i], similarity, strict=True)
                np.testing.assert_array_equal(ids[part], expected)
                exact = exact_scores(base[expected], base.dtype.name, queries[i])
                assert scores[part].tolist() == [float(_nearest_float32(x)) for x in exact]
            assert lims[-1] > 0
