"""Computations as directed acyclic graphs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .. import _subquad
from .._options import check_choice
from .._table import html_table
from . import dot, files, generators, hdag, networks
from .arguments import take_count, take_integers, take_vertices
from .families import Families
from .model import Model, take_model

__all__ = ["Dag"]

_MOST_VERTICES = 2**30
# Vertices of a cycle that a message shows.
_SHOWN = 8
# Graphs that a notebook shows as a picture.
_DRAWN = 200


class Dag(Families):
    """A computation: vertices are values, and edges lead from operands to what is computed from them.

    Made by `from_edges`, by one of the other ``from_`` methods, or by a generator. Immutable; vertices are
    numbered from 0.

    Attributes
    ----------
    num_vertices, num_edges : int
        How many values, and how many pairs of a value and one of its operands.
    edges : ndarray of int64, shape (num_edges, 2)
        From operand to result, in the order of results.
    sources, sinks : ndarray of int64
        Values without operands, and values that nothing is computed from, ascending.
    outputs : ndarray of int64
        Values that are wanted, ascending.
    names : sequence of str
        Names of the vertices, by default their numbers.
    weights, order : ndarray of int64, shape (num_vertices,)
        Words of each value; and all vertices, each after its operands, of those that may come next the
        smallest first.

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
            # A cycle comes with its vertices, which may have names here.
            if len(err.args) == 2:
                cycle = _shown_cycle(err.args[1], listed)
                raise ValueError(f"`edges` must have no cycle, got {cycle}") from None
            raise ValueError(err.args[0]) from None
        return cls(core, listed)

    @classmethod
    def _of(cls, spec: generators.Spec) -> Self:
        core = _subquad.pebble_generate(spec)
        return cls(core, generators.Names(spec, core.sizes()[0]))

    @property
    def _spec(self) -> generators.Spec | None:
        """The generator that has made the graph, and its arguments."""
        return self._names.spec if isinstance(self._names, generators.Names) else None

    @classmethod
    def from_networkx(cls, graph: Any, *, outputs: Iterable[Any] | None = None) -> Dag:
        """Return the graph that a networkx graph is.

        Parameters
        ----------
        graph : networkx.DiGraph
            Edges lead from operands to results. Nodes are numbered in the order of the graph, and are called
            what ``str`` calls them. The attribute ``weight`` of a node, if it has one, is its words.
        outputs : iterable of nodes, optional
            By default those that nothing is computed from; the attribute ``output`` of a node, true or false,
            overrules this.

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
        """Return a graph of networkx whose nodes are the names, if there are any, or else the numbers.

        Nodes have the attribute ``weight``, where it is not 1, and ``output``, true for outputs that are no
        sinks, and false for sinks that are no outputs. Needs networkx.

        Returns
        -------
        networkx.DiGraph
        """
        return networks.graph(self)

    @classmethod
    def from_hdag(cls, file: files.Source, *, weights: str = "memory") -> Dag:
        r"""Return the graph of a file in the hyperDAG format, as OneStopParallel reads and writes.

        Parameters
        ----------
        file : str, path or open file
            Where it is; text that is at hand goes into an ``io.StringIO``.
        weights : {"memory", "communication", "none"}, optional
            Which weight of a hyperedge is the words of its value; 1 where it is not given.

        Returns
        -------
        Dag
            Its outputs are the sinks, unless `to_hdag` has written a comment that names others.

        Raises
        ------
        ValueError
            For a file that is not as it should be: the message names file and line, and says what is
            required.
        OSError
            If the file cannot be read.

        Notes
        -----
        The first pin of a hyperedge is a value, the others are computed from it [1]_. Two numbers may
        follow that of a hyperedge, communication and memory weight.

        References
        ----------
        .. [1] https://github.com/Algebraic-Programming/HyperDAG_DB, FileFormat_README.md.

        Examples
        --------
        >>> import io
        >>> from subquad.pebble import Dag
        >>> text = "1 2 2\n0 1 5\n0 1\n1 1\n0 0\n0 1\n"
        >>> dag = Dag.from_hdag(io.StringIO(text))
        >>> dag.edges.tolist(), dag.weights.tolist()
        ([[0, 1]], [5, 1])
        """
        check_choice("weights", weights, hdag.WEIGHTS)
        name, content = files.read(file)
        return cls._of_file(name, hdag.parse(name, content, weights))

    def to_hdag(self, file: files.Target | None = None) -> str:
        """Write the graph in the hyperDAG format; names are not kept.

        Parameters
        ----------
        file : str, path or open file, optional
            Where to.

        Returns
        -------
        str
            What was written.
        """
        return files.written(hdag.text(self), file)

    @classmethod
    def from_dot(cls, file: files.Source) -> Dag:
        """Return the graph of a file in the DOT language of Graphviz.

        Parameters
        ----------
        file : str, path or open file
            Where it is; text that is at hand goes into an ``io.StringIO``.

        Returns
        -------
        Dag
            Vertices are numbered in the order in which nodes first appear; if the ids are 0, 1, ... in some
            order, they are the numbers. Names are the labels, if no two are the same, and else the ids.

        Raises
        ------
        ValueError
            For a graph that is not directed, and a file that is not as it should be: the message names file
            and line, and says what is required.
        OSError
            If the file cannot be read.

        Notes
        -----
        Of the attributes of a node, ``weight``, ``size`` or ``mem_weight`` is its words, and
        ``output=true`` or ``output=false`` says whether it is wanted, which sinks are by default. Subgraphs
        group nodes, also at the ends of edges.

        Examples
        --------
        >>> import io
        >>> from subquad.pebble import Dag
        >>> Dag.from_dot(io.StringIO("digraph { a [size=3]; {a b} -> c -> d }"))
        Dag(4 vertices, 3 edges, 2 sources, 1 output, 6 words)
        """
        name, content = files.read(file)
        return cls._of_file(name, dot.parse(name, content))

    def to_dot(self, file: files.Target | None = None) -> str:
        """Write the graph in the DOT language: ids are numbers, and names are labels.

        Parameters
        ----------
        file : str, path or open file, optional
            Where to.

        Returns
        -------
        str
            What was written.
        """
        return files.written(dot.text(self), file)

    @classmethod
    def _of_file(cls, name: str, parts: dict[str, Any]) -> Dag:
        try:
            return cls.from_edges(**parts)
        except ValueError as err:
            raise ValueError(f"{name}: {err}") from None

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
    def sinks(self) -> NDArray[np.int64]:
        """Values that nothing is computed from."""
        starts = self._successors[0]
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
        """Return the operands of a value.

        Parameters
        ----------
        vertex : int
            The value.

        Returns
        -------
        ndarray of int64
            Ascending.
        """
        return self._row(self._predecessors, vertex)

    def successors(self, vertex: int) -> NDArray[np.int64]:
        """Return what is computed from a value.

        Parameters
        ----------
        vertex : int
            The value.

        Returns
        -------
        ndarray of int64
            Ascending.
        """
        return self._row(self._successors, vertex)

    def _row(
        self, rows: tuple[NDArray[np.uint64], NDArray[np.uint32]], vertex: int
    ) -> NDArray[np.int64]:
        v = take_count("vertex", vertex, least=0)
        if v >= self.num_vertices:
            raise ValueError(f"`vertex` must be below {self.num_vertices}, got {v}")
        starts, items = rows
        return items[int(starts[v]) : int(starts[v + 1])].astype(np.int64)

    def least_memory(self, model: Model | None = None) -> int:
        """Return the words of fast memory without which no play of the game ends.

        Room for the most demanding of the values that an output needs beside its operands or, if pebbles
        slide, in the place of the largest of them. A source in slow memory needs room as an operand alone, even
        if it is an output. O(V + E).

        Parameters
        ----------
        model : Model, optional
            The game.

        Returns
        -------
        int
        """
        return self._core.least_memory(take_model(model)._fields())

    def __eq__(self, other: object) -> bool:
        """Return whether the other is a graph of the same edges, outputs, weights and names."""
        if not isinstance(other, Dag):
            return NotImplemented
        if self._spec is not None and self._spec == other._spec:
            return True
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
        """Rebuild from the generator or from the edges."""
        if self._spec is not None:
            return _generated, (self._spec,)
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
        table = html_table("Dag", [*rows, ("least memory", str(self.least_memory()))])
        if not 0 < self.num_vertices <= _DRAWN:
            return table
        from .picture import svg

        return table + svg(self)


class _Numbers(Sequence[str]):
    """The names of vertices that have none."""

    def __init__(self, vertices: int) -> None:
        self._range = range(vertices)

    def __len__(self) -> int:
        return len(self._range)

    def __getitem__(self, index: Any) -> Any:
        found = self._range[index]
        return str(found) if isinstance(found, int) else [str(v) for v in found]

    def __repr__(self) -> str:
        return generators.shown(self)


def _generated(spec: generators.Spec) -> Dag:
    return Dag._of(spec)


def _rebuilt(vertices: int, edges: Any, outputs: Any, weights: Any, names: Any) -> Dag:
    return Dag.from_edges(vertices, edges, outputs=outputs, weights=weights, names=names)


def _shown_cycle(cycle: Sequence[int], names: Sequence[str] | None) -> str:
    """Return the path along a cycle and back, without what is too much of it."""
    labels = [str(v) if names is None else names[v] for v in cycle[:_SHOWN]]
    more = f" and {len(cycle) - _SHOWN} more" if len(cycle) > _SHOWN else ""
    return f"{' -> '.join(labels)}{more} -> {labels[0]}"


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
