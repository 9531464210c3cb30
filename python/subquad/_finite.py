"""Finding the number that is not finite; for kernels only after they have met one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Operand, wide

__all__ = ["refuse_nonfinite", "require_finite"]

# In these -inf has a meaning: a hidden key, a query that sees no key.
_MAY_BE_MINUS_INFINITY = ("bias", "forward[1]", "lses")


def refuse_nonfinite(operands: Iterable[Operand], compute: np.dtype[Any]) -> None:
    """Raise the `ValueError` that tells which argument is to blame, or that numbers overflowed."""
    for operand in operands:
        require_finite(operand)
    remedy = "scale the inputs down"
    if compute == np.float32:
        remedy += ", or pass float64 arrays"
    raise ValueError(
        f"a logit or a sum exceeds the range of {compute}, although every input is finite: {remedy}"
    )


def require_finite(operand: Operand) -> None:
    """Refuse an argument with a number that is not allowed there."""
    found = _first_nonfinite(operand)
    if found is None:
        return
    index, number = found
    rule = "finite or -inf" if operand.name.startswith(_MAY_BE_MINUS_INFINITY) else "finite"
    raise ValueError(f"`{operand.name}` must be {rule}, got {number} at index {index}")


def _first_nonfinite(operand: Operand) -> tuple[tuple[int, ...], float] | None:
    """Return index and value of the first number of an argument that is not allowed there."""
    array = wide(operand.array, operand.dtype)
    if array.dtype.kind != "f":
        return None
    bad: NDArray[np.bool_] = ~np.isfinite(array)
    if operand.name.startswith(_MAY_BE_MINUS_INFINITY):
        bad &= array != -np.inf
    if not bad.any():
        return None
    index = tuple(int(i) for i in np.unravel_index(np.argmax(bad), bad.shape))
    return index, float(array[index])
