"""The arguments of attention by relative positions, checked for the library and its twin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays import Operand, take, wide
from .._coefficients import check_degree, take_coefficients
from .._finite import require_finite
from .._layout import expand, laid_out
from .._options import check_budget
from .._problem import Problem, prepare

__all__ = ["Relative", "check_one_polynomial", "lag_count", "prepare_relative", "take_support"]


@dataclass(slots=True)
class Relative:
    """A checked call: the problem, and what its logits are made of."""

    problem: Problem
    support: NDArray[np.intp]
    """Coordinates of query and key for each entry, shape (t, 2)."""
    weights: NDArray[Any]
    """One number per entry and lag, for every head: shape (..., H, t, L + S - 1)."""
    coefficients: NDArray[np.float64] | None
    degree: int | None
    eps: float | None

    @property
    def hidden_lags(self) -> int:
        """How many lags, from the first, belong to keys that no query sees."""
        problem, lags = self.problem, self.weights.shape[-1]
        if problem.shift is None:
            return 0
        return int(np.clip(problem.shapes.keys - 1 - problem.shift, 0, lags))

    def seen(self) -> NDArray[np.intp]:
        """How many keys every query sees."""
        shapes = self.problem.shapes
        last = np.arange(shapes.queries) + (
            shapes.keys if self.problem.shift is None else self.problem.shift + 1
        )
        return np.clip(last, 0, shapes.keys)


def lag_count(queries: int, keys: int) -> int:
    """Return L + S - 1, how many differences of positions there are."""
    return max(queries + keys - 1, 0)


def take_support(support: Any, width: int) -> NDArray[np.intp]:
    """Return the entries of the matrices that are not zero, checked."""
    table = np.asarray(support)
    if table.ndim != 2 or table.shape[1] != 2:
        raise ValueError(f"`support` must have shape (t, 2), got {table.shape}")
    if table.dtype.kind not in "iu":
        raise TypeError(f"`support` must hold integers, got dtype {table.dtype}")
    outside = (table < 0) | (table >= width)
    if outside.any():
        row, column = (int(i) for i in np.unravel_index(np.argmax(outside), table.shape))
        raise ValueError(
            f"`support` must hold indices from 0 to E - 1 = {width - 1}, got "
            f"{int(table[row, column])} at index ({row}, {column})"
        )
    entries = [(int(a), int(b)) for a, b in table]
    first = {entry: number for number, entry in reversed(list(enumerate(entries)))}
    for number, entry in enumerate(entries):
        if first[entry] != number:
            raise ValueError(
                f"`support` must name every entry once, got {entry} at {first[entry]} and {number}"
            )
    return table.astype(np.intp)


def check_one_polynomial(
    degree: Any, coefficients: Any, eps: Any
) -> tuple[int | None, Operand | None, float | None]:
    """Return degree, coefficients and budget, of which one may be given."""
    named = [("degree", degree), ("coefficients", coefficients), ("eps", eps)]
    given = [name for name, value in named if value is not None]
    if len(given) > 1:
        raise ValueError(
            f"at most one of `degree`, `coefficients` and `eps` may be given, got `{'` and `'.join(given)}`"
        )
    return (
        None if degree is None else check_degree(degree),
        None if coefficients is None else take_coefficients(coefficients),
        check_budget(eps),
    )


def prepare_relative(
    query: Any,
    key: Any,
    value: Any,
    weights: Any,
    support: Any,
    *,
    degree: Any,
    coefficients: Any,
    eps: Any,
    is_causal: Any,
    scale: Any,
    enable_gqa: bool,
    workers: Any,
    check_finite: bool,
) -> Relative:
    """Check all arguments, the numbers included if that is asked for."""
    problem = prepare(
        query,
        key,
        value,
        mask=None,
        bias=None,
        is_causal=is_causal,
        window=None,
        scale=scale,
        enable_gqa=enable_gqa,
        workers=workers,
        check_finite=check_finite,
    )
    entries = take_support(support, problem.shapes.width)
    positions = take("weights", weights)
    by_head = _over_heads(problem, positions, len(entries))
    degree, polynomial, budget = check_one_polynomial(degree, coefficients, eps)
    problem.operands["weights"] = positions
    terms = None
    if polynomial is not None:
        problem.operands["coefficients"] = polynomial
        terms = np.ascontiguousarray(wide(polynomial.array, polynomial.dtype), np.float64)
    if check_finite:
        for operand in problem.operands.values():
            require_finite(operand)
    return Relative(problem, entries, by_head, terms, degree, budget)


def _over_heads(problem: Problem, weights: Operand, entries: int) -> NDArray[Any]:
    shapes = problem.shapes
    lags = lag_count(shapes.queries, shapes.keys)
    if len(weights.shape) < 2:
        raise ValueError(f"`weights` must have shape (t, L + S - 1), got {weights.shape}")
    if weights.shape[-1] != lags:
        raise ValueError(
            f"`weights` must have one number for each of the L + S - 1 = {lags} lags along its last "
            f"axis, with L = {shapes.queries} queries and S = {shapes.keys} keys, got {weights.shape}"
        )
    if weights.shape[-2] != entries:
        raise ValueError(
            f"`weights` must have shape (..., t, L + S - 1) with t = {entries} rows of `support`, got "
            f"{weights.shape}"
        )
    wanted = (*shapes.lead, entries, lags)
    numbers = wide(laid_out(weights, np.dtype(np.float64), any_strides=True), weights.dtype)
    try:
        array = expand(numbers, wanted)
    except ValueError:
        raise ValueError(
            f"`weights` must broadcast to (..., H, t, L + S - 1) = {wanted}, got {weights.shape}"
        ) from None
    return array if shapes.lead else array[np.newaxis]
