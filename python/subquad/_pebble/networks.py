"""Graphs of networkx, from and to."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .dag import Dag

__all__ = ["graph", "parts"]


def parts(graph: Any, outputs: Iterable[Any] | None) -> dict[str, Any]:
    """Return the arguments of `Dag.from_edges` for a graph of networkx."""
    try:
        directed = graph.is_directed()
        nodes = {node: number for number, node in enumerate(graph.nodes)}
        edges = [(nodes[edge[0]], nodes[edge[1]]) for edge in graph.edges]
        attributes = [graph.nodes[node] for node in nodes]
    except AttributeError:
        raise TypeError(f"`graph` must be a networkx.DiGraph, got {graph!r}") from None
    if not directed:
        raise TypeError(f"`graph` must be directed, got {graph!r}")
    if outputs is None:
        inner = {u for u, _ in edges}
        flags = zip(nodes, attributes, strict=True)
        marks = [
            _flag(node, found["output"]) if "output" in found else None for node, found in flags
        ]
        wanted = [v for v, mark in enumerate(marks) if (v not in inner if mark is None else mark)]
    elif not isinstance(outputs, Iterable):
        raise TypeError(f"`outputs` must be an iterable of nodes, got {outputs!r}")
    else:
        wanted = [_number(nodes, node) for node in outputs]
    return {
        "num_vertices": len(nodes),
        "edges": edges,
        "outputs": wanted,
        "weights": [found.get("weight", 1) for found in attributes],
        "names": [str(node) for node in nodes],
    }


def _flag(node: Any, output: Any) -> bool:
    """Return the attribute of a node: a truth value, or the word for it, as files have it."""
    if isinstance(output, bool | np.bool_):
        return bool(output)
    if isinstance(output, str) and output.lower() in ("true", "false"):
        return output.lower() == "true"
    raise ValueError(f"`output` of node {node!r} must be true or false, got {output!r}")


def _number(nodes: dict[Any, int], node: Any) -> int:
    if not isinstance(node, Hashable) or node not in nodes:
        raise ValueError(f"`outputs` must be nodes of the graph, got {node!r}")
    return nodes[node]


def graph(dag: Dag) -> Any:
    """Return a graph of networkx."""
    try:
        import networkx
    except ImportError:
        raise ImportError("to_networkx needs networkx: pip install 'subquad[networkx]'") from None

    nodes: Any = range(dag.num_vertices) if dag._names is None else dag.names
    found = networkx.DiGraph()
    found.add_nodes_from(nodes)
    found.add_edges_from((nodes[u], nodes[v]) for u, v in dag.edges.tolist())
    for node, weight in zip(nodes, dag.weights.tolist(), strict=True):
        if weight != 1:
            found.nodes[node]["weight"] = weight
    outputs, sinks = set(dag.outputs.tolist()), set(dag.sinks.tolist())
    for v in outputs ^ sinks:
        found.nodes[nodes[v]]["output"] = v in outputs
    return found
