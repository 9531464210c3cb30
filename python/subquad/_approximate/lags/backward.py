"""The gradient of what `forward` computes, with centres, polynomials and blocks held fixed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._problem import Stats, added
from ..head import Floats, blocks
from .far import far_backward
from .forward import LagRows
from .near import near_backward
from .whole import Whole, whole_backward

__all__ = ["lag_backward"]

Grads = dict[str, NDArray[Any]]


def lag_backward(
    done: LagRows,
    grad_out: NDArray[Any],
    out: NDArray[Any],
    grads: Grads,
) -> Stats:
    """Add the gradients of the rows with polynomials to those of a head; "bias" is that of every lag."""
    of_lags: Floats | None = grads.get("bias")
    division = done.division
    centred, route = division.measures.centred, division.route
    head = centred.head
    kind = out.dtype
    up = np.where(done.exact[:, np.newaxis], 0, grad_out).astype(kind)
    of_rows, of_masses = _upstream(done, up, out)
    stats: Stats = {}
    if isinstance(route, Whole):
        found, numbers, counts = whole_backward(division, done.exact, of_rows, of_masses)
    else:
        passed = (up, np.ascontiguousarray(out), done.logs.astype(kind))
        lags = division.lags.astype(kind)
        stats = near_backward(head, lags, route.blocks, route.reach, passed, grads, of_lags)
        found, numbers, counts = far_backward(division, done.exact, of_rows, of_masses)
    if "query" in grads:
        # The factors of rows depend on the queries too.
        factors = (head.scale * found["factor"])[:, np.newaxis]
        grads["query"] += found["query"] + (factors * centred.centres.key).astype(kind)
    if "key" in grads:
        masses = (head.scale * found["mass"])[:, np.newaxis]
        grads["key"] += found["key"] + (masses * centred.centres.query).astype(kind)
    if "value" in grads:
        grads["value"] += found["value"]
    if of_lags is not None:
        route.spread(numbers, of_lags)
    return added(stats, counts)


def _upstream(
    done: LagRows, up: NDArray[Any], out: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what numerators and sums of weights of far keys get."""
    mean = done.division.measures.centred.mean.astype(np.float64)
    of_rows = np.zeros(out.shape, out.dtype)
    of_masses = np.zeros(len(out), out.dtype)
    for some in blocks(out):
        here = ~done.exact[some]
        exponent = np.where(here, done.constants[some] - done.logs[some], -np.inf)
        part = up[some].astype(np.float64) * np.exp(exponent)[:, np.newaxis]
        of_rows[some] = part
        of_masses[some] = -np.vecdot(part, out[some].astype(np.float64) - mean)
    return of_rows, of_masses
