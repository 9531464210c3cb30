"""Captured inputs: how files are read, and what the library makes of the heads in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import subquad
from subquad._cli import dense
from subquad._cli.captures import Capture, Head
from subquad._cli.files import CaptureError
from subquad._cli.load import load
from subquad.rope import rotate

FOLDER = os.environ.get("SUBQUAD_DATA")
SMALL = Path(__file__).parent / "data" / "captures"
ATTENTION = (
    "minilm_cache_n65536_L0H2.npz",
    "minilm_cache_n65536_L3H8.npz",
    "minilm_pydoc_n512.npz",
    "minilm_stdlib_n512.npz",
    "rope_gqa_n2048.npz",
    "rope_n2048.npz",
    "rope_n8192_window.npz",
)
PACKAGED = "packaged"


def capture(name: str) -> Capture:
    if name == PACKAGED:
        return load(None)
    small = SMALL / name
    if small.exists():
        return load(small)
    if FOLDER is None:
        pytest.skip("SUBQUAD_DATA does not name the folder of the larger captures")
    return load(Path(FOLDER) / "captures" / name)


def heads(of: Capture, dtype: type[np.floating[Any]]) -> Iterator[tuple[int, Head]]:
    for index in range(of.heads):
        yield index, of.head(index, dtype)


def distances(found: NDArray[Any], exact: NDArray[Any]) -> NDArray[np.float64]:
    rows: NDArray[np.float64] = np.linalg.norm(found.astype(np.float64) - exact, axis=-1)
    return rows


def outputs(head: Head, rows: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Output and bound of some rows; without a mask the other queries need not run at all."""
    query = head.query if head.causal else head.query[rows]
    out, info = subquad.attention(
        query,
        head.key,
        head.value,
        scale=head.scale,
        is_causal=head.causal,
        window=head.window,
        return_info=True,
    )
    bound = np.asarray(info.error_bound)
    return (out[rows], bound[rows]) if head.causal else (out, bound)


@pytest.mark.parametrize("name", [PACKAGED, *ATTENTION])
def test_float64_reproduces_the_stored_outputs(name: str) -> None:
    data = capture(name)
    rows = data.checks["check_rows"]
    for index, head in heads(data, np.float64):
        exact = data.checks["check_o"][index]
        off = distances(outputs(head, rows)[0], exact) / np.linalg.norm(exact, axis=-1)
        assert off.max() <= 1e-12, f"head {index}"


@pytest.mark.parametrize("name", [PACKAGED, *ATTENTION])
def test_float32_reproduces_the_stored_outputs(name: str) -> None:
    data = capture(name)
    rows = data.checks["check_rows"]
    for index, head in heads(data, np.float32):
        exact = data.checks["check_o"][index]
        out, bound = outputs(head, rows)
        off = distances(out, exact)
        spread = np.linalg.norm(head.value - head.value.mean(axis=0, dtype=np.float64), axis=1)
        largest, _ = dense.largest_logit(head)
        allowed = max(2e-6, 2**-22 * largest) * spread.max()
        assert off.max() <= allowed, f"head {index}"
        if data.theta is None:
            # The arrays are those of the file, so the certificate speaks of the same numbers.
            assert np.all(off <= bound), f"head {index}"


