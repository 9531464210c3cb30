"""Rows of attention from sums over keys, a head at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _subquad
from .._problem import Problem, Stats, added
from .._shapes import Shape
from .bounds import Approximant, posterior
from .division import Division, Group
from .head import Centred, Floats, blocks, length, norms
from .measures import TINY

__all__ = [
    "HeadRows",
    "by_position",
    "exact_rows",
    "head_forward",
    "in_blocks",
    "positions",
    "runs",
    "turned",
    "values_in_sums",
    "weights_apart",
]

# Rows that positions make a slice of: so many others between two of them are computed with them.
_GAP = 64


@dataclass(slots=True)
class HeadRows:
    """What a head's rows were computed from."""

    division: Division
    sums: Floats
    """Sums of weights, over the largest mass; of rows with polynomials."""
    apart: Floats
    """What of that is of keys apart."""
    exact: NDArray[np.bool_]
    """Rows computed from all keys."""
    bound: Floats
    """Of the rows with polynomials."""


def head_forward(
    problem: Problem,
    head: Shape,
    division: Division,
    out: NDArray[Any],
    lse: NDArray[Any] | None,
    *,
    certified: bool,
) -> tuple[HeadRows, Stats]:
    """Compute the rows with polynomials; of the others only which they are."""
    measures = division.measures
    centred = measures.centred
    shape = out.shape
    sums, apart, bound = np.zeros((3, shape[0]))
    done = HeadRows(division, sums, apart, np.zeros(shape[0], bool), bound)
    done.exact[division.exact] = True
    stats: Stats = {}
    rows, masses = values_in_sums(division)
    constants = None
    if lse is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            constants = centred.constants()
        done.exact |= ~np.isfinite(constants)
    for group in division.groups:
        some = positions(group.rows, shape[0], problem.shift)
        x, y = turned(division, group.p, some)
        numerators = np.empty((len(x), shape[1]), x.dtype)
        sums = np.empty(len(x), x.dtype)
        _, counts = _subquad.polynomial_sums(
            x[np.newaxis],
            y[np.newaxis],
            rows[np.newaxis],
            masses[np.newaxis],
            group.p.c,
            numerators[np.newaxis],
            sums[np.newaxis],
            scale=problem.scale,
            shift=problem.shift,
            workers=problem.workers,
            half=group.half is not None,
            **in_blocks(group.p),
        )
        stats = added(stats, counts)
        mine = group.rows if isinstance(some, slice) and problem.shift is not None else slice(None)
        distance = _divide(done, group.rows, numerators[mine], sums[mine], out)
        if certified:
            _certify(done, group, distance, out)
    hidden = np.broadcast_to(centred.head.seen == 0, done.exact.shape)
    done.exact &= ~hidden
    settled = ~done.exact
    out[hidden] = 0
    done.bound[hidden] = 0.0
    if lse is not None and constants is not None:
        with np.errstate(divide="ignore"):
            lse[settled] = (constants + np.log(done.sums))[settled]
        lse[hidden] = -np.inf
    return done, stats


def values_in_sums(division: Division) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return centred values by mass, and masses, of the keys in the sums."""
    measures = division.measures
    centred, kept = measures.centred, measures.kept
    value = centred.head.value
    masses = centred.masses.astype(value.dtype)
    if measures.apart:
        value, masses = value[kept], masses[kept]
    # What overflows is found where rows are divided.
    with np.errstate(over="ignore", invalid="ignore"):
        rows = value - centred.mean
        if centred.centres.query.any():
            rows *= masses[:, np.newaxis]
    return rows, masses


def turned(
    division: Division, p: Approximant, some: slice | NDArray[np.intp]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return some queries, and the keys in the sums, in the basis of a polynomial."""
    measures = division.measures
    x = measures.centred.x[some]
    y = measures.centred.y[measures.kept] if measures.apart else measures.centred.y
    if p.basis is not None:
        workers = measures.centred.head.workers
        x, y = p.basis.of_queries(x, workers), p.basis.of_keys(y, workers)
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def in_blocks(p: Approximant) -> dict[str, Any]:
    """Return what the compiled sums want to know of blocks of directions."""
    return {} if p.kept.lead is None else {"lead": p.kept.lead}


def positions(rows: NDArray[np.intp], count: int, shift: int | None) -> slice | NDArray[np.intp]:
    """Return rows as the kernel takes them: all, where positions count."""
    return slice(None) if shift is not None or rows.size == count else rows


