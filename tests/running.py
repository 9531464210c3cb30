"""Calls while they run: other orders of their tasks, Ctrl-C, other threads, and how long they take."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from subquad import _subquad

sends_signals = pytest.mark.skipif(
    sys.platform == "win32", reason="signals cannot be sent to oneself on Windows"
)

# Calls of about this long are stopped long before half of their work even where the machine turns out
# to be several times as fast as just before.
LONG = 12.0


def assert_same_bits(results: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> None:
    for one, other in zip(results, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@contextlib.contextmanager
def task_order(order: str) -> Iterator[None]:
    _subquad.set_task_order(order)
    try:
        yield
    finally:
        _subquad.set_task_order("forward")


def repeats_for(seconds: float, call: Callable[[int], Any], least: int = 16) -> int:
    """How many of something, at least so many, take about this long on this machine now."""
    repeats = least

    def taken() -> float:
        start = time.perf_counter()
        call(repeats)
        return time.perf_counter() - start

    # The shortest of three: a neighbour's hiccup must not pass for the speed of this machine.
    while (shortest := min(taken() for _ in range(3))) < 0.05:
        repeats *= 2
    return int(repeats * seconds / shortest)


@contextlib.contextmanager
def interrupted() -> Iterator[None]:
    """Send Ctrl-C shortly after the block begins, and expect it to come out of the block."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGINT, previous)


FORK = """
import os, sys, warnings
import numpy as np, subquad
warnings.simplefilter("ignore", DeprecationWarning)
{before}
child = os.fork()
same = {same}
if child == 0:
    os._exit(0 if same else 1)
_, status = os.waitpid(child, 0)
sys.exit(0 if same and status == 0 else 1)
"""

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


def assert_same_after_fork(before: str, same: str) -> None:
    """Run statements and fork; an expression must be true in the parent and in the child."""
    code = FORK.format(before=before, same=same)
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert process.returncode == 0, process.stderr


def assert_others_run_during(call: Callable[[], Any]) -> None:
    """Expect another thread to go on while a call of some tenths of a second runs."""
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
        call()
        during = naps - before
    finally:
        stop.set()
        napper.join()
    # Holding the interpreter would allow one nap at either end.
    assert during > 10
