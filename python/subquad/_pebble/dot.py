"""Graphs in the DOT language of Graphviz: nodes, edges, subgraphs and a few attributes.

The grammar is that of https://graphviz.org/doc/info/lang.html. Attributes that say how to draw are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Never

from .files import refuse

if TYPE_CHECKING:
    from .dag import Dag

__all__ = ["parse", "text"]

# Names of the attribute with the words of a node, the first that is there: ours, a common one, and that of
# OneStopParallel.
_WEIGHTS = ("weight", "size", "mem_weight")
_KEYWORDS = {"strict", "graph", "digraph", "node", "edge", "subgraph"}
_DEEPEST = 100

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|//[^\n]*|/\*.*?\*/|(?<![^\n])\#[^\n]*)
    | (?P<name>[^\W\d]\w*)
    | (?P<number>-?(?>\.\d+|\d+(?:\.\d*)?)(?![\w.]))
    | (?P<joined>-?\.?\d[\w.]*)
    | (?P<text>"(?:[^"\\]|\\.)*")
    | (?P<html><)
    | (?P<arrow>->|--)
    | (?P<sign>[{}\[\];,=:+])
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass
class _Token:
    kind: str
    text: str
    line: int


@dataclass
class _Node:
    id: str
    label: str | None = None
    weight: int | None = None
    output: bool | None = None


@dataclass
class _Scope:
    """What holds inside a pair of braces: attributes that new nodes get, and which nodes are named there."""

    defaults: dict[str, tuple[str, int]] = field(default_factory=dict)
    nodes: dict[int, None] = field(default_factory=dict)


def parse(name: str, content: str) -> dict[str, Any]:
    """Return the arguments of `Dag.from_edges` for the graph of a file."""
    parser = _Parser(name, content)
    parser.graph()
    nodes = parser.nodes
    place = list(range(len(nodes)))
    if set(parser.numbers) == {str(v) for v in place}:
        # Numbers from 0 that are all there are the numbers of the vertices.
        place = [int(node.id) for node in nodes]
    ordered = [node for _, node in sorted(zip(place, nodes, strict=True), key=lambda pair: pair[0])]
    edges = [(place[u], place[v]) for u, v in parser.edges]
    inner = {u for u, _ in edges}
    wanted = [
        v not in inner if node.output is None else node.output for v, node in enumerate(ordered)
    ]
    labels = [node.id if node.label is None else node.label for node in ordered]
    names = labels if len(set(labels)) == len(labels) else [node.id for node in ordered]
    return {
        "num_vertices": len(nodes),
        "edges": edges,
        "outputs": [v for v, one in enumerate(wanted) if one],
        "weights": [node.weight or 1 for node in ordered],
        "names": None if names == [str(v) for v in range(len(nodes))] else names,
    }


class _Parser:
    """Reads one graph."""

    def __init__(self, name: str, content: str) -> None:
        self._name = name
        self._tokens = self._tokenised(content)
        self.nodes: list[_Node] = []
        self.numbers: dict[str, int] = {}
        self.edges: list[tuple[int, int]] = []
        self._advance()

    def graph(self) -> None:
        if self._is_word("strict"):
            self._advance()
        if not self._is_word("digraph"):
            self._refuse("a file must begin with `digraph`: edges of a computation are directed")
        self._advance()
        if not self._is_sign("{"):
            self._id("a name or `{` must follow `digraph`")
        self._braces(_Scope(), 0)
        if self._token.kind != "end":
            self._refuse("nothing must follow the graph")

    def _braces(self, scope: _Scope, depth: int) -> None:
        if depth > _DEEPEST:
            self._refuse(f"subgraphs must be nested at most {_DEEPEST} deep")
        self._expect("{")
        while not self._is_sign("}"):
            self._statement(scope, depth)
        self._advance()

    def _statement(self, scope: _Scope, depth: int) -> None:
        if self._is_sign(";"):
            self._advance()
            return
        word = self._token.text.lower()
        if self._is_word("graph") or self._is_word("edge") or self._is_word("node"):
            self._advance()
            attributes = self._attributes()
            if word == "node":
                scope.defaults |= attributes
            return
        group = self._is_word("subgraph") or self._is_sign("{")
        ends = [self._end(scope, depth)]
        if self._is_sign("="):
            # An attribute of the graph; what looked like a node was its name.
            self._advance()
            self._id("a value must follow `=`")
            return
        while self._token.kind == "arrow":
            if self._token.text == "--":
                self._refuse("edges must be directed, `->`")
            self._advance()
            ends.append(self._end(scope, depth))
        attributes = self._attributes()
        if len(ends) == 1 and not group:
            self._set(ends[0][0], attributes)
        for tails, heads in pairwise(ends):
            self.edges += [(u, v) for u in tails for v in heads]

    def _end(self, scope: _Scope, depth: int) -> list[int]:
        """Return the nodes of an end of an edge; none for the name of an attribute."""
        if self._is_word("subgraph"):
            self._advance()
            if not self._is_sign("{"):
                self._id("a name or `{` must follow `subgraph`")
        if self._is_sign("{"):
            inner = _Scope(dict(scope.defaults))
            self._braces(inner, depth + 1)
            scope.nodes |= inner.nodes
            return list(inner.nodes)
        id_ = self._id("a statement must begin with a node, `subgraph` or `{`")
        if self._is_sign("="):
            return []
        for _ in range(2):
            if self._is_sign(":"):
                self._advance()
                self._id("a port must follow `:`")
        number = self.numbers.setdefault(id_, len(self.nodes))
        if number == len(self.nodes):
            self.nodes.append(_Node(id_))
            self._set(number, scope.defaults)
        scope.nodes[number] = None
        return [number]

    def _set(self, number: int, attributes: dict[str, tuple[str, int]]) -> None:
        node = self.nodes[number]
        for key in reversed(_WEIGHTS):
            if key in attributes:
                node.weight = self._weight(key, *attributes[key])
        if "label" in attributes and "record" not in attributes.get("shape", ("", 0))[0].lower():
            node.label = _shown(attributes["label"][0], node.id)
        if "output" in attributes:
            value, line = attributes["output"]
            if value.lower() not in ("true", "false"):
                refuse(self._name, line, "`output` must be true or false", value)
            node.output = value.lower() == "true"

    def _weight(self, key: str, value: str, line: int) -> int:
        # As "2.0" too, which some tools write.
        whole = re.fullmatch(r"0*(\d{1,10})(?:\.0*)?", value, re.ASCII)
        if whole is None or not 1 <= int(whole[1]) < 2**32:
            refuse(self._name, line, f"`{key}` must be an integer from 1 to 2^32 - 1", value)
        return int(whole[1])

    def _attributes(self) -> dict[str, tuple[str, int]]:
        found: dict[str, tuple[str, int]] = {}
        while self._is_sign("["):
            self._advance()
            while not self._is_sign("]"):
                key, line, value = (
                    self._id("an attribute must have a name"),
                    self._token.line,
                    "true",
                )
                if self._is_sign("="):
                    self._advance()
                    value = self._id("a value must follow `=`")
                found[key] = value, line
                if self._is_sign(";") or self._is_sign(","):
                    self._advance()
            self._advance()
        return found

    def _id(self, requires: str) -> str:
        token = self._token
        reserved = token.kind == "name" and token.text.lower() in _KEYWORDS
        if reserved or token.kind not in ("name", "number", "text", "html"):
            self._refuse(requires)
        found = token.text
        self._advance()
        while token.kind == "text" and self._is_sign("+"):
            self._advance()
            if self._token.kind != "text":
                self._refuse("a text must follow `+`")
            found += self._token.text
            self._advance()
        return found

    def _expect(self, sign: str) -> None:
        if not self._is_sign(sign):
            self._refuse(f"`{sign}` must be here")
        self._advance()

    def _is_sign(self, sign: str) -> bool:
        return self._token.kind == "sign" and self._token.text == sign

    def _is_word(self, word: str) -> bool:
        return self._token.kind == "name" and self._token.text.lower() == word

    def _refuse(self, requires: str) -> Never:
        found = "the end of the file" if self._token.kind == "end" else self._token.text
        refuse(self._name, self._token.line, requires, found)

    def _advance(self) -> None:
        self._token = next(self._tokens)

    def _tokenised(self, content: str) -> Iterator[_Token]:
        place, line = 0, 1
        while place < len(content):
            match = _TOKEN.match(content, place)
            if match is None:
                refuse(
                    self._name,
                    line,
                    "a text must be closed and signs be those of DOT",
                    content[place],
                )
            kind, found = str(match.lastgroup), match[0]
            if kind == "joined":
                refuse(self._name, line, "a number must end before a letter or a dot", found)
            if kind == "html":
                found = self._html(content, place, line)
            if kind == "text":
                yield _Token(kind, found[1:-1].replace('\\"', '"').replace("\\\n", ""), line)
            elif kind != "space":
                yield _Token(kind, found, line)
            line += found.count("\n")
            place += len(found)
        while True:
            yield _Token("end", "", line)

    def _html(self, content: str, place: int, line: int) -> str:
        depth = 0
        for sign in re.compile("[<>]").finditer(content, place):
            depth += 1 if sign[0] == "<" else -1
            if depth == 0:
                return content[place : sign.end()]
        refuse(self._name, line, "`<` must be closed", content[place : place + 20])


def _shown(label: str, id_: str) -> str:
    r"""Return what a label shows: `\N` is the id of the node, and three letters end lines."""
    codes = {"n": "\n", "l": "\n", "r": "\n", "N": id_}
    return re.sub(r"\\(.)", lambda m: codes.get(m[1], m[1]), label, flags=re.DOTALL)


def text(dag: Dag) -> str:
    """Return the file of a graph: ids are numbers, and names are labels."""
    weights, sinks, outputs = (
        dag.weights.tolist(),
        set(dag.sinks.tolist()),
        set(dag.outputs.tolist()),
    )
    lines = ["digraph {"]
    for v, name in enumerate(dag.names):
        given = [] if dag._names is None else [f"label={_quoted(name)}"]
        if weights[v] != 1:
            given.append(f"weight={weights[v]}")
        if (v in outputs) != (v in sinks):
            given.append(f"output={str(v in outputs).lower()}")
        shown = f" [{', '.join(given)}]" if given else ""
        lines.append(f"  {v}{shown};")
    lines += [f"  {u} -> {v};" for u, v in dag.edges.tolist()]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
