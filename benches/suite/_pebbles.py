"""Graphs, orders and peers of the benchmarks of pebbling."""

from __future__ import annotations

import heapq
import importlib
from typing import Any

from subquad import pebble
from subquad.pebble import Dag

# Graph, order and its block, words of fast memory: a million values each.
LARGE: dict[str, tuple[str, tuple[Any, ...], str, int | None, int]] = {
    "matmul natural": ("matmul", (96, 96, 96), "natural", None, 256),
    "matmul blocked": ("matmul", (96, 96, 96), "blocked", 14, 256),
    "matmul recursive": ("matmul", (96, 96, 96), "recursive", None, 256),
    "fft natural": ("fft", (65_536,), "natural", None, 66),
    "fft blocked": ("fft", (65_536,), "blocked", 64, 66),
    "fft recursive": ("fft", (65_536,), "recursive", None, 66),
    "stencil natural": ("stencil", (4096, 256), "natural", None, 514),
    "stencil blocked": ("stencil", (4096, 256), "blocked", 255, 514),
    "attention blocked": ("attention", (96, 32), "blocked", 6, 512),
}


def large(name: str) -> tuple[Dag, Any, int]:
    """Return a graph, an order and the words of fast memory."""
    family, sizes, kind, block, memory = LARGE[name]
    dag: Dag = getattr(Dag, family)(*sizes)
    return dag, pebble.order(dag, kind, block=block), memory


def module(name: str) -> Any:
    """Return a peer's module, or skip."""
    try:
        return importlib.import_module(name)
    except ImportError as missing:
        raise NotImplementedError(f"{name} is not installed") from missing


class Networkx:
    """Belady's rule as one would write it with networkx and heapq: one word each, the plain game."""

    def __init__(self, dag: Dag, order: Any) -> None:
        self.graph = module("networkx").DiGraph()
        self.graph.add_nodes_from(range(dag.num_vertices))
        self.graph.add_edges_from(dag.edges.tolist())
        self.order = order.tolist()
        self.wanted = set(dag.outputs.tolist())

    def words(self, memory: int) -> int:
        """Return loads and stores."""
        graph = self.graph
        place = {v: step for step, v in enumerate(self.order)}
        uses = {v: sorted((place[w] for w in graph.successors(v)), reverse=True) for v in graph}
        blue = {v for v in graph if graph.in_degree(v) == 0}
        red: set[int] = set()
        heap: list[tuple[int, int]] = []
        words = 0
        for step, v in enumerate(self.order):
            operands = list(graph.predecessors(v))
            for x in [*operands, v]:
                if x in red:
                    continue
                while len(red) >= memory:
                    far, u = heapq.heappop(heap)
                    # Entries of values that have left, or were used since, are old.
                    if u in red and uses[u] and uses[u][-1] == -far and -far > step:
                        red.discard(u)
                        words += u not in blue
                        blue.add(u)
                words += x != v
                red.add(x)
            for x in [*operands, v]:
                if x != v:
                    uses[x].pop()
                if uses[x]:
                    heapq.heappush(heap, (-uses[x][-1], x))
                else:
                    red.discard(x)
                    if x in self.wanted and x not in blue:
                        words += 1
                        blue.add(x)
        return words


class Pycachesim:
    """A fully associative LRU cache of pycachesim, with lines of 8 words of 8 bytes.

    All accesses are reads: of writes that miss it has its own opinion.
    """

    LINE = 8

    def __init__(self, addresses: Any, lines: int) -> None:
        self.cachesim = module("cachesim")
        self.addresses = (8 * addresses).tolist()
        self.lines = lines

    def misses(self) -> int:
        """Return the misses of the cache, call by call as its manual does."""
        memory = self.cachesim.MainMemory()
        cache = self.cachesim.Cache("L1", 1, self.lines, 8 * self.LINE, "LRU")
        memory.load_to(cache)
        memory.store_from(cache)
        simulator = self.cachesim.CacheSimulator(cache, memory)
        load = simulator.load
        for address in self.addresses:
            load(address, 8)
        return int(cache.backend.MISS_count)


def attention_trace(n: int, d: int, rows: int) -> pebble.Trace:
    """Return what the order of FlashAttention-2 accesses, one key at a time."""
    return pebble.Trace.attention(n, d, rows=rows, columns=1)
