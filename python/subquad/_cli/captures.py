"""Captured attention inputs, head by head: the rows as stored, and as `subquad` gets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from subquad.rope import rotate
from subquad.toeplitz import Bias


@dataclass(frozen=True)
class Head:
    """One head as it is handed to `subquad.attention`: 2-D arrays of one type, rotated."""

    query: NDArray[Any]
    key: NDArray[Any]
    value: NDArray[Any]
    grad_out: NDArray[Any] | None
    scale: float
    causal: bool
    window: int | None
    bias: NDArray[Any] | None = None
    """What is added to a logit, for every lag i - j."""

    @property
    def options(self) -> dict[str, Any]:
        """The keywords that go with the arrays."""
        bias = None if self.bias is None else Bias.learned(self.bias)
        return {
            "is_causal": self.causal,
            "window": self.window,
            "scale": self.scale,
            "bias": bias,
        }


@dataclass(frozen=True)
class Capture:
    """All heads of a file, with the type, layout and mask that they share.

    Attributes
    ----------
    query, key, value : ndarray, shape (H, L, E), (G, S, E), (G, S, Ev)
        As stored, before rotation.
    grad_out : ndarray, shape (H, L, Ev), or None
        Gradient with respect to the output.
    kv_of_q : ndarray of int, shape (H,)
        Row of `key` and `value` that serves each query head.
    dtype : dtype
        Type to compute in: float64 if an array is stored so, else float32.
    checks : dict
        The stored results, by name, heads first; `check_rows` among them unless it is empty.
    bias : ndarray, shape (H, L + S - 1), or None
        Added to the logits of query i and key j: entry ``i - j + S - 1``.
    """

    name: str
    query: NDArray[Any]
    key: NDArray[Any]
    value: NDArray[Any]
    grad_out: NDArray[Any] | None
    kv_of_q: NDArray[np.intp]
    labels: tuple[str, ...]
    scale: float
    causal: bool
    window: int | None
    theta: float | None
    stored: str
    dtype: np.dtype[Any]
    checks: dict[str, NDArray[Any]]
    bias: NDArray[Any] | None = None

    @property
    def heads(self) -> int:
        """Number of query heads, layers included."""
        return int(self.query.shape[0])

    @property
    def mask(self) -> str:
        """Which keys a query sees, in words."""
        words = "full attention"
        if self.causal:
            words = "causal" if self.window is None else f"causal, window {self.window}"
        return words if self.bias is None else f"{words}, bias of relative positions"

    def head(self, index: int, dtype: DTypeLike | None = None) -> Head:
        """Head `index`: rotated in float64, then rounded to `dtype` (that of the capture)."""
        kv = self.kv_of_q[index]
        query, key = self.query[index], self.key[kv]
        if self.theta is not None:
            query, key = (_rotated(x, self.theta) for x in (query, key))
        kind = self.dtype if dtype is None else dtype
        grad_out = None if self.grad_out is None else self.grad_out[index].astype(kind)
        # Wider than everything is the same as everything, and fits a machine word.
        window = None if self.window is None else min(self.window, len(query) + len(key))
        return Head(
            query.astype(kind),
            key.astype(kind),
            self.value[kv].astype(kind),
            grad_out,
            self.scale,
            self.causal,
            window,
            None if self.bias is None else self.bias[index].astype(kind),
        )

    def before_rotation(self, gradient: NDArray[Any]) -> NDArray[np.float64]:
        """Turn a gradient with respect to rotated rows into that of the stored rows."""
        wide = gradient.astype(np.float64)
        return wide if self.theta is None else _rotated(wide, self.theta, inverse=True)


def _rotated(x: NDArray[Any], theta: float, *, inverse: bool = False) -> NDArray[np.float64]:
    """Turn rows in float64, row p standing at position p."""
    found: NDArray[np.float64] = rotate(x.astype(np.float64), theta=theta, inverse=inverse)
    return found
