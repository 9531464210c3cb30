"""Biases that split, beyond the blocks around a query's, into functions of queries and of keys.

The weight of a far pair is ``exp(bias - top) = sum over k of f_k(i) T g_k(j)`` with T a linear map from the
blocks of keys to those of queries. So sums over features are taken for every block of keys and every k, go
through T, and are read by the queries of every block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..head import Floats

__all__ = ["Blocks", "Decay", "Plateau", "Route", "Split", "inner"]

Sums = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Queries and keys in blocks of so many tokens, from the first of each."""

    queries: int
    keys: int
    size: int
    is_causal: bool

    @property
    def of_queries(self) -> int:
        """Number of blocks of queries."""
        return -(-self.queries // self.size)

    @property
    def of_keys(self) -> int:
        """Number of blocks of keys."""
        return -(-self.keys // self.size)

    def tiled(self, functions: Floats, count: int) -> Floats:
        """Repeat functions of the place in a block for so many tokens."""
        times = -(-count // self.size)
        whole: Floats = np.tile(functions, (1, times))[:, :count]
        return whole


class Split(Protocol):
    """What bounds need to know of how weights split."""

    @property
    def name(self) -> str:
        """What a plan calls it."""
        ...

    @property
    def blocks(self) -> Blocks:
        """The blocks of far pairs."""
        ...

    @property
    def reach(self) -> int:
        """Blocks on each side of a query's own whose keys are not far."""
        ...

    @property
    def functions(self) -> int:
        """How many of queries, and of keys."""
        ...

    @property
    def top(self) -> float:
        """What is taken off the bias."""
        ...

    @property
    def error(self) -> float:
        """Bound on the relative error of a weight."""
        ...

    @property
    def growth(self) -> float:
        """Bound on ``sum |f| |T| |g|`` over the weight."""
        ...

    @property
    def steps(self) -> int:
        """Roundings of a sum on its way through T."""
        ...

    def spread(self, numbers: Floats, of_lags: Floats) -> None:
        """Add to a gradient of the bias by lags what has that of its numbers as a consequence."""
        ...


class Route(Split, Protocol):
    """How the weights of far pairs split."""

    def of_keys(self) -> Floats:
        """g, shape (K, S)."""
        ...

    def of_queries(self) -> Floats:
        """f, shape (K, L)."""
        ...

    def push(self, sums: Sums) -> Sums:
        """T, from (blocks of keys, K, ...) to (blocks of queries, K, ...)."""
        ...

    def pull(self, sums: Sums, pushed: Sums, grad: Sums) -> tuple[Sums, Floats]:
        """Return gradients: of the sums, given that of what was pushed, and of T's parameters."""
        ...

    def slopes(self, of_keys: Floats, of_queries: Floats) -> Floats:
        """Return the gradient of the numbers that the bias is made of, given those of g and of f."""
        ...


@dataclass(frozen=True, slots=True)
class Decay:
    """``-slope |lag|``, slope >= 0: one function for keys before and, if seen, one for keys behind.

    From block to block the sums decay. All factors are at most 1, so that nothing overflows.
    """

    blocks: Blocks
    slope: float
    name = "rank-1 decay"
    reach = 0
    top = 0.0
    growth = 1.0

    @property
    def functions(self) -> int:
        """Their number."""
        return 1 if self.blocks.is_causal else 2

    @property
    def error(self) -> float:
        """Of exponentials of float64, and of powers of one of them."""
        count = max(self.blocks.of_keys, self.blocks.of_queries)
        return 2.0**-50 * (count + 8) * (1.0 + self.slope * self.blocks.size)

    @property
    def steps(self) -> int:
        """One for every block, and its factor."""
        return 2 * max(self.blocks.of_keys, self.blocks.of_queries) + 4

    @property
    def _step(self) -> float:
        return float(np.exp(-self.slope * self.blocks.size))

    def _distances(self, *, of_keys: bool) -> Floats:
        place = np.arange(self.blocks.size, dtype=np.float64)
        behind = self.blocks.size - place
        both = (behind, place) if of_keys else (place, behind)
        return np.stack(both[: self.functions])

    def of_keys(self) -> Floats:
        """Decay to the end of the key's block, and from its beginning."""
        g = np.exp(-self.slope * self._distances(of_keys=True))
        return self.blocks.tiled(g, self.blocks.keys)

    def of_queries(self) -> Floats:
        """Decay from the beginning of the query's block, and to its end."""
        f = np.exp(-self.slope * self._distances(of_keys=False))
        return self.blocks.tiled(f, self.blocks.queries)

    def push(self, sums: Sums) -> Sums:
        """Carry sums on, a block at a time."""
        blocks, step = self.blocks, sums.dtype.type(self._step)
        pushed = np.zeros((blocks.of_queries, *sums.shape[1:]), sums.dtype)
        for b in range(1, blocks.of_queries):
            pushed[b, 0] = step * pushed[b - 1, 0]
            if b <= len(sums):
                pushed[b, 0] += sums[b - 1, 0]
        if self.functions == 2:
            carried = np.zeros(sums.shape[2:], sums.dtype)
            for b in range(len(sums) - 2, -1, -1):
                carried = step * carried + sums[b + 1, 1]
                if b < len(pushed):
                    pushed[b, 1] = carried
        return pushed

    def pull(self, sums: Sums, pushed: Sums, grad: Sums) -> tuple[Sums, Floats]:
        """Carry gradients back; that of a step goes to the slope."""
        step = sums.dtype.type(self._step)
        back = np.zeros_like(sums)
        of_step = 0.0
        carried = np.zeros(sums.shape[2:], sums.dtype)
        for b in range(len(grad) - 1, 0, -1):
            carried = step * carried + grad[b, 0]
            of_step += inner(carried, pushed[b - 1, 0])
            if b <= len(sums):
                back[b - 1, 0] = carried
        if self.functions == 2:
            # As pushed, for queries there are none of beyond the last block.
            states = np.zeros((len(sums) + 1, *sums.shape[2:]), sums.dtype)
            for b in range(len(sums) - 2, -1, -1):
                states[b] = step * states[b + 1] + sums[b + 1, 1]
            carried = np.zeros(sums.shape[2:], sums.dtype)
            for b in range(len(sums) - 1):
                carried = step * carried
                if b < len(grad):
                    carried += grad[b, 1]
                of_step += inner(carried, states[b + 1])
                back[b + 1, 1] = carried
        return back, np.array([-of_step * self._step * self.blocks.size])

    def slopes(self, of_keys: Floats, of_queries: Floats) -> Floats:
        """Both functions are exponentials of the slope times a distance."""
        blocks = self.blocks
        total = 0.0
        for grad, values, count, keys in (
            (of_keys, self.of_keys(), blocks.keys, True),
            (of_queries, self.of_queries(), blocks.queries, False),
        ):
            distances = blocks.tiled(self._distances(of_keys=keys), count)
            total -= float(np.sum(grad * values * distances))
        return np.array([total])

    def spread(self, numbers: Floats, of_lags: Floats) -> None:
        """Give it to one lag m, whose bias is the slope times -|m|."""
        zero = self.blocks.keys - 1
        farthest = 0 if zero > len(of_lags) - 1 - zero else len(of_lags) - 1
        if farthest != zero:
            of_lags[farthest] -= numbers[0] / abs(farthest - zero)


@dataclass(frozen=True, slots=True)
class Plateau:
    """A bias that is the same for all far keys before a query, and the same for all behind it."""

    blocks: Blocks
    before: float
    behind: float
    name = "exact band and constant tail"
    reach = 1
    functions = 1
    growth = 1.0
    error = 2.0**-50

    @property
    def top(self) -> float:
        """The larger of the two."""
        return self.before if self.blocks.is_causal else max(self.before, self.behind)

    @property
    def steps(self) -> int:
        """One for every block."""
        return self.blocks.of_keys + 4

    def of_keys(self) -> Floats:
        """One."""
        return np.ones((1, self.blocks.keys))

    def of_queries(self) -> Floats:
        """One."""
        return np.ones((1, self.blocks.queries))

    def _weights(self) -> tuple[float, float]:
        before = float(np.exp(self.before - self.top))
        return before, 0.0 if self.blocks.is_causal else float(np.exp(self.behind - self.top))

    def push(self, sums: Sums) -> Sums:
        """Add up all blocks before, and all behind."""
        before, behind = (sums.dtype.type(weight) for weight in self._weights())
        pushed = np.zeros((self.blocks.of_queries, *sums.shape[1:]), sums.dtype)
        if before:
            pushed += before * _earlier(sums, len(pushed))
        if behind:
            pushed += behind * _later(sums, len(pushed))
        return pushed

    def pull(self, sums: Sums, pushed: Sums, grad: Sums) -> tuple[Sums, Floats]:
        """Add up what all blocks behind have got, and all before."""
        back = np.zeros_like(sums)
        weights = np.array(self._weights())
        found = np.zeros(2)
        if weights[0]:
            back += sums.dtype.type(weights[0]) * _later(grad, len(sums))
            found[0] = inner(grad, _earlier(sums, len(grad)))
        if weights[1]:
            back += sums.dtype.type(weights[1]) * _earlier(grad, len(sums))
            found[1] = inner(grad, _later(sums, len(grad)))
        return back, found * weights

    def slopes(self, of_keys: Floats, of_queries: Floats) -> Floats:
        """Nothing depends on the bias."""
        return np.zeros(2)

    def spread(self, numbers: Floats, of_lags: Floats) -> None:
        """Give it to the last lag on each side, as all far ones there are one number."""
        of_lags[-1] += numbers[0]
        of_lags[0] += numbers[1]


def _earlier(sums: Sums, count: int) -> Sums:
    """For each of `count` blocks sum those at least two before it."""
    totals = np.zeros((count, *sums.shape[1:]), sums.dtype)
    for b in range(2, count):
        totals[b] = totals[b - 1]
        if b - 2 < len(sums):
            totals[b] += sums[b - 2]
    return totals


def _later(sums: Sums, count: int) -> Sums:
    """For each of `count` blocks sum those at least two behind it."""
    totals = np.zeros((count, *sums.shape[1:]), sums.dtype)
    carried = np.zeros(sums.shape[1:], sums.dtype)
    for b in range(len(sums) - 3, -1, -1):
        carried = carried + sums[b + 2]
        if b < count:
            totals[b] = carried
    return totals


def inner(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Inner product in float64, a row at a time."""
    rows = zip(a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]), strict=True)
    return sum(float(np.dot(x.astype(np.float64), y)) for x, y in rows)
