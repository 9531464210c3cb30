"""Exact attention against torch's scaled_dot_product_attention, on the same threads.

``track_ratio_to_sdpa`` is our time over torch's, ``track_ratio_to_limit`` our time over what the
work takes at the machine's limit; both are better when smaller.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import subquad

from ._alternate import best, over_limit, ratio, seconds

try:
    import torch
    from torch.nn.functional import scaled_dot_product_attention as sdpa
except ImportError:
    torch = sdpa = None

Arrays = tuple[np.ndarray, ...]


def normal(*shapes: tuple[int, ...], dtype: str = "float32") -> Arrays:
    """Draw standard normal arrays."""
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(shape, dtype=np.float32).astype(dtype) for shape in shapes)


def tensors(arrays: Arrays, requires_grad: bool = False) -> tuple[Any, ...]:
    """Show torch the same memory, with a batch axis: torch is slower without one."""
    if torch is None:
        raise NotImplementedError("torch is not installed")
    views = (torch.from_numpy(x)[(None,) * (4 - x.ndim)] for x in arrays)
    return tuple(x.requires_grad_(requires_grad) for x in views)


def one_thread() -> None:
    """Hold both packages to one thread."""
    subquad.set_num_threads(1)
    if torch is not None:
        torch.set_num_threads(1)


class Forward:
    """One head, n queries and keys: target A1, and A3 when causal."""

    params = ([4096, 8192], [64, 128], [False, True])
    param_names = ("n", "d", "causal")
    limit = "fma_f32"
    timeout = 300

    def setup(self, n: int, d: int, causal: bool) -> None:
        one_thread()
        self.arrays = normal((n, d), (n, d), (n, d))
        self.work = 4 * n * n * d / (2 if causal else 1)

    def ours(self, causal: bool) -> object:
        return subquad.attention(*self.arrays, is_causal=causal)

    def track_ratio_to_sdpa(self, n: int, d: int, causal: bool) -> float:
        q, k, v = tensors(self.arrays)
        return ratio(lambda: self.ours(causal), lambda: sdpa(q, k, v, is_causal=causal), 7)

    def track_ratio_to_limit(self, n: int, d: int, causal: bool) -> float:
        return over_limit(lambda: self.ours(causal), self.work, self.limit, 7)

    def track_flops(self, n: int, d: int, causal: bool) -> float:
        info = subquad.attention(*self.arrays, is_causal=causal, return_info=True)[1]
        return info.stats["flops"]

    track_flops.unit = "flops"

    def time_forward(self, n: int, d: int, causal: bool) -> None:
        self.ours(causal)

    def peakmem_forward(self, n: int, d: int, causal: bool) -> None:
        self.ours(causal)


class Backward:
    """Gradients from a given forward pass: target A2, and A3 when causal."""

    params = Forward.params
    param_names = Forward.param_names
    limit = "fma_f32"
    timeout = 300

    def setup(self, n: int, d: int, causal: bool) -> None:
        one_thread()
        self.arrays = normal((n, d), (n, d), (n, d), (n, d))
        self.forward = subquad.attention(*self.arrays[1:], is_causal=causal, return_lse=True)
        self.work = 10 * n * n * d / (2 if causal else 1)

    def ours(self, causal: bool) -> object:
        return subquad.attention_grad(*self.arrays, is_causal=causal, forward=self.forward)

    def track_ratio_to_sdpa(self, n: int, d: int, causal: bool) -> float:
        (grad,) = tensors(self.arrays[:1])
        inputs = tensors(self.arrays[1:], requires_grad=True)
        out = sdpa(*inputs, is_causal=causal)

        def peer() -> object:
            return torch.autograd.grad(out, inputs, grad, retain_graph=True)

        return ratio(lambda: self.ours(causal), peer, 5)

    def track_ratio_to_limit(self, n: int, d: int, causal: bool) -> float:
        return over_limit(lambda: self.ours(causal), self.work, self.limit, 5)

    def time_backward(self, n: int, d: int, causal: bool) -> None:
        self.ours(causal)

    def peakmem_backward(self, n: int, d: int, causal: bool) -> None:
        self.ours(causal)


class Decode:
    """One query against n keys: target A4; 32 query heads on 8 key heads with ``heads``."""

    params = ([(1, 1, 131_072), (1, 1, 524_288), (32, 8, 32_768)], ["float32", "float16"])
    param_names = ("heads, key heads, n", "dtype")
    limit = "stream"
    timeout = 300

    def setup(self, shape: tuple[int, int, int], dtype: str) -> None:
        one_thread()
        heads, key_heads, n = shape
        self.arrays = normal((heads, 1, 128), *[(key_heads, n, 128)] * 2, dtype=dtype)
        self.work = sum(x.nbytes for x in self.arrays[1:])
        self.grouped = heads != key_heads

    def ours(self) -> object:
        return subquad.attention(*self.arrays, enable_gqa=self.grouped)

    def track_ratio_to_sdpa(self, shape: tuple[int, int, int], dtype: str) -> float:
        q, k, v = tensors(self.arrays)
        return ratio(self.ours, lambda: sdpa(q, k, v, enable_gqa=self.grouped), 9)

    def track_ratio_to_limit(self, shape: tuple[int, int, int], dtype: str) -> float:
        return over_limit(self.ours, self.work, self.limit, 12)

    def track_bytes_read(self, shape: tuple[int, int, int], dtype: str) -> float:
        options = {"enable_gqa": self.grouped, "return_info": True}
        return subquad.attention(*self.arrays, **options)[1].stats["bytes_read"]

    track_bytes_read.unit = "bytes"

    def time_decode(self, shape: tuple[int, int, int], dtype: str) -> None:
        self.ours()


class NoCliff:
    """Shapes at which the peers, or we, might fall off: heads, queries, keys, d."""

    params = (
        [
            (1, 2048, 2048, 32),
            (1, 2048, 2048, 48),
            (1, 2048, 2048, 80),
            (1, 2048, 2048, 96),
            (1, 2048, 2048, 256),
            (96, 128, 128, 64),
            (96, 512, 512, 64),
            (1, 16, 32_768, 64),
            (1, 16, 32_768, 128),
            (8, 4, 8192, 128),
            (1, 1000, 1000, 64),
        ],
    )
    param_names = ("heads, L, S, d",)
    timeout = 300

    def setup(self, shape: tuple[int, int, int, int]) -> None:
        one_thread()
        heads, queries, keys, d = shape
        self.arrays = normal((heads, queries, d), (heads, keys, d), (heads, keys, d))

    def track_ratio_to_sdpa(self, shape: tuple[int, int, int, int]) -> float:
        q, k, v = tensors(self.arrays)
        return ratio(lambda: subquad.attention(*self.arrays), lambda: sdpa(q, k, v), 15)


class SmallCall:
    """Eight queries and keys of width 16: what a call costs before it computes anything."""

    params = ([1, 2],)
    param_names = ("heads",)

    def setup(self, heads: int) -> None:
        one_thread()
        self.arrays = normal(*[(1, heads, 8, 16)] * 3)

    def track_ratio_to_sdpa(self, heads: int) -> float:
        q, k, v = tensors(self.arrays)
        return ratio(lambda: subquad.attention(*self.arrays), lambda: sdpa(q, k, v), 2000)

    def time_attention(self, heads: int) -> None:
        subquad.attention(*self.arrays)


class HalfPrecision:
    """Time of 16-bit inputs over that of the same numbers in float32."""

    params = (["float16", "bfloat16"], [64, 128])
    param_names = ("dtype", "d")
    timeout = 300

    def setup(self, dtype: str, d: int) -> None:
        one_thread()
        import ml_dtypes

        kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
        self.arrays = normal(*[(4096, d)] * 3)
        self.half = tuple(x.astype(kind) for x in self.arrays)

    def track_ratio_to_float32(self, dtype: str, d: int) -> float:
        def ours() -> object:
            return subquad.attention(*self.half)

        return ratio(ours, lambda: subquad.attention(*self.arrays), 7)


class Workers:
    """Time on two workers over the time on one, one head of 8192: 0.5 would be perfect."""

    params = (["forward", "backward"], [False, True])
    param_names = ("pass", "causal")
    timeout = 300

    def setup(self, which: str, causal: bool) -> None:
        if subquad._subquad.cores() < 2:
            raise NotImplementedError("one core")
        self.arrays = normal(*[(8192, 64)] * 4)
        self.forward = subquad.attention(*self.arrays[1:], is_causal=causal, return_lse=True)

    def call(self, which: str, causal: bool, workers: int) -> object:
        options = {"is_causal": causal, "workers": workers}
        if which == "forward":
            return subquad.attention(*self.arrays[1:], **options)
        return subquad.attention_grad(*self.arrays, forward=self.forward, **options)

    def track_ratio_to_one_worker(self, which: str, causal: bool) -> float:
        one = best(lambda: self.call(which, causal, 1), 3)
        two = min(seconds(lambda: self.call(which, causal, 2)) for _ in range(6))
        return two / min(one, seconds(lambda: self.call(which, causal, 1)))


class Accuracy:
    """Largest row error of float32 over the spread of the values, against float64."""

    params = ([1024, 65_536], [64, 128])
    param_names = ("keys", "d")

    def setup(self, keys: int, d: int) -> None:
        self.arrays = normal((64, d), (keys, d), (keys, d))

    def track_ratio_of_error_to_spread(self, keys: int, d: int) -> float:
        out, info = subquad.attention(*self.arrays, return_info=True)
        exact = subquad.attention(*(x.astype(np.float64) for x in self.arrays))
        return float(np.linalg.norm(out - exact, axis=-1).max() / np.max(info.spread))
