"""The certificate of a forward pass: a bound for each row, and what happens to rows beyond it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import stored, wide
from ._errors import AccuracyWarning, CertificateError
from ._norms import matrix, rounding_norms, row_norms
from ._plan import Plan
from ._problem import Problem, Stats, added

__all__ = ["Certificate", "certify", "combined", "relative_to_mean"]

UNIT_ROUNDOFF = {
    "bfloat16": 2.0**-8,
    "float16": 2.0**-11,
    "float32": 2.0**-24,
    "float64": 2.0**-53,
}

# Rows that exceed the budget and lie this close are recomputed in one sub-problem: a tile costs the
# same whether one of its rows is wanted or all.
_GAP = 64


@dataclass(frozen=True, slots=True)
class Certificate:
    """Bounds of one forward pass, in the shapes used inside."""

    bound: NDArray[np.float64]
    spread: NDArray[np.float64]
    stats: Stats
    """Rows recomputed, and the counts of that."""
    replaced: NDArray[np.bool_]
    """Which rows that were."""
    reason: str
    """What was done about rows beyond the budget; empty where there were none."""


def certify(
    problem: Problem,
    raw: NDArray[Any],
    result: NDArray[Any],
    lse: NDArray[Any] | None,
    plan: Plan,
    fallback: str,
    known: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    sampled: NDArray[np.bool_] | None = None,
) -> Certificate:
    """Bound the error of every row of `result`, which is `raw` rounded to the output dtype.

    `known` are bound and spread of what an approximate method has computed. A row whose bound exceeds
    the budget is recomputed in float64 unless that is what it was computed in, and replaced in `raw`,
    `result` and `lse`. Of the heads that `sampled` marks random rows were held against it before: they are left
    alone, and what is known is known of `result`.
    """
    bound, spread = problem.bounds(raw) if known is None else known
    if result is not raw and sampled is None:
        bound = bound + rounding_norms(raw, result, problem.dtype)
    if plan.eps is None:
        return Certificate(bound, spread, {"rows_recomputed": 0}, np.zeros(bound.shape, bool), "")
    held = True if sampled is None else ~sampled[..., np.newaxis]
    short = replaced = _beyond(problem, result, bound, spread, plan.eps) & held
    stats: Stats = {"rows_recomputed": 0}
    reason = ""
    if (problem.compute == np.float32 or known is not None) and short.any():
        stats = _recompute(problem, short, raw, result, lse, bound)
        reason = (
            f"{stats['rows_recomputed']} rows whose bound exceeded the budget were recomputed in "
            "float64"
        )
        short = _beyond(problem, result, bound, spread, plan.eps) & held
    if short.any():
        reason = _fall_back(short, bound, plan, fallback)
    return Certificate(bound, spread, stats, replaced, reason)


def combined(first: Certificate, then: Certificate) -> Certificate:
    """Return what two certificates of one pass say, the second with the bounds of both."""
    stats = added(first.stats, then.stats)
    stats["rows_recomputed"] -= int((first.replaced & then.replaced).sum())
    reason = "; ".join(reason for reason in (first.reason, then.reason) if reason)
    replaced = first.replaced | then.replaced
    return Certificate(then.bound, then.spread, stats, replaced, reason)


def _beyond(
    problem: Problem,
    result: NDArray[Any],
    bound: NDArray[np.float64],
    spread: NDArray[np.float64],
    eps: float,
) -> NDArray[np.bool_]:
    """Rows not proven to satisfy |error| <= eps R + 2u |exact|, with |exact| >= |out| - bound."""
    budget = np.broadcast_to(eps * spread[..., np.newaxis], bound.shape)
    # A spread that is not a number, or too large for one, proves nothing; nor does a bound of NaN.
    known_budget = np.isfinite(budget)
    beyond = ~(known_budget & (bound <= budget))
    if beyond.any():
        # The second term needs the norms, and the first alone covers most rows.
        where, known, rows = np.flatnonzero(beyond), bound[beyond], matrix(result)
        norms = row_norms(
            lambda block: wide(rows[where[block]], problem.dtype), where.size, rows.shape[1]
        )
        with np.errstate(invalid="ignore"):
            least = 2.0 * UNIT_ROUNDOFF[problem.dtype] * np.maximum(norms - known, 0.0)
            beyond[beyond] = ~(known_budget[beyond] & (known <= budget[beyond] + least))
    return beyond


def _recompute(
    problem: Problem,
    short: NDArray[np.bool_],
    raw: NDArray[Any],
    result: NDArray[Any],
    lse: NDArray[Any] | None,
    bound: NDArray[np.float64],
) -> Stats:
    """Replace the rows marked in `short` by what float64 gives, and their bounds with them."""
    stats: Stats = {"rows_recomputed": int(short.sum())}
    for where in np.argwhere(short.any(axis=-1)):
        head = tuple(int(i) for i in where)
        rows = np.flatnonzero(short[head])
        for run in np.split(rows, np.flatnonzero(np.diff(rows) > _GAP) + 1):
            start, stop = int(run[0]), int(run[-1]) + 1
            part = problem.rows(head, slice(start, stop))
            exact, log, done = part.forward(want_lse=lse is not None)
            stats = added(stats, done)
            first = (0,) * len(head)
            kept = part.bounds(exact)[0][first][run - start]
            exact = exact[first][run - start]
            rounded = stored(exact, problem.dtype)
            raw[head][run] = exact
            result[head][run] = rounded
            bound[head][run] = kept + rounding_norms(exact, rounded, problem.dtype)
            if lse is not None and log is not None:
                lse[head][run] = log[first][run - start]
    return stats


def _fall_back(
    short: NDArray[np.bool_], bound: NDArray[np.float64], plan: Plan, fallback: str
) -> str:
    worst = float(np.max(bound[short]))
    message = (
        f"{int(short.sum())} of {short.size} rows have a rounding bound beyond eps = {plan.eps:g} "
        f"of the spread even in float64 (largest bound {worst:.2e})"
    )
    if fallback == "raise":
        raise CertificateError(message, plan)
    if fallback == "warn":
        # Four frames up: certify, the forward pass, the public function, its caller.
        warnings.warn(message, AccuracyWarning, stacklevel=5)
    return f"{message}: exact float64 rows kept"


def relative_to_mean(
    problem: Problem, result: NDArray[Any], bound: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return `bound` over the distance of each row of `result` from the mean of its values."""
    shapes = problem.shapes
    if shapes.keys == 0:
        return np.zeros(bound.shape)
    value = wide(problem.value, problem.operands["value"].dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = value.mean(axis=-2, dtype=np.float64)
    if shapes.kv_heads != shapes.heads:
        mean = np.repeat(mean, shapes.heads // shapes.kv_heads, axis=-2)
    means, rows = matrix(mean), matrix(result)

    def from_mean(block: slice) -> NDArray[Any]:
        head = np.arange(block.start, block.stop) // shapes.queries
        difference: NDArray[Any] = wide(rows[block], problem.dtype) - means[head]
        return difference

    distance = row_norms(from_mean, *rows.shape).reshape(bound.shape)
    relative = np.full(bound.shape, np.inf)
    np.divide(bound, distance, out=relative, where=distance > 0.0)
    relative[bound == 0.0] = 0.0
    relative[~np.isfinite(distance)] = np.nan  # the sum of the values exceeds the range of float64
    return relative
