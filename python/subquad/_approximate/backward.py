"""The gradient of what `forward` computes, with centres and polynomials held fixed.

A row is ``mean + N / D``; its gradient g gives ``G = g / D`` to N and ``-(G . N / D)`` to D, and from there
the sums over features pass it on to queries, keys, values times masses, and masses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _subquad
from .._problem import Problem, Stats, added
from .._shapes import Shape
from .forward import (
    HeadRows,
    by_position,
    in_blocks,
    positions,
    runs,
    turned,
    values_in_sums,
    weights_apart,
)
from .head import Centred, Floats, blocks

__all__ = ["exact_backward", "head_backward"]

Grads = dict[str, NDArray[Any]]


def head_backward(
    problem: Problem, done: HeadRows, grad_out: NDArray[Any], out: NDArray[Any], grads: Grads
) -> Stats:
    """Add the gradients of the rows with polynomials to those of a head, in the compute type."""
    measures = done.division.measures
    centred, kept = measures.centred, measures.kept
    rows, masses = values_in_sums(done.division)
    upstream, of_sums = _upstream(done, grad_out, out)
    of_x = np.zeros_like(centred.x)
    of_y = np.zeros((len(rows), centred.y.shape[1]), centred.y.dtype)
    of_rows, of_masses = np.zeros_like(rows), np.zeros_like(masses)
    stats: Stats = {}
    for group in done.division.groups:
        some = positions(group.rows, len(of_x), problem.shift)
        x, y = turned(done.division, group.p, some)
        to, to_y = np.zeros_like(x), np.zeros_like(y)
        up, up_sums = upstream[some], of_sums[some]
        _, counts = _subquad.polynomial_sums_grad(
            np.ascontiguousarray(up)[np.newaxis],
            np.ascontiguousarray(up_sums)[np.newaxis],
            x[np.newaxis],
            y[np.newaxis],
            rows[np.newaxis],
            masses[np.newaxis],
            group.p.c,
            to[np.newaxis] if "query" in grads else None,
            to_y[np.newaxis] if "key" in grads else None,
            of_rows[np.newaxis],
            of_masses[np.newaxis],
            scale=problem.scale,
            shift=problem.shift,
            workers=problem.workers,
            **in_blocks(group.p),
        )
        stats = added(stats, counts)
        basis = group.p.basis
        of_x[some] += to if basis is None else to @ basis.left.T
        of_y += to_y if basis is None else to_y @ basis.right.T
    values = centred.head.value if kept.all() else centred.head.value[kept]
    _keys(grads, kept, centred, (of_y, of_rows, of_masses), (values, masses))
    if measures.apart:
        _apart(grads, done, upstream, of_sums, of_x)
    if "query" in grads:
        grads["query"] += of_x
    return stats


def _upstream(
    done: HeadRows, grad_out: NDArray[Any], out: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what numerators and sums get; nothing where rows were computed from all keys."""
    mean = done.division.measures.centred.mean.astype(np.float64)
    upstream = np.zeros(out.shape, out.dtype)
    of_sums = np.zeros(len(out), out.dtype)
    for some in blocks(out):
        sums = done.sums[some]
        here = ~done.exact[some] & (sums > 0.0)
        per = np.divide(1.0, sums, out=np.zeros_like(sums), where=here)[:, np.newaxis]
        part = grad_out[some].astype(np.float64) * per
        upstream[some] = part
        of_sums[some] = -np.vecdot(part, out[some].astype(np.float64) - mean)
        of_sums[some][~here] = 0
    return upstream, of_sums


def _keys(
    grads: Grads,
    kept: NDArray[np.bool_],
    centred: Centred,
    found: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    given: tuple[NDArray[Any], NDArray[Any]],
) -> None:
    """Pass on what centred keys, values by mass and masses have got."""
    (of_y, of_rows, of_masses), (value, masses) = found, given
    where: Any = slice(None) if kept.all() else kept
    if "value" in grads:
        grads["value"][where] += masses[:, np.newaxis] * of_rows
    if "key" in grads:
        centre = centred.centres.query
        if centre.any():
            # The masses depend on the keys too.
            weight = np.empty(len(of_y))
            for some in blocks(value):
                rows = (value[some] - centred.mean).astype(np.float64)
                weight[some] = np.vecdot(rows, of_rows[some]) + of_masses[some]
            weight *= centred.head.scale * masses
            of_y += weight.astype(of_y.dtype)[:, np.newaxis] * centre
        grads["key"][where] += of_y


def _apart(
    grads: Grads,
    done: HeadRows,
    upstream: NDArray[Any],
    of_sums: NDArray[Any],
    of_x: NDArray[Any],
) -> None:
    """Add the gradients through the keys whose weights are exact."""
    measures = done.division.measures
    centred = measures.centred
    head, keys = centred.head, np.flatnonzero(~measures.kept)
    mean = centred.mean.astype(np.float64)
    y = head.key[keys].astype(np.float64) - centred.centres.key
    values = head.value[keys].astype(np.float64) - mean
    of_keys: Floats = np.zeros(y.shape)
    of_values: Floats = np.zeros(values.shape)
    for some in blocks(upstream):
        index = np.arange(some.start, some.stop)
        weights = weights_apart(centred, index, keys)
        up = upstream[some].astype(np.float64)
        of_values += weights.T @ up
        of_logits = weights * (up @ values.T + of_sums[some, np.newaxis])
        of_logits *= head.scale
        of_x[some] += of_logits @ y
        of_keys += of_logits.T @ head.query[some].astype(np.float64)
    if "key" in grads:
        grads["key"][keys] += of_keys
    if "value" in grads:
        grads["value"][keys] += of_values


def exact_backward(
    problem: Problem,
    head: Shape,
    done: NDArray[np.bool_],
    grad_out: NDArray[Any],
    out: NDArray[Any],
    lse: NDArray[Any],
    grads: Grads,
) -> Stats:
    """Add the gradients of the rows that were computed from all keys."""
    stats: Stats = {}
    first = (0,) * len(head)
    for rows, inner in runs(done, by_position(problem)):
        part = problem.rows(head, rows, problem.compute)
        index = np.arange(len(out))[rows]
        # Rows between those that are meant have no gradient here.
        up = np.zeros((*part.shapes.out,), out.dtype)
        up[first][inner] = grad_out[index[inner]]
        sums = {
            name: np.zeros(getattr(part.shapes, name), problem.compute)
            for name in grads
            if name != "bias"
        }
        if part.lags is not None and "bias" in grads:
            sums["bias"] = np.zeros(part.lags.shape)
        results = (out[index].reshape(part.shapes.out), lse[index].reshape(part.shapes.out[:-1]))
        stats = added(stats, part.backward(up, *results, sums))
        for name, total in sums.items():
            where: Any = rows if name == "query" else slice(None)
            if name == "bias":
                where = slice(int(index[0]), int(index[0]) + total.shape[-1])
            grads[name][where] += total[first]
    return stats
