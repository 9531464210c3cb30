"""`python -m subquad pebble` where something ends early or cannot be written: what is known is printed."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Never

import pytest
from command_line import Printed, refuse, succeed

from subquad import pebble as game
from subquad.__main__ import main
from subquad._cli import pebble
from subquad._cli.pebble_plot import memories, spread
from subquad._cli.pebble_search import Found, search
from subquad.pebble import Dag, Moves, play

_MOST = 2**64 - 1


def _interrupt(*_: Any, **__: Any) -> Never:
    raise KeyboardInterrupt


def _ended(capsys: Printed, status: int, *arguments: object) -> tuple[str, str]:
    assert main([str(argument) for argument in arguments]) == status
    out, err = capsys.readouterr()
    return out, err


def test_where_no_order_can_be_played_the_search_counts(capsys: Printed) -> None:
    options = ("--memory", "3", "--sliding", "--recolour", "--time-limit", "0.3", "--json")
    whole = json.loads(succeed(capsys, "pebble", "random:60,10", *options))
    model = game.Model(sliding=True, blue_persists=False)
    dag = Dag.random(60, 10)
    assert dag.least_memory(model) == 3
    with pytest.raises(ValueError, match="`memory` must be at least 4"):
        game.simulate(dag, game.order(dag), 3, "best", model=model)
    assert whole["status"] == "time limit"
    assert whole["lower"] >= max(whole["bounds"].values()) > 0


@pytest.mark.parametrize("stopped", ["order", "improve_order"])
def test_ctrl_c_among_orders_keeps_what_was_found(
    capsys: Printed, monkeypatch: pytest.MonkeyPatch, stopped: str
) -> None:
    monkeypatch.setattr(game, stopped, _interrupt)
    arguments = ("pebble", "fft:32", "--memory", "8", "--time-limit", "0.2", "--json")
    out, err = _ended(capsys, 130, *arguments)
    whole = json.loads(out)
    assert err == "subquad: interrupted\n"
    assert whole["status"] == "interrupted"
    assert play(Dag.fft(32), Moves(whole["moves"]), 8).words == whole["upper"]


def test_ctrl_c_in_a_figure_keeps_the_play(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    calls: list[int] = []

    def second_stops(problem: Any, memory: int, *rest: Any) -> Found:
        calls.append(memory)
        found = search(problem, memory, *rest)
        return found if len(calls) == 1 else replace(found, status="interrupted")

    monkeypatch.setattr(pebble, "search", second_stops)
    page, figure = tmp_path / "play.html", tmp_path / "words.svg"
    arguments = ("pebble", "tree:3", "--memory", "4", "--plot", figure, "--html", page)
    out, err = _ended(capsys, 130, *arguments)
    assert "and no play moves fewer" in out
    assert err == "subquad: interrupted\n"
    assert len(calls) == 2
    assert page.is_file()
    assert not figure.exists()


def test_ctrl_c_in_the_figure_of_a_plan_keeps_the_plan(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(game, "sweep", _interrupt)
    arguments = ("pebble", "attention:4096,64", "--memory", "2458", "--plot", tmp_path / "x.svg")
    out, err = _ended(capsys, 130, *arguments)
    assert repr(game.attention_plan(4096, 64, 2458)) in out
    assert err == "subquad: interrupted\n"


@pytest.mark.parametrize(
    ("graph", "options", "message"),
    [
        ("chain:2000", ["--html", "play.html"], "--html is for at most 2,000 vertices, not 2,001"),
        ("chain:3", ["--html", "folder.svg"], "--html folder.svg: a folder, not a file"),
        ("chain:3", ["--html", ""], "--html .: a folder, not a file"),
        ("chain:3", ["--plot", "folder.svg"], "--plot folder.svg: a folder, not a file"),
        ("chain:3", ["--plot", ""], "--plot .: unknown extension"),
        ("chain:3", ["--compute-cost", "1e308"], "`compute_cost` must be at most 1e+15"),
    ],
)
def test_what_can_be_known_is_refused_before_the_search(
    tmp_path: Path,
    capsys: Printed,
    monkeypatch: pytest.MonkeyPatch,
    graph: str,
    options: list[str],
    message: str,
) -> None:
    if "--plot" in options:
        pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.svg").mkdir()
    monkeypatch.setattr(pebble, "search", _interrupt)
    assert message in refuse(capsys, "pebble", graph, "--memory", "3", *options)


def test_a_table_survives_files_that_cannot_be_written(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Never:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(game.Player, "save", full)
    page = tmp_path / "play.html"
    out, err = _ended(capsys, 1, "pebble", "chain:3", "--memory", "3", "--html", page)
    assert "2, and no play moves fewer" in out
    assert str(page) not in out
    assert err == f"subquad: error: player {page}: not written: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_an_output_that_is_full_is_one_line() -> None:
    command = [sys.executable, "-m", "subquad", "pebble", "chain:3", "--memory", "3"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    expected = "subquad: error: standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, expected)


@pytest.mark.parametrize("memory", [1, 2, 2**63 - 1, 2**63, _MOST])
@pytest.mark.parametrize("graph", ["fft:1", "chain:0", "matmul:2,2,2", "none.dot"])
def test_any_memory_and_the_smallest_graphs_have_figures(
    tmp_path: Path, capsys: Printed, graph: str, memory: int
) -> None:
    pytest.importorskip("matplotlib")
    if graph == "none.dot":
        (tmp_path / graph).write_text("digraph{}")
        graph = str(tmp_path / graph)
    if graph.startswith("matmul") and memory < 4:
        memory = 4
    figure = tmp_path / "words.svg"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = succeed(capsys, "pebble", graph, "--memory", str(memory), "--plot", figure)
    assert "and no play moves fewer" in table
    assert figure.is_file()


def test_computing_costs_what_can_be_added_up() -> None:
    assert game.Model(compute_cost=1e15).compute_cost == 1e15
    with pytest.raises(ValueError, match="`compute_cost` must be at most"):
        game.Model(compute_cost=1.01e15)


def test_points_of_a_figure_do_not_overflow() -> None:
    assert memories(0, 2, 0) == [1, 2]
    points = memories(3, _MOST, 45)
    assert (points[0], points[-1]) == (3, _MOST)
    assert len(points) == len(set(points)) == 12
    assert spread(1, 8, 4) == [1, 2, 4, 8]


def test_titles_of_figures_are_no_formulas(tmp_path: Path, capsys: Printed) -> None:
    pytest.importorskip("matplotlib")
    graph, figure = tmp_path / "$foo_{$.dot", tmp_path / "words.svg"
    graph.write_text("digraph { a -> b }")
    succeed(capsys, "pebble", graph, "--memory", "2", "--plot", figure)
    assert "<!-- $foo_{$.dot, one-shot" in figure.read_text(encoding="utf-8")


def test_one_is_not_many(capsys: Printed) -> None:
    table = succeed(capsys, "pebble", "chain:0", "--memory", "1")
    assert "; 1 word of fast memory (at least 0)" in table
    table = succeed(capsys, "pebble", "chain:1", "--memory", "2")
    assert "1 value, 0 of them again" in table
    assert "2 words" in table


def test_files_are_named_once(tmp_path: Path, capsys: Printed) -> None:
    path = tmp_path / "cycle.dot"
    path.write_text("digraph { a -> b; b -> a }")
    message = refuse(capsys, "pebble", path, "--memory", "4")
    assert message.count("cycle.dot") == 1
    assert message.endswith("`edges` must have no cycle, got b -> a -> b\n")
