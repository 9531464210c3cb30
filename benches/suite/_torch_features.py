"""The maths of polynomial attention of degree 2 as one writes it with torch: features and products."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from subquad.theory.polynomial import feature_count

from ._alternate import Call, best
from .bench_attention import Arrays, tensors

try:
    import torch
except ImportError:
    torch = None

# Tokens whose features are made at a time: of 4096 they take 35 MB at width 64, of 256 a cache of
# the second level holds them.
CHUNKS = (128, 256, 512, 1024, 4096)


def by_features(arrays: Arrays, chunk: int) -> Call:
    """Attention with weights 1 + s + s^2 / 2 by the products of entries i <= j, gathered."""
    return functools.partial(_attend, _views(arrays), _gathered, chunk)


def fastest_by_features(arrays: Arrays, rounds: int = 2) -> Call:
    """Return the fastest of these: entries i <= j or all in an outer product, few tokens or many."""
    views = _views(arrays)
    part = tuple(x[: max(CHUNKS)] for x in views)
    forms = [(make, chunk) for make in (_gathered, _outer) for chunk in CHUNKS]
    form = min(forms, key=lambda form: best(functools.partial(_attend, part, *form), rounds))
    return functools.partial(_attend, views, *form)


def _views(arrays: Arrays) -> tuple[Any, ...]:
    return tuple(x[0, 0] for x in tensors(arrays[:3]))


def _attend(views: tuple[Any, ...], make: Callable[[Any], Any], chunk: int) -> Any:
    """Sum values over the features of keys, then read the sums with those of queries."""
    query, key, value = views
    n, width = value.shape
    ones = value.new_ones(chunk, 1)
    sums: Any = 0
    for i in range(0, n, chunk):
        part = value[i : i + chunk]
        sums = sums + make(key[i : i + chunk]).T @ torch.cat((part, ones[: len(part)]), 1)
    sums = sums * _multiplicities(query.shape[1], len(sums))[:, None]
    out = torch.empty_like(query[:, :width])
    for i in range(0, n, chunk):
        totals = make(query[i : i + chunk]) @ sums
        torch.div(totals[:, :-1], totals[:, -1:], out=out[i : i + chunk])
    return out


@functools.cache
def _pairs(d: int) -> Any:
    return torch.triu_indices(d, d)


def _gathered(x: Any) -> Any:
    """1, the entries, and the products of entries i <= j."""
    first, second = _pairs(x.shape[1])
    products = x.index_select(1, first) * x.index_select(1, second)
    return torch.cat((x.new_ones(len(x), 1), x, products), 1)


def _outer(x: Any) -> Any:
    """1, the entries, and all products of two."""
    products = (x[:, :, None] * x[:, None, :]).flatten(1)
    return torch.cat((x.new_ones(len(x), 1), x, products), 1)


@functools.cache
def _multiplicities(d: int, features: int) -> Any:
    """Weight of each feature: 1/2 for the second degree, doubled where one pair stands for two."""
    weights = torch.ones(features)
    weights[1 + d :] = 0.5
    if features == feature_count(d, 2):
        first, second = _pairs(d)
        weights[1 + d :][first != second] = 1.0
    return weights
