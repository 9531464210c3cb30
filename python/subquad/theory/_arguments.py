"""The arguments of bounds, checked: numbers, and the range in which a theorem speaks of them."""

from __future__ import annotations

import math
import operator
import sys
from typing import Any

from .._options import check_real

__all__ = ["LARGEST", "check_count", "check_positive", "check_within"]

# Infinity is no value of what a bound is made from.
LARGEST = sys.float_info.max


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Return an integer of at least `least`."""
    if isinstance(value, bool):
        raise TypeError(f"`{name}` must be an integer, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        kind = type(value).__name__
        raise TypeError(f"`{name}` must be an integer, got {value!r} of type {kind}") from None
    if number < least:
        raise ValueError(f"`{name}` must be at least {least}, got {number}")
    return number


def check_positive(name: str, value: Any) -> float:
    """Return a positive, finite number."""
    number = check_real(name, value)
    if not 0.0 < number < math.inf:
        raise ValueError(f"`{name}` must be positive and finite, got {number}")
    return number


def check_within(name: str, value: Any, low: float, high: float, text: str) -> float:
    """Return a number of the closed interval that `text` writes in symbols."""
    number = check_real(name, value)
    if not low <= number <= high:
        raise ValueError(f"`{name}` must satisfy {text}, got {number}")
    return number
