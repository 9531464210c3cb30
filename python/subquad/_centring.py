"""Queries and keys with their means taken out, and what then bounds their products."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._norms import row_norms

__all__ = ["ROUNDOFF", "bound_of_products", "centred", "longest_row"]

Floats = NDArray[np.float64]

ROUNDOFF = 2.0**-53

# Rows that get shorter by less are left as they are: a mean that is taken out has to be put back.
_GAIN = 0.95


def centred(rows: Floats) -> tuple[Floats, Floats]:
    """Return ``(mean, rows - mean)``; a mean of 0 and `rows` where the longest gets no shorter."""
    longest = longest_row(rows)
    if longest > 0.0:
        # Sums that overflow are longer than anything, or no numbers.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = rows.mean(axis=0)
            moved = rows - mean
            if longest_row(moved) < _GAIN * longest:
                return mean, moved
    return np.zeros(rows.shape[1]), rows


def longest_row(rows: NDArray[np.floating]) -> float:
    """Return the largest Euclidean norm of a row."""
    norms = row_norms(lambda block: rows[block], *rows.shape)
    return float(norms.max(initial=0.0))


def bound_of_products(scale: float, longest: float, other: float, width: int) -> float:
    """Bound ``|scale x.y|`` by Cauchy and Schwarz, from the norms that `longest_row` gives.

    A norm of d numbers is off by (d + 4) / 2 units of roundoff; so is what `factor` makes of x and y,
    by five more. Four times as many cover both, and the products here.
    """
    small, middle, large = sorted((abs(scale), longest, other))
    # In this order nothing underflows that would not be far below any tabulated bound.
    return small * large * middle * (1.0 + (4.0 * width + 64.0) * ROUNDOFF)
