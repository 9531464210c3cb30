"""`python -m subquad pebble`: graphs by name and from files, the table, JSON, pages, figures, refusals."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from command_line import Printed, refuse, run, succeed
from pebbles import diamond
from running import sends_signals

from subquad.__main__ import main
from subquad._cli.files import CaptureError
from subquad._cli.pebble_graph import parse
from subquad._cli.pebble_plot import memories
from subquad.pebble import Dag, Model, Moves, attention_plan, order, play, simulate


def test_a_search_is_printed() -> None:
    done = run("pebble", "matmul:2,2,2", "--memory", "4")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, *table = done.stdout.splitlines()
    assert first == "matmul:2,2,2: 16 vertices, 20 edges, 8 sources, 4 outputs"
    assert second.endswith("one-shot; 4 words of fast memory (at least 4)")
    rows = dict(re.split(r" {2,}", row.strip(), maxsplit=1) for row in table if row)
    assert rows["words moved"].endswith(", and no play moves fewer")
    loads, stores = map(int, rows["loads, stores"].split(","))
    assert f"{loads + stores}, and" in rows["words moved"]
    assert rows["peak"] == "4 words"
    assert rows["computed"] == "8 values, 0 of them again"


@pytest.mark.parametrize(
    ("options", "model"),
    [
        ([], Model()),
        (["--recompute"], Model(recompute=True)),
        (["--sliding"], Model(sliding=True)),
        (["--recolour"], Model(blue_persists=False)),
        (["--no-deletes"], Model(deletes=False)),
        (["--computable", "--anywhere"], Model(sources="computable", outputs="any")),
        (["--compute-cost", "0.5"], Model(compute_cost=0.5)),
    ],
)
def test_json_holds_a_play_of_the_game(capsys: Printed, options: list[str], model: Model) -> None:
    whole = json.loads(succeed(capsys, "pebble", "grid:3,3", "--memory", "4", "--json", *options))
    assert Model(**whole["model"]) == model
    dag, moves = Dag.grid(3, 3), Moves(whole["moves"])
    count = play(dag, moves, 4, model=model)
    assert whole["upper"] == pytest.approx(count.cost)
    assert whole["proved"]
    assert whole["lower"] == pytest.approx(whole["upper"])
    for name in ("loads", "stores", "peak", "computations", "recomputations"):
        assert whole[name] == getattr(count, name)
    assert (whole["graph"], whole["vertices"], whole["edges"]) == ("grid:3,3", 9, 12)
    assert whole["least_memory"] == dag.least_memory(model)


@pytest.mark.parametrize("ending", ["hdag", "dot"])
def test_files_are_searched(tmp_path: Path, capsys: Printed, ending: str) -> None:
    dag = diamond(weights=[2, 1, 1, 3])
    path = tmp_path / f"diamond.{ending}"
    path.write_text(getattr(dag, f"to_{ending}")(), encoding="utf-8")
    whole = json.loads(succeed(capsys, "pebble", path, "--memory", "5", "--json"))
    assert (whole["graph"], whole["words"], whole["upper"]) == (path.name, 7, 5)
    assert play(dag, Moves(whole["moves"]), 5).words == 5


def test_pages_and_figures_are_written(tmp_path: Path, capsys: Printed) -> None:
    pytest.importorskip("matplotlib")
    page, figure = tmp_path / "play.html", tmp_path / "words.svg"
    arguments = ("pebble", "tree:3", "--memory", "3", "--html", page, "--plot", figure)
    table = succeed(capsys, *arguments)
    assert table.splitlines()[-2].split() == ["player", str(page)]
    assert table.splitlines()[-1].split() == ["figure", str(figure)]
    assert "<title>tree:3, 3 words</title>" in page.read_text(encoding="utf-8")
    assert figure.read_text(encoding="utf-8").count("<svg") == 1


def test_a_figure_has_the_ends_and_what_was_asked_for() -> None:
    assert memories(4, 6, 45)[0] == 4
    assert memories(4, 6, 45)[-1] == 45
    assert 6 in memories(4, 6, 45)
    assert memories(4, 100, 45)[-1] == 100
    assert memories(1, 1, 1) == [1, 2]
    assert all(m >= 3 for m in memories(3, 3, 1000))


def test_of_a_graph_too_large_for_a_search_orders_are_played(capsys: Printed) -> None:
    arguments = ("pebble", "matmul:11,11,11", "--memory", "24", "--time-limit", "0.4", "--json")
    whole = json.loads(succeed(capsys, *arguments))
    assert (whole["status"], whole["proved"]) == ("too large", False)
    assert whole["by"].startswith("order in blocks of")
    dag = Dag.matmul(11, 11, 11)
    assert play(dag, Moves(whole["moves"]), 24).words == whole["upper"]
    # In the order of numbers it is far more.
    assert whole["upper"] < 0.7 * simulate(dag, order(dag), 24).words
    assert whole["lower"] == max(whole["bounds"].values()) < whole["upper"]


def test_a_search_that_runs_out_of_time_has_bounds(capsys: Printed) -> None:
    arguments = ("pebble", "fft:16", "--memory", "6", "--time-limit", "0.2")
    table = succeed(capsys, *arguments)
    found = re.search(r"words moved +(\d+), and every play at least (\d+)\n", table)
    assert found is not None
    assert 32 <= int(found[2]) < int(found[1]) <= 80
    assert "time limit, " in table


def test_large_attention_is_planned(capsys: Printed, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = tmp_path / "plans.svg"
    arguments = ["pebble", "attention:4096,64", "--memory", "2458"]
    table = succeed(capsys, *arguments, "--plot", figure)
    plan = attention_plan(4096, 64, 2458)
    assert repr(plan) in table
    assert figure.is_file()
    whole = json.loads(succeed(capsys, *arguments, "--json"))
    for name in ("schedule", "blocks", "words", "flops", "peak", "workspace", "lower_bound"):
        assert whole[name] == getattr(plan, name)
    assert [row["words"] for row in whole["table"]] == [row.words for row in plan.table]
    options: dict[str, Any] = {"is_causal": True, "direction": "backward"}
    arguments[1] = "attention_grad:4096,64"
    whole = json.loads(succeed(capsys, *arguments, "--json", "--causal"))
    assert whole["words"] == attention_plan(4096, 64, 2458, **options).words
    assert (whole["direction"], whole["causal"]) == ("backward", True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("chain:4", Dag.chain(4)),
        ("tree:2", Dag.tree(2)),
        ("pyramid:3", Dag.pyramid(3)),
        ("grid:2,3", Dag.grid(2, 3)),
        ("stencil:3,2", Dag.stencil(3, 2)),
        ("fft:4", Dag.fft(4)),
        ("matmul:1,2,3", Dag.matmul(1, 2, 3)),
        ("matmul:1,2,3,tree", Dag.matmul(1, 2, 3, form="tree")),
        ("attention:2, 3", Dag.attention(2, 3)),
        ("attention:2,3,online,chain", Dag.attention(2, 3, form="chain", softmax="online")),
        ("attention_grad:2,3,chain", Dag.attention_grad(2, 3, form="chain")),
        ("random:9,2", Dag.random(9, 2)),
    ],
)
def test_graphs_have_names(text: str, expected: Dag) -> None:
    assert parse(text).dag == expected


def test_large_attention_has_no_graph() -> None:
    problem = parse("attention:4096,64")
    assert (problem.family, problem.sizes, problem.dag) == ("attention", (4096, 64), None)
    assert parse("attention_grad:4096,64").dag is None
    # Unless it is asked for.
    assert parse("attention:20,20,fma").dag == Dag.attention(20, 20)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("matmul", "a file .hdag or .dot is needed, or one of chain, tree"),
        ("matmull:3,3,3", "a file .hdag or .dot is needed"),
        ("graph.txt", "a file .hdag or .dot is needed"),
        ("matmul:3,3", "matmul needs 3 whole numbers, as matmul:8,8,8"),
        ("matmul:3,3,x", "matmul needs 3 whole numbers"),
        ("fft:-8", "fft needs 1 whole number, as fft:8"),
        ("fft:8,8", "nothing may follow the sizes, each kind once, not '8'"),
        ("matmul:3,3,3,safe", "fma, chain, tree may follow the sizes, each kind once, not 'safe'"),
        ("attention:2,2,tree,fma", "each kind once, not 'fma'"),
    ],
)
def test_other_names_are_refused(text: str, message: str) -> None:
    with pytest.raises(CaptureError, match=re.escape(message)):
        parse(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fft:12", "--memory", "4"], "fft:12: `n` must be a power of two, got 12"),
        (["fft:8", "--memory", "2"], "`memory` must be at least 3"),
        (["fft:8"], "required: --memory"),
        (["fft:8", "--memory", "0"], "0 is not a whole number of at least 1"),
        (["fft:8", "--memory", "4", "--time-limit", "0"], "0 is not a positive number"),
        (["attention:512,64", "--memory", "1"], "`memory` must be at least"),
        (["attention:512,64", "--memory", "99", "--no-deletes"], "--no-deletes is for graphs"),
        (["attention:512,64", "--memory", "99", "--html", "x.html"], "--html is for graphs"),
        (["fft:8", "--memory", "4", "--causal"], "--causal is for plans of attention"),
        (["none.dot", "--memory", "4"], "none.dot: No such file"),
        (["fft:8", "--memory", "4", "--html", "no/where.html"], "--html no/where.html: no folder no"),
        (["fft:8", "--memory", "4", "--plot", "x.gif"], "unknown extension"),
    ],
)  # fmt: skip
def test_refusals_are_one_line(capsys: Printed, arguments: list[Any], message: str) -> None:
    assert message in refuse(capsys, "pebble", *arguments)


def test_damaged_files_are_refused_by_line(tmp_path: Path, capsys: Printed) -> None:
    path = tmp_path / "damaged.dot"
    path.write_text("digraph {\n a -- b\n}")
    message = refuse(capsys, "pebble", path, "--memory", "4")
    assert "damaged.dot, line 2: edges must be directed" in message


@sends_signals
def test_ctrl_c_returns_what_is_known(capsys: Printed) -> None:
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer.start()
    try:
        arguments = ("pebble", "fft:32", "--memory", "8", "--time-limit", "60", "--json")
        assert main(arguments) == 130
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, previous)
    out, err = capsys.readouterr()
    whole = json.loads(out)
    assert err == "subquad: interrupted\n"
    assert whole["status"] == "interrupted"
    assert whole["lower"] < whole["upper"]
    assert play(Dag.fft(32), Moves(whole["moves"]), 8).words == whole["upper"]
