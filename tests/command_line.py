"""Running the command line, and small files for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from subquad.__main__ import main

Printed = pytest.CaptureFixture[str]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "subquad", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def succeed(printed: Printed, *arguments: str | Path) -> str:
    assert main([str(argument) for argument in arguments]) == 0
    out, err = printed.readouterr()
    assert err == ""
    return out


def refuse(printed: Printed, *arguments: str | Path) -> str:
    """Status 2 and one line on stderr, which is returned."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as left:  # how argparse ends
        status = int(left.code or 0)
    out, err = printed.readouterr()
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.endswith("\n")
    return err


def random(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(len(shape)).standard_normal(shape, dtype=np.float32)


def arrays(heads: int = 2, length: int = 24, width: int = 8) -> dict[str, NDArray[Any]]:
    return {name: random(heads, length, width) + i for i, name in enumerate(("q", "k", "v"))}


def saved(folder: Path, **content: Any) -> Path:
    path = folder / "capture.npz"
    np.savez(path, allow_pickle=True, **content)
    return path
