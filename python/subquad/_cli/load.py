"""Read a file of captured attention inputs: what its arrays mean, checked once.

A capture holds `q`, `k` and usually `v`: 2-D, heads first, or layers x heads, which are counted
flattened. The further names that are understood:

scale, causal, window
    As in `subquad.attention`; a window of 0 is none.
theta
    Base of the rotary positions, which `q` and `k` then do not contain yet: pairs
    (x_i, x_{i + d/2}) at position p turn by p theta^(-2i/d).
bias
    What is added to the logit of query i and key j, at index ``i - j + S - 1``: L + S - 1 numbers, of
    every head or for all.
kv_of_q
    Which row of `k` and `v` serves each query head; without it heads are grouped evenly.
check_value
    Which array serves as values in a file without `v`.
do
    Gradient with respect to the output.
check_rows, check_o, check_dq, check_dk, check_dv
    Float64 results on some rows, the gradients with respect to `q` and `k` before rotation.
layer, head; layers, heads
    Where in its model each head stood.
"""

from __future__ import annotations

import math
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .captures import Capture
from .files import CaptureError, Contents, read

PACKAGED = "rope_n1024.npz"

_ARRAYS = (
    "q", "k", "v", "do", "scale", "causal", "window", "theta", "bias", "kv_of_q", "check_value"
)  # fmt: skip
_CHECKS = ("check_rows", "check_o", "check_dq", "check_dk", "check_dv")
_PLACES = ("layer", "head", "layers", "heads")


def load(path: Path | None) -> Capture:
    """Read a capture; without a path, the one that comes with the package."""
    if path is not None:
        return _Reader(path).capture()
    with as_file(files("subquad") / "data" / PACKAGED) as packaged:
        return _Reader(packaged).capture()


