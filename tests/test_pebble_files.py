"""Graphs in files: hyperDAG and DOT, there and back, and what is damaged is refused by line."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pebbles import dags, diamond

from subquad.pebble import Dag

HDAG = """%% a header
% HyperDAG format v1
3 4 7 of these
%% hyperedges: communication, memory
2 5
0 9 7   % in any order
1
% vertices: work, type
0 3 1
3 2
1 1 1
2
0 0 8 9
1 1
0 1
2 2
1 3
0 2
2 3
"""


def hdag(text: str, **options: Any) -> Dag:
    return Dag.from_hdag(io.StringIO(text), **options)


def dot(text: str) -> Dag:
    return Dag.from_dot(io.StringIO(text))


def unnamed(dag: Dag) -> Dag:
    return Dag.from_edges(dag.num_vertices, dag.edges, outputs=dag.outputs, weights=dag.weights)


def test_a_hyperdag_by_hand() -> None:
    dag = hdag(HDAG)
    assert dag == diamond(weights=[7, 1, 1, 1])
    assert hdag(HDAG, weights="communication") == diamond(weights=[9, 1, 5, 1])
    assert hdag(HDAG, weights="none") == diamond()
    assert hdag(HDAG.replace("\n", "\r\n\r\n")) == dag
    assert hdag("0 3 0\n0\n1\n2").num_vertices == 3
    # A value of several hyperedges, and one that is listed for its weight only.
    assert hdag("2 3 4\n0\n1\n0\n1\n2\n0 0\n0 1\n1 0\n1 2\n").edges.tolist() == [[0, 1], [0, 2]]
    assert hdag("1 1 1\n0 1 6\n0\n0 0\n").weights.tolist() == [6]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("3 4 7 of", "3 4 of", 3, "the first line must be `M N P`, got '3 4 of these'"),
        ("3 4 7 of", "3 4 -7 of", 3, "must be `M N P`"),
        ("3 4 7 of", "3 4 8 of", 3, r"M \+ N \+ P = 15 lines must follow, and 14 do"),
        ("3 4 7 of", "3 999999999999 7", 3, "lines must follow, and 14 do"),
        ("2 5\n", "0 5\n", 6, "a hyperedge must begin with a number below 3 of its own"),
        ("2 5\n", "3 5\n", 5, "a hyperedge must begin with a number below 3"),
        ("0 9 7 ", "0 9 x ", 6, "and be integers, got '0 9 x'"),
        ("0 9 7 ", "0 9 0 ", 6, r"memory weights must be from 1 to 2\^32 - 1"),
        ("0 9 7 ", "0 9 4294967296 ", 6, "memory weights must be from 1"),
        ("3 2\n", "1 2\n", 11, "a vertex must begin with a number below 4 of its own"),
        ("3 2\n", "4 2\n", 10, "a vertex must begin with a number below 4"),
        ("2 2\n", "3 2\n", 16, "a pin must be `e v` with e < 3 and v < 4, got '3 2'"),
        ("2 2\n", "2 4\n", 16, "a pin must be `e v` with e < 3 and v < 4, got '2 4'"),
        ("2 2\n", "2\n", 16, "a pin must be `e v`"),
        ("2 2\n", "2 ²\n", 16, "a pin must be `e v`"),
        ("2 2\n", "2 0\n", 16, "hyperedges of vertex 0 must have the same weight"),
        ("1 1\n0 1\n", "% outputs: 4\n1 1\n0 1\n", 14, "outputs must be vertices below 4"),
        ("1 1\n0 1\n", "% outputs: x\n1 1\n0 1\n", 14, "outputs must be vertices below 4"),
    ],
)
def test_a_damaged_hyperdag_is_refused_by_line(old: str, new: str, line: int, message: str) -> None:
    assert HDAG.count(old) == 1
    with pytest.raises(ValueError, match=f"^the file, line {line}: .*{message}"):
        hdag(HDAG.replace(old, new))


@pytest.mark.parametrize("text", ["", "% nothing\n"])
def test_an_empty_hyperdag_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^the file, line 1: .* got 'the end of the file'$"):
        hdag(text)


def test_files_with_cycles_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "loop.hdag"
    path.write_text("1 1 2\n0\n0\n0 0\n0 0\n")
    with pytest.raises(ValueError, match=r"loop\.hdag: `edges` must have no cycle"):
        Dag.from_hdag(path)
    path = tmp_path / "loop.dot"
    path.write_text("digraph { a -> b -> a }")
    with pytest.raises(ValueError, match=r"loop\.dot: `edges` must have no cycle, got . -> "):
        Dag.from_dot(path)


def test_weights_of_a_hyperdag_are_named() -> None:
    with pytest.raises(ValueError, match="`weights` must be one of"):
        hdag(HDAG, weights="work")


@given(dags(named=True))
def test_a_hyperdag_is_read_as_it_was_written(dag: Dag) -> None:
    assert hdag(dag.to_hdag()) == unnamed(dag)


@given(dags(named=True))
def test_dot_is_read_as_it_was_written(dag: Dag) -> None:
    assert dot(dag.to_dot()) == dag
    assert dot(unnamed(dag).to_dot()) == unnamed(dag)


def test_files_are_written_to_paths_and_what_is_open(tmp_path: Path) -> None:
    dag = diamond(names=["ä", "b", "c", "d"])
    for read, write, ending in (
        (Dag.from_hdag, dag.to_hdag, "hdag"),
        (Dag.from_dot, dag.to_dot, "dot"),
    ):
        for path in (tmp_path / f"a.{ending}", str(tmp_path / f"b.{ending}")):
            text = write(path)
            assert Path(path).read_text(encoding="utf-8") == text
            assert read(path) == (dag if ending == "dot" else unnamed(dag))
        opened = io.StringIO()
        write(opened)
        assert opened.getvalue() == text
        with open(path, "rb") as binary:
            assert read(binary).num_edges == 4
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")
        with pytest.raises(TypeError, match="`file` must be a path or something open, got 3"):
            read(3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="`file` must be a path or something open, got 3"):
            write(3)  # type: ignore[arg-type]
        broken = tmp_path / "broken"
        broken.write_bytes(b"% one\n% \xff\n")
        with pytest.raises(ValueError, match="broken, line 2: a file must be UTF-8"):
            read(broken)


DOT = r"""
# a comment of the preprocessor
/* a comment
   of two lines */
