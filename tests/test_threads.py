"""Threads: one result for every number of them, limits, the interpreter lock, Ctrl-C, fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from running import (
    LONG,
    assert_others_run_during,
    assert_same_after_fork,
    assert_same_bits,
    forks,
    interrupted,
    repeats_for,
    sends_signals,
    task_order,
)

import subquad
from subquad import _subquad
from subquad._problem import prepare

pytestmark = pytest.mark.usefixtures("thread_state")


def everything(workers: int | None) -> list[NDArray[Any]]:
    """Results of every kernel, large enough for many tasks each."""
    rng = np.random.default_rng(0)
    results: list[NDArray[Any]] = []
    for dtype in (np.float32, np.float64):
        q = rng.standard_normal((4, 300, 16)).astype(dtype)
        k, v = rng.standard_normal((2, 2, 700, 16)).astype(dtype)
        bias = rng.standard_normal((300, 1)).astype(dtype)
        mask = rng.random((4, 300, 700)) < 0.9
        for options in (
            {},
            {"is_causal": "lower_right", "window": 333},
            {"mask": mask, "bias": bias},
        ):
            keywords: dict[str, Any] = {"enable_gqa": True, "workers": workers, **options}
            out, lse = subquad.attention(q, k, v, return_lse=True, **keywords)
            grads = subquad.attention_grad(q, q, k, v, forward=(out, lse), **keywords)
            results += [out, lse, grads.query, grads.key, grads.value]
            results += [] if grads.bias is None else [grads.bias]
        # Arguments that several heads share: their gradients are sums over those heads.
        shared = rng.standard_normal((3, 1, 150, 16)).astype(dtype)
        one_head = k[0, :400]
        grads = subquad.attention_grad(
            np.ones((3, 5, 150, 16), dtype),
            shared,
            one_head,
            np.broadcast_to(v[:1, :400], (5, 400, 16)),
            bias=bias[:150],
            workers=workers,
        )
        results += [grads.query, grads.key, grads.value, grads.bias]
        # One head, a long one: its gradients are sums over many blocks of rows.
        long = rng.standard_normal((1500, 8)).astype(dtype)
        grads = subquad.attention_grad(long, long, long, long, is_causal=True, workers=workers)
        results += [grads.query, grads.key, grads.value]
        # One query: the keys are split instead.
        keys = rng.standard_normal((2, 20_000, 8)).astype(dtype)
        out, lse = subquad.attention(
            q[:, :1, :8], keys, keys, enable_gqa=True, return_lse=True, workers=workers
        )
        results += [out, lse]
    return results


@pytest.fixture(scope="module")
def expected() -> list[NDArray[Any]]:
    return everything(workers=1)


@pytest.mark.parametrize("workers", [2, 7, -1])
def test_the_number_of_threads_does_not_change_a_bit(
    workers: int, expected: list[NDArray[Any]]
) -> None:
    assert_same_bits(everything(workers), expected)


@pytest.mark.parametrize("order", ["reverse", "shuffled"])
@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_order_of_tasks_does_not_change_a_bit(
    order: str, workers: int, expected: list[NDArray[Any]]
) -> None:
    with task_order(order):
        assert_same_bits(everything(workers), expected)


def test_callers_on_several_threads_do_not_disturb_each_other(
    expected: list[NDArray[Any]],
) -> None:
    results: list[list[NDArray[Any]]] = []
    callers = [
        threading.Thread(target=lambda w=w: results.append(everything(w))) for w in (1, 2, None)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 3
    for result in results:
        assert_same_bits(result, expected)


def test_limits_nest_and_are_put_back() -> None:
    subquad.set_num_threads(3)
    assert subquad.num_threads() == 3
    with subquad.thread_limit(2):
        assert subquad.num_threads() == 2
        with subquad.thread_limit(5):
            assert subquad.num_threads() == 5
        assert subquad.num_threads() == 2
    assert subquad.num_threads() == 3
    with pytest.raises(KeyError), subquad.thread_limit(1):
        raise KeyError
    assert subquad.num_threads() == 3


def test_none_restores_the_limit_of_the_import() -> None:
    subquad.set_num_threads(None)
    before = subquad.num_threads()
    subquad.set_num_threads(before + 4)
    subquad.set_num_threads(None)
    assert subquad.num_threads() == before


@pytest.mark.parametrize(
    ("n", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_limits_below_one_are_refused(n: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="`n` must be"):
        subquad.set_num_threads(n)
    with pytest.raises(error, match="`n` must be"), subquad.thread_limit(n):
        pass


def test_workers_count_from_the_cores() -> None:
    x = np.ones((3, 2))
    cores = _subquad.cores()
    assert cores >= 1
    several: tuple[Any, ...] = (-1, -cores, 1, np.int64(2), 10**30)
    for workers in several:
        np.testing.assert_array_equal(subquad.attention(x, x, x, workers=workers), x)
    with pytest.raises(ValueError, match=f"`workers`.*-{cores}, got {-cores - 1}"):
        subquad.attention(x, x, x, workers=-cores - 1)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("SUBQUAD_NUM_THREADS", "OMP_NUM_THREADS")
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SUBQUAD_NUM_THREADS": "3"}, "3"),
        ({"SUBQUAD_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, "3"),
        ({"OMP_NUM_THREADS": "5"}, "5"),
        ({"OMP_NUM_THREADS": "4,2"}, "4"),
        ({"OMP_NUM_THREADS": "many"}, str(_subquad.cores())),
        ({}, str(_subquad.cores())),
    ],
)
def test_the_environment_sets_the_limit(environment: dict[str, str], expected: str) -> None:
    child = run("import subquad; print(subquad.num_threads())", **environment)
    assert child.stdout.strip() == expected, child.stderr


@pytest.mark.parametrize("value", ["0", "-2", "two", "", "1.5"])
def test_a_bad_limit_in_the_environment_is_an_error_at_import(value: str) -> None:
    child = run("import subquad", SUBQUAD_NUM_THREADS=value)
    assert child.returncode == 1
    assert f"ValueError: SUBQUAD_NUM_THREADS must be a positive integer, got {value!r}" in (
        child.stderr
    )


def test_threadpoolctl_sees_and_limits_the_pool() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    subquad.set_num_threads(3)
    (pool,) = [p for p in threadpoolctl.threadpool_info() if p["user_api"] == "subquad"]
    assert (pool["num_threads"], pool["version"]) == (3, subquad.__version__)
    with threadpoolctl.threadpool_limits(1):
        assert subquad.num_threads() == 1
    assert subquad.num_threads() == 3


def repeated(number: float, rows: int) -> NDArray[np.float32]:
    """Rows of one number that take no memory."""
    return np.broadcast_to(np.full(64, number, np.float32), (rows, 64))


def rows_for(seconds: float, keys: int) -> int:
    """How many queries against `keys` keys take about this long on this machine now."""
    kv = np.zeros((keys, 64), np.float32)

    def attend(rows: int) -> None:
        subquad.attention(repeated(0.0, rows), kv, kv, workers=1)

    # Few queries have a kernel of their own.
    return repeats_for(seconds, attend, least=64)


def test_other_threads_run_during_a_call() -> None:
    keys = 8192
    query, kv = repeated(0.0, rows_for(0.6, keys)), np.zeros((keys, 64), np.float32)
    assert_others_run_during(lambda: subquad.attention(query, kv, kv, workers=1))


@sends_signals
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_stops_a_call_before_half_of_its_work(workers: int) -> None:
    keys = 1 << 16
    rows = rows_for(LONG * workers, keys)
    query, kv = repeated(0.0, rows), np.zeros((keys, 64), np.float32)
    out = np.full((rows, 64), np.nan, np.float32)
    with interrupted():
        subquad.attention(query, kv, kv, out=out, workers=workers)
    done = np.count_nonzero(np.isfinite(out[:, 0]))
    assert done < rows / 2
    # The library works as before.
    assert subquad.attention(query[:3], kv[:5], kv[:5], workers=workers).shape == (3, 64)


@sends_signals
@pytest.mark.parametrize("keys", [2048, 1 << 15])
def test_ctrl_c_stops_a_gradient_before_half_of_its_work(keys: int) -> None:
    # The gradient takes more than twice as long as the output. It goes over blocks of queries, which
    # are quick with few keys and slow with many.
    rows = rows_for(LONG / 2, keys)
    query, kv = repeated(0.0, rows), np.zeros((keys, 64), np.float32)
    problem = prepare(
        query,
        kv,
        kv,
        mask=None,
        bias=None,
        is_causal=False,
        window=None,
        scale=None,
        enable_gqa=False,
        workers=1,
        check_finite=True,
    )
    lse = np.full((1, rows), np.log(keys), np.float32)
    grads = {"key": np.zeros_like(kv), "value": np.zeros_like(kv)}
    with interrupted():
        problem.backward(repeated(1.0, rows)[np.newaxis], problem.query, lse, grads)
    # All weights are 1 / keys: this is what each query adds to the gradient of every value.
    done = grads["value"].max() * keys
    assert done < rows / 2


FORK = """
x = np.random.default_rng(0).standard_normal((2, 500, 16))
expected = subquad.attention(x, x, x, workers=2)
"""


@forks
def test_a_forked_child_can_use_the_library_after_its_parent() -> None:
    assert_same_after_fork(FORK, "np.array_equal(subquad.attention(x, x, x, workers=2), expected)")
