"""Rows of attention from near keys, exactly, and from far ones by polynomials."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._problem import Stats, added
from ..head import Floats, blocks, length, norms
from .division import Far, LagDivision, bound_of, underflow_of
from .far import far_forward
from .near import near_forward
from .whole import Whole, whole_forward, whole_noise

__all__ = ["LagRows", "lag_forward"]


@dataclass(slots=True)
class LagRows:
    """What the rows of a head were computed from."""

    division: LagDivision
    logs: Floats
    """Logarithms of the sums of weights."""
    constants: Floats
    """Logarithms of what the sums over far keys are to be multiplied by."""
    exact: NDArray[np.bool_]
    """Rows computed from all keys."""
    bound: Floats
    """Of the other rows."""


def lag_forward(
    division: LagDivision, out: NDArray[Any], lse: NDArray[Any] | None, *, certified: bool
) -> tuple[LagRows, Stats]:
    """Compute the rows with polynomials; of the others only which they are."""
    route, centred = division.route, division.measures.centred
    if isinstance(route, Whole):
        far = whole_forward(division)
        stats: Stats = {}
        near, log = np.zeros_like(out), np.full(len(out), -np.inf)
    else:
        lags = division.lags.astype(out.dtype)
        near, log, stats = near_forward(centred.head, lags, route.blocks, route.reach)
        far = far_forward(division)
    with np.errstate(over="ignore", invalid="ignore"):
        constants = centred.constants() + route.top
    done = LagRows(
        division, np.zeros(len(out)), constants, np.zeros(len(out), bool), np.zeros(len(out))
    )
    done.exact[division.exact] = True
    distance = np.zeros(len(out))
    for some in blocks(out):
        distance[some] = _combine(done, (near[some], log[some]), far, some, out)
    if certified:
        _certify(done, distance, out)
    if lse is not None:
        lse[~done.exact] = done.logs[~done.exact]
    return done, added(stats, far.stats)


def _combine(
    done: LagRows,
    near: tuple[NDArray[Any], NDArray[Any]],
    far: Far,
    some: slice,
    out: NDArray[Any],
) -> Floats:
    """Divide by the sums of weights, note which rows have none; return distances from the mean."""
    mean = done.division.measures.centred.mean.astype(np.float64)
    log, constants = near[1].astype(np.float64), done.constants[some]
    masses = far.masses[some].astype(np.float64)
    with np.errstate(all="ignore"):
        top = np.where(masses > 0.0, np.maximum(log, constants), log)
        by_near, by_far = np.exp(log - top), np.exp(constants - top)
        total = by_near + by_far * masses
        rows = by_near[:, np.newaxis] * (near[0].astype(np.float64) - mean)
        rows += by_far[:, np.newaxis] * far.rows[some].astype(np.float64)
        quotient = rows / total[:, np.newaxis]
        row = quotient + mean
        largest = float(np.finfo(out.dtype).max)
        valid = np.isfinite(total) & (total > 0.0) & np.isfinite(top) & (masses >= 0.0)
        valid &= (np.abs(row) <= largest).all(axis=1)
        done.logs[some] = np.where(valid, top + np.log(total), 0.0)
    done.exact[some] |= ~valid
    out[some] = np.where(valid[:, np.newaxis], row, 0.0)
    return norms(np.where(valid[:, np.newaxis], quotient, 0.0))


def _certify(done: LagRows, distance: Floats, out: NDArray[Any]) -> None:
    division = done.division
    measures, route, p = division.measures, division.route, division.p
    kind = np.finfo(out.dtype)
    # In units of the largest weight of a far key.
    with np.errstate(over="ignore"):
        lost = underflow_of(division, float(kind.smallest_normal)) * 8.0 * route.growth
        if measures.reach > 0.0:
            lost *= 1.0 + math.sqrt(out.shape[1]) / measures.reach
        noise: Floats = np.zeros(1)
        if isinstance(route, Whole):
            noise = whole_noise(division)
        off = (lost + noise) * np.exp(done.constants - done.logs)
    bound = bound_of(measures, division.facts, route, p, off)
    done.exact |= ~(bound <= 2.0 * measures.spread)
    size = distance + length(measures.centred.mean.astype(np.float64))
    bound = bound + float(kind.eps) / 2.0 * (1.0 + 1e-6) * size + 2.0**-50 * size
    bound += np.where(size > 0.0, out.shape[1] * float(kind.smallest_subnormal), 0.0)
    done.bound[:] = np.where(done.exact, 0.0, bound)
