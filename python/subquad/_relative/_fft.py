"""What rounding does to a product with a Toeplitz matrix by transforms."""

from __future__ import annotations

import math

__all__ = ["product_error"]


def product_error(lags: int) -> float:
    """Bound the error of an entry over a unit of roundoff and the norms of the two factors."""
    return 20.0 * (math.log2(max(lags, 2)) + 2.0)