class _Reader:
    """One file on its way to a `Capture`; every method may refuse it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: Contents = read(path, (*_ARRAYS, *_CHECKS, *_PLACES))
        self.arrays = self.file.arrays

    def refuse(self, what: str) -> CaptureError:
        return CaptureError(f"{self.path}: {what}")

    def capture(self) -> Capture:
        query, key, value = (self.numbers(name) for name in self.sources())
        lead = query.shape[:-2]
        self.check_shapes(query, key, value)
        groups = key.shape[:-2]
        query, key, value = (a.reshape(-1, *a.shape[-2:]) for a in (query, key, value))
        theta = self.theta(query, key)
        causal = bool(self.scalar("causal", False))
        window = self.window(causal)
        grad_out = None
        if "do" in self.arrays:
            shape = (*lead, query.shape[1], value.shape[2])
            grad_out = self.shaped("do", shape).reshape(-1, *shape[-2:])
        used = {self.arrays[name].dtype for name in self.sources()}
        wide = any(kind.kind != "f" or kind.itemsize > 4 for kind in used)
        return Capture(
            name=self.path.name,
            query=query,
            key=key,
            value=value,
            grad_out=grad_out,
            kv_of_q=self.kv_of_q(lead, groups),
            labels=self.labels(lead),
            scale=self.scale(query.shape[2]),
            causal=causal,
            window=window,
            theta=theta,
            stored=self.file.stored["q"],
            dtype=np.dtype(np.float64 if wide else np.float32),
            checks=self.checks(lead, groups, query.shape[1:], key.shape[1], value.shape[2]),
            bias=self.bias(lead, query.shape[1] + key.shape[1] - 1),
        )

    def sources(self) -> tuple[str, str, str]:
        """Names of the arrays that serve as query, key and value."""
        if "q" not in self.arrays and {"base", "queries"} <= set(self.file.names):
            raise self.refuse("holds embeddings (base, queries), not attention inputs (q, k, v)")
        value = "v"
        if "v" not in self.arrays and "check_value" in self.arrays:
            value = str(self.arrays["check_value"])
        missing = [name for name in ("q", "k", value) if name not in self.arrays]
        if missing:
            raise self.refuse(f"no array {' or '.join(f'`{name}`' for name in missing)}")
        return "q", "k", value

    def numbers(self, name: str) -> NDArray[Any]:
        array = self.arrays[name]
        if array.dtype.kind not in "fiu":
            raise self.refuse(f"`{name}` has dtype {array.dtype}, not real numbers")
        return array

    def shaped(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        array = self.numbers(name)
        if array.shape != shape:
            raise self.refuse(f"`{name}` has shape {array.shape}, but {shape} is needed")
        return array

    def check_shapes(self, query: NDArray[Any], key: NDArray[Any], value: NDArray[Any]) -> None:
        for name, array in (("q", query), ("k", key), ("v", value)):
            if array.ndim != query.ndim or not 2 <= array.ndim <= 4 or 0 in array.shape:
                raise self.refuse(
                    f"`{name}` has shape {array.shape}, `q` has {query.shape}; both must be 2-D, "
                    "heads first or layers x heads, and not empty"
                )
        if query.shape[-1] != key.shape[-1]:
            raise self.refuse(f"`q` {query.shape} and `k` {key.shape} differ in their last axis")
        if key.shape[:-1] != value.shape[:-1]:
            raise self.refuse(f"`k` {key.shape} and `v` {value.shape} differ before the last axis")

    def scalar(self, name: str, default: Any) -> Any:
        array = self.arrays.get(name)
        if array is None:
            return default
        if array.size != 1 or array.dtype.kind not in "bfiu":
            raise self.refuse(f"`{name}` is not one number (dtype {array.dtype}, {array.shape})")
        value = array.reshape(()).item()
        if not math.isfinite(value):
            raise self.refuse(f"`{name}` is {value}")
        return value

    def scale(self, width: int) -> float:
        scale = float(self.scalar("scale", 1 / math.sqrt(width)))
        if scale == 0:
            raise self.refuse("`scale` is 0")
        return scale

    def window(self, causal: bool) -> int | None:
        window = self.scalar("window", 0)
        if window < 0 or window != int(window):
            raise self.refuse(f"`window` is {window}; a whole number is needed, 0 for none")
        if window and not causal:
            raise self.refuse(f"`window` is {window}, which needs `causal`")
        return int(window) or None

    def theta(self, query: NDArray[Any], key: NDArray[Any]) -> float | None:
        if "theta" not in self.arrays:
            return None
        theta = float(self.scalar("theta", None))
        if theta <= 0:
            raise self.refuse(f"`theta` is {theta}; a positive number is needed")
        if query.shape[-1] % 2:
            raise self.refuse(f"`theta` turns pairs, but the width {query.shape[-1]} is odd")
        if query.shape[-2] != key.shape[-2]:
            # Which positions the queries have is not said, and a guess would be silently wrong.
            raise self.refuse("`theta` needs as many queries as keys, at positions 0, 1, ...")
        return theta

    def bias(self, lead: tuple[int, ...], lags: int) -> NDArray[Any] | None:
        if "bias" not in self.arrays:
            return None
        bias = self.numbers("bias")
        if bias.shape not in ((lags,), (*lead, lags)):
            raise self.refuse(
                f"`bias` has shape {bias.shape}, but {(lags,)} or {(*lead, lags)} is needed: one number "
                "for every lag of a query and a key"
            )
        return np.broadcast_to(bias, (*lead, lags)).reshape(-1, lags)

    def kv_of_q(self, lead: tuple[int, ...], groups: tuple[int, ...]) -> NDArray[np.intp]:
        heads, kv_heads = math.prod(lead), math.prod(groups)
        if "kv_of_q" in self.arrays:
            given = self.shaped("kv_of_q", (heads,))
            if given.dtype.kind == "f" or given.min() < 0 or given.max() >= kv_heads:
                raise self.refuse(f"`kv_of_q` must hold rows of `k`, 0 to {kv_heads - 1}")
            return given.astype(np.intp)
        if lead[:-1] != groups[:-1] or heads % kv_heads:
            raise self.refuse(f"{lead} heads of `q` cannot share {groups} heads of `k` evenly")
        return np.arange(heads) // (heads // kv_heads)

    def labels(self, lead: tuple[int, ...]) -> tuple[str, ...]:
        """Names such as L2H5; empty where the file does not say."""
        heads = math.prod(lead)
        pairs: Any = [("", "")] * heads
        if {"layer", "head"} <= set(self.arrays):
            places = (self.shaped(name, lead).ravel() for name in ("layer", "head"))
            pairs = zip(*places, strict=True)
        elif {"layers", "heads"} <= set(self.arrays) and len(lead) == 2:
            layers, in_layer = self.shaped("layers", lead[:1]), self.shaped("heads", lead[1:])
            pairs = ((layer, head) for layer in layers for head in in_layer)
        return tuple(f"L{layer}H{head}" if layer != "" else "" for layer, head in pairs)

    def checks(
        self,
        lead: tuple[int, ...],
        groups: tuple[int, ...],
        query: tuple[int, int],
        keys: int,
        width: int,
    ) -> dict[str, NDArray[Any]]:
        if "check_rows" not in self.arrays:
            return {}
        rows = self.numbers("check_rows")
        reach = query[0] if "check_dk" not in self.arrays else min(query[0], keys)
        if rows.ndim != 1 or rows.dtype.kind == "f" or rows.size == 0:
            raise self.refuse("`check_rows` must be a list of row numbers")
        if rows.min() < 0 or rows.max() >= reach:
            raise self.refuse(f"`check_rows` must lie in 0 to {reach - 1}")
        ends = {
            "check_o": (*lead, rows.size, width),
            "check_dq": (*lead, rows.size, query[1]),
            "check_dk": (*groups, rows.size, query[1]),
            "check_dv": (*groups, rows.size, width),
        }
        found = {
            name: self.shaped(name, shape).reshape(-1, *shape[-2:])
            for name, shape in ends.items()
            if name in self.arrays
        }
        return {"check_rows": rows.astype(np.intp), **found}
