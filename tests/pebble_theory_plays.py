"""What bounds of pebble games are held against: exhaustive searches, random plays, formulas of schedules."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence

# Moves of a play: what happens, and the value.
Play = list[tuple[str, int]]


def least_words(
    operands: Sequence[Sequence[int]],
    outputs: Sequence[int],
    memory: int,
    *,
    recompute: bool = False,
    sliding: bool = False,
) -> int:
    """Fewest loads and stores, by Dijkstra's algorithm over all states: (fast, slow, computed) values."""
    sources = sum(1 << v for v, below in enumerate(operands) if not below)
    needs = [sum(1 << u for u in below) for below in operands]
    wanted = sum(1 << v for v in outputs)
    start = (0, sources, sources)
    best, queue = {start: 0}, [(0, start)]
    while queue:
        words, state = heapq.heappop(queue)
        if words > best[state]:
            continue
        fast, slow, computed = state
        if wanted & ~slow == 0:
            return words
        free = fast.bit_count() < memory
        following = []
        for v, below in enumerate(needs):
            bit = 1 << v
            if fast & bit:
                following.append((0, (fast & ~bit, slow, computed)))
                if not slow & bit:
                    following.append((1, (fast, slow | bit, computed)))
                continue
            if slow & bit and free:
                following.append((1, (fast | bit, slow, computed)))
            if sources & bit or below & ~fast or (computed & bit and not recompute):
                continue
            if free:
                following.append((0, (fast | bit, slow, computed | bit)))
            elif sliding:
                following += [
                    (0, (fast & ~(1 << u) | bit, slow, computed | bit)) for u in operands[v]
                ]
        for cost, after in following:
            if words + cost < best.get(after, 1 << 60):
                best[after] = words + cost
                heapq.heappush(queue, (words + cost, after))
    raise AssertionError("memory is too small")


def random_tree(rng: random.Random, values: int, most: int) -> list[int]:
    """Return parents of a tree whose values have no more operands than `most`."""
    parents, used = [-1], [0]
    while len(parents) < values:
        parent = rng.randrange(len(parents))
        if used[parent] < most:
            parents.append(parent)
            used.append(0)
            used[parent] += 1
    return parents


def product_graph(
    m: int, n: int, k: int
) -> tuple[list[list[int]], dict[int, tuple[int, int, int]]]:
    """Return operands of the values of a matrix product, fused, and the (i, j, l) of each that is computed."""
    operands: list[list[int]] = [[] for _ in range(m * k + k * n)]
    of: dict[int, tuple[int, int, int]] = {}
    for i in range(m):
        for j in range(n):
            for term in range(k):
                below = [i * k + term, m * k + term * n + j]
                if term:
                    below.append(len(operands) - 1)
                of[len(operands)] = (i, j, term)
                operands.append(below)
    return operands, of


def random_play(
    operands: list[list[int]], outputs: Sequence[int], memory: int, rng: random.Random
) -> Play:
    """Return a legal play in which values are often computed again, stored for nothing and dropped."""
    slow = {v for v, below in enumerate(operands) if not below}
    fast: set[int] = set()
    moves: Play = []

    def make_room(keep: set[int]) -> None:
        while len(fast) >= memory:
            v = rng.choice(sorted(fast - keep))
            if v not in slow and rng.random() < 0.5:
                moves.append(("store", v))
                slow.add(v)
            moves.append(("delete", v))
            fast.remove(v)

    def fetch(v: int, keep: set[int]) -> None:
        """Bring v into fast memory; what is in `keep` stays there."""
        if v in fast:
            return
        if v in slow and (not operands[v] or rng.random() < 0.8):
            make_room(keep)
            moves.append(("load", v))
        else:
            kept = set(keep)
            # The sum first: making it needs room.
            for u in sorted(operands[v], reverse=True):
                fetch(u, kept)
                kept.add(u)
            make_room(kept)
            moves.append(("compute", v))
        fast.add(v)

    for v in rng.sample(list(outputs), len(outputs)):
        # Some of the way, perhaps, and later again.
        for goal in (rng.choice([u for u, below in enumerate(operands) if below]), v):
            fetch(goal, set())
        if v not in slow:
            moves.append(("store", v))
            slow.add(v)
    return moves


def final_products(
    moves: Play, outputs: Sequence[int], operands: list[list[int]]
) -> dict[int, set[int]]:
    """Return for the moves that compute what an output is made of in the end, which earlier moves they use."""
    in_fast: dict[int, int] = {}
    in_slow: dict[int, int] = {}
    uses: dict[int, list[int]] = {}
    for step, (op, v) in enumerate(moves):
        if op == "load":
            in_fast[v] = in_slow.get(v, -1)
        elif op == "store":
            in_slow[v] = in_fast[v]
        elif op == "delete":
            del in_fast[v]
        else:
            uses[step] = [in_fast[u] for u in operands[v] if in_fast[u] >= 0]
            in_fast[v] = step
    kept: dict[int, set[int]] = {}
    waiting = [in_slow[v] for v in outputs]
    while waiting:
        step = waiting.pop()
        kept[step] = set(uses[step])
        waiting += uses[step]
    return kept


def forward_words(n: int, d: int, memory: int) -> Iterator[tuple[str, int]]:
    """Words of executed schedules of attention (ceil is for blocks at the edge)."""

    def parts(length: int, block: int) -> int:
        return -(-length // block)

    rows = min((memory - 1) // (2 * d + 3), n)
    if rows > 0:
        yield "rows of queries", 2 * n * d + n + parts(n, rows) * 2 * n * d
    square = max((b for b in range(1, n + 1) if b * b + 4 * b <= memory), default=0)
    if square:
        scores = 2 * parts(n, square) * n * d + n * n + n
        yield "squares", scores + parts(d, square) * n * n + parts(n, square) * n * d + n * d
    # Scores stored, each phase with the best blocks.
    first = [
        (parts(n, r) + (1 if c == 0 else parts(n, c))) * n * d
        for r in range(1, n + 1)
        for c in range(min(n, max(0, memory - 1 - 3 * r) // r) + 1)
        if (r * (d + 3) + 1 if c == 0 else r * c + 3 * r + 1) <= memory
    ]
    second = [
        parts(d, w) * n * n + parts(n, min(n, (memory - 1) // (w + 2))) * n * d
        for w in range(1, d + 1)
        if memory > w + 2
    ]
    if first and second:
        yield "rectangles", min(first) + min(second) + n * n + 2 * n + n * d


def backward_words(n: int, d: int, memory: int) -> Iterator[tuple[str, int]]:
    """Words of executed schedules of its gradient."""

    def parts(length: int, block: int) -> int:
        return -(-length // block)

    keys = min(n, max(0, memory - 2 * d - 1) // (4 * d + 2))
    queries = min(n, max(0, memory - d) // (3 * d + 4))
    inputs = 6 * n * d + n
    if keys:
        blocks = parts(n, keys)
        yield "one pass", inputs + blocks * (3 * n * d + 2 * n) + (blocks - 1) * n * d
    if keys and queries:
        first = parts(n, keys) * (2 * n * d + 2 * n) + 3 * n * d + 2 * n
        yield "two passes", inputs + first + parts(n, queries) * 2 * n * d
    square = max((b for b in range(1, n + 1) if b * b + 3 * b <= memory), default=0)
    if square:
        scores = 2 * (2 * parts(n, square) * n * d + parts(n, square) * n) + 3 * n * n
        results = 3 * (parts(d, square) * n * n + parts(n, square) * n * d + n * d)
        yield "squares", 2 * n * d + n + scores + results
