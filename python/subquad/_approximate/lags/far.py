"""Far keys: sums over features, block by block, there and back."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ... import _subquad
from ..._problem import Stats, added
from ..head import Floats, Head
from .division import Far, LagDivision, Sides, sides_of, values_of
from .routes import Route
from .whole import Whole

__all__ = ["far_backward", "far_forward"]


def _route(division: LagDivision) -> Route:
    assert not isinstance(division.route, Whole)
    return cast(Route, division.route)


def _weights(division: LagDivision) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return functions of keys, times their masses, and of queries."""
    route, centred = _route(division), division.measures.centred
    kind = centred.head.value.dtype
    of_keys = (route.of_keys() * centred.masses).astype(kind)
    return of_keys, route.of_queries().astype(kind)


def _sums(
    division: LagDivision, sides: Sides, of_keys: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], Stats]:
    """Return sums over the keys of each block, the same of ones, and counts."""
    route, centred = _route(division), division.measures.centred
    features = _subquad.polynomial_weights(centred.head.query.shape[1], division.p.degree).size
    shape = (route.blocks.of_keys, route.functions, features)
    kind = centred.head.value.dtype
    sums, masses = np.zeros((*shape, centred.head.value.shape[1]), kind), np.zeros(shape, kind)
    _, stats = _subquad.polynomial_block_sums(
        np.ascontiguousarray(sides.y)[np.newaxis],
        np.ascontiguousarray(values_of(centred))[np.newaxis],
        of_keys[np.newaxis],
        division.p.c,
        sums[np.newaxis],
        masses[np.newaxis],
        scale=sides.scale,
        **_cut(division, centred.head),
    )
    return sums, masses, stats


def _cut(division: LagDivision, head: Head) -> dict[str, Any]:
    return {"block": division.route.blocks.size, "workers": head.workers}


def far_forward(division: LagDivision) -> Far:
    """Compute rows from far keys; none are zero."""
    route, centred = _route(division), division.measures.centred
    of_keys, of_queries = _weights(division)
    sides = sides_of(division)
    *sums, stats = _sums(division, sides, of_keys)
    pushed = [route.push(x) for x in sums]
    kind = centred.head.value.dtype
    rows = np.zeros((len(centred.head.query), centred.head.value.shape[1]), kind)
    masses = np.zeros(len(rows), kind)
    _, counts = _subquad.polynomial_block_rows(
        np.ascontiguousarray(sides.x)[np.newaxis],
        of_queries[np.newaxis],
        pushed[0][np.newaxis],
        pushed[1][np.newaxis],
        rows[np.newaxis],
        masses[np.newaxis],
        degree=division.p.degree,
        **_cut(division, centred.head),
    )
    return Far(rows, masses, added(stats, counts))


def far_backward(
    division: LagDivision,
    exact: NDArray[np.bool_],
    of_rows: NDArray[Any],
    of_masses: NDArray[Any],
) -> tuple[dict[str, NDArray[Any]], Floats, Stats]:
    """Return gradients given those of `far_forward`, which are zero for rows computed from all keys.

    Of centred queries and keys, of values, of the logarithms of the keys' masses and of the rows' factors; and
    of the numbers that the bias is made of; and counts.
    """
    route, centred = _route(division), division.measures.centred
    head = centred.head
    of_keys, of_queries = _weights(division)
    sides = sides_of(division, exact)
    *sums, stats = _sums(division, sides, of_keys)
    pushed = [route.push(x) for x in sums]
    of_pushed = [np.zeros_like(x) for x in pushed]
    grads = {
        "query": np.zeros_like(centred.x),
        "key": np.zeros_like(centred.y),
        "value": np.zeros_like(head.value),
    }
    to_queries, to_keys = np.zeros_like(of_queries), np.zeros_like(of_keys)
    _, counts = _subquad.polynomial_block_rows_grad(
        of_rows[np.newaxis],
        of_masses[np.newaxis],
        np.ascontiguousarray(sides.x)[np.newaxis],
        of_queries[np.newaxis],
        pushed[0][np.newaxis],
        pushed[1][np.newaxis],
        grads["query"][np.newaxis],
        to_queries[np.newaxis],
        of_pushed[0][np.newaxis],
        of_pushed[1][np.newaxis],
        degree=division.p.degree,
        **_cut(division, head),
    )
    numbers: Floats = np.zeros(0)
    back = []
    for x, there, grad in zip(sums, pushed, of_pushed, strict=True):
        of_sums, of_numbers = route.pull(x, there, grad)
        back.append(of_sums)
        numbers = of_numbers if not numbers.size else numbers + of_numbers
    _, more = _subquad.polynomial_block_sums_grad(
        back[0][np.newaxis],
        back[1][np.newaxis],
        np.ascontiguousarray(sides.y)[np.newaxis],
        np.ascontiguousarray(values_of(centred))[np.newaxis],
        of_keys[np.newaxis],
        division.p.c,
        grads["key"][np.newaxis],
        grads["value"][np.newaxis],
        to_keys[np.newaxis],
        scale=sides.scale,
        **_cut(division, head),
    )
    for name, to in zip(("query", "key"), sides.units, strict=True):
        grads[name] *= grads[name].dtype.type(to)
    wide = to_keys.astype(np.float64)
    grads["mass"] = (wide * of_keys).sum(axis=0)
    of_functions = to_queries.astype(np.float64)
    grads["factor"] = (of_functions * of_queries).sum(axis=0)
    numbers = numbers + route.slopes(wide * centred.masses, of_functions)
    return grads, numbers, added(added(stats, counts), more)
