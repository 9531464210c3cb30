"""Threads of polynomial attention: one result for every number of them, Ctrl-C, fork, other callers."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from polynomials import CAUSAL, NAMES, taylor
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

pytestmark = pytest.mark.usefixtures("thread_state")


def everything(workers: int | None) -> list[NDArray[Any]]:
    """Values and gradients, large enough for many tasks each."""
    rng = np.random.default_rng(0)
    results: list[NDArray[Any]] = []

    def run(q: Any, k: Any, v: Any, degree: int, **options: Any) -> None:
        c = taylor(degree)
        out = subquad.polynomial_attention(q, k, v, c, workers=workers, **options)
        g = np.cos(out).astype(out.dtype)
        grads = subquad.polynomial_attention_grad(g, q, k, v, c, workers=workers, **options)
        results.extend([out, *(getattr(grads, name) for name in NAMES)])

    for dtype in (np.float32, np.float64):
        q = rng.standard_normal((4, 300, 12)).astype(dtype)
        k, v = rng.standard_normal((2, 2, 700, 12)).astype(dtype)
        for is_causal in CAUSAL:
            run(q, k, v, 2, is_causal=is_causal, enable_gqa=True)
        # Arguments that several heads share: their gradients are sums over those heads.
        shared = rng.standard_normal((3, 1, 150, 12)).astype(dtype)
        run(shared, k[0, :400], np.broadcast_to(v[:1, :400], (5, 400, 12)), 2)
        # One head, a long one, whose state is a sum over many blocks of keys.
        long = rng.standard_normal((4000, 6)).astype(dtype)
        run(long, long, long, 4)
        run(long, long, long, 4, is_causal=True)
        # Few queries against many keys, and the reverse.
        run(long[:3], long, long, 2)
        run(long, long[:3], long[:3], 2)
        # Many features.
        wide = rng.standard_normal((2, 200, 40)).astype(dtype)
        run(wide, wide, wide[..., :5], 2, is_causal=True)
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


@pytest.mark.parametrize(
    ("workers", "error"), [(0, ValueError), (-10_000, ValueError), (1.5, TypeError)]
)
def test_bad_numbers_of_threads_are_refused(workers: Any, error: type[Exception]) -> None:
    x = np.ones((3, 2))
    with pytest.raises(error, match="`workers`"):
        subquad.polynomial_attention(x, x, x, [1.0], workers=workers)
    with pytest.raises(error, match="`workers`"):
        subquad.polynomial_attention_grad(x, x, x, x, [1.0], workers=workers)


def repeated(rows: int) -> NDArray[np.float32]:
    """Rows that take no memory."""
    return np.broadcast_to(np.full(64, 0.1, np.float32), (rows, 64))


KV = np.full((64, 64), 0.1, np.float32)


def attend(rows: int) -> None:
    subquad.polynomial_attention(repeated(rows), KV, KV, taylor(2), workers=1)


def test_other_threads_run_during_a_call() -> None:
    rows = repeats_for(0.6, attend)
    assert_others_run_during(lambda: attend(rows))


@sends_signals
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_stops_a_call_before_half_of_its_work(workers: int) -> None:
    rows = repeats_for(LONG * workers, attend)
    out = np.full((rows, 64), np.nan, np.float32)
    with interrupted():
        subquad.polynomial_attention(repeated(rows), KV, KV, taylor(2), out=out, workers=workers)
    done = np.count_nonzero(np.isfinite(out[:, 0]))
    assert done < rows / 2
    # The library works as before.
    assert subquad.polynomial_attention(KV[:3], KV, KV, [1.0], workers=workers).shape == (3, 64)


FORK = """
x = np.random.default_rng(0).standard_normal((2, 500, 8))
c = [1.0, 1.0, 0.5]
expected = subquad.polynomial_attention(x, x, x, c, workers=2)
"""


@forks
def test_a_forked_child_can_use_the_library_after_its_parent() -> None:
    again = "subquad.polynomial_attention(x, x, x, c, workers=2)"
    assert_same_after_fork(FORK, f"np.array_equal({again}, expected)")
