"""An index that changes: any history against a fresh index, threads, Ctrl-C, fork, task orders."""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from halfspaces import (
    DTYPES,
    FAMILIES,
    METHODS,
    Array,
    exact_ids,
    keys_and_queries,
    methods_for,
    stored_as,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from subquad import _subquad
from subquad.halfspace import Index

STEPS = (
    "add",
    "add one",
    "add many",
    "add odd",
    "remove",
    "remove many",
    "compact",
    "save",
    "map",
    "copy",
    "deepcopy",
    "pickle",
    "refuse",
)


class History:
    """An index, and all that should be in it."""

    def __init__(self, method: str, dtype: str, dim: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.method, self.dtype, self.dim = method, dtype, dim
        self.family = str(self.rng.choice(["gaussian", "duplicates", "integers", "outliers"]))
        # Enough for a basis to be learnt from them, or not.
        self.rows = self.fresh(int(self.rng.integers(*self.rng.choice([(0, 40), (256, 400)]))))
        self.ids: Array = np.arange(len(self.rows))
        self.next_id = len(self.rows)
        self.index = Index(self.rows, dtype=dtype, method=method, workers=1)

    def fresh(self, n: int, family: str | None = None) -> Array:
        keys, _ = keys_and_queries(family or self.family, self.rng, n, self.dim, 1)
        return stored_as(keys, self.dtype)

    def take(self, step: str, folder: Path) -> None:
        """Do one thing to the index, and write down what it should have done."""
        if step.startswith("add"):
            sizes = {"add one": (1, 2), "add many": (60, 400)}.get(step, (0, 20))
            # Keys that are nothing like those before them: longer, shorter, of another spread.
            family = str(self.rng.choice(FAMILIES)) if step == "add odd" else None
            rows = self.fresh(int(self.rng.integers(*sizes)), family)
            ids = np.arange(self.next_id, self.next_id + len(rows))
            np.testing.assert_array_equal(self.index.add(rows), ids)
            self.rows, self.ids = np.concatenate([self.rows, rows]), np.append(self.ids, ids)
            self.next_id += len(rows)
        elif step.startswith("remove"):
            share = 0.1 if step == "remove" else 0.8
            gone = self.rng.random(len(self.ids)) < share
            self.index.remove(self.rng.permutation(self.ids[gone]))
            self.rows, self.ids = self.rows[~gone], self.ids[~gone]
        elif step == "compact":
            self.index.compact()
            assert self.index.stats.removed == 0
        elif step in ("save", "map"):
            path = folder / "index"
            self.index.save(path)
            self.index = Index.load(path, mmap=step == "map")
            assert self.index.stats.mapped <= (step == "map")
        elif step == "refuse":
            for wrong in ([self.next_id], [-1], [*self.ids[:3], self.next_id]):
                with pytest.raises(KeyError, match="`ids` must be in the index"):
                    self.index.remove(wrong)
            if len(self.ids):
                with pytest.raises(KeyError, match="`ids` must not repeat"):
                    self.index.remove([*self.ids, self.ids[0]])
            bad = self.fresh(3)
            bad[1, 0] = 0x7F80 if self.dtype == "bfloat16" else np.inf
            with pytest.raises(ValueError, match="`keys` must be finite"):
                self.index.add(bad)
        else:
            do: dict[str, Callable[[Any], Any]] = {
                "copy": copy.copy,
                "deepcopy": copy.deepcopy,
                "pickle": lambda x: pickle.loads(pickle.dumps(x)),
            }
            old, self.index = self.index, do[step](self.index)
            # What happens to the original does not reach the copy.
            old.remove(self.ids[:1])
            old.add(self.fresh(2))

    def check(self) -> None:
        """Compare with a fresh index of what is left."""
        fresh = Index(self.rows, dtype=self.dtype, method="scan", workers=1)
        stats = self.index.stats
        assert (len(self.index), stats.keys, stats.next_id) == (*[len(self.ids)] * 2, self.next_id)
        queries = keys_and_queries(self.family, self.rng, 1, self.dim, 3)[1]
        thresholds = np.zeros(3)
        for i, query in enumerate(queries):
            _, scores = fresh.report(query, -np.inf, return_scores=True)
            if scores.size:
                thresholds[i] = self.rng.choice(scores)
            ids, found = self.index.report(query, thresholds[i], return_scores=True)
            rows, expected = fresh.report(query, thresholds[i], return_scores=True)
            np.testing.assert_array_equal(ids, self.ids[rows])
            np.testing.assert_array_equal(found, expected)
            assert self.index.count(query, -np.inf) == len(self.ids)
        lims, ids = self.index.report_batch(queries, thresholds, strict=True)
        expected_lims, rows = fresh.report_batch(queries, thresholds, strict=True)
        np.testing.assert_array_equal(lims, expected_lims)
        np.testing.assert_array_equal(ids, self.ids[rows])
        k = int(self.rng.integers(0, len(self.ids) + 1))
        np.testing.assert_array_equal(self.index.topk(queries, k), self.ids[fresh.topk(queries, k)])


@settings(max_examples=200)
@given(
    st.sampled_from(METHODS),
    st.sampled_from(DTYPES),
    st.sampled_from([1, 2, 5, 12, 33, 64]),
    st.lists(st.sampled_from(STEPS), max_size=14),
    st.integers(0, 2**32 - 1),
)
def test_any_history_agrees_with_a_fresh_index(
    method: str, dtype: str, dim: int, steps: list[str], seed: int
) -> None:
    history = History(method if dim <= 12 else method.replace("tree", "auto"), dtype, dim, seed)
    with tempfile.TemporaryDirectory() as folder:
        for step in steps:
            history.take(step, Path(folder))
            history.check()


@pytest.mark.parametrize("dim", [3, 40])
def test_a_long_history_agrees_with_a_fresh_index(dim: int, tmp_path: Path) -> None:
    # Grows to some 20 000 keys, over the sizes at which structures are rebuilt or merged.
    for method in methods_for(dim):
        history = History(method, "float32", dim, seed=dim)
        for i in range(45):
            rows = 1 << (4 + i % 8)
            ids = history.index.add(keys := history.fresh(rows))
            history.rows = np.concatenate([history.rows, keys])
            history.ids, history.next_id = np.append(history.ids, ids), history.next_id + rows
            if i % 11 == 10:
                history.take("remove", tmp_path)
            if i % 15 == 14:
                history.take(("compact", "map", "pickle")[i // 15], tmp_path)
        history.check()


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


def assert_same_bits(results: list[Array], expected: list[Array]) -> None:
    for one, other in zip(results, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@contextlib.contextmanager
def task_order(order: str) -> Iterator[None]:
    _subquad.set_task_order(order)
    try:
        yield
    finally:
        _subquad.set_task_order("forward")


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


# Calls of about this long are stopped long before half of their work even where the machine turns out
# to be several times as fast as just before.
LONG = 12.0


@contextlib.contextmanager
def interrupted() -> Iterator[None]:
    """Send Ctrl-C shortly after the block begins, and expect it to come out of the block soon."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    started = time.perf_counter()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
        assert time.perf_counter() - started < LONG / 2
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGINT, previous)


def repeats_for(seconds: float, call: Callable[[int], Any]) -> int:
    """How many of something take about this long on this machine now."""
    repeats = 16

    def taken() -> float:
        start = time.perf_counter()
        call(repeats)
        return time.perf_counter() - start

    # The shortest of three: a neighbour's hiccup must not pass for the speed of this machine.
    while (shortest := min(taken() for _ in range(3))) < 0.05:
        repeats *= 2
    return int(repeats * seconds / shortest)


def busy_call(method: str, workers: int) -> tuple[Index, Callable[[int], Any]]:
    """An index, and a batch of so many queries that finds nothing, so that its answer is small."""
    rng = np.random.default_rng(2)
    keys = rng.standard_normal((20_000, 24)).astype(np.float32)
    query = keys[0]
    # Above every score, but not so far that norms alone tell.
    threshold = 1.01 * float((keys[1:] @ query).max())
    index = Index(keys[1:], method=method, workers=workers)
    return index, lambda m: index.report_batch(np.broadcast_to(query, (m, 24)), threshold)


@pytest.mark.skipif(sys.platform == "win32", reason="signals cannot be sent to oneself on Windows")
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
        with interrupted():
            call(repeats)
    # The index works as before.
    np.testing.assert_array_equal(index.report(query, 5.0), expected)


@pytest.mark.skipif(sys.platform == "win32", reason="signals cannot be sent to oneself on Windows")
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


@pytest.mark.skipif(sys.platform == "win32", reason="signals cannot be sent to oneself on Windows")
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
import os, sys, warnings
import numpy as np
from subquad.halfspace import Index
warnings.simplefilter("ignore", DeprecationWarning)
keys = np.random.default_rng(0).standard_normal((50_000, 16)).astype(np.float32)
index = Index(keys, workers=2)
expected = index.report_batch(keys[:50], 3.0)
child = os.fork()
found = index.report_batch(keys[:50], 3.0)
index.add(keys[:3])
same = all(map(np.array_equal, found, expected)) and len(index) == 50_003
if child == 0:
    os._exit(0 if same else 1)
_, status = os.waitpid(child, 0)
sys.exit(0 if same and status == 0 else 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_a_forked_child_can_use_the_index_of_its_parent() -> None:
    child = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, check=False, timeout=120
    )
    assert child.returncode == 0, child.stderr


def test_other_threads_run_during_a_call() -> None:
    _, call = busy_call("auto", workers=1)
    repeats = repeats_for(0.6, call)
    naps, stop = 0, threading.Event()

    def nap() -> None:
        nonlocal naps
        while not stop.is_set():
            time.sleep(0.001)
            naps += 1

    napper = threading.Thread(target=nap)
    napper.start()
    try:
        before = naps
        call(repeats)
        during = naps - before
    finally:
        stop.set()
        napper.join()
    # Holding the interpreter would allow one nap at either end.
    assert during > 10
