"""Graphs of attention by what their values are words of, and plays cut into segments as the proof does."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pebble_theory_plays import Play, product_graph

# The array, and the place: ("s", i, j) is a score.
Place = tuple[str, int, int]
# The operands of a product, and its number in the sum.
Term = tuple[list[int], int]


@dataclass
class Parts:
    """A graph, the place that each computed value is a word of, and the product that each makes."""

    operands: list[list[int]] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    places: dict[int, Place] = field(default_factory=dict)
    products: dict[int, tuple[Place, int]] = field(default_factory=dict)
    # The sum itself, of each place.
    whole: dict[Place, int] = field(default_factory=dict)

    def inputs(self, rows: int, columns: int) -> list[list[int]]:
        """Add a matrix."""
        return [[self.add([]) for _ in range(columns)] for _ in range(rows)]

    def add(self, operands: Iterable[int], place: Place | None = None) -> int:
        """Add a value."""
        self.operands.append(list(operands))
        if place is not None:
            self.places[len(self.operands) - 1] = place
        return len(self.operands) - 1

    def sum(self, terms: list[list[int]], place: Place, rng: random.Random) -> int:
        """Add a sum of products, in any order, in one chain or two that are added at last."""
        order: list[Term] = [(term, number) for number, term in enumerate(terms)]
        rng.shuffle(order)
        cut = rng.randint(1, len(order)) if rng.random() < 0.5 else len(order)
        parts = [self._chain(chain, place) for chain in (order[:cut], order[cut:]) if chain]
        self.whole[place] = parts[0] if len(parts) == 1 else self.add(parts, place)
        return self.whole[place]

    def _chain(self, terms: list[Term], place: Place) -> int:
        last: list[int] = []
        for term, number in terms:
            last = [self.add([*term, *last], place)]
            self.products[last[0]] = (place, number)
        return last[0]


def matrix_product(m: int, n: int, k: int) -> Parts:
    """Return the graph of a product of matrices."""
    operands, products = product_graph(m, n, k)
    used = {u for below in operands for u in below}
    places: dict[int, Place] = {v: ("c", i, j) for v, (i, j, _) in products.items()}
    return Parts(
        operands,
        [v for v in range(len(operands)) if v not in used],
        places,
        {v: (places[v], term) for v, (_, _, term) in products.items()},
    )


def attention(n: int, m: int, d: int, direction: str, rng: random.Random) -> Parts:
    """Return the graph for n queries, m keys and width d; rows are normalised at the end, forward only."""
    parts = Parts()
    query, key, value = parts.inputs(n, d), parts.inputs(m, d), parts.inputs(m, d)
    rows, keys, columns = range(n), range(m), range(d)
    pairs = list(itertools.product(rows, keys))
    weight = {}
    for i, j in pairs:
        terms = [[query[i][k], key[j][k]] for k in columns]
        weight[i, j] = parts.add([parts.sum(terms, ("s", i, j), rng)], ("p", i, j))
    if direction == "forward":
        for i in rows:
            row = parts.add([weight[i, 0]])
            for j in keys[1:]:
                row = parts.add([row, weight[i, j]])
            for c in columns:
                result = parts.sum([[weight[i, j], value[j][c]] for j in keys], ("o", i, c), rng)
                parts.outputs.append(parts.add([result, row], ("o", i, c)))
        return parts
    given, slope = parts.inputs(n, d), {}
    for i, j in pairs:
        terms = [[given[i][k], value[j][k]] for k in columns]
        of_weight = parts.sum(terms, ("dp", i, j), rng)
        slope[i, j] = parts.add([weight[i, j], of_weight], ("ds", i, j))
    for c in columns:
        for j in keys:
            of_value = [[weight[i, j], given[i][c]] for i in rows]
            of_key = [[slope[i, j], query[i][c]] for i in rows]
            parts.outputs.append(parts.sum(of_value, ("dv", j, c), rng))
            parts.outputs.append(parts.sum(of_key, ("dk", j, c), rng))
        for i in rows:
            of_query = [[slope[i, j], key[j][c]] for j in keys]
            parts.outputs.append(parts.sum(of_query, ("dq", i, c), rng))
    return parts


def counted_products(
    play: Play,
    way: Mapping[int, set[int]],
    parts: Parts,
    weights: Mapping[str, float],
    rng: random.Random,
) -> dict[int, float]:
    """Return the moves whose products count: of results all on the way, of other sums those of one occurrence."""
    results = {parts.places[v][0] for v in parts.outputs}
    kept = {step for step in way if parts.places.get(play[step][1], ("",))[0] in results}
    for place, v in sorted(parts.whole.items()):
        if place[0] in results or place[0] not in weights:
            continue
        waiting = [rng.choice([step for step in sorted(way) if play[step][1] == v])]
        while waiting:
            step = waiting.pop()
            kept.add(step)
            waiting += [u for u in way[step] if parts.places[play[u][1]] == place]
    made = [
        (step, parts.products[play[step][1]][0]) for step in kept if play[step][1] in parts.products
    ]
    return {step: weights[place[0]] for step, place in made if place[0] in weights}


@dataclass
class Segment:
    """What it is charged, what its products count, and the words at hand, at their charges."""

    charge: float
    done: float
    at_hand: float


def segments(
    play: Play,
    parts: Parts,
    kept: Mapping[int, float],
    price: Mapping[str, float],
    most: int,
    memory: int,
) -> tuple[list[Segment], Counter[Place]]:
    """Cut so that the first may be charged `most`, others as much less as memory holds; count fresh starts."""
    found: list[Segment] = []
    starts: Counter[Place] = Counter()
    fast: set[int] = set()
    at_hand: dict[object, float] = {}
    allowed, charge, done = float(most), 0.0, 0.0

    def words(v: int) -> object:
        # Sums of rows are free.
        return parts.places.get(v, v if not parts.operands[v] else None)

    def cost(step: int, op: str, v: int) -> float:
        if op == "load":
            return 1.0
        if op != "compute" or step not in kept or parts.places[v] in at_hand:
            return 0.0
        return price.get(parts.places[v][0], 1.0)

    for step, (op, v) in enumerate(play):
        if charge + cost(step, op, v) > allowed + 1e-9:
            found.append(Segment(charge, done, sum(at_hand.values())))
            allowed, charge, done = float(most - memory), 0.0, 0.0
            at_hand = {words(u): 1.0 for u in fast if words(u) is not None}
        charge += cost(step, op, v)
        if op == "delete":
            fast.remove(v)
        elif op != "store":
            if op == "load" and words(v) is not None:
                at_hand[words(v)] = 1.0
            elif op == "compute" and cost(step, op, v):
                starts[parts.places[v]] += 1
                at_hand[parts.places[v]] = cost(step, op, v)
            done += kept.get(step, 0.0) if op == "compute" else 0.0
            fast.add(v)
    return [*found, Segment(charge, done, sum(at_hand.values()))], starts