@pytest.mark.parametrize(("dtype", "allowed"), [(np.float64, 1e-11), (np.float32, 2e-5)])
@pytest.mark.parametrize("name", [PACKAGED, *(n for n in ATTENTION if n.startswith("rope"))])
def test_gradients_reproduce_the_stored_ones(
    name: str, dtype: type[np.floating[Any]], allowed: float
) -> None:
    data = capture(name)
    some = [head for _, head in heads(data, dtype)]
    first = [int(np.flatnonzero(data.kv_of_q == kv)[0]) for kv in range(len(data.key))]
    gradients = subquad.attention_grad(
        np.stack([head.grad_out for head in some if head.grad_out is not None]),
        np.stack([head.query for head in some]),
        np.stack([some[index].key for index in first]),
        np.stack([some[index].value for index in first]),
        scale=data.scale,
        is_causal=data.causal,
        window=data.window,
        enable_gqa=True,
    )
    rows = data.checks["check_rows"]
    found = {
        "check_dq": data.before_rotation(gradients.query),
        "check_dk": data.before_rotation(gradients.key),
        "check_dv": gradients.value,
    }
    for check, gradient in found.items():
        exact = data.checks[check]
        off = np.linalg.norm(gradient[:, rows] - exact, axis=(1, 2))
        assert np.all(off <= allowed * np.linalg.norm(exact, axis=(1, 2))), check


def test_the_packaged_capture_has_the_three_kinds_of_head() -> None:
    data = load(None)
    assert data.labels == ("L0H1", "L1H1", "L2H2")
    assert data.grad_out is not None
    rows = np.arange(512, 1024, 16)
    flat, previous, induction = (
        np.median(dense.exact_rows(head, rows)[1]) for _, head in heads(data, np.float32)
    )
    assert flat > 300
    assert previous <= 2
    assert 4 < induction < 200


def test_rotation_is_the_half_split_formula() -> None:
    x = np.random.default_rng(0).standard_normal((5, 6))
    turned = rotate(x, theta=100.0)
    for p, i in np.ndindex(5, 3):
        angle = p * 100.0 ** (-2 * i / 6)
        a, b = x[p, i], x[p, i + 3]
        assert turned[p, i] == pytest.approx(a * np.cos(angle) - b * np.sin(angle), abs=1e-15)
        assert turned[p, i + 3] == pytest.approx(b * np.cos(angle) + a * np.sin(angle), abs=1e-15)
    np.testing.assert_allclose(rotate(turned, theta=100.0, inverse=True), x, atol=1e-15)


def saved(folder: Path, **arrays: Any) -> Path:
    path = folder / "capture.npz"
    np.savez(path, **arrays)
    return path


def random(*shape: int, dtype: Any = np.float32) -> NDArray[Any]:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)


def test_two_dimensional_arrays_are_one_head(tmp_path: Path) -> None:
    data = load(saved(tmp_path, q=random(3, 4), k=random(5, 4), v=random(5, 2)))
    assert (data.heads, data.labels, data.scale) == (1, ("",), 0.5)
    assert (data.causal, data.window, data.theta) == (False, None, None)
    assert data.dtype == np.float32


def test_layers_and_heads_are_flattened(tmp_path: Path) -> None:
    q, k = random(2, 4, 3, 8), random(2, 2, 5, 8)
    data = load(saved(tmp_path, q=q, k=k, v=k, layers=[3, 7], heads=[0, 1, 4, 5]))
    assert data.labels[4:6] == ("L7H0", "L7H1")
    assert data.kv_of_q.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    np.testing.assert_array_equal(data.head(6).query, q[1, 2])
    np.testing.assert_array_equal(data.head(6).key, k[1, 1])


def test_a_window_wider_than_everything_hides_nothing(tmp_path: Path) -> None:
    k = random(5, 4)
    data = load(saved(tmp_path, q=k, k=k, v=k, causal=True, window=1e30))
    first, last = dense.spans(data.head(0), np.arange(5))
    assert (first.tolist(), last.tolist()) == ([0] * 5, [1, 2, 3, 4, 5])


def test_the_map_of_heads_to_keys_is_followed(tmp_path: Path) -> None:
    q, k = random(3, 4, 2), random(2, 5, 2)
    data = load(saved(tmp_path, q=q, k=k, v=k, kv_of_q=[1, 0, 1]))
    np.testing.assert_array_equal(data.head(0).key, k[1])


