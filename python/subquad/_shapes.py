"""Shapes of one call: how heads and leading axes of the arguments combine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeAlias

import numpy as np

__all__ = ["Shape", "Shapes", "match_shapes"]

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Shapes:
    """Sizes of one call, after broadcasting."""

    lead: Shape
    """Leading axes of the output; () where every argument is one head."""
    batch: Shape
    """The leading axes before the heads."""
    heads: int
    kv_heads: int
    """A divisor of `heads`: query head h uses key head h // (heads // kv_heads)."""
    queries: int
    keys: int
    width: int
    value_width: int

    @cached_property
    def query(self) -> Shape:
        """Shape of `query` for the compiled module."""
        return (*self.batch, self.heads, self.queries, self.width)

    @cached_property
    def key(self) -> Shape:
        """Shape of `key` for the compiled module."""
        return (*self.batch, self.kv_heads, self.keys, self.width)

    @cached_property
    def value(self) -> Shape:
        """Shape of `value` for the compiled module."""
        return (*self.batch, self.kv_heads, self.keys, self.value_width)

    @cached_property
    def out(self) -> Shape:
        """Shape of the output inside: with a head axis even for one head."""
        return (*self.batch, self.heads, self.queries, self.value_width)

    @cached_property
    def logits(self) -> Shape:
        """Shape that `mask` and `bias` expand to inside."""
        return (*self.batch, self.heads, self.queries, self.keys)

    @cached_property
    def empty(self) -> bool:
        """Whether there is no query to answer."""
        return 0 in (*self.batch, self.heads, self.queries)


# Programs call with the same few shapes again and again, and a small call takes microseconds.
@lru_cache(maxsize=256)
def match_shapes(query: Shape, key: Shape, value: Shape, enable_gqa: bool) -> Shapes:
    """Combine the shapes of `query`, `key` and `value`, or say which of them is wrong."""
    for name, shape, symbols in (("query", query, "L, E"), ("key", key, "S, E")):
        if len(shape) < 2:
            raise ValueError(f"`{name}` must have shape (..., {symbols}), got {shape}")
    if len(value) < 2:
        raise ValueError(f"`value` must have shape (..., S, Ev), got {value}")
    if key[-1] != query[-1]:
        raise ValueError(
            f"`key` must have shape (..., S, E) with E = {query[-1]} as in `query` of shape "
            f"{query}, got {key}"
        )
    if value[-2] != key[-2]:
        raise ValueError(
            f"`value` must have shape (..., S, Ev) with S = {key[-2]} as in `key` of shape {key}, "
            f"got {value}"
        )
    batch = _broadcast(query[:-3], key[:-3], value[:-3])
    heads, key_heads, value_heads = (s[-3] if len(s) > 2 else 1 for s in (query, key, value))
    pair = _broadcast((key_heads,), (value_heads,))
    if batch is None or pair is None:
        raise ValueError(
            "`query`, `key` and `value` must have leading axes that broadcast, got shapes "
            f"{query}, {key} and {value}"
        )
    (kv_heads,) = pair
    if 1 in (heads, kv_heads) or heads == kv_heads:
        # One query head against several key heads is repeated; one key head serves all.
        heads = kv_heads if heads == 1 else heads
    elif not (enable_gqa and heads and kv_heads and heads % kv_heads == 0):
        rule = "H % Hkv == 0" if enable_gqa else "H == Hkv (or 1; `enable_gqa=True` allows groups)"
        raise ValueError(
            f"`query` has H = {heads} heads and `key`, `value` have Hkv = {kv_heads}, but {rule} "
            f"is required: got shapes {query}, {key} and {value}"
        )
    one_head = max(len(query), len(key), len(value)) == 2
    lead = () if one_head else (*batch, heads)
    queries, width = query[-2:]
    keys, value_width = value[-2:]
    return Shapes(lead, batch, heads, kv_heads, queries, keys, width, value_width)


def _broadcast(*shapes: Shape) -> Shape | None:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None
