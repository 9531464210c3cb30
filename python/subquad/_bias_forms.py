"""How parameters make a bias of every lag ``m = i - j``, and back: in float64, by heads and lags."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["T5", "Alibi", "Floats", "Form", "Kerple", "Learned", "all_lags"]

Floats = NDArray[np.float64]


def all_lags(queries: int, keys: int) -> NDArray[np.int64]:
    """Return the lags of so many queries and keys, from ``1 - S`` to ``L - 1``."""
    return np.arange(1 - keys, queries)


class Form(Protocol):
    """One kind of bias."""

    def __repr__(self) -> str:
        """Name the kind, and its options as keywords."""

    def bias(self, parameters: Floats, lags: NDArray[np.int64]) -> Floats:
        """Return the bias of some lags, shape (H or 1, lags)."""

    def pullback(self, parameters: Floats, lags: NDArray[np.int64], grad: Floats) -> Floats:
        """Return the gradient of the parameters for that of the bias, shape (H or 1, lags)."""


@dataclass(frozen=True)
class Learned:
    """A number for every lag."""

    def __repr__(self) -> str:
        """Name the kind."""
        return "learned"

    def bias(self, parameters: Floats, lags: NDArray[np.int64]) -> Floats:
        """Return the numbers themselves."""
        if parameters.shape[-1] != lags.size:
            queries, keys = (int(lags[-1]) + 1, 1 - int(lags[0])) if lags.size else (0, 0)
            raise ValueError(
                f"`bias` must have L + S - 1 = {lags.size} learned values for L = {queries} queries "
                f"and S = {keys} keys, one for every lag i - j, got {parameters.shape[-1]} in an "
                f"array of shape {parameters.shape}"
            )
        return np.atleast_2d(parameters)

    def pullback(self, parameters: Floats, lags: NDArray[np.int64], grad: Floats) -> Floats:
        """Return the gradient itself."""
        return grad.reshape(parameters.shape)


@dataclass(frozen=True)
class Alibi:
    """Falls linearly with the distance."""

    def __repr__(self) -> str:
        """Name the kind."""
        return "alibi"

    def bias(self, parameters: Floats, lags: NDArray[np.int64]) -> Floats:
        """Return ``-slope |m|``."""
        return -parameters.reshape(-1, 1) * np.abs(lags)

    def pullback(self, parameters: Floats, lags: NDArray[np.int64], grad: Floats) -> Floats:
        """Sum over the lags."""
        slopes: Floats = -(grad * np.abs(lags)).sum(axis=1)
        return slopes.reshape(parameters.shape)


@dataclass(frozen=True)
class T5:
    """One number for each bucket of lags, whose width grows with the distance."""

    num_buckets: int
    max_distance: int
    bidirectional: bool

    def __repr__(self) -> str:
        """Name the kind and its options."""
        return (
            f"t5, num_buckets={self.num_buckets}, max_distance={self.max_distance}, "
            f"bidirectional={self.bidirectional}"
        )

    @property
    def one_sided(self) -> int:
        """Buckets of one direction."""
        return self.num_buckets // 2 if self.bidirectional else self.num_buckets

    def buckets(self, lags: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the buckets of some lags.

        Rounds as the formula that models were trained with does, in float32: where the logarithm meets a
        border, the last bit decides.
        """
        count = self.one_sided
        if self.bidirectional:
            distance, first = np.abs(lags), np.where(lags < 0, count, 0)
        else:
            distance, first = np.maximum(lags, 0), np.zeros_like(lags)
        exact = count // 2
        ratio = np.maximum(distance, exact).astype(np.float32) / np.float32(exact)
        # The logarithm itself is rounded once: those of float32 differ between libraries.
        log = np.log(ratio.astype(np.float64)).astype(np.float32)
        log /= np.float32(math.log(self.max_distance / exact))
        beyond = exact + (log * np.float32(count - exact)).astype(np.int64)
        wide = np.minimum(beyond, count - 1)
        buckets: NDArray[np.int64] = first + np.where(distance < exact, distance, wide)
        return buckets

    def bias(self, parameters: Floats, lags: NDArray[np.int64]) -> Floats:
        """Look up the buckets."""
        found: Floats = parameters.T[:, self.buckets(lags)]
        return found

    def pullback(self, parameters: Floats, lags: NDArray[np.int64], grad: Floats) -> Floats:
        """Sum over the lags of each bucket."""
        buckets = self.buckets(lags)
        columns = [np.bincount(buckets, weights, self.num_buckets) for weights in grad]
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Kerple:
    """Falls with the logarithm or a power of the distance."""

    kind: str

    def __repr__(self) -> str:
        """Name the kind and its options."""
        return f"kerple, kind={self.kind!r}"

    def bias(self, parameters: Floats, lags: NDArray[np.int64]) -> Floats:
        """Return ``-r1 log(1 + r2 |m|)`` or ``-r1 |m|^r2``."""
        r1, r2 = parameters.reshape(2, -1, 1)
        distance = np.abs(lags)
        fall: Floats = np.log1p(r2 * distance) if self.kind == "log" else distance**r2
        return -r1 * fall

    def pullback(self, parameters: Floats, lags: NDArray[np.int64], grad: Floats) -> Floats:
        """Sum the two derivatives over the lags."""
        r1, r2 = parameters.reshape(2, -1, 1)
        distance = np.abs(lags).astype(np.float64)
        if self.kind == "log":
            fall, slope = np.log1p(r2 * distance), distance / (1.0 + r2 * distance)
        else:
            fall = distance**r2
            slope = fall * np.log(np.maximum(distance, 1.0))
        parts = [-(grad * fall).sum(axis=1), -(grad * r1 * slope).sum(axis=1)]
        return np.stack(parts).reshape(parameters.shape)
