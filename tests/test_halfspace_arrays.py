"""Half-space reporting: what an index takes, in which types and layouts, and gives back."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from exchange import Exchanged
from halfspaces import DTYPES, METHODS, Array, keys_and_queries, quantiles, stored_as
from strategies import bfloat16_bits

from subquad.halfspace import Index

KEYS, QUERIES = keys_and_queries("gaussian", np.random.default_rng(0), 60, 6, 4)


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


def test_an_index_without_keys_may_be_of_any_type() -> None:
    for dtype in DTYPES:
        index = Index(np.empty((0, 3)), dtype=dtype)
        assert index.stats.dtype == dtype
        index.add(stored_as(KEYS[:, :3], dtype))
        assert len(index) == len(KEYS)


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
