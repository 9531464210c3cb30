"""Inputs and peers for the benchmarks of polynomial attention, and what they count as work."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

import subquad
from subquad.theory.polynomial import feature_count

from ._alternate import Call, best, ratio
from .bench_attention import Arrays, normal, one_thread, tensors

try:
    import torch
except ImportError:
    torch = None

__all__ = [
    "PASSES",
    "PEER_FLOPS",
    "TAYLOR",
    "accuracy",
    "crossover",
    "exact",
    "flat",
    "flops",
    "inputs",
    "one_thread",
    "sampled_rows",
    "sdpa",
    "sdpa_backward",
    "sdpa_causal",
    "sdpa_forward",
]

# Products with all features that the algorithm needs: sum and read; for the gradient sum, derive the
# queries, absorb, read, derive the keys. A kernel that takes more is the slower for it.
PASSES = {"forward": 2, "backward": 5}

TAYLOR = [1.0, 1.0, 1 / 2, 1 / 6]

# Operations of a forward pass of the peer, about a second. Of a longer one it does some of the queries,
# and the time is scaled up: it is proportional to their number (checked within 2 % at n = 64Ki).
PEER_FLOPS = 2.0**36


def inputs(n: int, d: int, count: int = 3) -> Arrays:
    """Draw queries, keys, values (and an upstream gradient) with no logit above 1, at scale 1.

    The bound is that of Cauchy and Schwarz, since there are too many pairs to look at. All polynomials
    here are positive on [-1, 1].
    """
    query, key, *others = normal(*[(n, d)] * count)
    largest = (float(np.linalg.norm(x, axis=1).max()) for x in (query, key))
    query /= math.prod(largest)
    return query, key, *others


def flat(n: int, d: int) -> Arrays:
    """Draw Gaussian queries, keys and values with logits of .08 as a rule, at the usual scale."""
    query, key, value = normal(*[(n, d)] * 3)
    query *= 0.08
    return query, key, value


def flops(shape: tuple[int, int, int], passes: int) -> float:
    """Operations of products with all features: 2 n r (d_v + 1) each, the 1 for the sum of weights.

    The features themselves are left out, and what a causal kernel does within its tiles.
    """
    n, d, degree = shape
    return float(passes * 2 * n * feature_count(d, degree) * (d + 1))


def sampled_rows(n: int, d: int, budget: float) -> int:
    """Return how many of n queries a peer is given: a power of two, or all."""
    full = 4 * n * n * d
    return n if budget >= full else max(128, 2 ** int(math.log2(n * budget / full)))


def sdpa_forward(arrays: Arrays, rows: int, scale: float = 1.0) -> Call:
    """Softmax attention of the first rows to all keys."""
    query, key, value = tensors(arrays[:3])
    some = query[..., :rows, :].contiguous()
    attend = torch.nn.functional.scaled_dot_product_attention
    return lambda: attend(some, key, value, scale=scale)


def sdpa_causal(arrays: Arrays, rows: int) -> Call:
    """Softmax attention of every query to the keys up to its own.

    Fewer rows stand for it with half of the keys each and no mask, which is a tenth faster than their
    share of the whole.
    """
    query, key, value = arrays[:3]
    if rows < len(query):
        half = len(query) // 2
        return sdpa_forward((query, key[:half], value[:half]), rows)
    query, key, value = tensors((query, key, value))
    attend = torch.nn.functional.scaled_dot_product_attention
    return lambda: attend(query, key, value, scale=1.0, is_causal=True)


def sdpa(arrays: Arrays) -> Call:
    """Softmax attention by torch."""
    return sdpa_forward(arrays, len(arrays[0]))


def exact(arrays: Arrays) -> Call:
    """Softmax attention by this package."""
    return lambda: subquad.attention(*arrays, scale=1.0)


def sdpa_backward(arrays: Arrays, rows: int) -> Call:
    """Gradients of softmax attention of the first rows to all keys, its forward pass being done."""
    query, key, value, grad = arrays
    leaves = tensors((np.ascontiguousarray(query[:rows]), key, value), requires_grad=True)
    (upstream,) = tensors((np.ascontiguousarray(grad[:rows]),))
    out = torch.nn.functional.scaled_dot_product_attention(*leaves, scale=1.0)
    return lambda: torch.autograd.grad(out, leaves, upstream, retain_graph=True)


def crossover(d: int, degree: int, peer: Callable[[Arrays], Call], seconds: float) -> float:
    """Return the number of tokens for which it takes as long as a peer, over half the features.

    Goes up or down from half as many as there are features by factors of two, until the other one is
    faster, and interpolates: the logarithm of the ratio is nearly linear in that of n.
    """
    features = feature_count(d, degree)
    n = max(64, features // 2)
    here = _log_ratio(n, d, degree, peer, seconds)
    while 32 <= n <= 2**17:
        further = n * 2 if here > 0 else n // 2
        there = _log_ratio(further, d, degree, peer, seconds)
        if (here > 0) != (there > 0):
            crossing = n * (further / n) ** (here / (here - there))
            return crossing / (features / 2)
        n, here = further, there
    return math.nan


def _log_ratio(
    n: int, d: int, degree: int, peer: Callable[[Arrays], Call], seconds: float
) -> float:
    arrays = inputs(n, d)
    theirs = peer(arrays)

    def ours() -> object:
        return subquad.polynomial_attention(*arrays, TAYLOR[: degree + 1], scale=1.0)

    pairs = min(300, max(3, int(seconds / (best(ours, 1) + best(theirs, 1)))))
    return math.log(ratio(ours, theirs, pairs))


def accuracy(n: int, d: int, degree: int, rows: int = 1024) -> tuple[float, float]:
    """Largest error of a row in float32, against float64: over the spread of the values, and of the output.

    The spread is the largest distance from the mean. That of the output is far smaller, since a mean over
    many keys varies little. Keys and values have mean 0 and the largest logit is 1.
    """
    query, key, value = normal((rows, d), (n, d), (n, d))
    key -= key.mean(axis=0, dtype=np.float64).astype(np.float32)
    value -= value.mean(axis=0, dtype=np.float64).astype(np.float32)
    blocks = np.array_split(key, max(1, n // 2**15))
    scale = 1 / max(float(np.abs(query @ block.T).max()) for block in blocks)
    single, double = (
        subquad.polynomial_attention(
            *(x.astype(kind) for x in (query, key, value)), TAYLOR[: degree + 1], scale=scale
        )
        for kind in (np.float32, np.float64)
    )
    mean = value.mean(axis=0, dtype=np.float64)
    spreads = (np.linalg.norm(x - mean, axis=1).max() for x in (value, double))
    error = np.linalg.norm(single - double, axis=1).max()
    over_values, over_outputs = (float(error / spread) for spread in spreads)
    return over_values, over_outputs
