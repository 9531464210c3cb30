"""Arrays that callers provide for results, and results that callers hand back in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Operand, take
from ._problem import Problem
from ._shapes import Shape

__all__ = ["take_forward", "take_grad_out", "take_out", "writeable_out"]

# Steps that the exact test for shared memory may take before overlap is assumed.
_OVERLAP_WORK = 10_000


def take_out(out: Any, problem: Problem) -> NDArray[Any] | None:
    """Return the memory of `out`, in the stored form of the output dtype."""
    if out is None:
        return None
    shape = (*problem.shapes.lead, problem.shapes.queries, problem.shapes.value_width)
    operands = problem.operands
    return writeable_out(out, operands["query"], problem.dtype, shape, "(..., L, Ev)", operands)


def writeable_out(
    out: Any,
    like: Operand,
    dtype: str,
    shape: Shape,
    symbols: str,
    inputs: Mapping[str, Operand],
) -> NDArray[Any]:
    """Return the memory of an array for a result of the kind of `like`, checked."""
    kind = like.kind
    operand = take("out", out)
    if operand.kind != kind or kind == "other" or (kind == "numpy") != isinstance(out, np.ndarray):
        expected = {"numpy": "a numpy array", "torch": "a torch tensor"}.get(kind, "None")
        raise TypeError(f"`out` must be {expected}, as `{like.name}` is, got {type(out).__name__}")
    if operand.dtype != dtype or not operand.array.dtype.isnative:
        raise TypeError(
            f"`out` must have the dtype of the result, {dtype}, got "
            f"{operand.array.dtype if operand.dtype != 'bfloat16' else operand.dtype}"
        )
    if operand.shape != shape:
        raise ValueError(f"`out` must have shape {symbols} = {shape}, got {operand.shape}")
    flags = operand.array.flags
    if not flags.writeable:
        raise ValueError("`out` must be writeable, got a read-only array")
    if not (flags.c_contiguous and flags.aligned):
        raise ValueError(
            f"`out` must be C-contiguous and aligned, got strides {operand.array.strides}"
        )
    for other in inputs.values():
        if _overlap(operand.array, other.array):
            raise ValueError(f"`out` must not overlap an input, but it overlaps `{other.name}`")
    return operand.array


def _overlap(a: NDArray[Any], b: NDArray[Any]) -> bool:
    try:
        return np.shares_memory(a, b, max_work=_OVERLAP_WORK)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def take_grad_out(grad_out: Any, problem: Problem) -> Operand:
    """Return the gradient with respect to the output, checked for its shape."""
    operand = take("grad_out", grad_out)
    _require_shape(operand, "(..., L, Ev)", (*problem.shapes.lead, *problem.shapes.out[-2:]))
    return operand


def take_forward(forward: Any, problem: Problem) -> tuple[Operand, Operand]:
    """Return `out` and `lse` of an earlier call of `attention` on the same arguments."""
    if not (isinstance(forward, tuple | list) and len(forward) == 2):
        raise TypeError(
            f"`forward` must be (out, lse) from attention(..., return_lse=True), got "
            f"{type(forward).__name__}"
        )
    out, lse = take("forward[0]", forward[0]), take("forward[1]", forward[1])
    lead, queries = problem.shapes.lead, problem.shapes.queries
    _require_shape(out, "(..., L, Ev)", (*lead, *problem.shapes.out[-2:]))
    _require_shape(lse, "(..., L)", (*lead, queries))
    for operand, dtype in ((out, problem.dtype), (lse, problem.compute.name)):
        if operand.dtype != dtype:
            raise TypeError(
                f"`{operand.name}` must have dtype {dtype}, as attention returns it for these "
                f"arguments, got {operand.dtype}"
            )
    return out, lse


def _require_shape(operand: Operand, symbols: str, shape: Shape) -> None:
    if operand.shape != shape:
        raise ValueError(
            f"`{operand.name}` must have shape {symbols} = {shape}, got {operand.shape}"
        )
