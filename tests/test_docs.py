"""What the README and the manual show is run as it stands there."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import subquad

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "python" / "docs"
PAGES = [page.relative_to(DOCS).as_posix() for page in sorted(DOCS.rglob("*.rst"))]
MODULES = sorted(
    {"subquad", *(m.name for m in pkgutil.walk_packages(subquad.__path__, "subquad."))}
)


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_the_readme_has_two_set_up_commands_of_one_line_each() -> None:
    lines = [block.splitlines() for block in blocks("sh")]
    assert [len(block) for block in lines] == [1, 1]
    attend, tests = (block[0] for block in lines)
    assert attend.endswith(".venv/bin/python -m subquad attend")
    assert tests.endswith(".venv/bin/python -m pytest")
    assert "cargo test --workspace --locked" in tests


def test_the_examples_of_the_readme_run() -> None:
    examples = blocks("python")
    output = ""
    for example in examples:
        command = [sys.executable, "-W", "error", "-c", example]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        output += done.stdout
    assert len(examples) == 5
    assert "(8, 1024, 64)" in output
    assert "quadratic: d = 16" in output


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_the_manual_are_right(page: str) -> None:
    failed, _ = doctest.testfile(str(DOCS / page), module_relative=False, encoding="utf-8")
    assert failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_docstrings_are_right(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_the_manual_and_the_docstrings_have_examples() -> None:
    parser = doctest.DocTestParser()
    shown = sum(
        len(parser.get_examples((DOCS / page).read_text(encoding="utf-8"))) for page in PAGES
    )
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [test for name in MODULES for test in finder.find(importlib.import_module(name))]
    assert shown > 0
    assert any(test.examples for test in tests)
