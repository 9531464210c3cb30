"""Problems for half-space reporting, and what is exactly true of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import bfloat16_bits

import subquad
from subquad.reference import halfspace as reference

Array = NDArray[Any]
Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

METHODS = ("auto", "scan", "quantized", "rotated", "tree")
DTYPES = ("float32", "float16", "bfloat16")
FAMILIES = (
    "gaussian",
    "integers",
    "duplicates",
    "ties",
    "denormal",
    "tiny",
    "huge",
    "largest",
    "signed zeros",
    "zero keys",
    "zero queries",
    "negative",
    "spread",
    "outliers",
    "low rank",
    "cancelling",
)
# From 256 keys on a basis may be learnt.
COUNTS = (0, 1, 2, 15, 16, 17, 31, 32, 33, 47, 64, 65, 77, 130, 257, 300)
DIMS = (1, 2, 3, 4, 5, 8, 11, 12, 13, 16, 17, 31, 32, 33, 64, 100, 128)


def methods_for(dim: int) -> tuple[str, ...]:
    return METHODS if dim <= 12 else METHODS[:-1]


@dataclass(frozen=True)
class Case:
    """Keys, and queries with one threshold each."""

    family: str
    seed: int
    keys: Array
    """uint16 where `dtype` is "bfloat16"."""
    dtype: str
    queries: Floats
    thresholds: NDArray[np.float64]

    def index(self, method: str = "auto", workers: int | None = 1, **options: Any) -> Any:
        return subquad.halfspace.Index(
            self.keys, dtype=self.dtype, method=method, workers=workers, **options
        )

    def __repr__(self) -> str:  # shapes say more than numbers when an example fails
        thresholds = [float(x) for x in self.thresholds]
        keys, queries = (f"{x.dtype}{x.shape}" for x in (self.keys, self.queries))
        return (
            f"Case({self.family!r}, seed={self.seed}, {keys} as {self.dtype}, {queries}, "
            f"{thresholds})"
        )


def keys_and_queries(
    family: str, rng: np.random.Generator, n: int, d: int, m: int
) -> tuple[Floats, Floats]:
    """Numbers that make some part of the work difficult."""
    keys, queries = (rng.standard_normal((rows, d)) for rows in (n, m))
    if family in ("integers", "ties"):
        keys, queries = np.rint(2 * keys), np.rint(2 * queries)
        # Scores of one magnitude, with all of the last bits in use.
        factor = 1.0 if family == "integers" else 1.0 + 2.0**-20
        keys, queries = keys * factor, queries * factor
    elif family == "duplicates" and n:
        keys = keys[rng.integers(0, 1 + n // 8, n)]
    elif family == "denormal":
        keys *= 2.0 ** rng.integers(-149, -126, (n, 1))
        queries *= 2.0 ** rng.integers(-140, 10, (m, 1))
    elif family in ("tiny", "huge"):
        keys *= 1e-30 if family == "tiny" else 1e30
        queries *= rng.choice([1e-30, 1.0, 1e30], (m, 1))
    elif family == "largest":
        keys, queries = (rng.choice([-3.4e38, 1e38, 3.4e38, 1.0], x.shape) for x in (keys, queries))
    elif family == "signed zeros":
        for x in (keys, queries):
            x[rng.random(x.shape) < 0.5] = 0.0
        keys, queries = (np.copysign(x, rng.choice([-1, 1], x.shape)) for x in (keys, queries))
    elif family == "zero keys":
        keys[rng.random(n) < 0.7] = rng.choice([0.0, -0.0])
    elif family == "zero queries":
        queries[:] = rng.choice([0.0, -0.0], queries.shape)
    elif family == "negative":
        # Whatever pads a group of keys has a score of 0 and beats them all.
        keys, queries = -np.abs(keys), np.abs(queries)
    elif family == "spread":
        keys *= np.exp(rng.uniform(-24, 24, (n, 1)))
    elif family == "outliers":
        keys[:, rng.integers(0, d, 1 + d // 16)] *= 1e4
    elif family == "low rank":
        basis = rng.standard_normal((3, d))
        keys = rng.standard_normal((n, 3)) @ basis + 1e-3 * keys
        queries = rng.standard_normal((m, 3)) @ basis + 1e-2 * queries
    elif family == "cancelling":
        # Large products that cancel, and what is left beyond the reach of float32.
        half = d // 2
        keys[:, half : 2 * half] = keys[:, :half]
        queries[:, half : 2 * half] = -queries[:, :half]
        keys[:, : 2 * half] *= 2.0 ** rng.integers(0, 60, (n, 1))
    with np.errstate(over="ignore", under="ignore"):
        single = [x.astype(np.float32) for x in (keys, queries)]
    return single[0], single[1]


def stored_as(keys: Array, dtype: str) -> Array:
    """Keys in another type, none of them infinite; bits for bfloat16."""
    if dtype == "bfloat16":
        return bfloat16_bits(np.clip(keys, -3e38, 3e38))
    if dtype == "float16":
        keys = np.clip(keys, -6e4, 6e4)
    with np.errstate(under="ignore"):
        return keys.astype(dtype)


def exact_scores(keys: Array, dtype: str, query: Floats) -> list[Fraction]:
    """The scores of all keys over the real numbers."""
    return list(reference.Index(keys, dtype=dtype)._scores(query).values())


def a_threshold(rng: np.random.Generator, scores: Sequence[Fraction]) -> float:
    """A threshold at, beside or far from scores."""
    kind = rng.integers(0, 12)
    if kind == 0 or not scores:
        return float(rng.choice([0.0, -0.0, np.inf, -np.inf, 1.0, -1e300, 5e-324, -5e-324]))
    # High ranks more often: most engines are for few answers.
    ranked = sorted(scores, reverse=True)
    one, other = (ranked[int(len(ranked) * share)] for share in rng.random(2) ** [4, 1])
    if kind <= 5:
        return float(one)
    if kind <= 8:
        return float(np.nextafter(float(one), rng.choice([-np.inf, np.inf])))
    if kind == 9:
        return float((one + other) / 2)
    if kind == 10:
        return float(max(scores) if rng.random() < 0.5 else min(scores))
    return float(np.float32(one)) if abs(one) < 1e38 else float(one)


def a_case(family: str, n: int, d: int, dtype: str, seed: int, m: int = 5) -> Case:
    rng = np.random.default_rng(seed)
    keys, queries = keys_and_queries(family, rng, n, d, m)
    stored = stored_as(keys, dtype)
    twin = reference.Index(stored, dtype=dtype)
    scores = [list(twin._scores(query).values()) for query in queries]
    thresholds = np.array([a_threshold(rng, of_one) for of_one in scores])
    return Case(family, seed, stored, dtype, queries, thresholds)


@st.composite
def cases(draw: Any) -> Case:
    """Draw any family, size, dimension and type."""
    return a_case(
        draw(st.sampled_from(FAMILIES)),
        draw(st.sampled_from(COUNTS)),
        draw(st.sampled_from(DIMS)),
        draw(st.sampled_from(DTYPES)),
        draw(st.integers(0, 2**32 - 1)),
    )


def exact_ids(keys: Array, query: Floats, threshold: float, *, strict: bool = False) -> Ids:
    """What is to be reported of many keys: in float64, and exactly where its rounding could matter.

    `keys` are float32 or float16.
    """
    scores, bound = float64_scores(keys, query)
    inside = scores > threshold
    close = np.flatnonzero(~(np.abs(scores - threshold) > bound))
    exact = exact_scores(keys[close], keys.dtype.name, query)
    inside[close] = [x > threshold if strict else x >= threshold for x in exact]
    return np.flatnonzero(inside)


def exact_topk(keys: Array, query: Floats, k: int) -> Ids:
    """The best keys, equal ones by ascending id."""
    scores, bound = float64_scores(keys, query)
    if k == 0:
        return np.zeros(0, np.int64)
    surely = np.sort(scores - bound)[-k]
    candidates = np.flatnonzero(scores + bound >= surely)
    exact = exact_scores(keys[candidates], keys.dtype.name, query)
    order = sorted(range(len(exact)), key=lambda i: (-exact[i], i))
    return candidates[order[:k]]


def float64_scores(keys: Array, query: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores, and bounds on their rounding; products of such numbers are exact in float64."""
    k, q = keys.astype(np.float64), query.astype(np.float64)
    magnitude = np.abs(k) @ np.abs(q)
    return k @ q, (len(q) + 2) * 2.0**-52 * magnitude


def quantiles(keys: Array, query: Floats) -> list[float]:
    """Scores of keys that few, some, many and nearly all of them reach."""
    scores = np.sort(float64_scores(keys, query)[0])
    n = len(scores)
    return [float(scores[-max(1, int(p * n))]) for p in (1 / n, 1e-3, 1e-2, n**-0.2, 0.5, 0.99)]
