"""Files in the hyperDAG format, in which every value is a hyperedge with all that is computed from it.

The format is that of https://github.com/Algebraic-Programming/HyperDAG_DB (FileFormat_README.md, version 1)
with the two weights of a hyperedge that OneStopParallel reads: communication, then memory.

    % comments
    M N P               hyperedges, vertices, pins
    e [comm [memory]]   M lines
    v [work [type]]     N lines
    e v                 P lines; the first pin of a hyperedge is the value, the others are computed from it
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Never

import numpy as np

from .files import refuse

if TYPE_CHECKING:
    from .dag import Dag

__all__ = ["WEIGHTS", "parse", "text"]

WEIGHTS = ("memory", "communication", "none")

# Comments of ours, for what the format has no place for.
_OUTPUTS = "% outputs:"
_MOST_DIGITS = 18


def parse(name: str, content: str, weights: str) -> dict[str, Any]:
    """Return the arguments of `Dag.from_edges` for the graph of a file."""
    lines = _Lines(name, content)
    edges, vertices, pins = lines.integers("the first line must be `M N P`", 3, ignore=True)
    total = edges + vertices + pins
    if lines.left() != total:
        refuse(
            name,
            lines.number,
            f"M + N + P = {total} lines must follow, and {lines.left()} do",
            lines.line,
        )
    column = {"memory": 2, "communication": 1, "none": None}[weights]
    words = [1] * edges
    for number, *given in lines.records("hyperedge", edges):
        if column is not None and len(given) >= column:
            words[number] = given[column - 1]
            if not 1 <= words[number] < 2**32:
                lines.refuse(f"{weights} weights must be from 1 to 2^32 - 1")
    for _ in lines.records("vertex", vertices):
        pass
    return {"num_vertices": vertices, **_joined(lines, words, vertices, pins)}


def _joined(lines: _Lines, words: list[int], vertices: int, pins: int) -> dict[str, Any]:
    source: list[int | None] = [None] * len(words)
    weights: dict[int, int] = {}
    pairs = []
    for _ in range(pins):
        rule = f"a pin must be `e v` with e < {len(words)} and v < {vertices}"
        edge, v = lines.integers(rule, 2, ignore=True)
        if edge >= len(words) or v >= vertices:
            lines.refuse(rule)
        first = source[edge]
        if first is not None:
            pairs.append((first, v))
            continue
        source[edge] = v
        if weights.setdefault(v, words[edge]) != words[edge]:
            lines.refuse(f"hyperedges of vertex {v} must have the same weight")
    return {
        "edges": pairs,
        "outputs": lines.outputs(vertices),
        "weights": [weights.get(v, 1) for v in range(vertices)],
    }


class _Lines:
    """The lines of a file that are no comments, one after the other."""

    def __init__(self, name: str, content: str) -> None:
        self._name = name
        self._lines: list[tuple[int, str]] = []
        self._outputs: tuple[int, str] | None = None
        for number, line in enumerate(content.split("\n"), 1):
            if line.startswith(_OUTPUTS) and self._outputs is None:
                self._outputs = number, line
            if data := line.partition("%")[0].strip():
                self._lines.append((number, data))
        self._next = 0
        self.number, self.line = 1, ""

    def left(self) -> int:
        return len(self._lines) - self._next

    def refuse(self, requires: str) -> Never:
        refuse(self._name, self.number, requires, self.line)

    def integers(self, requires: str, least: int, *, ignore: bool = False) -> list[int]:
        """Return the integers of the next line: at least so many, and what follows may be no integers."""
        if not self.left():
            refuse(self._name, self.number, requires, "the end of the file")
        self.number, self.line = self._lines[self._next]
        self._next += 1
        words = self.line.split()
        words = words[:least] if ignore else words
        plain = (w.isascii() and w.isdecimal() and len(w) <= _MOST_DIGITS for w in words)
        if len(words) < least or not all(plain):
            self.refuse(requires)
        return [int(word) for word in words]

    def records(self, kind: str, count: int) -> Iterator[list[int]]:
        """Yield lines that begin with different numbers below `count`."""
        seen = bytearray(count)
        rule = f"a {kind} must begin with a number below {count} of its own, and be integers"
        for _ in range(count):
            record = self.integers(rule, 1)
            if record[0] >= count or seen[record[0]]:
                self.refuse(rule)
            seen[record[0]] = 1
            yield record

    def outputs(self, vertices: int) -> list[int] | None:
        if self._outputs is None:
            return None
        number, line = self._outputs
        words = line.removeprefix(_OUTPUTS).split()
        plain = [w.isascii() and w.isdecimal() and len(w) <= _MOST_DIGITS for w in words]
        if not all(plain) or any(int(word) >= vertices for word in words):
            refuse(self._name, number, f"outputs must be vertices below {vertices}", line)
        return [int(word) for word in words]


def text(dag: Dag) -> str:
    """Return the file of a graph. A sink of more than one word has a hyperedge with one pin."""
    edges, weights = dag.edges, dag.weights.tolist()
    rows: dict[int, list[int]] = {int(u): [] for u in np.unique(edges[:, 0])}
    for u, v in edges.tolist():
        rows[u].append(v)
    rows |= {v: [] for v, weight in enumerate(weights) if weight != 1 and v not in rows}
    pins = sum(1 + len(row) for row in rows.values())
    lines = ["%% HyperDAG format, weights of hyperedges: communication, memory"]
    if not np.array_equal(dag.outputs, dag.sinks):
        lines.append(" ".join([_OUTPUTS, *map(str, dag.outputs)]))
    lines.append(f"{len(rows)} {dag.num_vertices} {pins}")
    lines += [f"{e} {weights[u]} {weights[u]}" for e, u in enumerate(rows)]
    lines += [f"{v} 1 0" for v in range(dag.num_vertices)]
    lines += [f"{e} {v}" for e, (u, row) in enumerate(rows.items()) for v in (u, *row)]
    return "\n".join(lines) + "\n"
