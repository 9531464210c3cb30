"""Attention by relative positions: Toeplitz products against softmax from all keys.

``track_ratio_to_exact`` is the time of a polynomial of a degree over that of softmax by our exact
kernel, smaller is better: below 1 transforms pay. It depends on the context n, the entries t of the
matrices and the degree g through the number of terms C(t + g, g), which `track_terms` returns. The
exact kernel gets some of the queries only where all of them would take long.

``track_ratio_to_attention`` is the exact kernel over `subquad.attention` of a width of t: what it costs that the
products of queries and keys have a factor for every lag.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

import subquad

from ._alternate import ratio
from ._polynomials import one_thread

Shape = tuple[int, int, int]

WIDTH = 16
TAYLOR = [1.0, 1.0, 1.0 / 2.0, 1.0 / 6.0]
# Pairs of a query and a key that the exact kernel is timed on at most.
MOST_PAIRS = 1 << 28


def inputs(n: int, entries: int) -> tuple[list[NDArray[np.float32]], NDArray[np.intp]]:
    """Random arrays of one head with logits below 1, and the diagonal as the support."""
    rng = np.random.default_rng(0)
    query, key, value, grad = rng.uniform(-1.0, 1.0, (4, n, WIDTH)).astype(np.float32)
    weights = rng.uniform(-1.0, 1.0, (entries, 2 * n - 1)).astype(np.float32)
    index = np.arange(entries)
    support = np.stack([index % WIDTH, (index + index // WIDTH) % WIDTH], axis=1)
    return [query, key, value, weights, grad], support


class Forward:
    """One head on one thread; the width of the values is 16."""

    params = (
        [
            (4_096, 4, 1),
            (4_096, 4, 2),
            (16_384, 1, 2),
            (16_384, 4, 1),
            (16_384, 4, 2),
            (16_384, 4, 3),
            (16_384, 16, 1),
            (16_384, 16, 2),
            (65_536, 4, 2),
            (65_536, 4, 3),
            (65_536, 16, 2),
            (65_536, 32, 1),
        ],
    )
    param_names = ("n, t, degree",)
    timeout = 1200
    pairs = 3
    gradient = False

    def setup(self, shape: Shape) -> None:
        one_thread()
        n, entries, _ = shape
        self.arrays, self.support = inputs(n, entries)

    def run(self, rows: int, coefficients: list[float] | None) -> object:
        """Answer the last queries, or differentiate with respect to all arguments."""
        *arrays, weights, grad = self.arrays
        query, upstream = arrays[0][-rows:], grad[-rows:]
        positions = weights[:, -(rows + len(arrays[1]) - 1) :]
        options = {"support": self.support, "scale": 1.0 / len(weights), "workers": 1}
        call = (query, *arrays[1:], np.ascontiguousarray(positions))
        if self.gradient:
            return subquad.toeplitz_attention_grad(
                upstream, *call, coefficients=coefficients, **options
            )
        return subquad.toeplitz_attention(*call, coefficients=coefficients, **options)

    def ours(self, shape: Shape) -> object:
        return self.run(shape[0], TAYLOR[: shape[2] + 1])

    def track_ratio_to_exact(self, shape: Shape) -> float:
        n = shape[0]
        rows = min(n, MOST_PAIRS // n)
        found = ratio(lambda: self.ours(shape), lambda: self.run(rows, None), self.pairs)
        return found * rows / n

    def track_terms(self, shape: Shape) -> int:
        _, entries, degree = shape
        return math.comb(entries + degree, degree)

    def time_pass(self, shape: Shape) -> None:
        self.ours(shape)

    def peakmem_pass(self, shape: Shape) -> None:
        self.ours(shape)


class Backward(Forward):
    """With respect to all arguments, the forward pass included."""

    params = ([(4_096, 4, 2), (16_384, 4, 1), (16_384, 4, 2), (65_536, 4, 2), (16_384, 16, 1)],)
    gradient = True


class Exact(Forward):
    """The exact kernel alone, beside attention without factors."""

    params = ([(8_192, 4, 0), (8_192, 16, 0), (8_192, 64, 0)],)

    def ours(self, shape: Shape) -> object:
        return self.run(shape[0], None)

    def track_ratio_to_attention(self, shape: Shape) -> float:
        query, key, value, _, _ = self.arrays
        left, right = (
            np.ascontiguousarray(array[:, column])
            for array, column in ((query, self.support[:, 0]), (key, self.support[:, 1]))
        )
        options = {"scale": 1.0 / shape[1], "workers": 1}
        return ratio(
            lambda: self.ours(shape),
            lambda: subquad.attention(left, right, value, **options),
            self.pairs,
        )

    def track_ratio_to_exact(self, shape: Shape) -> float:
        raise NotImplementedError