def _divide(
    done: HeadRows,
    rows: NDArray[np.intp],
    numerators: NDArray[Any],
    sums: NDArray[Any],
    out: NDArray[Any],
) -> Floats:
    """Divide by sums of weights, and note which rows have none; return distances from the mean."""
    measures = done.division.measures
    centred = measures.centred
    mean = centred.mean.astype(np.float64)
    distance = np.zeros(rows.size)
    largest = float(np.finfo(out.dtype).max)
    apart = np.flatnonzero(~measures.kept)
    for some in blocks(numerators):
        index = rows[some]
        top, total = numerators[some].astype(np.float64), sums[some].astype(np.float64)
        if apart.size:
            with np.errstate(over="ignore"):
                weights = weights_apart(centred, index, apart)
            top += weights @ (centred.head.value[apart].astype(np.float64) - mean)
            done.apart[index] = weights.sum(axis=1)
            total += done.apart[index]
        with np.errstate(over="ignore", invalid="ignore"):
            quotient = top / np.where(total > 0.0, total, 1.0)[:, np.newaxis]
            row = quotient + mean
        # A sum of nothing divides nothing, and a row next to the largest numbers may exceed them.
        valid = np.isfinite(total) & (total > 0.0) & (np.abs(row) <= largest).all(axis=1)
        done.exact[index[~valid]] = True
        done.sums[index] = np.where(valid, total, 0.0)
        out[index] = np.where(valid[:, np.newaxis], row, 0.0)
        distance[some] = norms(quotient)
    return distance


def weights_apart(centred: Centred, rows: NDArray[np.intp], keys: NDArray[np.intp]) -> Floats:
    """Weights of some keys, one by one in float64, over the largest mass."""
    head, centres = centred.head, centred.centres
    x = head.query[rows].astype(np.float64) - centres.query
    y = head.key[keys].astype(np.float64) - centres.key
    logits = head.scale * (x @ y.T)
    weights: Floats = np.exp(logits + (centred.exponents[keys] - centred.top))
    return weights


def _certify(done: HeadRows, group: Group, distance: Floats, out: NDArray[Any]) -> None:
    measures = done.division.measures
    centred, rows = measures.centred, group.rows
    where = np.zeros(len(done.sums))
    where[rows] = distance
    rho = np.broadcast_to(group.rho, done.sums.shape)
    if measures.apart:
        total = np.maximum(done.division.rows.total, TINY)
        rho = rho + measures.apart_error * done.apart / total
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        half = 0.0 if group.half is None else group.half
        facts = done.division.rows
        bound = posterior(measures, facts, group.p, rho, done.sums, where, half)[rows]
    # No row is further from the exact one than two values are from each other, up to rounding.
    done.exact[rows[~(bound <= 2.0 * measures.spread)]] = True
    kind = np.finfo(out.dtype)
    size = distance + length(centred.mean.astype(np.float64))
    # The sum with the mean is rounded, in float64 first; what is added to it was divided.
    bound += float(kind.eps) / 2.0 * (1.0 + 1e-6) * size + 2.0**-51 * distance
    bound += np.where(size > 0.0, out.shape[1] * float(kind.smallest_subnormal), 0.0)
    done.bound[rows] = bound


def exact_rows(
    problem: Problem,
    head: Shape,
    exact: NDArray[np.bool_],
    out: NDArray[Any],
    lse: NDArray[Any] | None,
    bound: Floats | None,
) -> Stats:
    """Compute the rows that are marked from all keys."""
    stats: Stats = {}
    first = (0,) * len(head)
    for rows, inner in runs(exact, by_position(problem)):
        part = problem.rows(head, rows, problem.compute)
        found, log, counts = part.forward(want_lse=lse is not None)
        stats = added(stats, counts)
        index = np.arange(len(out))[rows][inner]
        out[index] = found[first][inner]
        if lse is not None and log is not None:
            lse[index] = log[first][inner]
        if bound is not None:
            bound[index] = part.bounds(found)[0][first][inner]
    return stats


def by_position(problem: Problem) -> bool:
    """Say whether what a row sees depends on where it is: then rows are taken as slices."""
    return problem.shift is not None or problem.lags is not None


def runs(marked: NDArray[np.bool_], in_slices: bool) -> list[tuple[slice | NDArray[np.intp], Any]]:
    """Return marked rows as problems take them, and which of a problem's rows are meant."""
    if marked.all():
        return [(slice(0, marked.size), slice(None))]
    rows = np.flatnonzero(marked)
    if not in_slices:
        return [(rows, slice(None))] if rows.size else []
    found: list[tuple[slice | NDArray[np.intp], Any]] = []
    for run in np.split(rows, np.flatnonzero(np.diff(rows) > _GAP) + 1):
        if run.size:
            start, stop = int(run[0]), int(run[-1]) + 1
            found.append((slice(start, stop), run - start))
    return found
