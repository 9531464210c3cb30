"""Rotary positions: the pass over memory, and what it adds to attention.

``track_ratio_to_copy`` is our time over that of copying the same array, ``track_ratio_to_torch`` over the usual
two lines of torch, with cosines and sines made before and not timed. ``track_ratio_to_turned`` is the time of
attention or of a gradient from rows before rotation over that from turned ones.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

import subquad

from ._alternate import Call, ratio
from ._polynomials import TAYLOR, inputs, one_thread
from .bench_attention import normal, tensors

try:
    import torch
except ImportError:
    torch = None


class Rotate:
    """All heads of a layer on one thread; the result goes into an array that is there."""

    params = ([(8, 65_536, 64), (8, 65_536, 128), (1, 4096, 64)], ["half", "interleaved"])
    param_names = ("H, n, d", "layout")
    pairs = 15

    def setup(self, shape: tuple[int, int, int], layout: str) -> None:
        one_thread()
        (self.x,) = normal(shape)
        # At the place of a cache line, as torch lays out its own: from 16 MiB on it is written past the caches.
        memory = np.zeros(self.x.nbytes + 64, np.uint8)
        first = -memory.ctypes.data % 64
        self.out = memory[first : first + self.x.nbytes].view(np.float32).reshape(shape)

    def ours(self, layout: str) -> object:
        return subquad.rope.rotate(self.x, layout=layout, out=self.out, workers=1)

    def track_ratio_to_copy(self, shape: tuple[int, int, int], layout: str) -> float:
        copy = functools.partial(np.copyto, self.out, self.x)
        return ratio(lambda: self.ours(layout), copy, self.pairs)

    def track_ratio_to_torch(self, shape: tuple[int, int, int], layout: str) -> float:
        ours = functools.partial(subquad.rope.rotate, self.x, layout=layout, workers=1)
        return ratio(ours, rotary(self.x, layout), self.pairs)

    def time_rotate(self, shape: tuple[int, int, int], layout: str) -> None:
        self.ours(layout)


def rotary(x: np.ndarray, layout: str) -> Call:
    """Return a rotation as models do it, into an array of its own as ours."""
    (view,) = tensors((x,))
    angles = np.arange(x.shape[-2])[:, np.newaxis] * subquad.rope.frequencies(x.shape[-1])
    both = (lambda a: np.tile(a, 2)) if layout == "half" else (lambda a: np.repeat(a, 2, axis=-1))
    cos, sin = (torch.from_numpy(both(f(angles)).astype(np.float32)) for f in (np.cos, np.sin))

    def other_of_pair() -> Any:
        if layout == "half":
            first, second = view.chunk(2, -1)
            return torch.cat((-second, first), -1)
        return torch.stack((-view[..., 1::2], view[..., ::2]), -1).flatten(-2)

    return lambda: view * cos + other_of_pair() * sin


class PolynomialGradient:
    """Gradient of polynomial attention: turning both ways beside it. Target: 1.1 at most."""

    params = ([(65_536, 64, 2), (16_384, 64, 2)],)
    param_names = ("n, d, degree",)
    timeout = 1200
    pairs = 5

    def setup(self, shape: tuple[int, int, int]) -> None:
        one_thread()
        n, d, degree = shape
        self.arrays = inputs(n, d, 4)
        self.terms = TAYLOR[: degree + 1]

    def gradient(self, query: Any, key: Any) -> Any:
        *_, value, grad_out = self.arrays
        options = {"scale": 1.0, "workers": 1}
        return subquad.polynomial_attention_grad(grad_out, query, key, value, self.terms, **options)

    def with_rotation(self) -> object:
        rotate = functools.partial(subquad.rope.rotate, workers=1)
        grads = self.gradient(*map(rotate, self.arrays[:2]))
        return rotate(grads.query, inverse=True), rotate(grads.key, inverse=True)

    def track_ratio_to_turned(self, shape: tuple[int, int, int]) -> float:
        turned = [subquad.rope.rotate(x) for x in self.arrays[:2]]
        return ratio(self.with_rotation, lambda: self.gradient(*turned), self.pairs)


class Attention:
    """Attention and its gradient from rows before rotation, exact or by a plan with polynomials."""

    params = (["exact", "polynomial"], ["forward", "backward"], [4096, 16_384])
    param_names = ("method", "pass", "n")
    timeout = 1200
    pairs = 5
    eps = 1e-2

    def setup(self, method: str, which: str, n: int) -> None:
        if method == "exact" and n > 4096:
            raise NotImplementedError("as for fewer, but longer")
        one_thread()
        query, key, value, grad_out = normal(*[(n, 64)] * 4)
        query *= 0.08
        turned = [subquad.rope.rotate(x) for x in (query, key)]
        self.options: dict[str, Any] = {"workers": 1}
        if method == "polynomial":
            plan = subquad.plan(*turned, value, eps=self.eps, method=method)
            self.options["plan"] = plan
        self.arrays, self.turned = (query, key, value), (*turned, value)
        self.first = (grad_out,) if which == "backward" else ()

    def run(self, family: Any, which: str, arrays: Any) -> object:
        function = family.attention_grad if which == "backward" else family.attention
        return function(*self.first, *arrays, **self.options)

    def track_ratio_to_turned(self, method: str, which: str, n: int) -> float:
        return ratio(
            lambda: self.run(subquad.rope, which, self.arrays),
            lambda: self.run(subquad, which, self.turned),
            self.pairs,
        )

    def track_share_of_rotation(self, method: str, which: str, n: int) -> float:
        """Turn queries and keys once: over the whole pass."""

        def turn() -> None:
            for x in self.arrays[:2]:
                subquad.rope.rotate(x, workers=1)

        return ratio(turn, lambda: self.run(subquad.rope, which, self.arrays), self.pairs)
