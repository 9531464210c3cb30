"""Half-space reporting against faiss.IndexFlatIP, numpy and torch, all on one thread.

``track_ratio_to_<peer>`` is our time over the peer's, ``track_ratio_to_limit`` our time over what the
codes of the first stage, or all products, take at the machine's limit; all are better when smaller.
Counts are means per query. Keys and queries are Gaussian unless the class says otherwise, and `share`
is what share of the keys is expected to be reported.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

import subquad
from subquad.halfspace import Index, Info

from ._alternate import Call, best, over_limit, ratio, seconds
from ._halfspaces import (
    COPIED,
    HEADS,
    QUERIES,
    captured,
    faiss,
    first_stage_bytes,
    flat,
    in_turn,
    indexed,
    int8_bytes,
    int8_parts,
    normal,
    one_thread,
    own_thresholds,
    thresholds,
    torch,
)


class _Counted:
    """What the answers of a benchmark took, exactly."""

    infos: list[Info]
    """Of all queries, or of all batches of them."""
    asked = QUERIES
    """Number of queries in all."""

    def mean(self, field: str) -> float:
        return sum(getattr(info, field) for info in self.infos) / self.asked

    def track_bytes_read(self, *params: Any) -> float:
        return self.mean("bytes_read")

    def track_candidates(self, *params: Any) -> float:
        return self.mean("candidates")

    def track_refined_by_codes(self, *params: Any) -> float:
        return self.mean("residual")

    def track_decided_in_float32(self, *params: Any) -> float:
        return self.mean("float32")

    def track_decided_in_float64(self, *params: Any) -> float:
        return self.mean("float64")

    def track_decided_exactly(self, *params: Any) -> float:
        return self.mean("exact")

    def track_reported(self, *params: Any) -> float:
        return self.mean("reported")

    track_bytes_read.unit = "bytes"

    def about(self) -> str:
        """Name the engines that answered."""
        return "/".join(sorted({info.engine for info in self.infos}))


class _OneQuery(_Counted):
    """One query after the other."""

    params = ([1e-4, 1e-3, 1e-2],)
    param_names = ("share",)
    timeout = 600
    pairs = 15
    n: int
    d: int

    def setup(self, share: float) -> None:
        one_thread()
        self.keys, self.index = indexed(self.n, self.d)
        self.queries = normal(QUERIES, self.d, seed=1)
        self.thresholds = thresholds(self.queries, self.n, share).tolist()
        asked = zip(self.queries, self.thresholds, strict=True)
        self.infos = [self.index.report(q, b, return_info=True)[1] for q, b in asked]

    def asking(self, function: Callable[..., object]) -> Call:
        """Call it with the next query, and so on."""
        return in_turn(function, self.queries, self.thresholds)

    def ours(self) -> Call:
        return self.asking(self.index.report)

    def track_ratio_to_faiss(self, share: float) -> float:
        peer = flat(self.n, self.d)

        def search(query: np.ndarray, threshold: float) -> object:
            return peer.range_search(query[np.newaxis], threshold)

        return ratio(self.ours(), self.asking(search), self.pairs)

    def track_ratio_to_numpy(self, share: float) -> float:
        def search(query: np.ndarray, threshold: float) -> object:
            return np.flatnonzero(self.keys @ query >= threshold)

        return ratio(self.ours(), self.asking(search), self.pairs)

    def time_report(self, share: float) -> None:
        for query, threshold in zip(self.queries, self.thresholds, strict=True):
            self.index.report(query, threshold)


class _FromMemory(_OneQuery):
    """Codes that no cache holds."""

    limit = "stream"

    def track_ratio_to_limit(self, share: float) -> float:
        work = sum(first_stage_bytes(info, self.d) for info in self.infos) / QUERIES
        return over_limit(self.ours(), work, self.limit, 3 * self.pairs)


class OneQuery(_FromMemory):
    """A million keys of width 128: target H1."""

    n, d = 1_048_576, 128


class OneQueryNarrow(_FromMemory):
    """A million keys of width 64: target H2."""

    n, d = 1_048_576, 64


class OneQueryInCache(_OneQuery):
    """16 384 keys of width 64: target H2."""

    params = ([1e-3],)
    n, d = 16_384, 64
    pairs = 300


class Batch(_Counted):
    """96 queries on 131 072 keys of width 128: target H3."""

    params = ([1e-3, 1e-2, 1e-1],)
    param_names = ("share",)
    timeout = 600
    limit = "int8"
    pairs = 5
    n, d = 131_072, 128
    asked = 96

    def setup(self, share: float) -> None:
        one_thread()
        self.keys, self.index = indexed(self.n, self.d)
        queries = normal(self.asked, self.d, seed=1)
        # The peer has one threshold for all: queries of one length.
        queries *= math.sqrt(self.d) / np.linalg.norm(queries, axis=1, keepdims=True)
        self.queries = queries
        self.threshold = float(thresholds(queries, self.n, share).mean())
        self.infos = [self.ours(return_info=True)[2]]

    def ours(self, **options: bool) -> Any:
        return self.index.report_batch(self.queries, self.threshold, **options)

    def track_ratio_to_faiss(self, share: float) -> float:
        peer = flat(self.n, self.d)
        return ratio(self.ours, lambda: peer.range_search(self.queries, self.threshold), self.pairs)

    def track_ratio_to_numpy(self, share: float) -> float:
        def peer() -> object:
            return np.nonzero(self.queries @ self.keys.T >= self.threshold)

        return ratio(self.ours, peer, 2 * self.pairs)

    def track_ratio_to_limit(self, share: float) -> float:
        work = 2 * self.n * self.d * self.asked
        return over_limit(self.ours, work, self.limit, 3 * self.pairs)

    def time_report_batch(self, share: float) -> None:
        self.ours()


class OneHead(_Counted):
    """8 query heads on one key head of 524 288: target H4. The peer also weighs the values."""

    params = ([1e-3],)
    param_names = ("share",)
    timeout = 600
    limit = "int8"
    pairs = 7
    n, d = 524_288, 128
    asked = 8

    def setup(self, share: float) -> None:
        one_thread()
        self.keys, self.index = indexed(self.n, self.d)
        self.queries = normal(self.asked, self.d, seed=1)
        self.thresholds = thresholds(self.queries, self.n, share)
        self.infos = [self.ours(return_info=True)[2]]

    def ours(self, **options: bool) -> Any:
        return self.index.report_batch(self.queries, self.thresholds, **options)

    def track_ratio_to_sdpa(self, share: float) -> float:
        if torch is None:
            raise NotImplementedError("torch is not installed")
        sdpa = torch.nn.functional.scaled_dot_product_attention
        values = normal(self.n, self.d, seed=2)
        q, k, v = (torch.from_numpy(x) for x in (self.queries, self.keys, values))
        rows, heads, k, v = q[None, None], q[None, :, None], k[None, None], v[None, None]
        forms = [lambda: sdpa(rows, k, v), lambda: sdpa(heads, k, v, enable_gqa=True)]
        # Queries as rows of one head, or as heads: whichever is faster here.
        return ratio(self.ours, min(forms, key=lambda form: best(form, 2)), self.pairs)

    def track_ratio_to_numpy(self, share: float) -> float:
        limits = self.thresholds.astype(np.float32)[:, np.newaxis]

        def peer() -> object:
            return np.nonzero(self.queries @ self.keys.T >= limits)

        return ratio(self.ours, peer, self.pairs)

    def track_ratio_to_limit(self, share: float) -> float:
        work = 2 * self.n * self.d * self.asked
        return over_limit(self.ours, work, self.limit, 3 * self.pairs)

    def time_report_batch(self, share: float) -> None:
        self.ours()


class Tree(_OneQuery):
    """64 of a million keys in few dimensions: target H5.

    All queries take turns with all of the peer's. A query takes so little that it would otherwise be
    its own first: the peer's pass over the keys has emptied the caches.
    """

    params = ([3, 6],)
    param_names = ("d",)
    n = 1_048_576
    pairs = 7

    def setup(self, d: int) -> None:
        one_thread()
        self.d = d
        self.keys, self.index = indexed(self.n, d, "tree")
        self.queries = normal(QUERIES, d, seed=1)
        self.thresholds = own_thresholds(self.queries, self.keys, 64).tolist()
        asked = zip(self.queries, self.thresholds, strict=True)
        self.infos = [self.index.report(q, b, return_info=True)[1] for q, b in asked]

    def asking(self, function: Callable[..., object]) -> Call:
        """Call it with every query."""
        asked = list(zip(self.queries, self.thresholds, strict=True))

        def run() -> None:
            for query, threshold in asked:
                function(query, threshold)

        return run


class TreeGrowth:
    """How time and bytes grow from 2**14 to 2**20 keys, 64 reported: target H5."""

    params = ([4, 6],)
    param_names = ("d",)
    timeout = 600
    sizes = tuple(2**x for x in (14, 16, 18, 20))
    rounds = 5

    def setup(self, d: int) -> None:
        one_thread()
        queries = normal(QUERIES, d, seed=1)
        self.times, self.bytes = [], []
        for n in self.sizes:
            keys = normal(n, d, seed=0)
            index = Index(keys, method="tree", workers=1)
            asked = list(zip(queries, own_thresholds(queries, keys, 64).tolist(), strict=True))
            calls = [functools.partial(index.report, *question) for question in asked]
            self.times.append(median(best(call, self.rounds) for call in calls))
            read = [call(return_info=True)[1].bytes_read for call in calls]
            self.bytes.append(sum(read) / len(read))

    def track_exponent_of_time(self, d: int) -> float:
        return float(np.polyfit(np.log(self.sizes), np.log(self.times), 1)[0])

    def track_exponent_of_bytes_read(self, d: int) -> float:
        return float(np.polyfit(np.log(self.sizes), np.log(self.bytes), 1)[0])

    def track_bytes_read(self, d: int) -> float:
        return self.bytes[-1]

    track_bytes_read.unit = "bytes"

    def about(self) -> str:
        """Show the time at every size."""
        return "64 reported; us " + " ".join(f"{1e6 * x:.1f}" for x in self.times)


class Build:
    """Coding 262 144 keys against copying them into the peer, a fresh index each: target H6."""

    params = ([64, 128],)
    param_names = ("d",)
    timeout = 600
    pairs = 7
    n = 262_144

    def setup(self, d: int) -> None:
        one_thread()
        self.keys = normal(self.n, d, seed=0)

    def ours(self) -> Index:
        return Index(self.keys, method="quantized", workers=1)

    def track_ratio_of_time_to_faiss(self, d: int) -> float:
        if faiss is None:
            raise NotImplementedError("faiss-cpu is not installed")
        return ratio(self.ours, lambda: faiss.IndexFlatIP(d).add(self.keys), self.pairs)

    def track_bytes_per_key(self, d: int) -> float:
        return self.ours().stats.bytes_per_key

    def time_build(self, d: int) -> None:
        self.ours()


class RotatedPlanes(_Counted):
    """Codes in a learnt basis against codes of 8 bits, on real keys: target H7.

    The queries that the basis is learnt from are never asked. Thresholds are the queries' own scores
    of the rank that `share` says.
    """

    params = (list(HEADS), [1e-3])
    param_names = ("head", "share")
    timeout = 600
    pairs = 9

    def setup(self, head: str, share: float) -> None:
        one_thread()
        self.keys, self.queries, learnt = captured(head)
        self.n, self.d = self.keys.shape
        self.index = Index(self.keys, queries=learnt, method="rotated", workers=1)
        self.parts = list(int8_parts(self.keys))
        count = max(1, round(share * len(self.keys)))
        self.thresholds = own_thresholds(self.queries, self.keys, count).tolist()
        asked = list(zip(self.queries, self.thresholds, strict=True))
        self.infos = [self.index.report(q, b, return_info=True)[1] for q, b in asked]
        self.plain = [
            part.report(q, b, return_info=True)[1] for part in self.parts for q, b in asked
        ]

    def track_ratio_of_bytes_to_int8(self, head: str, share: float) -> float:
        return self.mean("bytes_read") / int8_bytes(self.plain, self.n, self.d)

    def track_ratio_of_time_to_int8(self, head: str, share: float) -> float:
        asked = list(zip(self.queries, self.thresholds, strict=True))

        def ours() -> None:
            for query, threshold in asked:
                self.index.report(query, threshold)

        # Part after part for every query, so that no part stays in a cache that the whole would not fit.
        def plain() -> None:
            for query, threshold in asked:
                for part in self.parts:
                    part.report(query, threshold)

        # What calling one part more costs is not the engine's time.
        idle = best(in_turn(self.parts[0].report, self.queries, [math.inf] * QUERIES), 100)
        extra = idle * QUERIES * (len(self.parts) - 1)
        ours()
        plain()
        return median(seconds(ours) / (seconds(plain) - extra) for _ in range(self.pairs))

    def about(self) -> str:
        """Show the shape, and name the engines that answered."""
        return f"n={self.n}, d={self.d}, {super().about()}"


class RotatedFromMemory(RotatedPlanes):
    """Two million keys, 32 copies of a real head with noise, whose codes no cache holds."""

    params = ([COPIED], [1e-3])
    pairs = 5


class BatchWorkers:
    """Time on two workers over the time on one: 0.5 would be perfect."""

    params = ([1e-3, 1e-2],)
    param_names = ("share",)
    timeout = 600
    pairs = 6
    n, d, queries = 131_072, 128, 96

    def setup(self, share: float) -> None:
        if subquad._subquad.cores() < 2:
            raise NotImplementedError("one core")
        one_thread()
        _, self.index = indexed(self.n, self.d)
        self.asked = normal(self.queries, self.d, seed=1)
        self.thresholds = thresholds(self.asked, self.n, share)

    def call(self, workers: int, **options: bool) -> Any:
        self.index.workers = workers
        try:
            return self.index.report_batch(self.asked, self.thresholds, **options)
        finally:
            self.index.workers = 1

    def track_ratio_to_one_worker(self, share: float) -> float:
        return ratio(lambda: self.call(2), lambda: self.call(1), self.pairs)

    def track_differences(self, share: float) -> int:
        one, two = (self.call(workers, return_scores=True) for workers in (1, 2))
        return sum(x.tobytes() != y.tobytes() for x, y in zip(one, two, strict=True))
