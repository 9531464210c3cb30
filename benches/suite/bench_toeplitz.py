"""Products with Toeplitz matrices against transforms of scipy and torch, and sums of rescaled ones.

``track_ratio_to_<peer>`` is our time over the peer's, better when smaller. A peer transforms real columns of
an embedding of its own choice, multiplies and transforms back; the weights' spectrum is part of the product for
all. Both are given the layout that suits them: the better of columns and rows, with the copy that brings
columns into rows and back counted, as we are given columns.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

import subquad
from subquad import _subquad

from ._alternate import Call, best, ratio, seconds

COLUMNS = 64


def inputs(n: int, columns: int = COLUMNS, dtype: str = "float32") -> tuple[Any, Any]:
    """Return weights of all lags, and columns."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(2 * n - 1).astype(dtype)
    return weights, rng.standard_normal((n, columns)).astype(dtype)


def peer(name: str, weights: Any, x: Any, *, by_rows: bool) -> Call:
    """Return the product by the transforms of scipy or of torch, on one thread."""
    module = importlib.import_module(name)
    if name == "torch":
        module.set_num_threads(1)
        weights, x = module.from_numpy(weights), module.from_numpy(x)
        fft, axis, options = module.fft, "dim", {}
    else:
        fft, axis, options = importlib.import_module("scipy.fft"), "axis", {"workers": 1}
    scipy_fft = importlib.import_module("scipy.fft")
    keys = x.shape[0]
    n = scipy_fft.next_fast_len(weights.shape[0], real=True)

    def call() -> object:
        rows = x.T if by_rows else x
        if by_rows:
            rows = rows.contiguous() if name == "torch" else np.ascontiguousarray(rows)
        along = {axis: 1 if by_rows else 0} | options
        spectrum = fft.rfft(weights, n, **options)
        product = fft.rfft(rows, n, **along) * (spectrum if by_rows else spectrum[:, None])
        out = fft.irfft(product, n, **along)
        if not by_rows:
            return out[keys - 1 : 2 * keys - 1]
        out = out[:, keys - 1 : 2 * keys - 1].T
        return out.contiguous() if name == "torch" else np.ascontiguousarray(out)

    return call


class Product:
    """Target T1, on one thread."""

    params = ([1024, 4096, 16_384, 65_536, 262_144],)
    param_names = ("n",)
    timeout = 1200
    pairs = 5

    def setup(self, n: int) -> None:
        self.arrays = inputs(n)
        subquad.set_num_threads(1)

    def ours(self) -> object:
        return subquad.toeplitz.matmul(*self.arrays, workers=1)

    def fastest(self, name: str) -> Call:
        """Return the peer in its better layout."""
        try:
            calls = [peer(name, *self.arrays, by_rows=by_rows) for by_rows in (False, True)]
        except ImportError as missing:
            raise NotImplementedError(f"{name} is not installed") from missing
        expected = self.ours()
        for call in calls:
            found = np.asarray(call())
            assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
        return min(calls, key=lambda call: min(seconds(call), seconds(call)))

    def track_ratio_to_scipy(self, n: int) -> float:
        return ratio(self.ours, self.fastest("scipy"), self.pairs)

    def track_ratio_to_torch(self, n: int) -> float:
        return ratio(self.ours, self.fastest("torch"), self.pairs)

    def time_product(self, n: int) -> None:
        self.ours()

    def peakmem_product(self, n: int) -> None:
        self.ours()


class Gradient:
    """The gradient over the product: two more transforms of columns, and products of spectra."""

    params = ([4096, 65_536],)
    param_names = ("n",)
    pairs = 5

    def setup(self, n: int) -> None:
        self.arrays = inputs(n)
        self.grad = inputs(n)[1]

    def track_ratio_to_product(self, n: int) -> float:
        def ours() -> object:
            return subquad.toeplitz.matmul_grad(self.grad, *self.arrays, workers=1)

        return ratio(ours, lambda: subquad.toeplitz.matmul(*self.arrays, workers=1), self.pairs)


class RescaledSum:
    """A sum of terms with the same weights over as many products of the same columns."""

    params = ([4096, 65_536], [(32, 17), (32, 65)])
    param_names = ("n", "terms, columns")
    timeout = 1200
    pairs = 3

    def setup(self, n: int, shape: tuple[int, int]) -> None:
        terms, columns = shape
        rng = np.random.default_rng(1)
        self.weights, self.x = inputs(n, columns)
        self.left, self.right = rng.standard_normal((2, terms, n)).astype(np.float32)

    def ours(self) -> None:
        out = np.zeros_like(self.x)
        _subquad.rescaled_toeplitz(
            self.weights[np.newaxis], self.left, self.right, self.x, out, workers=1
        )

    def track_ratio_to_products(self, n: int, shape: tuple[int, int]) -> float:
        one = best(lambda: subquad.toeplitz.matmul(self.weights, self.x, workers=1), self.pairs)
        return best(self.ours, self.pairs) / (shape[0] * one)
