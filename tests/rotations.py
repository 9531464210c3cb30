"""Rotations by exact arithmetic, for the tests of rotary positions."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LAYOUTS = ("half", "interleaved")

# 2 pi to 80 digits.
TURN = Fraction("6.2831853071795864769252867665590057683943387987502116419498891846156328125724180")


def exact_turn(position: float, frequency: float) -> complex:
    """``exp(i p w)`` for these very numbers: the angle is reduced before it is rounded."""
    angle = float(Fraction(position) * Fraction(frequency) % TURN)
    return complex(math.cos(angle), math.sin(angle))


def exactly_turned(
    x: Array, positions: Array, frequencies: Array, layout: str, factor: float = 1.0
) -> Array:
    """Rows of one matrix, turned pair by pair in float64."""
    result = x.astype(np.float64)
    half = len(frequencies)
    for row, position in zip(result, positions, strict=True):
        for i, frequency in enumerate(frequencies):
            a, b = (i, i + half) if layout == "half" else (2 * i, 2 * i + 1)
            z = complex(row[a], row[b]) * exact_turn(float(position), float(frequency)) * factor
            row[a], row[b] = z.real, z.imag
    return result
