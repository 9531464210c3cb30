"""One head by a polynomial: transforms, and the rows that rounding leaves open."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._shapes import Shape
from .arguments import Relative
from .choice import Choice
from .exact import exact_rows, exact_rows_grad
from .head import Floats, RelativeHead, relative_head
from .rows import Slopes, polynomial_rows, polynomial_rows_grad, require_sums
from .sums import Sums, take_sums, take_sums_grad

__all__ = ["HeadDone", "head_forward", "head_slopes"]

Numbers = NDArray[Any]


@dataclass(slots=True)
class HeadDone:
    """How a head was computed by a polynomial."""

    choice: Choice
    double: bool
    """Whether in float64, because float32 left too few digits."""
    unit: float
    total: Floats
    """Sums of weights, of the rows that are by transforms."""
    direct: NDArray[np.intp]
    """Rows that were computed from all keys."""


def head_forward(
    call: Relative, index: Shape, head: RelativeHead, choice: Choice, raw: Numbers, bound: Floats
) -> HeadDone:
    """Compute one head by transforms, and the rows that rounding leaves open from all keys.

    Writes `raw`, and to `bound` what each row is wrong by at most.
    """
    assert choice.coefficients is not None  # what this is called for
    seen, double = head.seen > 0, False
    budget = np.inf if call.eps is None else call.eps * head.spread
    sums = take_sums(head, choice.coefficients)
    certain = _certain(sums, seen, choice.share * head.spread, budget)
    if head.value.dtype == np.float32 and not certain[seen].all():
        # Not from the copy: weights of float64 were rounded for it.
        head, double = relative_head(call, index, double=True), True
        sums = take_sums(head, choice.coefficients)
        certain = _certain(sums, seen, choice.share * head.spread, budget)
    means, error = sums.means(certain)
    raw[certain] = means + head.mean
    bound[:] = 0.0
    bound[certain] = choice.share * head.spread + error
    direct = np.flatnonzero(seen & ~certain)
    if direct.size:
        if not double:
            head = relative_head(call, index, double=True)
        if call.coefficients is None:
            raw[direct], bound[direct] = exact_rows(call, head, direct)
        else:
            rows, total, doubt = polynomial_rows(head, direct, call.coefficients)
            require_sums(index if call.problem.shapes.lead else (), direct, total, doubt)
            raw[direct] = rows
            # Weights of both signs leave rows that are larger than any value.
            sizes = 2.0 * head.largest_value + np.linalg.norm(rows, axis=1)
            bound[direct] = 2.0 * doubt / (total - doubt) * sizes
    bound[seen] += np.finfo(raw.dtype).eps * np.linalg.norm(raw[seen].astype(np.float64), axis=1)
    return HeadDone(choice, double, sums.unit, sums.total, direct)


def _certain(
    sums: Sums, seen: NDArray[np.bool_], approximation: float, budget: float
) -> NDArray[np.bool_]:
    """Rows that rounding leaves enough of, and within the budget."""
    certain = sums.safe & seen
    certain[certain] = approximation + sums.means(certain)[1] <= budget
    return certain


def head_slopes(
    call: Relative,
    index: Shape,
    found: HeadDone,
    out: Numbers,
    upstream: Floats,
    wanted: Container[str],
    by_power: Numbers | None,
) -> Slopes:
    """Differentiate one head by a polynomial: its sums, and the rows from all keys."""
    c = found.choice.coefficients
    assert c is not None  # what this is called for
    head = relative_head(call, index, double=found.double)
    slopes = Slopes.zeros(head)
    summed = head.seen > 0
    summed[found.direct] = False
    total = np.where(summed, found.total, 1.0)
    by_row = np.where(summed[:, np.newaxis], upstream / total[:, np.newaxis], 0.0)
    by_total = -(by_row * (out - head.mean)).sum(axis=1)
    rows = found.unit * by_row
    take_sums_grad(head, c, rows, by_total, slopes, wanted=wanted, by_power=by_power)
    if found.direct.size:
        exact, given = relative_head(call, index, double=True), upstream[found.direct]
        if call.coefficients is None:
            exact_rows_grad(exact, found.direct, given, slopes)
        else:
            moved = polynomial_rows_grad(exact, found.direct, given, c, slopes)
            if by_power is not None:
                by_power += moved
    return slopes
