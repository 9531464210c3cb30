"""Half-space reporting: what an index answers, and what it takes."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import os
import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from halfspaces import (
    DTYPES,
    METHODS,
    Array,
    Floats,
    exact_ids,
    exact_topk,
    float64_scores,
    methods_for,
    stored_as,
)
from strategies import bfloat16_bits

import subquad
from subquad.halfspace import Index, report

RNG = np.random.default_rng(0)
KEYS = RNG.standard_normal((60, 6)).astype(np.float32)
QUERIES = RNG.standard_normal((4, 6)).astype(np.float32)


def fractions(n: int) -> list[float]:
    """Shares of the keys to report: few, some, many, nearly all."""
    return [1 / n, 1e-3, 1e-2, n**-0.2, 0.5, 0.99]


def quantiles(keys: Array, query: Floats) -> list[float]:
    """Thresholds that so many keys reach, scores of keys themselves."""
    scores = np.sort(float64_scores(keys, query)[0])
    return [float(scores[-max(1, int(p * len(scores)))]) for p in fractions(len(scores))]


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


def test_an_index_without_keys_may_be_of_any_type() -> None:
    for dtype in DTYPES:
        index = Index(np.empty((0, 3)), dtype=dtype)
        assert index.stats.dtype == dtype
        index.add(stored_as(KEYS[:, :3], dtype))
        assert len(index) == len(KEYS)


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


def layouts(array: Array) -> list[Array]:
    """The same numbers in other layouts."""
    wide = np.zeros((2 * len(array), array.shape[1] + 3), array.dtype)
    wide[::2, 1:-2] = array
    shifted = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    shifted[:] = array
    return [
        np.asfortranarray(array),
        wide[::2, 1:-2],
        np.ascontiguousarray(array[::-1])[::-1],
        np.ascontiguousarray(array[:, ::-1])[:, ::-1],
        array.astype(array.dtype.newbyteorder()),
        shifted,
    ]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_layout_does_not_matter(dtype: str) -> None:
    keys, queries = KEYS.astype(dtype), QUERIES.astype(dtype)
    expected = Index(keys).report_batch(queries, 0.3, return_scores=True)
    best = Index(keys).topk(queries, 5)
    for moved in layouts(keys):
        for found, one in zip(
            Index(moved).report_batch(queries, 0.3, return_scores=True), expected, strict=True
        ):
            np.testing.assert_array_equal(found, one)
        index = Index(np.empty((0, 6)), dtype=dtype)
        index.add(moved)
        np.testing.assert_array_equal(index.topk(queries, 5), best)
    index = Index(keys)
    for moved in layouts(queries):
        np.testing.assert_array_equal(index.report_batch(moved, 0.3)[1], expected[1])
        np.testing.assert_array_equal(index.topk(moved, 5), best)
        for i, query in enumerate(moved):
            part = slice(expected[0][i], expected[0][i + 1])
            np.testing.assert_array_equal(index.report(query, 0.3), expected[1][part])
            assert index.count(query, 0.3) == part.stop - part.start


def test_repeated_rows_take_no_memory_of_the_caller() -> None:
    keys = np.broadcast_to(KEYS[0], (1000, 6))
    index = Index(keys)
    assert index.report(KEYS[0], float(KEYS[0] @ KEYS[0]) / 2).size == 1000
    queries = np.broadcast_to(KEYS[0], (50, 6))
    assert index.report_batch(queries, 0.0)[0][-1] == 50_000


def test_keys_are_copied() -> None:
    keys = KEYS.copy()
    index = Index(keys)
    expected = index.report(QUERIES[0], 0.5)
    keys[:] = 0
    np.testing.assert_array_equal(index.report(QUERIES[0], 0.5), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_keys_of_16_bits_are_what_they_are(dtype: str) -> None:
    bits = stored_as(KEYS, dtype)
    wide = (
        (bits.astype(np.uint32) << 16).view(np.float32)
        if dtype == "bfloat16"
        else bits.astype(np.float32)
    )
    for method in METHODS:
        short, long = Index(bits, dtype=dtype, method=method), Index(wide, method=method)
        assert (short.stats.dtype, long.stats.dtype) == (dtype, "float32")
        for query in QUERIES:
            for threshold in quantiles(wide, query):
                np.testing.assert_array_equal(
                    short.report(query, threshold), long.report(query, threshold)
                )


def test_bfloat16_of_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    keys, queries = (x.astype(ml_dtypes.bfloat16) for x in (KEYS, QUERIES))
    index = Index(keys, queries=queries)
    assert index.stats.dtype == "bfloat16"
    bits = Index(keys.view(np.uint16), dtype="bfloat16")
    also = Index(keys, dtype=ml_dtypes.bfloat16)
    for one in (bits, also):
        for a, b in zip(
            one.report_batch(queries, 0.1), index.report_batch(queries, 0.1), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    assert index.add(keys[:2]).tolist() == [60, 61]
    assert index.add(keys[:1].view(np.uint16)).tolist() == [62]
    with pytest.raises(
        TypeError, match=r"`keys` must be bfloat16.*`keys.astype\(ml_dtypes.bfloat16"
    ):
        index.add(KEYS)


def test_queries_of_16_bits_are_what_they_are() -> None:
    index = Index(KEYS)
    half = QUERIES.astype(np.float16)
    for found, expected in zip(
        index.report_batch(half, 0.2), index.report_batch(half.astype("f4"), 0.2), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    expected = index.report(half[1].astype("f4"), 0.2)
    np.testing.assert_array_equal(index.report(half[1], 0.2), expected)


@pytest.mark.parametrize("threshold", [1, np.float32(1.0), np.int64(1), np.array(1.0), True + 0.0])
def test_thresholds_are_real_numbers(threshold: Any) -> None:
    index = Index(KEYS)
    expected = index.report(QUERIES[0], 1.0)
    assert expected.size
    np.testing.assert_array_equal(index.report(QUERIES[0], threshold), expected)
    np.testing.assert_array_equal(index.report_batch(QUERIES[:1], threshold)[1], expected)
    np.testing.assert_array_equal(index.report_batch(QUERIES[:1], [threshold])[1], expected)
    assert index.count(QUERIES[0], threshold) == expected.size


def test_a_threshold_in_float32_is_the_number_that_it_is() -> None:
    index = Index(np.array([[0.1]], np.float32))
    one = np.ones(1, np.float32)
    assert index.report(one, np.float32(0.1)).size == 1  # type: ignore[arg-type]
    assert index.report(one, 0.1).size == 1  # float32(0.1) > 0.1
    assert index.report(one, float(np.nextafter(np.float32(0.1), np.float32(1)))).size == 0


def test_ids_count_insertions_and_are_never_reused() -> None:
    index = Index(KEYS[:3])
    query = np.ones(6, np.float32)
    assert index.add(KEYS[3:5]).tolist() == [3, 4]
    index.remove([4, 0])
    assert len(index) == 3
    assert index.report(query, -np.inf).tolist() == [1, 2, 3]
    assert index.add(KEYS[5:6]).tolist() == [5]
    index.remove(np.array([5], np.uint8))
    index.compact()
    assert index.report(query, -np.inf).tolist() == [1, 2, 3]
    assert sorted(index.topk(query, 3).tolist()) == [1, 2, 3]
    assert index.add(KEYS[6:8]).tolist() == [6, 7]
    assert index.stats.next_id == 8
    with pytest.raises(KeyError, match="got 5 at index"):
        index.remove([5])


def test_removal_is_all_or_nothing() -> None:
    for index in (Index(KEYS[:4]), subquad.reference.halfspace.Index(KEYS[:4])):
        index.remove([2])
        for ids, message in (
            ([0, 7, 1], r"`ids` must be in the index, got 7 at index \(1,\)"),
            ([0, -1], r"got -1 at index \(1,\)"),
            ([2, 0], r"got 2 at index \(0,\)"),
            ([3, 0, 3], r"`ids` must not repeat.*got 3 at indices \(0,\) and \(2,\)"),
            (np.array([2**64 - 1], np.uint64), "got 18446744073709551615 at index"),
        ):
            with pytest.raises(KeyError, match=message):
                index.remove(ids)
            assert index.report(QUERIES[0], -np.inf).tolist() == [0, 1, 3]


def test_permuting_keys_permutes_ids() -> None:
    order = RNG.permutation(60)
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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_stats_and_repr(method: str, dtype: str) -> None:
    index = Index(stored_as(KEYS, dtype), dtype=dtype, method=method)
    index.remove([1, 2, 3])
    stats = index.stats
    assert (stats.keys, stats.removed, stats.dim, stats.next_id) == (57, 3, 6, 60)
    assert (stats.dtype, stats.method, stats.mapped) == (dtype, method, False)
    assert stats.engines
    assert all(isinstance(name, str) for name in stats.engines)
    assert stats.bytes_keys >= 60 * 6 * (4 if dtype == "float32" else 2)
    assert stats.bytes == stats.bytes_keys + stats.bytes_codes + stats.bytes_other
    assert stats.bytes_per_key == stats.bytes / 60
    assert "57 of d = 6" in repr(stats)
    assert "<table>" in stats._repr_html_()
    assert repr(index) == (
        f"<subquad.halfspace.Index of 57 keys, d = 6, {dtype}, method {method!r}>"
    )
    index.compact()
    assert (index.stats.keys, index.stats.removed) == (57, 0)


def answers(index: Any) -> list[Array]:
    """Everything that an index says about itself and its keys."""
    query = np.ones(index.stats.dim, np.float32)
    ids, scores = index.report(query, -np.inf, return_scores=True)
    return [ids, scores, index.topk(query, len(index)), np.array([index.stats.next_id])]


def assert_same(one: Any, other: Any) -> None:
    for a, b in zip(answers(one), answers(other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one.stats.method, one.stats.dtype) == (other.stats.method, other.stats.dtype)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_are_independent(tmp_path: Path, method: str, dtype: str) -> None:
    index = Index(stored_as(KEYS, dtype), dtype=dtype, method=method, workers=2)
    index.remove([3, 50])
    index.save(tmp_path / "index")
    index.save(os.fsencode(tmp_path / "bytes"))  # type: ignore[arg-type]
    copies = [copy.copy(index), copy.deepcopy(index)]
    copies += [pickle.loads(pickle.dumps(index, protocol)) for protocol in range(6)]
    assert [one.workers for one in copies] == [2] * 8
    copies += [Index.load(tmp_path / "index"), Index.load(str(tmp_path / "bytes"), mmap=False)]
    for one in copies:
        assert type(one) is Index
        assert_same(one, index)
        one.remove([7])
        one.add(stored_as(KEYS[:2], dtype))
    assert len(index) == 58
    index.remove([8])
    for one in copies:
        assert_same(one, copies[0])
        assert 8 in answers(one)[0]
    # What was changed after it was mapped is not written back.
    assert len(Index.load(tmp_path / "index")) == 58


def test_subclasses_stay_what_they_are(tmp_path: Path) -> None:
    index = Named(KEYS)
    index.save(tmp_path / "index")
    for one in (
        copy.copy(index),
        pickle.loads(pickle.dumps(index)),
        Named.load(tmp_path / "index"),
    ):
        assert type(one) is Named
        assert_same(one, index)


class Named(Index):
    """At the top level, where pickle finds it."""


def test_a_mapped_index_answers_and_changes(tmp_path: Path) -> None:
    index = Index(KEYS)
    index.save(tmp_path / "index")
    mapped = Index.load(tmp_path / "index")
    assert mapped.stats.mapped
    assert not Index.load(tmp_path / "index", mmap=False).stats.mapped
    expected = answers(index)
    # Replaced by rename, the old file lives on in the map.
    Index(KEYS[:5]).save(tmp_path / "index")
    for found, one in zip(answers(mapped), expected, strict=True):
        np.testing.assert_array_equal(found, one)
    mapped.add(KEYS[:3])
    index.add(KEYS[:3])
    assert_same(mapped, index)
    assert len(Index.load(tmp_path / "index")) == 5


def test_workers_may_be_set() -> None:
    index = Index(KEYS)
    expected = answers(index)
    assert index.workers is None
    for workers in (1, 2, -1, None):
        index.workers = workers
        assert index.workers is None or index.workers >= 1
        for found, one in zip(answers(index), expected, strict=True):
            np.testing.assert_array_equal(found, one)
    with pytest.raises(ValueError, match=r"`workers`.*got 0"):
        index.workers = 0


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


@pytest.fixture(scope="module")
def torch() -> ModuleType:
    if importlib.util.find_spec("torch") is None:
        assert os.environ.get("CI_TORCH") != "1", "CI_TORCH=1, but torch is not installed"
        pytest.skip("torch is not installed: its interoperability is not tested")
    return importlib.import_module("torch")


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_in_torch_out(torch: ModuleType, dtype: str) -> None:
    keys, queries = (torch.from_numpy(x).to(getattr(torch, dtype)) for x in (KEYS, QUERIES))
    index = Index(keys, queries=queries)
    assert index.stats.dtype == dtype
    plain = Index(stored_as(KEYS, dtype), dtype=dtype)
    wide = queries.float().numpy()
    ids, scores = index.report(queries[0], 0.2, return_scores=True)
    assert (ids.dtype, scores.dtype) == (torch.int64, torch.float32)
    for found, expected in zip(
        (ids, scores), plain.report(wide[0], 0.2, return_scores=True), strict=True
    ):
        np.testing.assert_array_equal(found.numpy(), expected)
    thresholds = torch.tensor([0.1, 0.2, 0.3, torch.inf], dtype=torch.float64)
    for found, expected in zip(
        (*index.report_batch(queries, thresholds), *index.range_search(queries, 0.1)),
        (*plain.report_batch(wide, thresholds.numpy()), *plain.range_search(wide, 0.1)),
        strict=True,
    ):
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(found.numpy(), expected)
    best = index.topk(queries, 3)
    np.testing.assert_array_equal(best.numpy(), plain.topk(wide, 3))
    assert index.count(queries[1], torch.tensor(0.2)) == plain.count(wide[1], torch.tensor(0.2))
    new = index.add(keys[:2])
    assert new.tolist() == [60, 61]
    index.remove(new)
    assert len(index) == 60
    leaf = queries[0].clone().requires_grad_()
    with pytest.raises(TypeError, match="`query` requires grad"):
        index.report(leaf, 0.0)


class Exchanged:
    """An array of a library that this one has never heard of."""

    def __init__(self, array: Any) -> None:
        self.array, self.dtype = array, array.dtype

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __array_namespace__(self) -> Any:
        return Namespace


class Namespace:
    """The module of that library."""

    @staticmethod
    def from_dlpack(x: Any) -> Exchanged:
        return Exchanged(np.from_dlpack(x))


def test_dlpack_in_and_out() -> None:
    index, plain = Index(Exchanged(KEYS)), Index(KEYS)
    query = Exchanged(QUERIES[0])
    found = index.report(query, 0.3)
    assert isinstance(found, Exchanged)
    np.testing.assert_array_equal(found.array, plain.report(QUERIES[0], 0.3))
    best = index.topk(Exchanged(QUERIES), 4)
    np.testing.assert_array_equal(best.array, plain.topk(QUERIES, 4))
    np.testing.assert_array_equal(index.topk(query, 4).array, best.array[0])
    assert isinstance(index.add(Exchanged(KEYS[:1])), Exchanged)


def test_bits_of_bfloat16_are_what_the_helper_says() -> None:
    # The helper of these tests, against a number by hand: 1 + 2**-7 is a bfloat16, half a step is not.
    assert bfloat16_bits(np.array([1.0, 1.0 + 2**-7, 1.0 + 2**-9])).tolist() == [
        0x3F80,
        0x3F81,
        0x3F80,
    ]
