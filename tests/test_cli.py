"""The command line, in this process and in processes of its own."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Printed, arrays, random, refuse, run, saved, succeed

import subquad
from subquad.__main__ import main
from subquad._cli import progress
from subquad._cli.attend import chosen, masked
from subquad._cli.files import CaptureError
from subquad._cli.load import load

FOLDER = os.environ.get("SUBQUAD_DATA")
HEAD_KEYS = {
    "head", "label", "queries", "keys", "width", "value_width", "max_logit", "max_logit_rows",
    "keys_for_90_percent", "method", "reason", "spread", "bound", "error", "check",
    "sampled_rows", "rows_recomputed", "seconds", "numpy_seconds", "numpy_rows", "gradient",
    "ratio",
}  # fmt: skip
FILE_KEYS = {
    "subquad", "file", "stored", "dtype", "causal", "window", "scale", "theta", "eps", "workers",
    "heads",
}  # fmt: skip

# What a good run prints


def test_without_a_file_the_packaged_capture_runs() -> None:
    done = run("attend")
    assert (done.returncode, done.stderr) == (0, "")
    first, _, table, *_ = done.stdout.split("\n\n")[0].splitlines() + done.stdout.split("\n\n")[1:]
    assert first.startswith("rope_n1024.npz: 3 heads, float16 widened to float32, causal")
    heading, rule, *rows = table.splitlines()
    for column in ("head", "n", "d", "max |logit|", "keys 90 %", "method", "time", "numpy"):
        assert column in heading
    assert set(rule) == {"-", " "}
    assert [row.split()[1] for row in rows] == ["L0H1", "L1H1", "L2H2"]


def test_json_holds_all_figures_and_no_nan(capsys: Printed) -> None:
    text = succeed(capsys, "attend", "--json", "--eps", "1e-2", "--workers", "1", "--grad")
    whole = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert set(whole) == FILE_KEYS
    assert (whole["eps"], whole["workers"], whole["causal"], whole["window"]) == (
        0.01,
        1,
        True,
        None,
    )
    assert [head["head"] for head in whole["heads"]] == [0, 1, 2]
    for head in whole["heads"]:
        assert set(head) == HEAD_KEYS
        assert head["method"] == "exact"
        assert 0 < head["error"] <= head["bound"] <= 2.1
        assert 0 < head["check"] < 1e-5
        assert head["bound"] <= 0.01 + 2**-22
        assert head["ratio"] == pytest.approx(head["numpy_seconds"] / head["seconds"])
        assert 1 <= head["keys_for_90_percent"] <= 1024
        for found in (head["gradient"]["error"], head["gradient"]["check"]):
            assert all(0 < found[name] < 2e-5 for name in ("query", "key", "value"))
    flat, previous, induction = (head["max_logit"] for head in whole["heads"])
    assert flat < induction < previous


def test_float64_files_are_worked_in_float64(tmp_path: Path, capsys: Printed) -> None:
    content = {name: array.astype(np.float64) for name, array in arrays().items()}
    path = saved(tmp_path, **content)
    assert "long double" in succeed(capsys, "attend", path)
    whole = json.loads(succeed(capsys, "attend", path, "--json"))
    assert (whole["stored"], whole["dtype"]) == ("float64", "float64")
    for head in whole["heads"]:
        assert head["error"] <= head["bound"] < 1e-9


def test_a_constant_value_has_no_spread_to_measure_by(tmp_path: Path, capsys: Printed) -> None:
    content = arrays() | {"v": np.full((2, 24, 8), 1 / 3, np.float32)}
    whole = json.loads(succeed(capsys, "attend", saved(tmp_path, **content), "--json"))
    assert [head["spread"] for head in whole["heads"]] == pytest.approx([0, 0], abs=1e-12)
    for head in whole["heads"]:
        assert head["bound"] is None or head["bound"] >= 0


def test_gradients_get_a_table_of_their_own(capsys: Printed) -> None:
    out = succeed(capsys, "attend", "--grad", "--heads", "1")
    assert "gradient  / forward  dq error  dk error  dv error  dq check" in out


def test_sums_over_heads_are_compared_only_when_all_heads_ran(
    tmp_path: Path, capsys: Printed
) -> None:
    content = arrays() | {"kv_of_q": np.array([0, 0]), "do": random(2, 24, 8)}
    content |= {"k": content["k"][:1], "v": content["v"][:1], "check_rows": np.array([3, 20])}
    whole = subquad.attention_grad(
        *(content[name].astype(np.float64) for name in ("do", "q", "k", "v")), enable_gqa=True
    )
    content |= {"check_dk": whole.key[:, [3, 20]], "check_dv": whole.value[:, [3, 20]]}
    path = saved(tmp_path, **content)
    for chosen_heads, complete in (("0-1", True), ("1", False)):
        text = succeed(capsys, "attend", path, "--grad", "--json", "--heads", chosen_heads)
        for head in json.loads(text)["heads"]:
            check = head["gradient"]["check"]
            assert check["query"] is None
            for name in ("key", "value"):
                assert check[name] < 1e-5 if complete else check[name] is None
            assert all(error < 1e-5 for error in head["gradient"]["error"].values())


@pytest.mark.parametrize("shape", [(47,), (2, 47)])
def test_a_bias_of_relative_positions_is_added(
    shape: tuple[int, ...], tmp_path: Path, capsys: Printed
) -> None:
    content: dict[str, Any] = arrays() | {"do": random(2, 24, 8), "causal": True}
    content["bias"] = 2 * random(*shape)
    bias = subquad.toeplitz.Bias.learned(content["bias"])
    rows = np.array([3, 20])
    out = subquad.attention(*(content[name] for name in "qkv"), bias=bias, is_causal=True)
    path = saved(tmp_path, **content, check_rows=rows, check_o=out[:, rows])
    assert "causal, bias of relative positions" in succeed(capsys, "attend", path)
    whole = json.loads(succeed(capsys, "attend", path, "--grad", "--json"))
    for head in whole["heads"]:
        assert head["error"] <= head["bound"] < 1e-4
        assert head["check"] < 1e-5
        assert all(error < 1e-5 for error in head["gradient"]["error"].values())


def test_a_bias_for_other_lags_is_refused(tmp_path: Path, capsys: Printed) -> None:
    path = saved(tmp_path, **arrays(), bias=random(48))
    assert "`bias` has shape (48,), but (47,) or (2, 47)" in refuse(capsys, "attend", path)


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("minilm_cache_n65536_L0H2", "0"),
        ("minilm_cache_n65536_L3H8", "0"),
        ("minilm_pydoc_n512", "0,15"),
        ("minilm_stdlib_n512", "3-4"),
        ("rope_gqa_n2048", "0,1"),
        ("rope_n2048", "1"),
        ("rope_n8192_window", "0"),
    ],
)
def test_every_capture_is_understood(name: str, heads: str, capsys: Printed) -> None:
    if FOLDER is None:
        pytest.skip("SUBQUAD_DATA does not name the folder of the larger captures")
    path = Path(FOLDER) / "captures" / f"{name}.npz"
    grad = ["--grad"] if name.startswith("rope") else []
    whole = json.loads(succeed(capsys, "attend", path, "--heads", heads, "--json", *grad))
    for head in whole["heads"]:
        assert head["error"] <= head["bound"]
        assert head["check"] <= max(2e-6, 2**-22 * head["max_logit"])
        if grad:
            assert all(check < 2e-5 for check in head["gradient"]["check"].values())


def test_embeddings_are_one_clear_line(tmp_path: Path, capsys: Printed) -> None:
    path = saved(tmp_path, base=random(4, 3), queries=random(2, 3))
    assert "holds embeddings (base, queries), not attention inputs" in refuse(
        capsys, "attend", path
    )
    if FOLDER is not None:
        line = refuse(capsys, "attend", Path(FOLDER) / "captures" / "minilm_embeddings.npz")
        assert "holds embeddings" in line


def test_version_and_info() -> None:
    assert run("--version").stdout == f"subquad {subquad.__version__}\n"
    told = run("info")
    assert (told.returncode, told.stderr) == (0, "")
    assert subquad.__version__ in told.stdout
    facts = run("info", "--json", "--measure")
    assert facts.returncode == 0
    limits = json.loads(facts.stdout)["limits"]
    assert {"fma_f32", "fma_f64", "stream", "stream_all"} <= set(limits)
    assert all(rate > 0 for rate in limits.values())


# Masks and heads


def test_the_command_line_overrides_the_mask_of_the_file(tmp_path: Path, capsys: Printed) -> None:
    data = load(saved(tmp_path, **arrays(), causal=True, window=5, check_rows=[1]))
    assert (masked(data, None, None).window, masked(data, None, 5).checks) == (5, data.checks)
    wide = masked(data, None, 0)
    assert (wide.causal, wide.window, wide.checks) == (True, None, {})
    free = masked(data, False, None)
    assert (free.causal, free.window) == (False, None)
    text = succeed(capsys, "attend", saved(tmp_path, **arrays()), "--causal", "--window", "3")
    assert "causal, window 3" in text


def test_a_window_needs_a_causal_mask(tmp_path: Path, capsys: Printed) -> None:
    path = saved(tmp_path, **arrays())
    assert "--window 3 needs --causal" in refuse(capsys, "attend", path, "--window", "3")


def test_heads_are_named_by_numbers_and_ranges(tmp_path: Path) -> None:
    data = load(saved(tmp_path, **arrays(heads=6)))
    assert chosen(None, data) == [0, 1, 2, 3, 4, 5]
    assert chosen("4,0-2, 1", data) == [4, 0, 1, 2]
    for wrong in ("6", "0-6", "3-1", "", "-1", "0" * 5000, "a", "1,,2", "1.5"):
        with pytest.raises(CaptureError, match="--heads"):
            chosen(wrong, data)


# What an extra brings


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("safetensors", ["a.safetensors"], "safetensors"),
        ("matplotlib.figure", ["--plot", "a.png"], "plot"),
    ],
)
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: Printed,
    module: str,
    arguments: list[str],
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert f'pip install "subquad[{extra}]"' in refuse(capsys, "attend", *arguments)


def test_the_plot_is_a_picture_of_sensible_size(tmp_path: Path, capsys: Printed) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "out.png"
    out = succeed(capsys, "attend", "--grad", "--eps", "1e-2", "--plot", path)
    assert out.endswith(f"figure: {path}\n")
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert 1500 <= width <= 4000
    assert 300 <= height <= 2000
    assert 20_000 < len(content) < 1_000_000


def test_a_plot_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(subquad, "attention", lambda *_, **__: pytest.fail("ran"))
    assert "unknown extension" in refuse(capsys, "attend", "--plot", tmp_path / "out.xyz")
    assert "no folder" in refuse(capsys, "attend", "--plot", tmp_path / "absent" / "out.png")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("bar", [True, False])
def test_progress_is_a_bar_or_plain_lines(monkeypatch: pytest.MonkeyPatch, bar: bool) -> None:
    if bar:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.Progress(2) as steps:
        steps.step("head 0")
        steps.step("head 1")
    text = terminal.getvalue()
    assert ("\r" in text) == bar
    assert bar or text == "1/2 head 0\n2/2 head 1\n"


@pytest.mark.parametrize("quiet", [True, False])
def test_there_is_no_progress_with_json_or_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    stream = Terminal() if quiet else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.Progress(1, quiet=quiet) as steps:
        steps.step("head 0")
    assert stream.getvalue() == ""


# Wrong arguments, and leaving early


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required"),
        (["nonsense"], "invalid choice"),
        (["attend", "--eps", "0"], "0 is not a positive number"),
        (["attend", "--eps", "nan"], "nan is not a positive number"),
        (["attend", "--eps", "much"], "much is not a positive number"),
        (["attend", "--workers", "0"], "0 is not a whole number of at least 1"),
        (["attend", "--window", "x"], "x is not a whole number of at least 0"),
        (["attend", "--window", "-1"], "-1 is not a whole number of at least 0"),
        (["attend", "--heads", "9"], "rope_n1024.npz has heads 0 to 2"),
        (["attend", "--heads", "x"], "numbers and ranges such as 0,3-5"),
        (["attend", "--unknown"], "unrecognized arguments"),
    ],
)
def test_wrong_arguments_are_one_clear_line(
    capsys: Printed, arguments: list[str], said: str
) -> None:
    assert said in refuse(capsys, *arguments)


def test_a_gradient_needs_its_start(tmp_path: Path, capsys: Printed) -> None:
    line = refuse(capsys, "attend", saved(tmp_path, **arrays()), "--grad")
    assert "--grad needs the array `do`" in line


def test_a_refusal_in_a_process_of_its_own_has_no_traceback(tmp_path: Path) -> None:
    done = run("attend", tmp_path / "absent.npz")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("subquad: error: ")
    assert done.stderr.count("\n") == 1


def test_an_interrupt_inside_a_head_is_one_line(
    capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subquad, "attention", interrupted)
    assert main(["attend"]) == 130
    assert capsys.readouterr() == ("", "subquad: interrupted\n")


def test_too_little_memory_is_one_line(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any, **__: Any) -> None:
        raise MemoryError("9 GiB")

    monkeypatch.setattr(subquad, "attention", exhausted)
    assert "not enough memory (9 GiB)" in refuse(capsys, "attend")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process on Windows")
def test_ctrl_c_leaves_with_status_130(tmp_path: Path) -> None:
    length = 100_000  # seconds of work for one thread of any machine, then as much again
    path = saved(tmp_path, **{name: np.zeros((length, 64), np.float32) for name in "qkv"})
    start = "from subquad.__main__ import main; print('ready', flush=True); import sys; "
    command = [sys.executable, "-c", f"{start} sys.exit(main(sys.argv[1:]))"]
    with subprocess.Popen(
        [*command, "attend", str(path), "--workers", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "subquad: interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end differently on Windows")
def test_a_reader_that_leaves_causes_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "subquad", "attend", "--heads", "0"]
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, text=True) as process:
        os.close(writer)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")
