"""Threads and an index: one answer for every number of them, readers beside changes, Ctrl-C, fork."""

from __future__ import annotations

import copy
import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from halfspaces import METHODS, Array, exact_ids
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

from subquad.halfspace import Index

BLOCKS, ROWS = 40, 128


@pytest.mark.parametrize("method", METHODS)
def test_threads_that_report_see_the_index_before_or_after_each_change(method: str) -> None:
    rng = np.random.default_rng(0)
    dim = 8
    keys = rng.standard_normal((BLOCKS * ROWS, dim)).astype(np.float32)
    query = rng.standard_normal(dim).astype(np.float32)
    expected = exact_ids(keys, query, 0.5)
    # What may be seen: all blocks up to some point, and the first half of the first block or none of it.
    states = {}
    for blocks in range(1, BLOCKS + 1):
        upto = expected[expected < blocks * ROWS]
        states[tuple(upto.tolist())] = blocks
        states[tuple(upto[upto >= ROWS // 2].tolist())] = blocks
    index = Index(keys[:ROWS], method=method, workers=2)
    wrong: list[Any] = []
    seen: list[int] = []
    done = threading.Event()

    def look() -> None:
        blocks = 0
        while not done.is_set():
            ids, scores = index.report(query, 0.5, return_scores=True)
            state = states.get(tuple(ids.tolist()))
            lims, batch = index.report_batch(np.stack([query, query]), 0.5)
            two = np.split(batch, lims[1:-1])
            known = (tuple(one.tolist()) in states for one in two)
            if state is None or state < blocks or not all(known) or len(two[0]) != len(two[1]):
                wrong.append(ids)
                return
            if not np.allclose(scores, keys[ids] @ query, atol=1e-5):
                wrong.append(scores)
                return
            best = index.topk(query, 3)
            if best.size != 3 or len(index) < ROWS // 2:
                wrong.append(best)
                return
            seen.append(blocks := state)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for block in range(1, BLOCKS):
            index.add(keys[block * ROWS : (block + 1) * ROWS])
            if block == BLOCKS // 2:
                index.remove(np.arange(ROWS // 2))
            if block % 16 == 0:
                index.compact()
            time.sleep(0.001)
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert not wrong
    assert seen
    left = expected[expected >= ROWS // 2]
    np.testing.assert_array_equal(index.report(query, 0.5), left)


def everything(method: str, workers: int | None) -> list[Array]:
    """Answers of an index large enough for many tasks."""
    dim = 10
    rng = np.random.default_rng(1)
    keys = rng.standard_normal((50_000, dim)).astype(np.float32) * np.geomspace(2, 0.1, dim)
    queries = rng.standard_normal((40, dim)).astype(np.float32)
    keys = keys.astype(np.float32)
    index = Index(keys[:30_000], method=method, queries=queries[:9], workers=workers)
    index.add(keys[30_000:])
    index.remove(np.arange(0, 50_000, 7))
    found: list[Array] = []
    for threshold in (4.0, 1.0, -0.5):
        for query in queries[:3]:
            found += index.report(query, threshold, return_scores=True)
        found += index.report_batch(queries, threshold, strict=True)
        found += index.range_search(queries[:5], threshold)
    found += index.topk(queries[:7], 100, return_scores=True)
    index.compact()
    found += index.report_batch(queries, 1.0)
    return found


@pytest.mark.parametrize("method", METHODS)
def test_neither_threads_nor_the_order_of_tasks_change_a_bit(method: str) -> None:
    expected = everything(method, workers=1)
    for workers in (2, 7, -1, None):
        assert_same_bits(everything(method, workers), expected)
    for order in ("reverse", "shuffled"):
        with task_order(order):
            for workers in (1, 3):
                assert_same_bits(everything(method, workers), expected)


def test_every_method_gives_the_same_bits() -> None:
    expected = everything("scan", workers=2)
    for method in METHODS:
        assert_same_bits(everything(method, workers=2), expected)


def busy_call(method: str, workers: int) -> tuple[Index, Callable[[int], Any]]:
    """An index, and a batch of so many queries that finds nothing, so that its answer is small."""
    rng = np.random.default_rng(2)
    keys = rng.standard_normal((20_000, 24)).astype(np.float32)
    query = keys[0]
    # Above every score, but not so far that norms alone tell.
    threshold = 1.01 * float((keys[1:] @ query).max())
    index = Index(keys[1:], method=method, workers=workers)
    return index, lambda m: index.report_batch(np.broadcast_to(query, (m, 24)), threshold)


@sends_signals
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("method", ["scan", "auto"])
def test_ctrl_c_stops_a_batch_and_a_search_before_half_of_their_work(
    method: str, workers: int
) -> None:
    index, batch = busy_call(method, workers)
    query = np.ones(24, np.float32)
    expected = index.report(query, 5.0)
    search: Callable[[int], Any] = lambda m: index.topk(np.broadcast_to(query, (m, 24)), 2)
    for call in (batch, search):
        repeats = repeats_for(LONG, call)
        started = time.perf_counter()
        with interrupted():
            call(repeats)
        assert time.perf_counter() - started < LONG / 2
    # The index works as before.
    np.testing.assert_array_equal(index.report(query, 5.0), expected)


@sends_signals
def test_a_handler_that_uses_the_index_of_the_call_it_interrupts_gets_an_error() -> None:
    index, call = busy_call("scan", workers=1)
    other = Index(np.ones((5, 3), np.float32))
    caught: list[Any] = []

    def handler(*_: Any) -> None:
        caught.append(len(other))
        try:
            len(index)
        except RuntimeError as err:
            caught.append(str(err))
        raise KeyboardInterrupt

    repeats = repeats_for(LONG, call)
    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            call(repeats)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)
    assert caught == [5, "the index is in use by the call that this handler interrupted"]
    assert len(index) == 19_999


@sends_signals
@pytest.mark.parametrize("method", METHODS)
def test_a_change_that_is_interrupted_is_made_or_not_made(method: str) -> None:
    rng = np.random.default_rng(4)
    keys = rng.standard_normal((400_000, 6)).astype(np.float32)
    query = rng.standard_normal(6).astype(np.float32)
    threshold = float(np.sort(keys @ query)[-2000])
    few = 1000
    index = Index(keys[:few], method=method, workers=2)
    everything = exact_ids(keys, query, threshold)
    for delay in (0.003, 0.01, 0.03, 0.1):
        changed = copy.copy(index)
        with_ctrl_c_after(delay, functools.partial(changed.add, keys[few:]))
        n = len(changed)
        assert n in (few, len(keys))
        assert changed.stats.next_id == n
        np.testing.assert_array_equal(changed.report(query, threshold), everything[everything < n])
        if n == few:
            np.testing.assert_array_equal(changed.add(keys[few:]), np.arange(few, len(keys)))
        changed.remove(np.arange(0, few))
        with_ctrl_c_after(delay, changed.compact)
        left = everything[everything >= few]
        np.testing.assert_array_equal(changed.report(query, threshold), left)
        np.testing.assert_array_equal(changed.topk(query, 50), changed.topk(query, 51)[:50])


def with_ctrl_c_after(seconds: float, call: Callable[[], object]) -> None:
    """Send Ctrl-C before, during or soon after a call; whether it came in time does not matter."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        call()
        timer.join()
        time.sleep(0.05)
    except KeyboardInterrupt:
        pass
    finally:
        timer.join()
        signal.signal(signal.SIGINT, previous)


FORK = """
keys = np.random.default_rng(0).standard_normal((50_000, 16)).astype(np.float32)
index = subquad.halfspace.Index(keys, workers=2)
expected = index.report_batch(keys[:50], 3.0)
"""


@forks
def test_a_forked_child_can_use_the_index_of_its_parent() -> None:
    assert_same_after_fork(
        FORK,
        "all(map(np.array_equal, index.report_batch(keys[:50], 3.0), expected))"
        " and index.add(keys[:3]).tolist() == [50_000, 50_001, 50_002]",
    )


def test_other_threads_run_during_a_call() -> None:
    _, call = busy_call("auto", workers=1)
    repeats = repeats_for(0.6, call)
    assert_others_run_during(lambda: call(repeats))
