"""Scores that softmax needs: bounds hold for degenerate rows, too, and count nothing that is not there."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from subquad.theory import pebble as theory
from subquad.theory._pebble_scores import needed_scores


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_all_masks(n: int, is_causal: bool) -> None:
    places = [(i, j) for i, j in itertools.product(range(n), range(n)) if j <= i or not is_causal]
    # Fewest scores in rows of more than one key, and fewest words, by the number of pairs.
    scores: dict[int, int] = {}
    words: dict[tuple[str, int], int] = {}
    for chosen in itertools.product([0, 1], repeat=len(places)):
        mask = np.zeros((n, n), dtype=np.int64)
        for place, is_in in zip(places, chosen, strict=True):
            mask[place] = is_in
        pairs, seen = int(mask.sum()), mask.sum(axis=1)
        needed = int(seen[seen > 1].sum())
        scores[pairs] = min(scores.get(pairs, n * n), needed)
        rows, alone = int((seen > 1).sum()), int((seen == 1).sum())
        keys, values = int(mask[seen > 1].any(axis=0).sum()), int(mask.any(axis=0).sum())
        # Q, O; K, V. With gradients Q, dO, dQ; K, V, dK, dV: where weights are 1 no slopes are needed.
        forward = 2 * rows + alone + keys + values
        backward = 3 * rows + 2 * alone + 2 * keys + 2 * values
        for direction, many in (("forward", forward), ("backward", backward)):
            words[direction, pairs] = min(words.get((direction, pairs), 9 * n), many)
    for pairs, fewest in scores.items():
        assert needed_scores(n, pairs, is_causal=is_causal) == fewest
    for (direction, pairs), fewest in words.items():
        options: dict[str, Any] = {"is_causal": is_causal, "direction": direction}
        found = theory.attention_trivial_bound(n, 10, scores=pairs, **options)
        assert 8 * fewest <= found <= 10 * fewest
        if pairs == len(places):
            assert theory.attention_trivial_bound(n, 10, **options) == 10 * fewest


def test_one_key_needs_no_score() -> None:
    # O = V: copied by load and store, with memory for one word; dO to dV, and dQ = dK = 0.
    for memory in (1, 4, 100):
        for options in ({}, {"is_causal": True}, {"scores": 1}):
            assert theory.attention_lower_bound(1, 37, memory, **options) == 2 * 37
            found = theory.attention_lower_bound(1, 37, memory, direction="backward", **options)
            assert found == 4 * 37
    # A diagonal: 2 n d words for n keys, or n + 1 rows for one that all see.
    for n in (2, 5, 50):
        assert theory.attention_lower_bound(n, 37, 8, scores=n) <= min(2 * n, n + 1) * 37
    assert theory.attention_lower_bound(2, 37, 10**6, is_causal=True) == 7 * 37
    assert theory.attention_lower_bound(2, 37, 10**6) == 8 * 37


def test_few_scores_are_not_the_first_of_many() -> None:
    n, d, memory = 4096, 64, 1024
    whole = theory.attention_lower_bound(n, d, memory)
    causal = theory.attention_lower_bound(n, d, memory, is_causal=True)
    # Without the first row of a causal mask hardly less, without a row of single keys likewise.
    assert 0.4999 * whole < causal < 0.501 * whole
    scores = n * n // 16
    masked = theory.attention_lower_bound(n, d, memory, scores=scores)
    assert 0.99 * whole / 16 < masked < whole / 16 + 4 * n * d


@pytest.mark.parametrize(
    ("sizes", "name"),
    [
        ((1 << 31, 1024, 1), "memory"),
        ((1 << 24, 1 << 20, 4), "memory"),
        ((1 << 40, 1 << 24, 1 << 50), "`n` and `d`"),
        ((1 << 63, 1, 5), "`n`"),
        ((1, 1 << 63, 5), "`d`"),
        ((5, 5, 1 << 63), "`memory`"),
        ((5, 5, np.array([1 << 63], dtype=np.uint64)), "`memory`"),
    ],
)
def test_what_no_int64_holds_is_refused(sizes: tuple[Any, ...], name: str) -> None:
    for direction in ("forward", "backward"):
        with pytest.raises(ValueError, match=f"{name}.* below 2\\^63"):
            theory.attention_lower_bound(*sizes, direction=direction)


def test_large_bounds_are_not_trivial() -> None:
    # 4 n^2 d^2 / M = 2^59 words; the inputs and results are 2^48, the memory more than 2^47.
    n, d = 1 << 36, 1 << 10
    assert theory.attention_lower_bound(n, d, 1 << 35) == pytest.approx(2.0**59, rel=0.01)
    memory = (1 << 45) - 12345
    assert theory.attention_lower_bound(n, d, memory) > 1.1 * theory.attention_trivial_bound(n, d)
    with pytest.raises(ValueError, match=r"`m`, `n` and `k` must be .* below 2\^63"):
        theory.matmul_lower_bound(1 << 40, 1 << 40, 1, 5)
    with pytest.raises(ValueError, match=r"`memory` must be larger.* below 2\^63"):
        theory.matmul_lower_bound(1 << 22, 1 << 22, 1 << 22, 5)
    with pytest.raises(ValueError, match=r"`n` must be .* below 2\^63"):
        theory.fft_lower_bound(1 << 2000, 5)