@pytest.mark.parametrize(
    ("stored", "worked"),
    [(np.float16, np.float32), (np.float64, np.float64), (np.int32, np.float64)],
)
def test_the_type_to_work_in_follows_the_file(tmp_path: Path, stored: Any, worked: Any) -> None:
    data = load(saved(tmp_path, q=random(3, 4), k=random(5, 4), v=random(5, 4, dtype=stored)))
    assert data.head(0).query.dtype == worked
    assert data.head(0).value.dtype == worked


def test_keys_serve_as_values_only_where_the_file_says_so(tmp_path: Path) -> None:
    k = random(5, 4)
    data = load(saved(tmp_path, q=random(3, 4), k=k, check_value="k"))
    np.testing.assert_array_equal(data.head(0).value, k)
    with pytest.raises(CaptureError, match="no array `v`"):
        load(saved(tmp_path, q=random(3, 4), k=k))


def test_other_arrays_of_a_file_are_never_read(tmp_path: Path) -> None:
    k = random(5, 4)
    path = saved(tmp_path, q=k, k=k, v=k, notes=np.array([{"pickled": 1}], dtype=object))
    assert load(path).heads == 1


@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 3)])
@pytest.mark.parametrize(("queries", "keys"), [(7, 7), (5, 11), (17, 6)])
@pytest.mark.parametrize("biased", [False, True])
def test_the_plain_forms_agree_with_the_definition(
    monkeypatch: pytest.MonkeyPatch,
    causal: bool,
    window: int | None,
    queries: int,
    keys: int,
    biased: bool,
) -> None:
    monkeypatch.setattr(dense, "BLOCK_LOGITS", 4 * keys)
    arrays = (random(n, d, dtype=np.float64) for n, d in ((queries, 4), (keys, 4), (keys, 3)))
    q, k, v = arrays
    do = random(queries, 3, 1, dtype=np.float64)[..., 0]
    lags = np.random.default_rng(1).standard_normal(queries + keys - 1)
    lags[3] = -np.inf
    head = Head(q, k, v, do, -0.7, causal, window, lags if biased else None)

    i, j = np.ogrid[:queries, :keys]
    logits = -0.7 * (q @ k.T) + (lags[i - j + keys - 1] if biased else 0.0)
    seen = (j <= i) & (j > i - (window or queries)) if causal else np.ones((queries, keys), bool)
    weights = np.where(seen, np.exp(logits), 0)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
    flow = do @ v.T
    flow = -0.7 * weights * (flow - np.sum(weights * flow, axis=1, keepdims=True))

    rows, columns = np.arange(queries), np.arange(keys)
    out, holders = dense.exact_rows(head, rows)
    np.testing.assert_allclose(out, weights @ v, atol=1e-14)
    for row, count in zip(weights, holders, strict=True):
        largest = np.sort(row)[::-1].cumsum()
        assert count == (np.argmax(largest >= 0.9) + 1 if row.any() else 0)
    expected = np.abs(logits[seen & np.isfinite(logits)]).max()
    found, looked = dense.largest_logit(head)
    assert found == pytest.approx(expected)
    assert looked == queries
    gradients = dense.exact_gradients(head, rows, columns)
    np.testing.assert_allclose(gradients["query"], flow @ k, atol=1e-14)
    np.testing.assert_allclose(gradients["key"], flow.T @ q, atol=1e-14)
    np.testing.assert_allclose(gradients["value"], weights.T @ do, atol=1e-14)


def test_long_problems_are_timed_on_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "BLOCK_LOGITS", 20)
    monkeypatch.setattr(dense, "TIMED_LOGITS", 100)
    head = Head(random(64, 4), random(10, 4), random(10, 4), None, 0.5, False, None)
    seconds, timed = dense.dense_seconds(head, 1)
    assert seconds > 0
    assert timed == 10


def test_numpy_gets_as_many_threads_where_they_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("threadpoolctl")
    assert dense.thread_counts(1) == (1,)
    assert dense.thread_counts(4) == (1, 4)
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert dense.thread_counts(4) == (None,)
