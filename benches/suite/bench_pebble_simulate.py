"""Orders of computation and caches: words, which are exact, and time against networkx and pycachesim.

``track_ratio_to_<peer>`` is our time over the peer's for the same values or accesses, better when smaller. The cache
of pycachesim does a shorter trace of the same kind, in accesses per second, because of its speed; the counts
of both are compared first.
"""

from __future__ import annotations

from statistics import median

from subquad import pebble
from subquad.pebble import Dag

from . import _pebbles
from ._alternate import ratio, seconds


class Simulate:
    """A million values, on one thread."""

    params = (list(_pebbles.LARGE),)
    param_names = ("graph",)
    timeout = 600

    def setup(self, name: str) -> None:
        self.dag, self.order, self.memory = _pebbles.large(name)

    def track_words_belady(self, name: str) -> int:
        return pebble.simulate(self.dag, self.order, self.memory).words

    def track_words_best(self, name: str) -> int:
        return pebble.simulate(self.dag, self.order, self.memory, "best").words

    def track_words_lru(self, name: str) -> int:
        return pebble.simulate(self.dag, self.order, self.memory, "lru").words

    def time_belady(self, name: str) -> None:
        pebble.simulate(self.dag, self.order, self.memory)

    def time_belady_with_moves(self, name: str) -> None:
        pebble.simulate(self.dag, self.order, self.memory, return_moves=True)

    def time_lru(self, name: str) -> None:
        pebble.simulate(self.dag, self.order, self.memory, "lru")


class AgainstNetworkx:
    """The same quarter of a million values for both."""

    params = (["matmul", "fft", "stencil"],)
    param_names = ("family",)
    timeout = 600
    pairs = 5

    def setup(self, family: str) -> None:
        sizes, block, self.memory = {
            "matmul": ((64, 64, 64), 14, 256),
            "fft": ((16_384,), 64, 66),
            "stencil": ((4096, 64), 255, 514),
        }[family]
        self.dag: Dag = getattr(Dag, family)(*sizes)
        self.order = pebble.order(self.dag, "blocked", block=block)
        self.peer = _pebbles.Networkx(self.dag, self.order)

    def ours(self) -> int:
        return pebble.simulate(self.dag, self.order, self.memory).words

    def track_ratio_to_networkx(self, family: str) -> float:
        # Ties are broken differently, where something dirty and something clean are used at the same time.
        theirs, ours = self.peer.words(self.memory), self.ours()
        assert abs(theirs - ours) <= 0.02 * ours, (theirs, ours)
        return ratio(self.ours, lambda: self.peer.words(self.memory), self.pairs)


class Orders:
    """Words of orders that are made for a memory, and of a search that improves them."""

    params = (["matmul", "fft", "stencil", "attention"],)
    param_names = ("family",)
    timeout = 600

    def setup(self, family: str) -> None:
        self.dag, self.memory = {
            "matmul": (Dag.matmul(24, 24, 24), 64),
            "fft": (Dag.fft(1024), 34),
            "stencil": (Dag.stencil(256, 64), 66),
            "attention": (Dag.attention(4, 4), 12),
        }[family]

    def track_words_natural(self, family: str) -> int:
        return pebble.simulate(self.dag, pebble.order(self.dag), self.memory).words

    def track_words_depth_first(self, family: str) -> int:
        listed = pebble.order(self.dag, "depth-first")
        return pebble.simulate(self.dag, listed, self.memory).words

    def track_words_greedy(self, family: str) -> int:
        listed = pebble.order(self.dag, "greedy", memory=self.memory)
        return pebble.simulate(self.dag, listed, self.memory).words

    def track_words_improved(self, family: str) -> int:
        listed = pebble.order(self.dag, "greedy", memory=self.memory)
        found = pebble.improve_order(self.dag, listed, self.memory, evaluations=2000)
        return found.count.words

    def time_greedy(self, family: str) -> None:
        pebble.order(self.dag, "greedy", memory=self.memory)


class Replay:
    """Attention of 256 queries in the order of FlashAttention-2: 11 million accesses."""

    params = ([256, 1024, 4096],)
    param_names = ("words",)
    timeout = 600

    def setup(self, words: int) -> None:
        n, d = 256, 32
        self.trace = _pebbles.attention_trace(n, d, min(n, max(1, (words - 1) // (2 * d + 3))))

    def track_words_lru(self, words: int) -> int:
        return pebble.replay(self.trace, words, fetch_on_write=False).words

    def track_words_set_associative(self, words: int) -> int:
        return pebble.replay(self.trace, words, "set-associative", 16).words

    def track_words_opt(self, words: int) -> int:
        return pebble.replay(self.trace, words, "opt", fetch_on_write=False, discard=True).words

    def time_lru(self, words: int) -> None:
        pebble.replay(self.trace, words)

    def time_set_associative(self, words: int) -> None:
        pebble.replay(self.trace, words, "set-associative", 16)

    def time_opt(self, words: int) -> None:
        pebble.replay(self.trace, words, "opt")

    def time_distances(self, words: int) -> None:
        pebble.reuse_distances(self.trace)


class AgainstPycachesim:
    """Accesses per second of a fully associative LRU cache, of lines of 8 words."""

    params = ([16, 128],)
    param_names = ("lines",)
    timeout = 600
    pairs = 5

    def setup(self, lines: int) -> None:
        self.large = pebble.Trace(_pebbles.attention_trace(256, 32, 15).addresses)
        self.small = pebble.Trace(_pebbles.attention_trace(48, 16, 15).addresses)
        self.peer = _pebbles.Pycachesim(self.small.addresses, lines)

    def track_ratio_to_pycachesim(self, lines: int) -> float:
        line = self.peer.LINE
        ours = pebble.replay(self.small, lines * line, "lru", line).misses
        assert self.peer.misses() == ours

        def pair() -> float:
            ours = seconds(lambda: pebble.replay(self.large, lines * line, "lru", line))
            theirs = seconds(self.peer.misses)
            return (ours / len(self.large)) / (theirs / len(self.small))

        return median(pair() for _ in range(self.pairs))
