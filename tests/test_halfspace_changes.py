"""An index that changes: any history of it against a fresh index of what is left."""

from __future__ import annotations

import copy
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from halfspaces import (
    DTYPES,
    FAMILIES,
    METHODS,
    Array,
    keys_and_queries,
    methods_for,
    stored_as,
)
from hypothesis import given, settings
from hypothesis import strategies as st

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
