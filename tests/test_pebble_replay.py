"""Caches: as in the twin, LRU of all sizes from one pass, foresight, and what attention accesses."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subquad.pebble import Trace, replay, reuse_distances
from subquad.reference import pebble as reference

ACCESSES = st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=80)


def trace_of(accesses: list[tuple[int, bool]]) -> Trace:
    return Trace([a for a, _ in accesses], np.array([w for _, w in accesses], dtype=bool))


def random_trace(seed: int, length: int = 3000, words: int = 100) -> Trace:
    rng = np.random.default_rng(seed)
    near = np.cumsum(rng.integers(-3, 4, length)) % words
    far = rng.integers(0, words, length)
    addresses = np.where(rng.random(length) < 0.2, far, near)
    return Trace(addresses, rng.random(length) < 0.3)


@given(
    accesses=ACCESSES,
    policy=st.sampled_from(["lru", "set-associative", "opt"]),
    lines=st.integers(1, 6),
    line=st.sampled_from([1, 2, 8]),
    ways=st.integers(1, 3),
    options=st.fixed_dictionaries(
        {"fetch_on_write": st.booleans(), "live_out": st.none() | st.just((3, 9))}
    ),
)
def test_caches_move_what_the_twin_does(
    accesses: list[tuple[int, bool]],
    policy: str,
    lines: int,
    line: int,
    ways: int,
    options: dict[str, Any],
) -> None:
    capacity = lines * line * (ways if policy == "set-associative" else 1)
    trace, options = trace_of(accesses), options | {"ways": ways}
    expected = reference.replay(trace, capacity, policy, line, **options)
    assert replay(trace, capacity, policy, line, **options) == expected


@given(accesses=ACCESSES, capacity=st.integers(1, 9), kept=st.none() | st.just((0, 7)))
def test_dead_words_are_discarded_as_in_the_twin(
    accesses: list[tuple[int, bool]], capacity: int, kept: tuple[int, int] | None
) -> None:
    options: dict[str, Any] = {"fetch_on_write": False, "discard": True, "live_out": kept}
    trace = trace_of(accesses)
    found = replay(trace, capacity, "opt", **options)
    assert found == reference.replay(trace, capacity, "opt", **options)
    assert found.words <= replay(trace, capacity, "opt", **(options | {"discard": False})).words


@given(accesses=ACCESSES, line=st.sampled_from([1, 4]))
def test_distances_are_those_of_the_twin(accesses: list[tuple[int, bool]], line: int) -> None:
    found, expected = (
        module(trace_of(accesses), line) for module in (reuse_distances, reference.reuse_distances)
    )
    for name in ("reads", "writes", "rewrites"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in ("first_reads", "first_writes", "written", "line"):
        assert getattr(found, name) == getattr(expected, name)


@pytest.mark.parametrize("line", [1, 4])
def test_one_pass_tells_every_size(line: int) -> None:
    trace = random_trace(line, words=300)
    distances = reuse_distances(trace, line)
    misses = []
    for lines in range(1, 300 // line + 2):
        for fetch in (True, False):
            told = distances.traffic(lines * line, fetch_on_write=fetch)
            assert told == replay(trace, lines * line, "lru", line, fetch_on_write=fetch)
        misses.append(told.misses)
    # A larger cache holds all that a smaller one does.
    assert misses == sorted(misses, reverse=True)
    assert misses[-1] == distances.first_reads + distances.first_writes


@pytest.mark.parametrize("seed", range(4))
def test_foresight_misses_least(seed: int) -> None:
    trace = random_trace(seed)
    for capacity in (8, 24, 64):
        opt = replay(trace, capacity, "opt").misses
        lru = replay(trace, capacity).misses
        assert opt < lru
        assert replay(trace, capacity, "set-associative", ways=capacity).misses == lru
        assert opt <= replay(trace, capacity, "set-associative", ways=2).misses


def test_sets_thrash_on_a_stride() -> None:
    # 4 sets of 2 ways: words a multiple of 4 apart share a set.
    addresses = [0, 4, 8] * 20
    assert replay(addresses, 8, "set-associative", ways=2).misses == 60
    assert replay(addresses, 8).misses == 3


def test_writes_by_hand() -> None:
    trace = Trace([0, 1, 0, 2], [True, False, True, False])
    small = replay(trace, 1)
    assert (small.misses, small.fetches, small.write_backs, small.words) == (4, 4, 2, 6)
    assert replay(trace, 1, fetch_on_write=False).fetches == 2
    assert replay(trace, 3).write_backs == 1
    # The word is not wanted at the end: at the end it is not written back, earlier it is.
    assert replay(trace, 3, live_out=(5, 9)).write_backs == 0
    assert replay(trace, 1, live_out=(5, 9)).write_backs == 2


def test_addresses_may_be_anywhere() -> None:
    trace = random_trace(7)
    far = Trace(trace.addresses * np.uint64(2**50 // 16) + np.uint64(2**60), trace.writes)
    for policy in ("lru", "opt"):
        assert replay(far, 20, policy) == replay(trace, 20, policy)
    np.testing.assert_array_equal(reuse_distances(far).reads, reuse_distances(trace).reads)


def test_attention_accesses_what_it_must() -> None:
    n, d = 8, 3
    for blocks, per_pair, per_row in (
        ({}, 4 * d + 4, d),
        ({"rows": 3, "columns": 2}, 5 * d + 4, 3 * d + 1),
    ):
        trace = Trace.attention(n, d, **blocks)
        assert len(trace) == n * n * per_pair + n * per_row
        first, end = trace.live_out or (0, 0)
        outputs = (trace.addresses >= first) & (trace.addresses < end)
        assert trace.writes[outputs].all()
        assert len(np.unique(trace.addresses[outputs])) == outputs.sum()
        assert not trace.writes[trace.addresses < first].any()
        assert np.array_equal(np.unique(trace.addresses[trace.addresses < 24]), np.arange(24))


def test_foresight_finds_the_schedule_of_a_block() -> None:
    # The words of the order of FlashAttention-2 with memory for a block of queries.
    n, d, memory = 64, 8, 96
    rows = (memory - 1) // (2 * d + 3)
    trace = Trace.attention(n, d, rows=rows, columns=1)
    scheduled = 2 * n * d + n + -(-n // rows) * 2 * n * d
    opt = replay(trace, memory, "opt", fetch_on_write=False, discard=True).words
    assert 0.95 * scheduled <= opt <= 1.01 * scheduled
    # Least recently used, the same block thrashes; a smaller one does not.
    lru = replay(trace, memory, fetch_on_write=False).words
    smaller = Trace.attention(n, d, rows=rows - 1, columns=1)
    assert lru > 5 * scheduled
    assert replay(smaller, memory, fetch_on_write=False).words < 2 * scheduled


def test_traffic_is_shown() -> None:
    found = replay(Trace([0, 1, 0], [True, False, False]), 4, line=2)
    assert str(found).splitlines()[0] == "Traffic"
    assert "1 (33.33%)" in str(found)
    assert "<table" in found._repr_html_()
    assert repr(Trace([1, 2])) == "Trace(2 accesses)"


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))]
)
def test_traces_are_copied_and_pickled(again: Any) -> None:
    for trace in (Trace.attention(5, 3), Trace([4, 2, 4], [True, False, False]), Trace([])):
        other = again(trace)
        np.testing.assert_array_equal(other.addresses, trace.addresses)
        np.testing.assert_array_equal(other.writes, trace.writes)
        assert other.live_out == trace.live_out
        assert replay(other, 8) == replay(trace, 8)


@pytest.mark.parametrize("options", [{"line": 16}, {"policy": "set-associative", "ways": 16}])
def test_the_twin_refuses_a_cache_without_a_line_or_a_set(options: dict[str, Any]) -> None:
    for each in (replay, reference.replay):
        with pytest.raises(ValueError, match="`capacity` must be at least 16, got 8"):
            each([1, 2], 8, **options)


def test_bad_caches_and_traces_are_refused() -> None:
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"line": 3}, "`line` must be a power of two, got 3"),
        ({"capacity": 0}, "`capacity` must be at least 1"),
        ({"line": 16}, "`capacity` must be at least 16, got 8"),
        ({"policy": "mru"}, '`policy` must be one of "lru"'),
        ({"policy": "set-associative", "ways": 3}, "`capacity` must be a multiple of `ways` lines"),
        ({"policy": "set-associative", "ways": 16}, "`capacity` must be at least 16, got 8"),
        ({"discard": True}, "`discard` must be False"),
        ({"policy": "opt", "discard": True}, "`fetch_on_write` must be false"),
        ({"live_out": (3, 2)}, "`live_out` must be at least 3, got 2"),
    ]
    for options, message in refusals:
        with pytest.raises(ValueError, match=message):
            replay([1, 2], **({"capacity": 8} | options))
    for name in ("fetch_on_write", "discard"):
        with pytest.raises(TypeError, match=f"`{name}` must be True or False, got 'opt'"):
            replay([1], 1, "opt", **{name: "opt"})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`fetch_on_write` must be True or False, got 0"):
        reuse_distances([1]).traffic(1, fetch_on_write=0)  # type: ignore[arg-type]
    for address in (2**63, 2**64, -(2**64)):
        with pytest.raises(ValueError, match=f"2\\^62 - 1, got {address} at index 1"):
            Trace([0, address])
    with pytest.raises(TypeError, match="`live_out` must be a pair"):
        replay([1], 1, live_out=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="from 0 to 2\\^62 - 1, got -1 at index 1"):
        Trace([0, -1])
    with pytest.raises(TypeError, match="`addresses` must be integers"):
        Trace([0.5])
    with pytest.raises(TypeError, match="`writes` must be bool"):
        Trace([1, 2], [0, 1])
    with pytest.raises(ValueError, match="`writes` must have shape"):
        Trace([1, 2], [True])
    with pytest.raises(ValueError, match="`rows` and `columns` must both be given"):
        Trace.attention(4, 4, rows=2)
    with pytest.raises(ValueError, match="`n` must be so small"):
        Trace.attention(2**40, 4)
    with pytest.raises(ValueError, match="`line` must be a power of two"):
        reuse_distances([1], 6)
    with pytest.raises(ValueError, match="`capacity` must be at least 4, got 3"):
        reuse_distances([1], 4).traffic(3)
