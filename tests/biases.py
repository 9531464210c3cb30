"""Biases of relative positions for the tests: one of every kind, for any shape."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from subquad.toeplitz import Bias

KINDS = ("learned", "hiding", "alibi", "t5", "t5 one way", "kerple log", "kerple power")


def make(
    kind: str, queries: int, keys: int, heads: int | None, dtype: Any = np.float64, seed: int = 0
) -> Bias:
    """Return a bias with an axis for so many heads, or without."""
    rng = np.random.default_rng(seed)
    some = () if heads is None else (heads,)
    count = max(queries + keys - 1, 0)
    if kind in ("learned", "hiding"):
        values = rng.standard_normal((*some, count)) + np.linspace(-1.0, 2.0, count)
        if kind == "hiding":
            values[..., rng.random(count) < 0.3] = -np.inf
        return Bias.learned(values.astype(dtype))
    if kind == "alibi":
        return Bias.alibi(rng.uniform(0.01, 0.5, some).astype(dtype))
    if kind.startswith("t5"):
        table = rng.standard_normal((12, heads or 1)).astype(dtype)
        return Bias.t5(table, num_buckets=12, max_distance=40, bidirectional=kind == "t5")
    parameters = rng.uniform(0.2, 1.5, (2, *some)).astype(dtype)
    return Bias.kerple(parameters, kind=kind.removeprefix("kerple "))


def rebuilt(kind: str, parameters: NDArray[Any]) -> Bias:
    """Return a bias of a kind with other parameters."""
    if kind in ("learned", "hiding"):
        return Bias.learned(parameters)
    if kind == "alibi":
        return Bias.alibi(parameters)
    if kind.startswith("t5"):
        return Bias.t5(parameters, num_buckets=12, max_distance=40, bidirectional=kind == "t5")
    return Bias.kerple(parameters, kind=kind.removeprefix("kerple "))


def sums_by_lag(full: NDArray[Any]) -> NDArray[Any]:
    """Sum an array of queries by keys over pairs of the same lag i - j."""
    queries, keys = full.shape[-2:]
    return np.stack(
        [np.trace(full, offset=-lag, axis1=-2, axis2=-1) for lag in range(1 - keys, queries)],
        axis=-1,
    )
