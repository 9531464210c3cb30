"""A statistical certificate: random rows of an approximation against the exact ones.

If m rows drawn at random all meet the budget, the share of rows that does is at least ``(1 - confidence) **
(1 / m)`` with that confidence: a smaller share would have shown with a larger probability. Drawing without
putting back only helps. The approximation must have been chosen by other rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._approximate.forward import HeadRows, exact_rows
from ._approximate.lags.forward import LagRows
from ._approximate.run import Approximation
from ._arrays import stored, wide
from ._certify import UNIT_ROUNDOFF, Certificate
from ._norms import rounding_norms
from ._plan import Plan
from ._problem import Problem, Stats, added
from ._shapes import Shape

__all__ = ["Sample", "certify_sample"]

_CONFIDENCE = 0.95
# Rows of a head that are drawn.
_SAMPLE = 300


@dataclass(frozen=True, slots=True)
class Sample:
    """What a sample says of all rows, and which it was."""

    confidence: float
    coverage: float
    rows: NDArray[np.int64]


def certify_sample(
    problem: Problem, done: Approximation, result: NDArray[Any], plan: Plan, rng: Any
) -> tuple[Certificate, Sample]:
    """Hold random rows of every head with polynomials against the budget.

    A head of which a row fails is computed from all keys, in `result` and in the arrays of `done`.
    """
    assert plan.eps is not None
    generator = _apart_from_planning(rng)
    bound, spread = done.bound, done.spread
    stats: Stats = {"rows_recomputed": 0}
    replaced, drawn, failed = np.zeros(bound.shape, bool), [], 0
    for index, head in zip(problem.heads(), done.heads, strict=True):
        if head is None:
            bound[index] += rounding_norms(done.raw[index], result[index], problem.dtype)
            continue
        rows, error = _errors(problem, index, result[index], generator)
        norms = np.linalg.norm(wide(result[index][rows], problem.dtype).astype(np.float64), axis=1)
        least = 2.0 * UNIT_ROUNDOFF[problem.dtype] * np.maximum(norms - error, 0.0)
        bound[index] = np.nan
        if (error <= plan.eps * spread[index] + least).all():
            bound[index][rows] = error
            drawn += [(*index, int(row)) for row in rows]
            continue
        failed += 1
        replaced[index] = ~head.exact
        stats = added(stats, _replace(problem, index, head, done, result))
        stats["rows_recomputed"] += int(replaced[index].sum())
    reason = (
        f"heads that failed on random rows and were computed exactly: {failed}" if failed else ""
    )
    size = min(_SAMPLE, problem.shapes.queries)
    coverage = 1.0
    if size < problem.shapes.queries and drawn:
        coverage = float((1.0 - _CONFIDENCE) ** (1.0 / size))
    where = np.array(drawn, np.int64).reshape(len(drawn), bound.ndim)
    where = where if problem.shapes.lead else where[:, 1:]
    found = Certificate(bound, spread, stats, replaced, reason)
    return found, Sample(_CONFIDENCE if coverage < 1.0 else 1.0, coverage, where)


def _apart_from_planning(rng: Any) -> np.random.Generator:
    """Return a generator that does not repeat what planning may have drawn from the same seed."""
    generator = np.random.default_rng(rng)
    try:
        return generator.spawn(1)[0]
    except TypeError:  # without a seed to spawn from; it has moved on instead
        return generator


def _errors(
    problem: Problem, index: Shape, result: NDArray[Any], rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Draw rows of a head; return them, and how far they are at most from the exact ones."""
    count = len(result)
    rows = np.sort(rng.choice(count, min(_SAMPLE, count), replace=False))
    part = problem.rows(index, rows)
    first = (0,) * len(index)
    exact = part.forward()[0]
    bound = part.bounds(exact)[0][first]
    off = wide(result[rows], problem.dtype).astype(np.float64) - exact[first]
    error: NDArray[np.float64] = np.linalg.norm(off, axis=1)
    return rows, error * (1.0 + 1e-12) + bound


def _replace(
    problem: Problem,
    index: Shape,
    head: HeadRows | LagRows,
    done: Approximation,
    result: NDArray[Any],
) -> Stats:
    raw, log = done.raw[index], None if done.lse is None else done.lse[index]
    stats = exact_rows(problem, index, np.ones(len(raw), bool), raw, log, done.bound[index])
    head.exact[:] = True
    if result is not done.raw:
        result[index] = stored(raw, problem.dtype)
        done.bound[index] += rounding_norms(raw, result[index], problem.dtype)
    return stats
