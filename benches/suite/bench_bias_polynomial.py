"""Polynomials with a bias of relative positions, by each of the ways that such a bias is taken: target T3.

The polynomial is of degree 2, within 5e-2 on logits of at most 0.9, bounds included. Torch takes the bias as a
float mask of queries by keys, which is filled before the clock starts: of a long context for some of the
queries, and its time is scaled up. ``track_ratio_to_sdpa`` is our time over torch's, ``track_ratio_to_exact`` over
our exact attention with the same bias; both are better when smaller.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import subquad
from subquad.toeplitz import Bias

from ._alternate import ratio
from .bench_attention import normal, one_thread, sdpa, tensors, torch

ROUTES = {
    "learned": "Toeplitz products by FFT",
    "alibi": "rank-1 decay",
    "t5": "exact band and constant tail",
    "kerple": "separable blocks",
}
# Numbers of the mask that torch gets.
MASK = 1 << 25


def bias_of(kind: str, n: int) -> Bias:
    """Draw a bias of each kind."""
    rng = np.random.default_rng(1)
    if kind == "alibi":
        return Bias.alibi(np.float32(0.01))
    if kind == "t5":
        return Bias.t5(rng.standard_normal((32, 1), dtype=np.float32))
    if kind == "kerple":
        return Bias.kerple(np.array([1.0, 0.1], np.float32))
    return Bias.learned(rng.standard_normal(2 * n - 1, dtype=np.float32))


class _Head:
    """One head of n queries and keys of width 16, one thread; ALiBi and Kerple causal, as they are meant."""

    param_names = ("bias", "n")
    timeout = 1200
    pairs = 3
    width = 16

    def prepare(self, kind: str, n: int) -> bool:
        """Make the arrays, and say whether the plan takes a polynomial."""
        one_thread()
        query, key, value = normal(*[(n, self.width)] * 3)
        scale = np.linalg.norm(query, axis=1).max() * np.linalg.norm(key, axis=1).max()
        self.arrays = (query * np.float32(0.9 * self.width**0.5 / scale), key, value)
        self.options: dict[str, Any] = {
            "bias": bias_of(kind, n),
            "is_causal": kind in ("alibi", "kerple"),
            "centres": None,
        }
        info = self.ours(return_info=True)[1]
        if info.method == "exact":
            return False
        assert {head.route for head in info.plan.heads} == {ROUTES[kind]}
        assert info.stats["degree"] == 2
        return True

    def setup(self, kind: str, n: int) -> None:
        if not self.prepare(kind, n):
            raise NotImplementedError("the plan takes all keys")

    def ours(self, **options: Any) -> Any:
        return subquad.attention(
            *self.arrays, eps=5e-2, method="polynomial", workers=1, **self.options, **options
        )

    def exact(self) -> object:
        return subquad.attention(*self.arrays, workers=1, **self.options)

    def track_ratio_to_exact(self, kind: str, n: int) -> float:
        return ratio(self.ours, self.exact, self.pairs)


class Forward(_Head):
    """Value, with a bound for every row."""

    params = (list(ROUTES), [16_384, 65_536])

    def track_ratio_to_sdpa(self, kind: str, n: int) -> float:
        rows = max(1, MASK // n)
        chosen = np.linspace(0, n - 1, rows).astype(int)
        query, key, value = tensors(self.arrays)
        lags = self.options["bias"].lags(n, n)[0].astype(np.float32)
        mask = lags[np.subtract.outer(chosen, np.arange(n)) + n - 1]
        if self.options["is_causal"]:
            mask[np.arange(n) > chosen[:, np.newaxis]] = -np.inf
        some, added = query[..., chosen, :], torch.from_numpy(mask)[None, None]
        return (
            ratio(self.ours, lambda: sdpa(some, key, value, attn_mask=added), self.pairs) * rows / n
        )


class Gradient(_Head):
    """Value and gradient, that of the parameters of the bias included; polynomials have one degree more."""

    params = (list(ROUTES), [16_384])

    def setup(self, kind: str, n: int) -> None:
        super().setup(kind, n)
        self.grad = normal((n, self.width))[0]

    def ours(self, **options: Any) -> Any:
        if options:
            return super().ours(**options)
        return subquad.attention_grad(
            self.grad, *self.arrays, eps=5e-2, method="polynomial", workers=1, **self.options
        )

    def exact(self) -> object:
        return subquad.attention_grad(self.grad, *self.arrays, workers=1, **self.options)
