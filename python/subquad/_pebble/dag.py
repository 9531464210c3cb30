"""Computations as directed acyclic graphs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _subquad
from .._table import html_table
from . import networks
from .arguments import take_count, take_integers, take_vertices
from .model import Model, take_model

__all__ = ["Dag"]

_MOST_VERTICES = 2**30


class Dag:
    """A computation: vertices are values, and edges lead from operands to what is computed from them.

    Made by `from_edges`, by one of the other ``from_`` methods, or by a generator. Immutable; vertices are
    numbered from 0.

    Attributes
    ----------
    num_vertices, num_edges : int
        How many values, and how many pairs of a value and one of its operands.
    edges : ndarray of int64, shape (num_edges, 2)
        From operand to result, in the order of results.
    sources : ndarray of int64
        Values without operands, ascending.
    outputs : ndarray of int64
        Values that are wanted, ascending.
    weights : ndarray of int64, shape (num_vertices,)
        Words of each value.
    names : sequence of str
        Names of the vertices, by default their numbers.
    order : ndarray of int64, shape (num_vertices,)
        All vertices, each after its operands; of those that may come next, the smallest first.

    Examples
    --------
    >>> from subquad.pebble import Dag
    >>> dag = Dag.from_edges(4, [(0, 1), (0, 2), (1, 3), (2, 3)])
    >>> dag
    Dag(4 vertices, 4 edges, 1 source, 1 output)
    >>> dag.predecessors(3), dag.least_memory()
    (array([1, 2]), 3)
    """

    def __init__(self, core: _subquad.PebbleDag, names: Sequence[str] | None = None) -> None:
        if not isinstance(core, _subquad.PebbleDag):
            raise TypeError("graphs are made by Dag.from_edges and the other methods of the class")
        self._core = core
        self._names = names

    @classmethod
    def from_edges(
        cls,
        num_vertices: int,
        edges: Any,
        *,
        outputs: Any = None,
        weights: Any = None,
        names: Iterable[str] | None = None,
    ) -> Dag:
        """Return the graph of some edges.

        Parameters
        ----------
        num_vertices : int
            V, at most 2^30.
        edges : array_like of int, shape (E, 2), or iterable of pairs
            From operand to result, in any order; an edge that is repeated counts once.
        outputs : array_like of int, optional
            Values that are wanted; by default those that nothing is computed from.
        weights : array_like of int, shape (V,), optional
            Words of each value, from 1 to 2^32 - 1; one by default.
        names : iterable of str, length V, optional
            Names of the vertices, no two alike, for messages, files and pictures.

        Returns
        -------
        Dag

        Raises
        ------
        ValueError
            For vertices that are not there, edges that form a cycle (which the message shows; a loop is
            one), and weights or names that do not fit.

        Notes
        -----
        Takes O(V + E) memory and O((V + E) log V) time.
        """
        vertices = take_count("num_vertices", num_vertices, least=0, most=_MOST_VERTICES)
        pairs = take_integers("edges", edges)
        if pairs.size == 0:
            pairs = pairs.reshape(0, 2)
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise ValueError(f"`edges` must have shape (E, 2), got {pairs.shape}")
        listed = None if names is None else _take_names(names, vertices)
        try:
            core = _subquad.PebbleDag(
                vertices,
                take_vertices("edges", pairs, vertices),
                None if outputs is None else _take_outputs(outputs, vertices),
                None if weights is None else _take_weights(weights, vertices),
            )
        except ValueError as err:
            # A cycle comes with its vertices, which have names here.
            if len(err.args) == 2 and listed is not None:
                cycle = " -> ".join(listed[v] for v in [*err.args[1], err.args[1][0]])
                raise ValueError(f"`edges` must have no cycle, got {cycle}") from None
            raise ValueError(err.args[0]) from None
        return cls(core, listed)

    @classmethod
    def from_networkx(cls, graph: Any, *, outputs: Iterable[Any] | None = None) -> Dag:
        """Return the graph that a networkx graph is.

        Parameters
        ----------
        graph : networkx.DiGraph
            Edges lead from operands to results. Nodes are numbered in the order of the graph, and are called
            what ``str`` calls them. The attribute ``weight`` of a node, if it has one, is its words.
        outputs : iterable of nodes, optional
            By default the nodes whose attribute ``output`` is true; if there are none, those that nothing is
            computed from.

        Returns
        -------
        Dag

        Raises
        ------
        TypeError
            If `graph` is not a directed graph of networkx.
        ValueError
            As `from_edges`, and for `outputs` that are no nodes.
        """
        return cls.from_edges(**networks.parts(graph, outputs))

    def to_networkx(self) -> Any:
        """Return a networkx.DiGraph whose nodes are the names, if there are any, or else the numbers.

        Nodes have the attributes ``weight``, where the weight is not 1, and ``output``, where they are one.
        Needs networkx.
        """
        return networks.graph(self)

    @cached_property
    def _sizes(self) -> tuple[int, int]:
        return self._core.sizes()

    @cached_property
    def _predecessors(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        return self._core.predecessors()

    @cached_property
    def _successors(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        return self._core.successors()

    @cached_property
    def _weights(self) -> NDArray[np.uint32] | None:
        return self._core.weights()

    @property
    def num_vertices(self) -> int:
        """How many values."""
        return self._sizes[0]

    @property
    def num_edges(self) -> int:
        """How many pairs of a value and one of its operands."""
        return self._sizes[1]

    @property
    def edges(self) -> NDArray[np.int64]:
        """From operand to result."""
        starts, operands = self._predecessors
        results = np.repeat(
            np.arange(self.num_vertices), (starts[1:] - starts[:-1]).astype(np.int64)
        )
        return np.stack([operands.astype(np.int64), results], axis=1)

    @property
    def sources(self) -> NDArray[np.int64]:
        """Values without operands."""
        starts = self._predecessors[0]
        return np.flatnonzero(starts[1:] == starts[:-1]).astype(np.int64)

    @property
    def outputs(self) -> NDArray[np.int64]:
        """Values that are wanted."""
        return self._core.outputs().astype(np.int64)

    @property
    def weights(self) -> NDArray[np.int64]:
        """Words of each value."""
        if self._weights is None:
            return np.ones(self.num_vertices, dtype=np.int64)
        return self._weights.astype(np.int64)

    @property
    def names(self) -> Sequence[str]:
        """Names of the vertices."""
        return _Numbers(self.num_vertices) if self._names is None else self._names

    @property
    def order(self) -> NDArray[np.int64]:
        """All vertices, each after its operands."""
        return self._core.topological_order().astype(np.int64)

    def predecessors(self, vertex: int) -> NDArray[np.int64]:
        """Return the operands of `vertex`, ascending."""
        return self._row(self._predecessors, vertex)

    def successors(self, vertex: int) -> NDArray[np.int64]:
        """Return what is computed from `vertex`, ascending."""
        return self._row(self._successors, vertex)

    def _row(
        self, rows: tuple[NDArray[np.uint64], NDArray[np.uint32]], vertex: int
    ) -> NDArray[np.int64]:
        v = take_count("vertex", vertex, least=0, most=self.num_vertices - 1)
        starts, items = rows
        return items[int(starts[v]) : int(starts[v + 1])].astype(np.int64)

    def least_memory(self, model: Model | None = None) -> int:
        """Return the words of fast memory without which no play of the game ends.

        Room for the most demanding of the values that an output needs beside its operands or, if pebbles
        slide, in the place of the largest of them. O(V + E).
        """
        return self._core.least_memory(take_model(model).sliding)

    def __eq__(self, other: object) -> bool:
        """Return whether the other is a graph of the same edges, outputs, weights and names."""
        if not isinstance(other, Dag):
            return NotImplemented
        if self._core is not other._core and (
            self._sizes != other._sizes
            or not np.array_equal(self.edges, other.edges)
            or not np.array_equal(self.outputs, other.outputs)
            or not np.array_equal(self.weights, other.weights)
        ):
            return False
        return self._names is other._names or list(self.names) == list(other.names)

    def __hash__(self) -> int:
        """Return the same for equal graphs."""
        return hash((self._sizes, self.outputs.tobytes()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the edges."""
        names = None if self._names is None else tuple(self._names)
        weights = None if self._weights is None else self.weights
        return _rebuilt, (self.num_vertices, self.edges, self.outputs, weights, names)

    def __repr__(self) -> str:
        """Return the numbers of vertices, edges, sources and outputs."""
        return f"Dag({', '.join(self._facts())})"

    def _facts(self) -> Iterator[str]:
        sizes = {
            "vertex": self.num_vertices,
            "edge": self.num_edges,
            "source": len(self.sources),
            "output": len(self.outputs),
        }
        for name, size in sizes.items():
            plural = "vertices" if name == "vertex" else f"{name}s"
            yield f"{size} {name if size == 1 else plural}"
        if self._weights is not None:
            yield f"{int(self.weights.sum())} words"

    def _repr_html_(self) -> str:
        facts = (fact.partition(" ") for fact in self._facts())
        rows = [(name, number) for number, _, name in facts]
        return html_table("Dag", [*rows, ("least memory", str(self.least_memory()))])


