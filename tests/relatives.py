"""Problems with general relative positions, for the tests of several files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Array = NDArray[Any]
Draw = Any
NAMES = ("query", "key", "value", "weights")


@dataclass(frozen=True)
class Relative:
    """Arguments of one call of `toeplitz_attention`."""

    arrays: tuple[Array, Array, Array, Array]
    options: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:  # shapes say more than numbers when an example fails
        shapes = ", ".join(f"{a.dtype}{a.shape}" for a in self.arrays)
        return f"Relative({shapes}, {self.options})"


def relative(
    queries: int,
    keys: int,
    *,
    width: int = 3,
    value_width: int = 2,
    entries: int = 4,
    heads: tuple[int, ...] = (),
    kv_heads: tuple[int, ...] | None = None,
    weight_heads: tuple[int, ...] = (),
    dtype: str = "float64",
    size: float = 1.0,
    seed: int = 0,
    **options: Any,
) -> Relative:
    """Random arrays, and a random support."""
    rng = np.random.default_rng(seed)
    kv = heads if kv_heads is None else kv_heads
    pairs = rng.permutation(width * width)[: min(entries, width * width)]
    support = np.stack([pairs // width, pairs % width], axis=1)
    arrays = (
        size * rng.standard_normal((*heads, queries, width)),
        size * rng.standard_normal((*kv, keys, width)),
        rng.standard_normal((*kv, keys, value_width)),
        rng.standard_normal((*weight_heads, len(support), max(queries + keys - 1, 0))),
    )
    typed = tuple(x.astype(dtype) for x in arrays)
    return Relative(typed, {"support": support, **options})  # type: ignore[arg-type]


@st.composite
def relatives(draw: Draw, dtypes: tuple[str, ...] = ("float64",), most: int = 24) -> Relative:
    """Every shape and option."""
    heads, kv_heads, weight_heads = draw(
        st.sampled_from(
            [
                ((), (), ()),
                ((2,), (2,), ()),
                ((2,), (2,), (2,)),
                ((4,), (2,), (4,)),
                ((4,), (2,), ()),
                ((3, 2), (3, 2), (2,)),
                ((3, 2), (1, 2), (3, 2)),
                ((3, 1), (1, 2), ()),
            ]
        )
    )
    return relative(
        draw(st.integers(0, most)),
        draw(st.integers(0, most)),
        width=draw(st.integers(1, 4)),
        value_width=draw(st.integers(1, 3)),
        entries=draw(st.integers(0, 5)),
        heads=heads,
        kv_heads=kv_heads,
        weight_heads=weight_heads,
        dtype=draw(st.sampled_from(dtypes)),
        size=draw(st.sampled_from([0.3, 1.0])),
        seed=draw(st.integers(0, 99)),
        enable_gqa=True,
        is_causal=draw(st.sampled_from([False, True, "lower_right"])),
        scale=draw(st.sampled_from([None, 0.2, -0.4])),
    )
