"""What rounding does to a product with a Toeplitz matrix by transforms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["product_rounding"]


def product_rounding(lags: int, compute: np.dtype[Any]) -> float:
    """Bound the error of an entry over the norms of the numbers of the matrix and of the vector."""
    roundoff = float(np.finfo(compute).eps) / 2.0
    return 20.0 * (math.log2(max(lags, 2)) + 2.0) * roundoff
