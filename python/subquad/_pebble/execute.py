"""Schedules of attention on data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._arrays import take, wide
from .._finite import require_finite
from .._info import Gradients
from .._options import check_scale

if TYPE_CHECKING:
    from .plan import IOPlan
    from .workload import Workload

__all__ = ["execute", "take_arrays"]

Floats = NDArray[np.float64]

# More fast memory than there is.
_UNLIMITED = 2**62


def execute(
    plan: IOPlan,
    query: Any,
    key: Any,
    value: Any,
    scale: float | None,
    grad_out: Any,
    projections: Any,
) -> Any:
    """Execute a plan; see `IOPlan.execute`."""
    work = plan.workload
    factor = check_scale(scale, work.d)
    arrays = take_arrays(work, query, key, value, grad_out, projections)
    core = work.core(factor)
    if work.direction == "backward":
        q, k, v, grad = arrays
        out, lse = _forward(work, core, [q, k, v])
        arrays = [q, k, v, out, lse, grad]
    sizes = list(plan.blocks.values())
    figures, results = core.execute(
        plan.schedule, sizes, plan.peak, work.widths, work.direction, arrays
    )
    moved = sum(figures[0]) + sum(figures[1])
    if moved != plan.words:
        raise RuntimeError(f"{plan.words} words were to be moved, and {moved} were")
    checked = results[:1] if work.direction == "forward" else results
    if not all(np.isfinite(result).all() for result in checked):
        raise ValueError(
            "a score or a sum exceeds the range of float64, although every input is finite: scale the inputs "
            "down"
        )
    if work.direction == "forward":
        return _rows(work, results[0])
    if work.direction == "loss":
        return results[0].reshape(work.d, work.d)
    of_query, of_key, of_value = results
    shape = (work.keys, work.d)
    return Gradients(_rows(work, of_query), of_key.reshape(shape), of_value.reshape(shape))


def take_arrays(
    work: Workload, query: Any, key: Any, value: Any, grad_out: Any, projections: Any
) -> list[Floats]:
    """Return the arrays that a direction needs, flat, in the order of the compiled module."""
    of_query = (work.n, work.d) if work.group == 1 else (work.group, work.n, work.d)
    of_key = (work.keys, work.d)
    q = _by_position(work, _take("query", query, of_query))
    k, v = _take("key", key, of_key), _take("value", value, of_key)
    needs_gradient = work.direction != "forward"
    if (grad_out is not None) != needs_gradient:
        wanted = "given" if needs_gradient else "left out"
        raise ValueError(f'`grad_out` must be {wanted} with direction="{work.direction}"')
    if (projections is not None) != (work.direction == "loss"):
        wanted = "given" if work.direction == "loss" else "left out"
        raise ValueError(f'`projections` must be {wanted} with direction="{work.direction}"')
    if not needs_gradient:
        return [q.ravel(), k.ravel(), v.ravel()]
    grad = _by_position(work, _take("grad_out", grad_out, of_query))
    if work.direction == "backward":
        return [q.ravel(), k.ravel(), v.ravel(), grad.ravel()]
    if not isinstance(projections, tuple | list) or len(projections) != 2:
        raise TypeError(f"`projections` must be a pair (X, Y), got {type(projections).__name__}")
    square = (work.d, work.d)
    x, y = (_take(f"projections[{i}]", p, square) for i, p in enumerate(projections))
    return [q.ravel(), x.ravel(), k.ravel(), v.ravel(), y.ravel(), grad.ravel()]


def _take(name: str, x: Any, shape: tuple[int, ...]) -> Floats:
    """Return an array of this shape in float64."""
    operand = take(name, x)
    if operand.array.shape != shape:
        raise ValueError(f"`{name}` must have shape {shape}, got {operand.array.shape}")
    require_finite(operand)
    return np.ascontiguousarray(wide(operand.array, operand.dtype), dtype=np.float64)


def _by_position(work: Workload, array: Floats) -> Floats:
    """Return heads of a position beside each other, as the compiled module has them."""
    return array if work.group == 1 else np.ascontiguousarray(array.swapaxes(0, 1))


def _rows(work: Workload, flat: Floats) -> Floats:
    """Undo `_by_position`."""
    if work.group == 1:
        return flat.reshape(work.n, work.d)
    return np.ascontiguousarray(flat.reshape(work.n, work.group, work.d).swapaxes(0, 1))


def _forward(work: Workload, core: Any, arrays: list[Floats]) -> tuple[Floats, Floats]:
    """Compute outputs and logarithms of sums, which a gradient starts from, in unlimited memory."""
    sizes = [min(64, work.n * work.group), min(64, work.keys), work.d]
    _, (out, lse) = core.execute("flash-2", sizes, _UNLIMITED, [1, 1, 1], "forward", arrays)
    return out, lse