STRICT digraph "the name" {
    rankdir=LR; graph [fontname="a" color=red]; edge [weight=9];  // of edges, not of values
    node [shape=box, mem_weight=2]
    a [label="x \"1\"\nof \N", weight=3; comm_weight="4";];
    subgraph cluster_1 { label = "group" node [size="5.0"]; b:port:n; c }
    "d e" [label=<<b>bold</b> or not>] ; a -> b -> f.x
    {a; b} -> subgraph {c "d" + " e"} [style=dotted]
    7 ; -1.5
}
"""


def test_dot_by_hand() -> None:
    text = DOT.replace("f.x", "fx")
    dag = dot(text)
    names = ['x "1"\nof a', "b", "c", "<<b>bold</b> or not>", "fx", "7", "-1.5"]
    assert list(dag.names) == names
    assert dag.weights.tolist() == [3, 5, 5, 2, 2, 2, 2]
    edges = {(0, 1), (1, 4), (0, 2), (0, 3), (1, 2), (1, 3)}
    assert {(u, v) for u, v in dag.edges.tolist()} == edges
    assert dag.outputs.tolist() == [2, 3, 4, 5, 6]


def test_dot_numbers_and_names() -> None:
    assert dot("digraph{2->0;1->0}") == Dag.from_edges(3, [(2, 0), (1, 0)])
    assert dot("digraph { 2 -> 3 }").names == ("2", "3")
    # Labels that do not tell nodes apart, and those of records, are no names.
    assert dot('digraph { node [label=""]; p -> q }').names == ("p", "q")
    assert dot("digraph { p [shape=Mrecord label=r]; p -> q }").names == ("p", "q")
    assert dot("digraph { p [label=r]; p -> q }").names == ("r", "q")
    wanted = dot("digraph { a [output=true]; b [output=false]; a -> b -> c; a -> d }")
    assert wanted.outputs.tolist() == [0, 2, 3]
    assert dot("digraph {}").num_vertices == 0


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("graph { a -- b }", 1, "must begin with `digraph`: edges of a computation are directed"),
        ("", 1, "must begin with `digraph`.* got 'the end of the file'"),
        ("digraph {\n a -- b }", 2, "edges must be directed, `->`, got '--'"),
        ("digraph {\n a -> b", 2, "got 'the end of the file'"),
        ("digraph {\n\n a -> }", 3, "a statement must begin with a node.* got '}'"),
        ("digraph a b {}", 1, "`{` must be here, got 'b'"),
        ("digraph node {}", 1, "a name or `{` must follow `digraph`, got 'node'"),
        ("digraph {} x", 1, "nothing must follow the graph, got 'x'"),
        ("digraph { a [b= ] }", 1, "a value must follow `=`, got ']'"),
        ("digraph { a [=b] }", 1, "an attribute must have a name, got '='"),
        ("digraph { a:; }", 1, "a port must follow `:`, got ';'"),
        ("digraph { a =; }", 1, "a value must follow `=`"),
        ('digraph { "a" + b }', 1, r"a text must follow `\+`, got 'b'"),
        ("digraph { subgraph node {} }", 1, "must follow `subgraph`, got 'node'"),
        ('digraph {\n "a }', 2, "a text must be closed"),
        ("digraph {\n /* a }", 2, "a text must be closed"),
        ("digraph { <a<b> }", 1, "`<` must be closed"),
        ("digraph { a ! }", 1, "signs be those of DOT, got '!'"),
        ("digraph {\na [weight=0] }", 2, r"`weight` must be an integer from 1 .*, got '0'"),
        ("digraph {\na [size=2.5] }", 2, r"`size` must be an integer .*, got '2.5'"),
        ("digraph {\na [mem_weight=5000000000] }", 2, "`mem_weight` must be"),
        ("digraph {\na [weight=1e3] }", 2, "a number must end before a letter .*, got '1e3'"),
        ("digraph { a [weight=1.5x] }", 1, "got '1.5x'"),
        ("digraph { 12a -> b }", 1, "got '12a'"),
        ("digraph { a [output=1] }", 1, "`output` must be true or false, got '1'"),
        ("digraph " + "{" * 200, 1, "subgraphs must be nested at most 100 deep"),
    ],
)
def test_other_dot_is_refused_by_line(text: str, line: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^the file, line {line}: .*{message}"):
        dot(text)


def test_numbers_end_where_a_sign_begins() -> None:
    dag = dot("digraph{-1.5->.5;2.->3[a=1]4[weight=2]}")
    assert dag.names == ("-1.5", ".5", "2.", "3", "4")
    assert dag.weights.tolist() == [1, 1, 1, 1, 2]


def test_what_cannot_be_written_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "graph.dot"
    path.write_text("as it was")
    dag = Dag.from_edges(1, [], names=["\ud800"])
    with pytest.raises(ValueError, match=r"a file must be UTF-8, which has no place for '\\ud800'"):
        dag.to_dot(path)
    assert path.read_text() == "as it was"


@given(st.sampled_from(["hdag", "dot"]), dags(named=True), st.integers(0, 2**32 - 1))
def test_damage_is_refused_or_harmless(kind: str, dag: Dag, seed: int) -> None:
    rng = random.Random(seed)
    text = list(dag.to_hdag() if kind == "hdag" else dag.to_dot())
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(text))
        other = rng.choice([*'0179 \n%-{}[]=;,:<>"/\\', rng.choice(text), ""])
        text[place : place + rng.randint(0, 3)] = [other]
    refusal = ""
    try:
        read = (hdag if kind == "hdag" else dot)("".join(text))
    except ValueError as err:
        refusal = str(err)
    else:
        # What was read is a graph, and is written and read again as it is.
        again = hdag(read.to_hdag()) if kind == "hdag" else dot(read.to_dot())
        assert again == read
    assert refusal == "" or refusal.startswith("the file")
