"""The player: a page without references, whose data are the play, and that a browser steps through."""

from __future__ import annotations

import html
import io
import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from pebbles import dags, diamond, greedy

from subquad._pebble.layout import _Points, layout
from subquad.pebble import Dag, Model, Moves, PebbleError, player

PLAY = [("load", 0), ("compute", 1), ("compute", 2), ("delete", 0), ("compute", 3), ("store", 3)]


def embedded(page: str) -> Any:
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    return json.loads(data[1])


def grid(side: int) -> Dag:
    cell = np.arange(side * side).reshape(side, side)
    down = np.stack([cell[:-1].ravel(), cell[1:].ravel()], axis=1)
    right = np.stack([cell[:, :-1].ravel(), cell[:, 1:].ravel()], axis=1)
    return Dag.from_edges(side * side, np.concatenate([down, right]))


def test_the_page_refers_to_nothing_outside() -> None:
    page = player(grid(4), greedy(grid(4), 4), 4).html
    # The name of SVG is no address.
    text = page.replace('"http://www.w3.org/2000/svg"', "")
    for reference in (
        "http:",
        "https:",
        "//",
        "src=",
        "href",
        "url(",
        "@import",
        "import(",
        "fetch(",
    ):
        assert reference not in text, reference
    assert "default-src 'none'" in page
    assert "{{" not in page


def test_the_data_are_the_play() -> None:
    dag, model = diamond(weights=[2, 1, 3, 1], names=iter("abcd")), Model(outputs="any")
    made = player(dag, PLAY, 7, model=model, title="a diamond")
    data = embedded(made.html)
    assert Moves.from_array(np.array(data["moves"], dtype=np.uint32)) == Moves(PLAY) == made.moves
    assert (
        Dag.from_edges(
            4, data["edges"], outputs=data["outputs"], weights=data["weights"], names=data["names"]
        )
        == dag
    )
    assert Model(**data["model"]) == model
    assert (data["memory"], data["count"]) == (7, {"loads": 2, "stores": 1, "peak": 6})
    assert (made.count.loads, made.title) == (2, "a diamond")
    assert embedded(player(diamond(), PLAY, 3).html)["names"] is None


def test_texts_end_no_element() -> None:
    names = ["</script><b>", "&lt;", "{{TITLE}}", "\u2028"]
    title = 'A "title" & </title> {{DATA}}'
    page = player(diamond(names=names), PLAY, 3, title=title).html
    assert page.count("</script>") == 2
    assert page.count("</title>") == 1
    assert embedded(page)["names"] == names
    assert html.unescape(re.findall("<title>(.*)</title>", page)[0]) == title


def test_it_is_saved_and_shown_in_a_frame(tmp_path: Path) -> None:
    made = player(diamond(), PLAY, 3)
    made.save(tmp_path / "play.html")
    assert (tmp_path / "play.html").read_text(encoding="utf-8") == made.html
    opened = io.StringIO()
    made.save(opened)
    assert opened.getvalue() == made.html
    frame = made._repr_html_()
    assert html.unescape(frame[frame.index('srcdoc="') + 8 : frame.rindex('" style')]) == made.html
    assert "<html" not in repr(made)


def test_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(PebbleError, match="step 2"):
        player(diamond(), PLAY, 2)
    with pytest.raises(TypeError, match="`title` must be a str, got 5"):
        player(diamond(), PLAY, 3, title=5)  # type: ignore[arg-type]
    empty = Dag.from_edges(2001, [])
    with pytest.raises(ValueError, match="`dag` must have at most 2000 vertices, got 2001"):
        player(empty, [], 1)
    again = [("load", 0), ("delete", 0)] * 100_001
    with pytest.raises(ValueError, match="`moves` must be at most 200000, got 200002"):
        player(diamond(outputs=[]), again, 3)
    assert player(Dag.from_edges(0, []), [], 1).count.words == 0


@given(dags(most=12))
def test_values_are_to_the_right_of_their_operands_and_apart(dag: Dag) -> None:
    places = layout(dag)
    for (u, v), route in zip(dag.edges.tolist(), places.routes, strict=True):
        assert places.layer[u] + len(route) + 1 == places.layer[v]
    for layer in range(places.layers):
        at = sorted(h for h, one in zip(places.height, places.layer, strict=True) if one == layer)
        assert at
        assert all(b - a >= 0.99 for a, b in pairwise(at))
    assert min(places.height + [h for route in places.routes for h in route]) == 0


def test_layouts_of_grids_and_butterflies_are_as_usual() -> None:
    # A grid is drawn as a diamond, without crossings.
    places = layout(grid(5))
    assert places.layers == 9
    assert [places.layer.count(i) for i in range(9)] == [1, 2, 3, 4, 5, 4, 3, 2, 1]
    graph = _Points(places.layer, [(u, v) for u, v in grid(5).edges.tolist()])
    for row in graph.rows:
        row.sort(key=lambda v: places.height[v])
    assert graph.crossings() == 0


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not on PATH")
@pytest.mark.parametrize("step", [0, 29, None])
def test_a_browser_steps_through(tmp_path: Path, step: int | None) -> None:
    dag = grid(5)
    moves = greedy(dag, 3)
    made = player(dag, moves, 3)
    made.save(tmp_path / "play.html")
    step = len(moves) if step is None else step
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=1000"]
    address = f"{(tmp_path / 'play.html').as_uri()}#{step}"
    done = subprocess.run(
        [*command, address], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode or "</html>" not in done.stdout:
        pytest.skip(f"chromium does not run here: {done.stderr[-200:]}")
    cells = dict(re.findall(r'<td id="(\w+)">([^<]*)</td>', done.stdout))
    ops = [op for op, _ in moves[:step]]
    assert (int(cells["loads"]), int(cells["stores"])) == (ops.count("load"), ops.count("store"))
    assert cells["words"] == f"{ops.count('load') + ops.count('store')} of {made.count.words}"
    assert int(cells["computed"]) == ops.count("compute")
    red: set[int] = set()
    for op, v in moves[:step]:
        if op in ("load", "compute"):
            red.add(v)
        elif op == "delete":
            red.discard(v)
    drawn = re.findall(r'<g class="(vertex[^"]*)"', done.stdout)
    assert {v for v, classes in enumerate(drawn) if "is-red" in classes} == red
    assert f"Fast memory: {len(red)} of 3 words" in done.stdout


def test_a_notebook_shows_small_graphs() -> None:
    shown = diamond(names=["<a>", "b", "c", "d"])._repr_html_()
    assert shown.count("<path") == 4
    assert shown.count("<circle") == 5
    assert "&lt;a&gt;" in shown
    root = ElementTree.fromstring(shown[shown.index("<svg") :])
    assert len(root) == 8
    assert "<svg" not in Dag.from_edges(201, [])._repr_html_()
    assert "<svg" not in Dag.from_edges(0, [])._repr_html_()
