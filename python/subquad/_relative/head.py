"""The numbers of one head, and bounds on its logits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._centring import ROUNDOFF
from .._norms import row_norms
from .._shapes import Shape
from .arguments import Relative

__all__ = ["Floats", "RelativeHead", "kv_index", "relative_head"]

Floats = NDArray[np.float64]


@dataclass
class RelativeHead:
    """One head: logits are ``scale * sum_t left[t, i] weights[t, i - j + S - 1] right[t, j]``."""

    left: NDArray[Any]
    """Coordinates of the queries, one row for each entry of the support: shape (t, L)."""
    right: NDArray[Any]
    """Of the keys: shape (t, S)."""
    weights: NDArray[Any]
    """Shape (t, L + S - 1)."""
    value: NDArray[Any]
    scale: float
    shift: int | None
    hidden_lags: int
    seen: NDArray[np.intp]
    """How many keys every query sees."""
    workers: int

    @property
    def queries(self) -> int:
        """How many queries."""
        return int(self.left.shape[1])

    @property
    def keys(self) -> int:
        """How many keys."""
        return int(self.right.shape[1])

    @property
    def entries(self) -> int:
        """How many entries the matrices have."""
        return len(self.left)

    def absolute(self) -> RelativeHead:
        """Return the same with absolute values: what the terms of sums add up to at most."""
        return replace(
            self,
            left=np.abs(self.left),
            right=np.abs(self.right),
            weights=np.abs(self.weights),
            scale=abs(self.scale),
        )

    @cached_property
    def sizes(self) -> Floats:
        """For every query a bound on its logits, rounding included."""
        left = np.abs(self.left.astype(np.float64))
        longest = np.maximum(_largest(left), np.finfo(np.float64).tiny)
        factors = (_largest(self.weights[:, self.hidden_lags :]), _largest(self.right), longest)
        # Their product may be a number where those of some of them are none.
        parts, powers = np.frexp(np.stack([*factors, np.full(self.entries, abs(self.scale))]))
        with np.errstate(over="ignore", invalid="ignore"):
            per_entry = np.ldexp(parts.prod(axis=0), powers.sum(axis=0))
            sizes: Floats = (left / longest[:, np.newaxis]).T @ per_entry
        # What the weights were rounded to is not what they are.
        slack = (4.0 * self.entries + 32.0) * ROUNDOFF + float(np.finfo(self.weights.dtype).eps)
        return sizes * (1.0 + slack)

    @cached_property
    def factors(self) -> Floats:
        """For every entry, what numbers that underflow may be multiplied with on each side: shape (3, t)."""
        sides = (self.left, self.weights, self.right)
        with np.errstate(over="ignore"):
            factors: Floats = np.maximum(1.0, np.stack([_largest(side) for side in sides]))
        return factors

    @cached_property
    def room(self) -> float:
        """The same of all sides and the scale, over all entries."""
        with np.errstate(over="ignore"):
            return max(1.0, abs(self.scale)) * float(self.factors.prod(axis=0).sum())

    @cached_property
    def bound(self) -> float:
        """The largest of `sizes`."""
        return float(self.sizes.max(initial=0.0))

    @cached_property
    def mean(self) -> Floats:
        """Mean of the values."""
        if not self.keys:
            return np.zeros(self.value.shape[1])
        mean: Floats = self.value.mean(axis=0, dtype=np.float64)
        return mean

    @cached_property
    def spread(self) -> float:
        """The largest distance of a value from the mean."""
        norms = row_norms(lambda block: self.value[block] - self.mean, *self.value.shape)
        return float(norms.max(initial=0.0))

    @cached_property
    def largest_value(self) -> float:
        """The largest norm of a value."""
        norms = row_norms(lambda block: self.value[block], *self.value.shape)
        return float(norms.max(initial=0.0))


def relative_head(call: Relative, index: Shape, *, double: bool = False) -> RelativeHead:
    """Copy the numbers of one head, in the type that is computed in, or in float64."""
    problem = call.problem
    compute = np.dtype(np.float64) if double else problem.compute
    left = problem.widened("query", problem.query[index])[:, call.support[:, 0]].T
    kv = kv_index(call, index)
    right = problem.widened("key", problem.key[kv])[:, call.support[:, 1]].T
    value = problem.widened("value", problem.value[kv])

    def copied(array: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(array, compute)

    return RelativeHead(
        left=copied(left),
        right=copied(right),
        weights=copied(call.weights[index]),
        value=copied(value),
        scale=problem.scale,
        shift=problem.shift,
        hidden_lags=call.hidden_lags,
        seen=call.seen(),
        workers=problem.workers,
    )


def kv_index(call: Relative, index: Shape) -> Shape:
    """Return where the keys of a head are."""
    shapes = call.problem.shapes
    return (*index[:-1], index[-1] // (shapes.heads // shapes.kv_heads))


def _largest(rows: NDArray[Any]) -> Floats:
    largest: Floats = np.abs(rows).max(axis=1, initial=0.0).astype(np.float64)
    return largest