class _Numbers(Sequence[str]):
    """The names of vertices that have none."""

    def __init__(self, vertices: int) -> None:
        self._range = range(vertices)

    def __len__(self) -> int:
        return len(self._range)

    def __getitem__(self, index: Any) -> Any:
        found = self._range[index]
        return str(found) if isinstance(found, int) else [str(v) for v in found]


def _rebuilt(vertices: int, edges: Any, outputs: Any, weights: Any, names: Any) -> Dag:
    return Dag.from_edges(vertices, edges, outputs=outputs, weights=weights, names=names)


def _take_outputs(outputs: Any, vertices: int) -> NDArray[np.uint32]:
    array = take_integers("outputs", outputs)
    if array.ndim != 1:
        raise ValueError(f"`outputs` must have one axis, got shape {array.shape}")
    return take_vertices("outputs", array, vertices)


def _take_weights(weights: Any, vertices: int) -> NDArray[np.uint32]:
    array = take_integers("weights", weights)
    if array.shape != (vertices,):
        raise ValueError(f"`weights` must have shape ({vertices},), got {array.shape}")
    outside = (array < 1) | (array >= 2**32)
    if outside.any():
        first = int(np.argmax(outside))
        raise ValueError(
            f"`weights` must be from 1 to 2^32 - 1, got {int(array[first])} at index {first}"
        )
    return np.ascontiguousarray(array, dtype=np.uint32)


def _take_names(names: Iterable[str], vertices: int) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"`names` must be an iterable of str, got {names!r}")
    listed = tuple(names)
    if len(listed) != vertices:
        raise ValueError(f"`names` must have length {vertices}, got {len(listed)}")
    seen: dict[str, int] = {}
    for index, name in enumerate(listed):
        if not isinstance(name, str):
            raise TypeError(f"`names` must be str, got {name!r} at index {index}")
        if seen.setdefault(name, index) != index:
            raise ValueError(
                f"`names` must differ, got {name!r} at indices {seen[name]} and {index}"
            )
    return listed
