"""What `show_config` and `python -m subquad info` tell, and the limits they measure."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import subquad
from subquad import _config

LEVELS = ["portable", "v3", "v4"]
UNITS = {
    "fma_f32": "GF/s",
    "fma_f32_all": "GF/s",
    "fma_f64": "GF/s",
    "int8": "Gop/s",
    "stream": "GB/s",
    "stream_all": "GB/s",
}


def cpuinfo(family: int, flags: str) -> str:
    cpu = (
        f"processor\t: 0\ncpu family\t: {family}\nmodel name\t: Some CPU\nflags\t\t: fpu {flags}\n"
    )
    return cpu + "\n" + cpu.replace("processor\t: 0", "processor\t: 1")


@pytest.mark.parametrize(
    ("family", "flags", "expected"),
    [
        (26, "avx2 avx512f avx512_vnni", "Z5"),
        (26, "avx2", "Z5"),
        (25, "avx2 avx512f avx512_vnni", "Z4"),
        (25, "avx2 fma avx512f", "Z3"),
        (25, "avx2 fma", "Z3"),
        (25, "sse2", "other"),
        (6, "avx2 avx512f avx512_vnni", "other"),
        (23, "avx2 fma", "other"),
    ],
)
def test_the_class_of_machine_follows_family_and_flags(
    family: int, flags: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo(family, flags))
    monkeypatch.setattr(_config, "_CPUINFO", path)
    assert _config.machine_class() == expected
    machine = subquad.show_config(mode="dicts")["machine"]
    assert (machine["class"], machine["model"]) == (expected, "Some CPU")
    assert set(machine["features"]) == set(flags.split()) - {"sse2"}
    assert f"class {expected}, Some CPU" in _config.info_text()


def test_a_system_without_cpuinfo_is_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_config, "_CPUINFO", tmp_path / "absent")
    machine = subquad.show_config(mode="dicts")["machine"]
    assert (machine["class"], machine["features"]) == ("other", [])
    assert machine["model"]


def test_dicts_hold_the_facts_and_survive_json() -> None:
    config = subquad.show_config(mode="dicts")
    assert config["versions"] == {
        "subquad": subquad.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    assert config["build"]["profile"] in ("release", "debug")
    used = LEVELS.index(config["runtime"]["instruction_set"])
    assert used <= LEVELS.index(config["machine"]["instruction_set"])
    with subquad.thread_limit(3):
        assert subquad.show_config(mode="dicts")["runtime"]["threads"] == 3
    assert json.loads(json.dumps(config)) == config


def test_stdout_prints_what_info_text_returns(capsys: pytest.CaptureFixture[str]) -> None:
    subquad.show_config()
    printed = capsys.readouterr().out
    assert printed == _config.info_text() + "\n"
    config = subquad.show_config(mode="dicts")
    for part in ("versions", "build"):
        assert all(str(fact) in printed for fact in config[part].values())
    assert not any(unit in printed for unit in UNITS.values())


def test_only_own_variables_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SUBQUAD_")]:
        monkeypatch.delenv(name)
    assert "no SUBQUAD_* variable" in _config.info_text()
    monkeypatch.setenv("SUBQUAD_NUM_THREADS", "2")
    monkeypatch.setenv("SUBQUADRATIC", "3")
    assert subquad.show_config(mode="dicts")["environment"] == {"SUBQUAD_NUM_THREADS": "2"}
    assert "SUBQUAD_NUM_THREADS=2" in _config.info_text()


def test_a_cap_changes_the_instruction_set_in_use_alone() -> None:
    code = "import json, subquad; print(json.dumps(subquad.show_config(mode='dicts')))"
    environment = {**os.environ, "SUBQUAD_ISA": "portable"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    capped, here = json.loads(run.stdout), subquad.show_config(mode="dicts")
    assert capped["runtime"]["instruction_set"] == "portable"
    assert capped["environment"]["SUBQUAD_ISA"] == "portable"
    assert capped["machine"] == here["machine"]


@pytest.mark.parametrize("mode", ["text", "", None])
def test_another_mode_is_refused(mode: Any) -> None:
    with pytest.raises(ValueError, match=r'`mode` must be "stdout" or "dicts", got '):
        subquad.show_config(mode=mode)


def test_limits_are_positive_and_shown_with_their_units() -> None:
    limits = _config.measure(0.05)
    assert set(limits) == set(UNITS)
    assert all(math.isfinite(rate) and rate > 0 for rate in limits.values())

    limits = {key: 1000.5 + i for i, key in enumerate(UNITS)}
    lines = _config.info_text(limits).splitlines()
    for key, unit in UNITS.items():
        assert sum(f"{limits[key]} {unit}" in line for line in lines) == 1


@pytest.mark.parametrize("seconds", [0, -1.0, math.nan, math.inf, 61])
def test_a_time_out_of_range_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"`seconds` must satisfy 0 < seconds <= 60, got"):
        _config.measure(seconds)


@pytest.mark.parametrize("seconds", ["1.6", None, [1.0]])
def test_a_time_that_is_no_number_is_refused(seconds: Any) -> None:
    with pytest.raises(TypeError, match=r"`seconds` must be a real number, got"):
        _config.measure(seconds)
