"""Keys, queries and thresholds for the benchmarks of half-space reporting, and the peers set up."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import subquad
from subquad.theory.halfspace import quantile_threshold

from ._alternate import Call

try:
    import faiss
except ImportError:
    faiss = None
try:
    import threadpoolctl
except ImportError:
    threadpoolctl = None
try:
    import torch
except ImportError:
    torch = None

Floats = np.ndarray

# Queries of a benchmark: calls take them in turn, so that no answer is still in a cache.
QUERIES = 24


def one_thread() -> None:
    """Hold every package to one thread, and numpy to its own choice of kernels."""
    if "OPENBLAS_CORETYPE" in os.environ:
        raise NotImplementedError("OPENBLAS_CORETYPE is set and slows numpy down: unset it")
    if threadpoolctl is None:
        raise NotImplementedError("threadpoolctl is not installed")
    threadpoolctl.threadpool_limits(1)
    subquad.set_num_threads(1)
    if faiss is not None:
        faiss.omp_set_num_threads(1)
    if torch is not None:
        torch.set_num_threads(1)


def normal(n: int, d: int, seed: int) -> Floats:
    """Draw standard normal rows."""
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


# Drawing and coding a million keys takes longer than asking: one set is kept for the next benchmark.
@functools.lru_cache(maxsize=1)
def indexed(n: int, d: int, method: str = "auto") -> tuple[Floats, subquad.halfspace.Index]:
    """Keys, and an index of them on one thread."""
    keys = normal(n, d, seed=0)
    return keys, subquad.halfspace.Index(keys, method=method, workers=1)


@functools.lru_cache(maxsize=1)
def flat(n: int, d: int) -> Any:
    """Give the same keys to the peer."""
    if faiss is None:
        raise NotImplementedError("faiss-cpu is not installed")
    index = faiss.IndexFlatIP(d)
    index.add(normal(n, d, seed=0))
    return index


def norms(queries: Floats) -> list[float]:
    """Norms of the rows."""
    return [float(x) for x in np.linalg.norm(queries.astype(np.float64), axis=1)]


def thresholds(queries: Floats, n: int, share: float) -> np.ndarray:
    """Thresholds that this share of n standard normal keys is expected to reach."""
    return np.array([quantile_threshold(n, share * n, norm) for norm in norms(queries)])


def own_thresholds(queries: Floats, keys: Floats, count: int) -> np.ndarray:
    """Thresholds that so many of the keys reach."""
    scores = queries.astype(np.float64) @ keys.T.astype(np.float64)
    return np.partition(scores, -count, axis=1)[:, -count]


def in_turn(function: Callable[..., object], *arguments: Any) -> Call:
    """Call a function with the first of each argument, then with the second of each, and so on."""
    turns = itertools.cycle(zip(*arguments, strict=True))
    return lambda: function(*next(turns))


def first_stage_bytes(info: subquad.halfspace.Info, dim: int) -> int:
    """Bytes of codes that every key's part was read of: all but those of candidates."""
    rest = info.residual * (16 * math.ceil(dim / 32) + 4)
    rows = (info.float32 + info.float64 + info.exact) * 4 * dim
    return info.bytes_read - rest - rows


# Many copies of a head, each with noise of a thousandth of its own: codes that no cache holds.
COPIES = 32
COPIED = "MiniLM L0H2, copies"

# Real keys: file, and which of its heads.
HEADS = {
    "MiniLM L0H2": ("minilm_cache_n65536_L0H2", None),
    "MiniLM L3H8": ("minilm_cache_n65536_L3H8", None),
    "RoPE L1H1, n=2048": ("rope_n2048", (1, 1)),
    "RoPE L2H2, n=2048": ("rope_n2048", (2, 2)),
    "RoPE L3H2, n=2048": ("rope_n2048", (3, 2)),
    "RoPE L2H2, n=8192": ("rope_n8192_window", (2, 2)),
    "sentence embeddings": ("minilm_embeddings", None),
}


def captured(name: str) -> tuple[Floats, Floats, Floats]:
    """Keys of a head, queries to ask, and others to learn from."""
    file, which = HEADS[name.removesuffix(", copies")]
    path = Path(os.environ.get("SUBQUAD_DATA", "")) / "captures" / f"{file}.npz"
    if not path.is_file():
        raise NotImplementedError(f"no {path}: SUBQUAD_DATA names the folder of the captures")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    first = 0
    if which is None:
        keys, queries = (arrays[x] for x in (("k", "q") if "k" in arrays else ("base", "queries")))
    else:
        (head,) = np.flatnonzero((arrays["layer"] == which[0]) & (arrays["head"] == which[1]))
        theta = float(arrays["theta"])
        keys = turned(arrays["k"][arrays["kv_of_q"][head]], theta)
        queries = turned(arrays["q"][head], theta)
        # Early queries see few keys; these are asked about all of them.
        first = len(queries) // 4
    rng = np.random.default_rng(0)
    if name == COPIED:
        keys = np.tile(keys, (COPIES, 1))
        keys = keys * (1 + 1e-3 * rng.standard_normal(keys.shape, dtype=np.float32))
    order = first + rng.permutation(len(queries) - first)
    asked, learnt = order[:QUERIES], order[QUERIES:]
    single = (x.astype(np.float32) for x in (keys, queries[asked], queries[learnt]))
    return tuple(single)  # type: ignore[return-value]


def turned(x: np.ndarray, theta: float) -> np.ndarray:
    """Turn the rows of a capture by their positions, in float64."""
    return subquad.rope.rotate(x.astype(np.float64), theta=theta)


def int8_parts(keys: Floats) -> Iterator[subquad.halfspace.Index]:
    """Index the keys by codes of 8 bits and nothing else.

    No method promises that, but an index of fewer than 2**19 numbers has no other codes: it takes
    several of them.
    """
    parts = keys.size // 2**19 + 1
    for part in np.array_split(keys, parts):
        index = subquad.halfspace.Index(part, workers=1)
        if index.stats.engines != ("scan", "int8"):
            raise NotImplementedError(f"an index of {part.shape} has {index.stats.engines}")
        yield index


def int8_bytes(infos: list[subquad.halfspace.Info], n: int, dim: int) -> float:
    """Bytes per query that codes of 8 bits and the keys they leave open take, without the parts."""
    rows = sum(info.float32 + info.float64 + info.exact for info in infos) * 4 * dim
    return (32 * math.ceil(n / 32)) * (4 * math.ceil(dim / 4) + 4) + rows / QUERIES
