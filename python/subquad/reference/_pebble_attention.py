"""Plans of attention by trying all sizes of blocks, and outputs and gradients by their definitions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._info import Gradients
from .._options import check_scale
from .._pebble import plan as plans
from .._pebble.execute import take_arrays
from .._pebble.workload import Workload

__all__ = ["IOPlan", "attention_plan"]

Floats = NDArray[np.float64]
# Operands, accumulators, statistics.
Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True, repr=False)
class IOPlan(plans.IOPlan):
    """As `subquad.pebble.IOPlan`."""

    def execute(
        self,
        query: Any,
        key: Any,
        value: Any,
        *,
        scale: float | None = None,
        grad_out: Any = None,
        projections: tuple[Any, Any] | None = None,
    ) -> Any:
        """Compute by definition; arguments as in `subquad.pebble.IOPlan.execute`."""
        w = self.workload
        arrays = take_arrays(w, query, key, value, grad_out, projections)
        factor = check_scale(scale, w.d)
        rows, cols = (w.n, w.group, w.d), (w.keys, w.d)
        if w.direction == "loss":
            a1, x, a2, a3, y, grad = (array.reshape(-1, w.d) for array in arrays)
            of_query = _gradients(w, factor, a1 @ x, a2, a3 @ y, grad)[0]
            of_x: Floats = a1.T @ of_query
            return of_x
        q, k, v, *rest = (array.reshape(-1, w.d) for array in arrays)
        if w.direction == "forward":
            return _heads(w, (_weights(w, factor, q, k) @ v).reshape(rows))
        of_query, of_key, of_value = _gradients(w, factor, q, k, v, rest[0])
        heads = _heads(w, of_query.reshape(rows))
        return Gradients(heads, of_key.reshape(cols), of_value.reshape(cols))


def _heads(w: Workload, rows: Floats) -> Floats:
    return rows[:, 0] if w.group == 1 else np.ascontiguousarray(rows.swapaxes(0, 1))


def _weights(w: Workload, scale: float, q: Floats, k: Floats) -> Floats:
    seen = _visible(w)
    logits = np.where(seen, scale * (q @ k.T), -np.inf)
    top = logits.max(axis=1, keepdims=True, initial=-np.inf)
    powers = np.exp(logits - np.where(np.isfinite(top), top, 0.0))
    total = powers.sum(axis=1, keepdims=True)
    weights: Floats = np.divide(powers, total, out=np.zeros_like(powers), where=total > 0.0)
    return weights


def _gradients(
    w: Workload, scale: float, q: Floats, k: Floats, v: Floats, grad: Floats
) -> tuple[Floats, Floats, Floats]:
    weights = _weights(w, scale, q, k)
    slopes = grad @ v.T
    slopes = scale * weights * (slopes - (weights * slopes).sum(axis=1, keepdims=True))
    return slopes @ k, slopes.T @ q, weights.T @ grad


def _visible(w: Workload) -> NDArray[np.bool_]:
    """Which row sees which key; the rows of a position follow each other."""
    seen = np.ones((w.n, w.keys), bool)
    if w.is_causal:
        seen = np.tril(seen)
    if w.mask_blocks is not None:
        blocks = np.repeat(np.repeat(w.mask_blocks, w.block, 0), w.block, 1)
        seen &= blocks[: w.n, : w.keys]
    return np.repeat(seen, w.group, axis=0)


def attention_plan(
    n: int,
    d: int,
    memory: int,
    *,
    unit: str = "words",
    dtypes: Any = None,
    is_causal: bool = False,
    mask_blocks: Any = None,
    direction: str = "forward",
    cache: str = "scratchpad",
    keys: int | None = None,
    group: int = 1,
) -> IOPlan:
    """Try all sizes of blocks of all families; arguments as in `subquad.pebble.attention_plan`.

    Only for ``cache="scratchpad"``; work and workspace are taken from there.
    """
    if cache != "scratchpad":
        raise ValueError(f'`cache` must be "scratchpad", got {cache!r}')
    given = plans.attention_plan(
        n, d, memory, unit=unit, dtypes=dtypes, is_causal=is_causal, mask_blocks=mask_blocks,
        direction=direction, keys=keys, group=group,
    )  # fmt: skip
    w = given.workload
    found = {name: _best(w, phases) for name, phases in _families(w).items()}
    rows = []
    for row in given.table:
        moved = found[row.schedule]
        if moved is None:
            rows.append(replace(row, words=None, bytes=None, blocks=None))
        else:
            size = int(moved @ w.itemsizes)
            rows.append(replace(row, words=int(moved.sum()), bytes=size))
    best = plans.choose(tuple(rows), w.unit)
    assert best is not None
    values = {field.name: getattr(given, field.name) for field in fields(given)}
    chosen = {name: getattr(best, name) for name in ("schedule", "blocks", "words", "bytes")}
    return IOPlan(**(values | chosen | {"table": tuple(rows)}))


@dataclass(frozen=True)
class _Member:
    """Words that move with some sizes of blocks, and what is in fast memory when."""

    moved: Words
    moments: list[Words]


def _words(operands: int = 0, accumulators: int = 0, statistics: int = 0) -> Words:
    return np.array([operands, accumulators, statistics], dtype=np.int64)


def _best(w: Workload, phases: list[Iterable[_Member]]) -> Words | None:
    """Add up the least of every phase; None if none of one fits."""
    total = _words()
    for phase in phases:
        fits = [x for x in phase if all(m @ w.widths <= w.memory for m in x.moments)]
        if not fits:
            return None
        total = total + min((x.moved for x in fits), key=lambda moved: int(moved @ w.widths))
    return total


class _Shapes:
    """What the schedules are made of; all counts by looking at every pair."""

    def __init__(self, w: Workload) -> None:
        self.seen = _visible(w)
        self.n, self.m = self.seen.shape
        self.d = w.d
        self.pairs = int(self.seen.sum())
        self.seeing = int(self.seen.any(axis=1).sum())

    def keys(self, height: int) -> int:
        """Keys that panels of rows load."""
        panels = range(0, self.n, height)
        return sum(int(self.seen[i : i + height].any(axis=0).sum()) for i in panels)

    def rows(self, width: int) -> int:
        """Rows that panels of keys load."""
        panels = range(0, self.m, width)
        return sum(int(self.seen[:, j : j + width].any(axis=1).sum()) for j in panels)

    def resident(self, extra: int = 0) -> Iterator[_Member]:
        """Scores of rows that stay, with `extra` statistics each."""
        n, d = self.n, self.d
        for r in range(1, n + 1):
            moved = _words(n * d + d * self.keys(r) + self.pairs, 0, extra * n)
            yield _Member(moved, [_words(r * d + 1, r, extra * r)])

    def blocks(self) -> Iterator[_Member]:
        """Scores in blocks."""
        for r in range(1, self.n + 1):
            for c in range(1, self.m + 1):
                loads = self.d * (self.rows(c) + self.keys(r))
                yield _Member(_words(loads + self.pairs), [_words(r + 1, r * c)])

    def product(self, transposed: bool = False) -> Iterator[_Member]:
        """Weights times an array, blocks of the result in fast memory."""
        height = self.m if transposed else self.n
        for r in range(1, height + 1):
            factor = self.rows(r) if transposed else self.keys(r)
            for columns in range(1, self.d + 1):
                passes = -(-self.d // columns)
                moved = _words(passes * self.pairs + self.d * (factor + height))
                yield _Member(moved, [_words(r + 1, r * columns)])

    def outputs(self) -> Iterator[_Member]:
        """As `product`, with softmax in the first columns."""
        for r in range(1, self.n + 1):
            for columns in range(1, self.d + 1):
                passes = -(-self.d // columns)
                loads = passes * self.pairs + self.d * (self.keys(r) + self.n)
                block = r * columns
                moments = [_words(r + 1, block, 2 * r), _words(r, block, 2 * r + 1)]
                yield _Member(_words(loads, 0, self.n), moments)

    def key_panels(self, stored: int = 0, again: bool = False) -> Iterator[_Member]:
        """Keys, values and their gradients stay; slopes are stored, or gradients of rows met again."""
        d = self.d
        for c in range(1, self.m + 1):
            rows = self.rows(c)
            stay = _words(2 * c * d, 2 * c * d)
            more = rows - self.seeing if again else 0
            moved = _words(
                4 * self.m * d + 2 * d * rows + stored * self.pairs + again * self.n * d,
                2 * more * d,
                2 * rows,
            )
            moments = [
                stay + _words(d, c, 1),
                stay + _words(d + 1, 2 * c),
                stay + _words(d, 2 * c, 1),
            ]
            yield _Member(moved, [*moments, *([stay + _words(0, c + 1)] if again else [])])
            if not again:
                yield _Member(moved, [stay + _words(2 * d, 2, 2)])

    def row_sums(self) -> Iterator[_Member]:
        """Compute sums of outputs times their gradients."""
        yield _Member(_words(2 * self.n * self.d, 0, self.n), [_words(2, 0, 1)])

    def side(self, b: int) -> tuple[int, int, int]:
        """Return sides of blocks, no larger than what they divide."""
        return min(b, self.n), min(b, self.m), min(b, self.d)

    def sides(self) -> range:
        return range(1, max(self.n, self.m, self.d) + 1)


def _families(w: Workload) -> dict[str, list[Iterable[_Member]]]:
    s = _Shapes(w)
    if w.direction == "forward":
        return {
            "flash-2": [_flash_2(s)],
            "row-resident": [s.resident(), s.outputs()],
            "rectangular": [s.blocks(), s.outputs()],
            "square": [_square(s)],
            "flash-1": [_flash_1(s)],
            "naive": [_naive(s, w)],
        }
    if w.direction == "backward":
        key, value = s.product(transposed=True), s.product(transposed=True)
        last = s.product(transposed=True)
        return {
            "two-pass": [s.key_panels(), _row_pass(s)],
            "one-pass": [s.row_sums(), s.key_panels(again=True)],
            "stored-slopes": [s.row_sums(), s.key_panels(stored=1), s.product()],
            "row-resident": [s.row_sums(), s.resident(1), _values(s), s.product(), last],
            "rectangular": [s.row_sums(), _both_blocks(s), s.product(), key, value],
            "four-phase": [_four_phase(s)],
        }
    return {"large-cache": _large_cache(s), "small-cache": [_small_cache(s)]}


def _flash_2(s: _Shapes) -> Iterator[_Member]:
    for r in range(1, s.n + 1):
        rest = _words(r * s.d, r * s.d + r, 2 * r)
        moved = _words(2 * s.n * s.d + 2 * s.d * s.keys(r), 0, s.n)
        yield _Member(moved, [rest + _words(1), rest + _words(0, 0, 1)])


def _flash_1(s: _Shapes) -> Iterator[_Member]:
    for c in range(1, s.m + 1):
        rows, d = s.rows(c), s.d
        again = rows - s.seeing
        moved = _words(2 * s.m * d + rows * d + s.n * d, 2 * again * d, 2 * again + 2 * rows)
        stay = _words(2 * c * d, c)
        yield _Member(moved, [stay + _words(d), stay + _words(0, d, 3)])


def _square(s: _Shapes) -> Iterator[_Member]:
    for b in s.sides():
        r, c, columns = s.side(b)
        loads = s.d * (s.rows(b) + 2 * s.keys(b) + s.n)
        moved = _words(loads + (1 + -(-s.d // columns)) * s.pairs, 0, s.n)
        scores = [_words(r + c, r * c, 2 * r), _words(0, r * c, 2 * r + 1)]
        yield _Member(moved, [*scores, _words(r + columns, r * columns, r)])


def _naive(s: _Shapes, w: Workload) -> Iterator[_Member]:
    whole = bool(_words(s.m, 0, 2) @ w.widths <= w.memory)
    for b in s.sides():
        r, c, columns = s.side(b)
        loads = s.d * (s.rows(b) + 2 * s.keys(b) + s.n)
        moved = _words(loads + ((3 if whole else 4) + -(-s.d // columns)) * s.pairs)
        softmax = _words(s.m if whole else 1, 0, 2)
        yield _Member(moved, [_words(r + c, r * c), softmax, _words(r + columns, r * columns)])


def _row_pass(s: _Shapes) -> Iterator[_Member]:
    n, d = s.n, s.d
    for r in range(1, n + 1):
        stay = _words(2 * r * d, r * d, 2 * r)
        moved = _words(4 * n * d + 2 * d * s.keys(r), 0, 2 * n)
        yield _Member(moved, [stay + _words(1, r), stay + _words(d, 2 * r)])
        yield _Member(moved, [stay + _words(2 * d, 2)])


def _values(s: _Shapes) -> Iterator[_Member]:
    for c in range(1, s.m + 1):
        stay, rows = _words(c * s.d + c, c * s.d + c), s.rows(c)
        moved = _words(2 * s.m * s.d + s.d * rows + 2 * s.pairs, 0, rows)
        yield _Member(moved, [stay + _words(1), stay + _words(0, 0, 1)])


def _both_blocks(s: _Shapes) -> Iterator[_Member]:
    """Weights in blocks, then slopes, which meet a column of weights."""
    for r in range(1, s.n + 1):
        for c in range(1, s.m + 1):
            loads = 2 * s.d * (s.rows(c) + s.keys(r))
            moments = [_words(r + 1, r * c, r), _words(r, r * c, r)]
            yield _Member(_words(loads + 3 * s.pairs, 0, 2 * s.n), moments)


def _four_phase(s: _Shapes) -> Iterator[_Member]:
    for b in s.sides():
        r, c, columns = s.side(b)
        scores = s.d * (s.rows(b) + s.keys(b))
        products = s.d * (s.keys(b) + 2 * s.rows(b) + s.n + 2 * s.m)
        pairs = (3 + 3 * -(-s.d // columns)) * s.pairs
        moved = _words(2 * s.n * s.d + 2 * scores + products + pairs, 0, s.n + 2 * s.rows(b))
        block = _words(0, r * c)
        moments = [block + _words(r + c), block + _words(c, 0, r), _words(2, 0, 1)]
        results = [_words(x + columns, x * columns) for x in (r, c)]
        yield _Member(moved, [*moments, *results])


def _dense(s: _Shapes, b: int) -> tuple[Words, list[Words]]:
    """Products with d by d matrices: words, and what is in fast memory."""
    moved, moments = _words(), []
    for rows, inner in ((s.n, s.d), (s.m, s.d), (s.d, s.n)):
        down, across = -(-rows // b), -(-s.d // b)
        moved = moved + _words(across * rows * inner + down * inner * s.d + rows * s.d)
        r, c = min(b, rows), min(b, s.d)
        moments.append(_words(r + c, r * c))
    return moved, moments


def _small_cache(s: _Shapes) -> Iterator[_Member]:
    for b in s.sides():
        r, c, columns = s.side(b)
        moved, moments = _dense(s, b)
        loads = s.d * (2 * (s.rows(b) + s.keys(b)) + s.keys(b) + s.n)
        pairs = (7 + -(-s.d // columns)) * s.pairs
        scores = [_words(r + c, r * c, 2 * r), _words(0, r * c, 2 * r + 1), _words(2, 0, 2)]
        moments = [*moments, *scores, _words(r + columns, r * columns)]
        yield _Member(moved + _words(loads + pairs, 0, 2 * s.n), moments)


def _large_cache(s: _Shapes) -> list[Iterable[_Member]]:
    n, d = s.n, s.d
    panels = []
    for r in range(1, n + 1):
        first = _words(2 * r * d + d, 2 * r, 3 * r)
        second = _words(2 * r * d + d, r * d + 2 * r, 2 * r)
        panels.append(_Member(_words(3 * n * d + 4 * d * s.keys(r)), [first, second]))
    return [[_Member(*_dense(s, b)) for b in s.sides()], panels]
