"""Arguments of the polynomial method, checked once for the library and its twin in `reference`."""

from __future__ import annotations

import math
import operator
import sys
from typing import Any, NoReturn

from ._arrays import Operand, take
from ._finite import require_finite
from ._options import check_budget

__all__ = [
    "check_accuracy",
    "check_degree",
    "count_features",
    "refuse_sum",
    "take_coefficients",
    "take_matrix",
    "take_pair",
]


def take_coefficients(coefficients: Any) -> Operand:
    """Return the coefficients of a polynomial, by ascending powers.

    They are so few that they are checked for finite numbers whatever `check_finite` says.
    """
    operand = take("coefficients", coefficients)
    if len(operand.shape) != 1 or operand.shape[0] == 0:
        raise ValueError(
            "`coefficients` must have shape (degree + 1,), one number at least, got "
            f"{operand.shape}"
        )
    require_finite(operand)
    return operand


def take_matrix(name: str, x: Any, symbols: str) -> Operand:
    """Return finite numbers in two axes."""
    operand = take(name, x)
    if len(operand.shape) != 2:
        raise ValueError(f"`{name}` must have shape ({symbols}), got {operand.shape}")
    require_finite(operand)
    return operand


def take_pair(query: Any, key: Any) -> tuple[Operand, Operand]:
    """Return queries and keys of one head."""
    q, k = take_matrix("query", query, "n, d"), take_matrix("key", key, "m, d")
    if q.shape[1] != k.shape[1]:
        raise ValueError(f"`key` must have shape (m, d) with d = {q.shape[1]}, got {k.shape}")
    return q, k


def check_accuracy(eps: Any, degree: Any) -> tuple[float | None, int | None]:
    """Return the one of error budget and degree that was given, and None."""
    if (eps is None) == (degree is None):
        raise ValueError(f"one of `eps` and `degree` is needed, got eps={eps}, degree={degree}")
    return check_budget(eps), None if degree is None else check_degree(degree)


def check_degree(degree: Any, name: str = "degree", least: int = 1) -> int:
    """Return a degree, or another count."""
    if isinstance(degree, bool):
        raise TypeError(f"`{name}` must be an integer, got {degree!r}")
    try:
        number = operator.index(degree)
    except TypeError:
        raise TypeError(
            f"`{name}` must be an integer, got {degree!r} of type {type(degree).__name__}"
        ) from None
    if number < least:
        raise ValueError(f"`{name}` must be at least {least}, got {number}")
    return number


def count_features(rows: int, width: int, degree: int) -> int:
    """Return C(width + degree, degree), unless no memory could hold so many float64 per row."""
    count = math.comb(width + degree, degree)
    needed = 8 * count * max(rows, 1)
    if needed > sys.maxsize:
        raise MemoryError(
            f"{width} coordinates have C({width} + {degree}, {degree}) = {count} features of "
            f"degree {degree}: {needed} bytes are needed for {rows} rows"
        )
    return count


def refuse_sum(index: tuple[int, ...], total: float, bound: float) -> NoReturn:
    """Raise the error about the first query whose weights may not be divided by their sum."""
    raise ValueError(
        f"the weights of the query at index {index} sum to {total:.6g}, which is not above the "
        f"bound {bound:.3g} of its own rounding error, and rows are divided by this sum: choose "
        "`coefficients` of a polynomial that is positive on the logits, or a smaller `scale`"
    )
