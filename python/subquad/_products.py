"""Products of matrices with the threads of a call, where numpy's would take others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _subquad

__all__ = ["product"]


def product(a: NDArray[Any], b: NDArray[Any], workers: int) -> NDArray[Any]:
    """Return ``a @ b`` for matrices of one type, float32 or float64; `a` may have many rows."""
    out = np.empty((a.shape[0], b.shape[1]), a.dtype)
    if out.size:
        _subquad.matrix_product(a, b, out, workers=workers)
    return out
