"""Half-space reporting: ids, figures and copies of an index."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from halfspaces import DTYPES, METHODS, Array, keys_and_queries, stored_as

import subquad
from subquad.halfspace import Index

KEYS, QUERIES = keys_and_queries("gaussian", np.random.default_rng(0), 60, 6, 4)


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
