"""Files that were saved once can be read for ever, and answer as the definition does.

They are in `tests/data/halfspace`; `python tests/golden.py` writes them, and says what to do when the
version of the format grows.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import FOLDER, GOLDEN, Golden, version_of

from subquad.halfspace import Index, Stats
from subquad.reference import halfspace as reference

FILES = sorted(path.name for path in FOLDER.glob("*.index"))


def golden(name: str) -> Golden:
    return GOLDEN[name.partition("-")[0]]


@pytest.fixture(scope="module")
def twins() -> dict[str, Any]:
    """What is true of each index, whatever its file."""
    return {method: one.make(reference.Index) for method, one in GOLDEN.items()}


def assert_same_answers(index: Index, twin: Any, one: Golden) -> None:
    """Compare all that can be asked, at thresholds that are scores of keys."""
    queries = one.queries
    ids, scores = twin.topk(queries, len(twin), return_scores=True)
    for k in (1, 10, len(twin)):
        assert_equal(index.topk(queries, k, return_scores=True), (ids[:, :k], scores[:, :k]))
    for rank in (1, 12, len(twin) // 2):
        thresholds = scores[:, rank].astype(np.float64)
        for strict in (False, True):
            options: dict[str, bool] = {"strict": strict, "return_scores": True}
            expected = twin.report_batch(queries, thresholds, **options)
            assert_equal(index.report_batch(queries, thresholds, **options), expected)
            for i, part in enumerate(itertools.starmap(slice, itertools.pairwise(expected[0]))):
                query, threshold = queries[i], float(thresholds[i])
                found = index.report(query, threshold, **options)
                assert_equal(found, (expected[1][part], expected[2][part]))
                assert index.count(query, threshold, strict=strict) == found[0].size


def assert_equal(found: Any, expected: Any) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_every_method_has_a_file_of_the_version_that_is_saved_today() -> None:
    today = version_of(Index(np.ones((1, 1), np.float32)).__getstate__()[0])
    paths = [one.path(today) for one in GOLDEN.values()]
    assert {path.name for path in paths} <= set(FILES)
    # Small, for they are kept for ever.
    assert sum(path.stat().st_size for path in paths) < 200 * 1024


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_of_the_version_that_its_name_says(name: str) -> None:
    assert golden(name).path(version_of((FOLDER / name).read_bytes())).name == name


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_a_saved_index_is_what_it_was(name: str, mmap: bool, twins: dict[str, Any]) -> None:
    one = golden(name)
    twin = twins[one.method]
    index = Index.load(FOLDER / name, mmap=mmap)
    # What memory it takes is a matter of the version.
    found = dataclasses.replace(index.stats, bytes_keys=0, bytes_codes=0, bytes_other=0)
    assert found == Stats(
        keys=len(twin),
        removed=one.removed.size,
        dim=one.dim,
        dtype=one.dtype,
        method=one.method,
        engines=one.engines,
        bytes_keys=0,
        bytes_codes=0,
        bytes_other=0,
        mapped=mmap,
        next_id=one.rows + 20,
    )
    assert_same_answers(index, twin, one)


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_a_saved_index_can_be_changed_and_saved_again(
    name: str, mmap: bool, tmp_path: Path
) -> None:
    one = golden(name)
    twin, index = one.make(reference.Index), Index.load(FOLDER / name, mmap=mmap)
    for step in ("add", "remove", "compact"):
        if step == "add":
            keys = one.keys(4, 30)
            assert_equal([index.add(keys)], [twin.add(keys)])
        elif step == "remove":
            ids = twin.report(one.queries[0], 0.0)[::3]
            index.remove(ids)
            twin.remove(ids)
        else:
            index.compact()
            assert index.stats.removed == 0
        assert_same_answers(index, twin, one)
    index.save(tmp_path / name)
    assert_same_answers(Index.load(tmp_path / name, mmap=mmap), twin, one)
