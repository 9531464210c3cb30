"""Relative positions: what depends on the lag i - j of query i and key j alone.

`Bias` is a bias of attention of this kind: `attention` and its gradient take it as ``bias=`` and make no
array of queries by keys.
"""

from ._bias import Bias

__all__ = ["Bias"]
