"""Where the vertices of a graph are drawn: in layers, every value to the right of its operands.

The method of Sugiyama, Tagawa and Toda (1981): layers by longest paths, edges that pass layers by way of
auxiliary points, orders by barycentres, the one with the fewest crossings kept; then places in each layer as
near to their neighbours as the order and the distance of points allow. O(sweeps (V + E) log E), where E
counts an edge once for each layer that it crosses.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass
from itertools import pairwise

from .dag import Dag

__all__ = ["Layout", "layout"]

_ORDER_SWEEPS = 12
_PLACE_SWEEPS = 16
# How far apart the points of a layer are, if both are vertices, or one is only passed by an edge.
_APART, _PASSING = 1.0, 0.5
# Beyond so many auxiliary points edges are straight.
_MOST_POINTS = 20_000


@dataclass(frozen=True)
class Layout:
    """Places in layers: `layer` from the left, `height` from the top; `routes` are those of edges.

    A route is the heights at which an edge passes the layers between its ends.
    """

    layers: int
    layer: list[int]
    height: list[float]
    routes: list[list[float]]


def layout(dag: Dag) -> Layout:
    """Return where the vertices of a graph are drawn."""
    layer = _layers(dag)
    edges = [(u, v) for u, v in dag.edges.tolist()]
    graph = _Points(layer, edges)
    best = graph.rows
    fewest = graph.crossings()
    for sweep in range(_ORDER_SWEEPS):
        graph.sort(forwards=sweep % 2 == 0)
        crossings = graph.crossings()
        if crossings < fewest:
            fewest, best = crossings, [list(row) for row in graph.rows]
    graph.rows = best
    height = graph.heights()
    return Layout(
        len(best),
        layer,
        height[: dag.num_vertices],
        [[height[p] for p in points] for points in graph.passed],
    )


def _layers(dag: Dag) -> list[int]:
    """Return the longest path to each value; sources are beside the first that needs them."""
    layer = [0] * dag.num_vertices
    order = dag.order.tolist()
    for v in order:
        operands = dag.predecessors(v).tolist()
        layer[v] = 1 + max((layer[u] for u in operands), default=-1)
    for v in order:
        users = dag.successors(v).tolist()
        if users and not len(dag.predecessors(v)):
            layer[v] = min(layer[w] for w in users) - 1
    return layer


class _Points:
    """Vertices, and after them the points at which long edges pass layers."""

    def __init__(self, layer: list[int], edges: list[tuple[int, int]]) -> None:
        self.vertices = len(layer)
        layers = 1 + max(layer, default=-1)
        self.rows: list[list[int]] = [[] for _ in range(layers)]
        for v, at in enumerate(layer):
            self.rows[at].append(v)
        spans = sum(max(0, layer[v] - layer[u] - 1) for u, v in edges)
        self.left: list[list[int]] = [[] for _ in layer]
        self.right: list[list[int]] = [[] for _ in layer]
        self.passed: list[list[int]] = []
        for u, v in edges:
            points: list[int] = []
            before = u
            for at in range(layer[u] + 1, layer[v] if spans <= _MOST_POINTS else 0):
                point = len(self.left)
                self.left.append([])
                self.right.append([])
                self.rows[at].append(point)
                self._join(before, point)
                points.append(point)
                before = point
            if len(points) == layer[v] - layer[u] - 1:
                self._join(before, v)
            self.passed.append(points)

    def _join(self, u: int, v: int) -> None:
        self.right[u].append(v)
        self.left[v].append(u)

    def _places(self) -> list[int]:
        place = [0] * len(self.left)
        for row in self.rows:
            for at, point in enumerate(row):
                place[point] = at
        return place

    def sort(self, *, forwards: bool) -> None:
        """Sort each layer by the mean place of neighbours in the one before."""
        neighbours = self.left if forwards else self.right
        place = self._places()
        for row in self.rows if forwards else reversed(self.rows):
            wanted = {p: _mean([place[q] for q in neighbours[p]], place[p]) for p in row}
            row.sort(key=lambda p: (wanted[p], place[p]))
            for at, point in enumerate(row):
                place[point] = at

    def crossings(self) -> int:
        """Return how many pairs of edges cross."""
        place = self._places()
        found = 0
        for row in self.rows:
            ends: list[int] = []
            for point in row:
                targets = sorted(place[q] for q in self.right[point])
                found += sum(len(ends) - bisect_right(ends, at) for at in targets)
                for at in targets:
                    insort(ends, at)
        return found

    def heights(self) -> list[float]:
        """Return places in the layers: means of neighbours, as near as distances allow."""
        height = [0.0] * len(self.left)
        for row in self.rows:
            for point, at in zip(row, self._apart(row), strict=True):
                height[point] = at - self._apart(row)[-1] / 2
        for sweep in range(_PLACE_SWEEPS):
            for row in self.rows if sweep % 2 == 0 else reversed(self.rows):
                wanted = [
                    _mean([height[q] for q in self.left[p] + self.right[p]], height[p]) for p in row
                ]
                offsets = self._apart(row)
                levels = _ascending([w - o for w, o in zip(wanted, offsets, strict=True)])
                for point, level, offset in zip(row, levels, offsets, strict=True):
                    height[point] = level + offset
        top = min(height, default=0.0)
        return [round(at - top, 3) for at in height]

    def _apart(self, row: list[int]) -> list[float]:
        """Return the places of a layer's points if all are as near as they may be."""
        places = [0.0]
        for before, point in pairwise(row):
            both = before < self.vertices and point < self.vertices
            places.append(places[-1] + (_APART if both else _PASSING))
        return places[: len(row)]


def _mean(numbers: list[float] | list[int], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise


def _ascending(wanted: list[float]) -> list[float]:
    """Return the ascending numbers nearest to some in squares, by pooling those that descend."""
    pools: list[tuple[float, int]] = []
    for number in wanted:
        total, count = number, 1
        while pools and pools[-1][0] * count > total * pools[-1][1]:
            before = pools.pop()
            total, count = total + before[0], count + before[1]
        pools.append((total, count))
    return [total / count for total, count in pools for _ in range(count)]
