"""Indices to be saved, and what they answer."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from halfspaces import keys_and_queries, stored_as
from numpy.typing import NDArray

from subquad.halfspace import Index

Answers = list[NDArray[Any]]


def numbers(dim: int, rows: int, seed: int = 0) -> NDArray[np.float32]:
    return keys_and_queries("gaussian", np.random.default_rng(seed), rows, dim, 1)[0]


def an_index(method: str, dtype: str, dim: int, rows: int = 120) -> Index:
    """Ids with gaps, and removed keys that are still stored."""
    keys = stored_as(numbers(dim, rows), dtype)
    index = Index(keys[: rows // 2], dtype=dtype, method=method, workers=1)
    index.remove(np.arange(0, rows // 2, 3))
    index.compact()
    index.add(keys[rows // 2 :])
    index.remove(np.arange(rows // 2, rows, 5))
    return index


def answers(index: Index) -> Answers:
    """What an index reports of queries that always are the same."""
    queries = numbers(index.stats.dim, 3, seed=1)
    return [
        *index.report(queries[0], 0.5, return_scores=True),
        *index.report_batch(queries, np.array([0.0, 1.0, -np.inf])),
        index.topk(queries, min(4, len(index))),
    ]


def agree(found: Answers, expected: Answers) -> bool:
    return all(itertools.starmap(np.array_equal, zip(found, expected, strict=True)))
