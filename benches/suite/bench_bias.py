"""Exact attention with a learned bias of relative positions, and its gradient: target T2.

Torch takes the same bias as a float mask of queries by keys that requires a gradient, filled before the
clock starts. ``track_ratio_to_sdpa`` is our time over torch's, ``track_ratio_to_no_bias`` over our own
without a bias; both are better when smaller.
"""

from __future__ import annotations

import numpy as np

import subquad
from subquad.toeplitz import Bias

from ._alternate import best, ratio, seconds
from .bench_attention import normal, one_thread, sdpa, tensors, torch


class LearnedBias:
    """One head of n queries and keys, one thread."""

    params = ([2048, 8192], [64], ["forward", "backward", "both"])
    param_names = ("n", "d", "pass")
    timeout = 600

    def setup(self, n: int, d: int, which: str) -> None:
        one_thread()
        self.arrays = normal(*[(n, d)] * 4)
        self.values = np.random.default_rng(1).standard_normal(2 * n - 1, dtype=np.float32)
        self.bias = Bias.learned(self.values)
        self.forward = subquad.attention(*self.arrays[1:], bias=self.bias, return_lse=True)
        self.plain = subquad.attention(*self.arrays[1:], return_lse=True)

    def ours(self, which: str, biased: bool = True) -> object:
        """Run one pass, or both."""
        options = {"bias": self.bias} if biased else {}
        forward = self.forward if biased else self.plain
        if which != "backward":
            forward = subquad.attention(*self.arrays[1:], **options, return_lse=True)
        if which == "forward":
            return forward
        return subquad.attention_grad(*self.arrays, **options, forward=forward)

    def track_ratio_to_sdpa(self, n: int, d: int, which: str) -> float:
        (grad,) = tensors(self.arrays[:1])
        inputs = tensors(self.arrays[1:], requires_grad=True)
        lag = np.subtract.outer(np.arange(n), np.arange(n)) + n - 1
        mask = torch.from_numpy(self.values[lag])[None, None].requires_grad_()
        known = sdpa(*inputs, attn_mask=mask)

        def peer() -> object:
            out = known if which == "backward" else sdpa(*inputs, attn_mask=mask)
            if which == "forward":
                return out
            return torch.autograd.grad(out, (*inputs, mask), grad, retain_graph=which == "backward")

        return ratio(lambda: self.ours(which), peer, 5)

    def track_ratio_to_no_bias(self, n: int, d: int, which: str) -> float:
        # The difference is small: minima, for a neighbour disturbs one call more than that.
        without = best(lambda: self.ours(which, biased=False), 1)
        with_it = best(lambda: self.ours(which), 1)
        for _ in range(8):
            without = min(without, seconds(lambda: self.ours(which, biased=False)))
            with_it = min(with_it, seconds(lambda: self.ours(which)))
        return with_it / without

    def peakmem_with_bias(self, n: int, d: int, which: str) -> None:
        self.ours(which)
