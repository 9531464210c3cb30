"""Relative positions: what depends on the lag i - j of query i and key j alone.

`Bias` is a bias of attention of this kind: `attention` and its gradient take it as ``bias=`` and make no
array of queries by keys. `matmul` multiplies with the matrix whose entry (i, j) is the weight of the lag
i - j, in time n log n, and `matmul_grad` is its gradient; see `subquad.theory.toeplitz` for what rounding
does to them.
"""

from ._bias import Bias
from ._toeplitz import matmul, matmul_grad

__all__ = ["Bias", "matmul", "matmul_grad"]
