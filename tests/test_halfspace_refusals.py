"""What half-space reporting refuses: which exception, which argument it names, what it says came."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import subquad
from subquad.halfspace import Index
from subquad.reference import halfspace as reference

KEYS = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
QUERIES = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
QUERY = QUERIES[0]


def changed(array: NDArray[Any], index: tuple[int, ...], number: float) -> NDArray[Any]:
    copy = np.array(array)
    copy[index] = number
    return copy


def both() -> tuple[Any, Any]:
    return Index(KEYS), reference.Index(KEYS)


def refused(call: Callable[[Any], Any], error: type[Exception], message: str) -> None:
    """Expect the same of an index and of its twin."""
    for index in both():
        with pytest.raises(error, match=message):
            call(index)
        # Whatever it was, it has left no trace.
        assert index.report(QUERY, -np.inf).tolist() == list(range(7))


NEW: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"keys": KEYS[0]}, ValueError, r"`keys` must have shape \(n, d\), got \(4,\)"),
    ({"keys": KEYS[np.newaxis]}, ValueError, r"`keys`.*\(n, d\), got \(1, 7, 4\)"),
    ({"keys": []}, ValueError, r"`keys`.*\(n, d\), got \(0,\)"),
    ({"keys": KEYS[:, :0]}, ValueError, r"`keys`.*1 <= d <= 4096, got \(7, 0\)"),
    ({"keys": np.empty((0, 4097), "f4")}, ValueError, r"`keys`.*d <= 4096, got \(0, 4097\)"),
    ({"keys": [[1.0], [1.0, 2.0]]}, ValueError, "`keys` cannot be made into an array"),
    ({"keys": KEYS, "queries": QUERY}, ValueError, r"`queries`.*\(m, d\), got \(4,\)"),
    ({"keys": KEYS, "queries": QUERIES[:, :3]}, ValueError, r"`queries`.*d = 4, got \(3, 3\)"),
    ({"keys": KEYS, "method": "flat"}, ValueError, '`method`.*"auto", "scan", "quantized", "rotat'),
    ({"keys": KEYS, "method": None}, ValueError, "`method` must be one of.*got None"),
    ({"keys": np.ones((2, 13), "f4"), "method": "tree"}, ValueError, '`method="tree"`.*d = 13'),
    ({"keys": KEYS, "dtype": "float64"}, ValueError, "`dtype` must be one of float32.*'float64'"),
    ({"keys": KEYS, "dtype": "half-ish"}, ValueError, "`dtype`.*'half-ish'"),
    ({"keys": KEYS, "workers": 0}, ValueError, "`workers`.*got 0"),
    ({"keys": KEYS, "workers": 1.5}, TypeError, "`workers` must be an integer, got 1.5"),
    (
        {"keys": KEYS, "dtype": "float16"},
        TypeError,
        r"`keys` must be float16, got float32.*float16",
    ),
    ({"keys": KEYS.astype(float)}, TypeError, r"float64: pass `keys.astype\(numpy.float32\)`"),
    ({"keys": [[1.0, 2.0]]}, TypeError, r"`keys`.*bfloat16, got float64: pass `keys.astype"),
    ({"keys": KEYS.astype(int)}, TypeError, r"int64: pass `keys.astype\(numpy.float32\)`"),
    ({"keys": KEYS.astype(bool)}, TypeError, r"got bool: pass `keys.astype\(numpy.float32\)`"),
    ({"keys": KEYS.view("u2")}, TypeError, r'`keys`.*got uint16: .*astype.*`dtype="bfloat16"`'),
    ({"keys": KEYS.astype(complex)}, TypeError, "`keys` must hold real numbers.*complex128"),
    ({"keys": KEYS.astype(object)}, TypeError, "`keys`.*object"),
    ({"keys": None}, TypeError, "`keys`.*object"),
    ({"keys": np.ma.masked_array(KEYS)}, TypeError, "`keys` is a masked array"),
    (
        {"keys": KEYS, "queries": QUERIES.astype(float)},
        TypeError,
        r"`queries.astype\(numpy.float32",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), NEW)
def test_new_indices(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    for new in (Index, reference.Index):
        with pytest.raises(error, match=message):
            new(**arguments)
    if not {"queries", "method"} & arguments.keys():
        for report in (subquad.halfspace.report, reference.report):
            with pytest.raises(error, match=message):
                report(query=QUERY, threshold=0.0, **arguments)


QUERIED: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    # shapes
    (lambda x: x.report(QUERY[:3], 0.0), ValueError, r"`query`.*\(d,\) = \(4,\), got \(3,\)"),
    (lambda x: x.report(QUERIES, 0.0), ValueError, r"`query`.*\(d,\) = \(4,\), got \(3, 4\)"),
    (lambda x: x.count(QUERY[:3], 0.0), ValueError, r"`query`.*\(4,\), got \(3,\)"),
    (lambda x: x.report_batch(QUERY, 0.0), ValueError, r"`queries`.*\(m, d\), got \(4,\)"),
    (lambda x: x.report_batch(QUERIES.T, 0.0), ValueError, r"`queries`.*d = 4, got \(4, 3\)"),
    (lambda x: x.range_search(QUERY, 0.0), ValueError, r"`queries`.*\(m, d\), got \(4,\)"),
    (
        lambda x: x.topk(QUERY[:3], 1),
        ValueError,
        r"`queries`.*\(d,\) or \(m, d\) with d = 4.*\(3,\)",
    ),
    (lambda x: x.topk(QUERIES[np.newaxis], 1), ValueError, r"`queries`.*got \(1, 3, 4\)"),
    # thresholds
    (lambda x: x.report(QUERY, np.nan), ValueError, "`threshold` must be a number.*got nan"),
    (lambda x: x.count(QUERY, np.nan), ValueError, "`threshold` must be a number.*got nan"),
    (lambda x: x.report(QUERY, np.float32("nan")), ValueError, "`threshold`.*nan"),
    (lambda x: x.report(QUERY, [0.0]), ValueError, r"`threshold` must be one number.*\(1,\)"),
    (lambda x: x.range_search(QUERIES, [0.0] * 3), ValueError, r"`threshold`.*one number.*\(3,\)"),
    (lambda x: x.report(QUERY, "0"), TypeError, "`threshold` must be a real number, got '0'"),
    (lambda x: x.report(QUERY, None), TypeError, "`threshold` must be a real number, got None"),
    (lambda x: x.report(QUERY, 1j), TypeError, "`threshold`.*1j"),
    (lambda x: x.report(QUERY, True), TypeError, "`threshold`.*True"),
    (
        lambda x: x.report_batch(QUERIES, np.nan),
        ValueError,
        "`thresholds` must be numbers.*got nan",
    ),
    (
        lambda x: x.report_batch(QUERIES, [0.0, np.nan, np.nan]),
        ValueError,
        r"`thresholds`.*nan at index \(1,\)",
    ),
    (
        lambda x: x.report_batch(QUERIES, [0.0, 1.0]),
        ValueError,
        r"`thresholds` must be one number or have shape \(m,\) = \(3,\), got \(2,\)",
    ),
    (lambda x: x.report_batch(QUERIES, np.ones((3, 1))), ValueError, r"`thresholds`.*\(3, 1\)"),
    (lambda x: x.report_batch(QUERIES, [True] * 3), TypeError, "`thresholds`.*bool"),
    (lambda x: x.report_batch(QUERIES, ["1"] * 3), TypeError, "`thresholds`.*str"),
    # types
    (lambda x: x.report(QUERY.astype(float), 0.0), TypeError, r"`query.astype\(numpy.float32\)`"),
    (lambda x: x.report([1.0] * 4, 0.0), TypeError, "`query` must be float32, float16 or bfloat16"),
    (lambda x: x.report(QUERY.astype(int), 0.0), TypeError, r"int64: pass `query.astype"),
    (lambda x: x.count(QUERY.astype(float), 0.0), TypeError, r"`query.astype\(numpy.float32\)`"),
    (lambda x: x.report_batch(QUERIES.astype(float), 0.0), TypeError, r"`queries.astype\(numpy"),
    (lambda x: x.range_search(QUERIES.astype(float), 0.0), TypeError, r"`queries.astype\(numpy"),
    (lambda x: x.topk(QUERIES.astype(float), 1), TypeError, r"`queries.astype\(numpy.float32\)`"),
    (lambda x: x.report(QUERY.astype("f2").view("u2"), 0.0), TypeError, "`query`.*uint16"),
    (lambda x: x.report(QUERY.astype(complex), 0.0), TypeError, "`query`.*complex128"),
    # k
    (lambda x: x.topk(QUERY, 8), ValueError, "`k` must be at most the number of keys.*got 8"),
    (lambda x: x.topk(QUERIES, 10**30), ValueError, "`k` must be at most the number of keys"),
    (lambda x: x.topk(QUERY, -1), ValueError, "`k` must be at least 0.*got -1"),
    (lambda x: x.topk(QUERY, 1.0), TypeError, "`k` must be an integer, got 1.0 of type float"),
    (lambda x: x.topk(QUERY, True), TypeError, "`k` must be an integer, got True"),
    (lambda x: x.topk(QUERY, None), TypeError, "`k` must be an integer, got None"),
    # changes
    (lambda x: x.add(KEYS[0]), ValueError, r"`keys` must have shape \(n, d\), got \(4,\)"),
    (lambda x: x.add(KEYS[:, :3]), ValueError, r"`keys`.*d = 4, got \(7, 3\)"),
    (
        lambda x: x.add(KEYS.astype(float)),
        TypeError,
        r"`keys` must be float32, got float64.*`keys.as",
    ),
    (
        lambda x: x.add(KEYS.astype("f2")),
        TypeError,
        r"`keys` must be float32, got float16.*`keys.as",
    ),
    (lambda x: x.add(KEYS.view("u2")[:, :4]), TypeError, "`keys` must be float32, got uint16"),
    (lambda x: x.remove(3), ValueError, r"`ids` must have shape \(r,\), got \(\)"),
    (lambda x: x.remove([[3]]), ValueError, r"`ids` must have shape \(r,\), got \(1, 1\)"),
    (lambda x: x.remove([1.0]), TypeError, "`ids` must be integers, got dtype float64"),
    (
        lambda x: x.remove([True] * 7),
        TypeError,
        "`ids` must be integers, got dtype bool.*flatnonzero",
    ),
    (lambda x: x.remove(["1"]), TypeError, "`ids`.*str"),
    (lambda x: x.remove([7]), KeyError, r"`ids` must be in the index, got 7 at index \(0,\)"),
    (lambda x: x.remove([0, -7, 9]), KeyError, r"got -7 at index \(1,\)"),
    (lambda x: x.remove([1, 2, 1]), KeyError, r"not repeat.*got 1 at indices \(0,\) and \(2,\)"),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), QUERIED, ids=[str(i) for i in range(len(QUERIED))]
)
def test_calls(call: Callable[[Any], Any], error: type[Exception], message: str) -> None:
    refused(call, error, message)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_named_with_their_index(number: float, dtype: str) -> None:
    def finite(name: str, index: str) -> str:
        return rf"`{name}` must be finite, got {number} at index \({index}\)"

    keys = changed(KEYS.astype(dtype), (5, 2), number)
    queries = changed(QUERIES.astype(dtype), (1, 3), number)
    queries[2] = number  # not the first
    for new in (Index, reference.Index):
        with pytest.raises(ValueError, match=finite("keys", "5, 2")):
            new(keys)
        with pytest.raises(ValueError, match=finite("queries", "1, 3")):
            new(KEYS, queries=queries)
    if dtype == "float32":
        refused(lambda x: x.add(keys), ValueError, finite("keys", "5, 2"))
        # Read backwards, row 5 is row 1.
        refused(lambda x: x.add(keys[::-1]), ValueError, finite("keys", "1, 2"))
    refused(lambda x: x.report(queries[1], 0.0), ValueError, finite("query", "3,"))
    refused(lambda x: x.count(queries[1], 0.0), ValueError, finite("query", "3,"))
    refused(lambda x: x.report_batch(queries, 0.0), ValueError, finite("queries", "1, 3"))
    refused(lambda x: x.range_search(queries, 0.0), ValueError, finite("queries", "1, 3"))
    refused(lambda x: x.topk(queries, 2), ValueError, finite("queries", "1, 3"))
    refused(lambda x: x.topk(queries[1], 2), ValueError, finite("queries", "3,"))


@pytest.mark.parametrize("threshold", [np.inf, -np.inf])
def test_a_query_is_checked_even_where_the_threshold_alone_decides(threshold: float) -> None:
    bad = changed(QUERY, (2,), np.nan)
    refused(lambda x: x.report(bad, threshold), ValueError, r"`query`.*nan at index \(2,\)")
    refused(lambda x: x.count(bad, threshold), ValueError, r"`query`.*nan at index \(2,\)")
    queries = changed(QUERIES, (0, 1), np.inf)
    refused(
        lambda x: x.report_batch(queries, threshold),
        ValueError,
        r"`queries`.*inf at index \(0, 1\)",
    )
    for new in (Index, reference.Index):
        with pytest.raises(ValueError, match=r"`query`.*nan at index \(2,\)"):
            new(np.empty((0, 4))).report(bad, 0.0)


def test_bits_of_bfloat16_that_are_not_finite_are_refused() -> None:
    bits = np.full((3, 2), 0x3F80, np.uint16)
    bits[2, 1] = 0x7F80
    for new in (Index, reference.Index):
        with pytest.raises(ValueError, match=r"`keys` must be finite, got inf at index \(2, 1\)"):
            new(bits, dtype="bfloat16")
    index = Index(bits[:2], dtype="bfloat16")
    with pytest.raises(ValueError, match=r"`keys` must be finite, got inf at index \(0, 1\)"):
        index.add(bits[2:])
    assert len(index) == 2


def test_options_are_booleans() -> None:
    index = Index(KEYS)
    for name in ("strict", "return_scores", "return_info"):
        options: dict[str, Any] = {name: "no"}
        with pytest.raises(TypeError, match="bool"):
            index.report(QUERY, 0.0, **options)


@pytest.mark.parametrize("path", [3, None, ["index"]])
def test_paths_are_paths(path: Any) -> None:
    for call in (Index(KEYS).save, Index.load):
        with pytest.raises(TypeError, match=r"`path` must be a string or os\.PathLike, got "):
            call(path)


def test_the_system_says_why_a_file_cannot_be_read_or_written(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(FileNotFoundError) as caught:
        Index.load(missing)
    assert (caught.value.errno, caught.value.filename) == (2, str(missing))
    with pytest.raises(OSError, match="No such file or directory") as nowhere:
        Index(KEYS).save(missing / "index")
    assert type(nowhere.value) is FileNotFoundError
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(OSError, match="folder"):
        Index.load(folder)
    with pytest.raises(OSError, match="folder"):
        Index(KEYS).save(folder)
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir(folder) == []


def test_foreign_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "index"
    for content in (b"", b"PK\x03\x04", b"\x00" * 4096, os.urandom(1000)):
        path.write_bytes(content)
        for mmap in (True, False):
            with pytest.raises(ValueError, match="file must be"):
                Index.load(path, mmap=mmap)
    whole = pickle.dumps(Index(KEYS))
    at = whole.index(KEYS.tobytes())
    broken = whole[:at] + b"\x01" + whole[at + 1 :]
    with pytest.raises(ValueError, match="must be"):
        pickle.loads(broken)
