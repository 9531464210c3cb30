"""The layers of the source tree, read from the sources (ARCHITECTURE.md states them)."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "rust" / "subquad-core" / "src"
BINDINGS = ROOT / "rust" / "subquad-py" / "src"
PYTHON = ROOT / "python" / "subquad"

# Who may import whom inside the core. Foundations know nothing above them, structures only
# foundations, `attention` everything, `pebble` nobody but the error type and threads.
FOUNDATIONS = {"error", "linalg", "mat", "par", "scratch", "simd"}
TOP = {"attention"}
ALONE = {"pebble"}
PEBBLE_MAY_USE = {"error", "par"}
# Measures the machine for `info --measure`; nothing builds on it.
ASIDE = {"limits"}


@pytest.fixture(scope="module", autouse=True)
def source_tree() -> None:
    if not CORE.is_dir():
        pytest.skip("the source tree is not here: its layers are not checked")


def rust_files(root: Path) -> Iterator[Path]:
    yield from sorted(root.rglob("*.rs"))


def without_tests_and_comments(text: str) -> str:
    """Rust source up to its inline test module, without comments and strings."""
    text = re.split(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*mod \w+ \{", text)[0]
    text = re.sub(r"//[^\n]*", "", text)
    return re.sub(r'"(?:\\.|[^"\\])*"', '""', text)


def module_of(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".rs")


def modules() -> set[str]:
    return {module_of(path) for path in rust_files(CORE)} - {"lib"}


def imports(path: Path) -> set[str]:
    """Top modules of the core that a file names through `crate::`."""
    text = without_tests_and_comments(path.read_text(encoding="utf-8"))
    found = set(re.findall(r"\bcrate::(\w+)", text))
    for group in re.findall(r"\bcrate::\{([^;]*)\};", text):
        depth, name = 0, ""
        for character in group + ",":
            depth += {"{": 1, "}": -1}.get(character, 0)
            if character == "," and depth == 0:
                found.add(name.strip().split("::")[0])
                name = ""
            else:
                name += character
    known = modules()
    return {name for name in found if name in known} - {module_of(path)}


def test_the_parser_finds_known_imports() -> None:
    found = set().union(*(imports(path) for path in rust_files(CORE / "attention")))
    assert {"mat", "par"} <= found


@pytest.mark.parametrize("module", sorted(modules()) if CORE.is_dir() else [])
def test_modules_import_only_what_lies_below_them(module: str) -> None:
    if module in FOUNDATIONS:
        allowed = FOUNDATIONS
    elif module in ALONE:
        allowed = PEBBLE_MAY_USE
    elif module in TOP:
        allowed = modules() - ALONE - ASIDE
    else:
        allowed = FOUNDATIONS
    for path in rust_files(CORE):
        if module_of(path) == module:
            assert imports(path) <= allowed, path


def test_every_module_of_the_core_has_a_layer() -> None:
    structures = modules() - FOUNDATIONS - TOP - ALONE - ASIDE
    assert structures <= {"halfspace", "polynomial", "rope", "toeplitz"}


def cargo(*arguments: str) -> str:
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not installed: the dependencies are not checked")
    result = subprocess.run(
        ["cargo", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    if result.returncode != 0:
        pytest.skip(f"cargo {arguments[0]} cannot run here: {result.stderr.strip()[-200:]}")
    return result.stdout


def test_the_core_depends_on_neither_python_nor_a_gpu() -> None:
    tree = cargo("tree", "-p", "subquad-core", "--edges", "normal", "--prefix", "none", "--offline")
    names = {line.split()[0] for line in tree.splitlines() if line.strip()}
    assert "subquad-core" in names
    assert "rayon" in names
    assert not names & {"pyo3", "numpy", "cudarc", "ndarray"}


ENVIRONMENT = re.compile(r"\b(?:std::)?env::(?:var|var_os|vars)\b|\bgetenv\b")


def test_only_simd_reads_the_environment_in_rust() -> None:
    readers = {
        path.relative_to(ROOT).as_posix()
        for path in rust_files(ROOT / "rust")
        if path.is_relative_to(CORE) or path.is_relative_to(BINDINGS)
        if ENVIRONMENT.search(without_tests_and_comments(path.read_text(encoding="utf-8")))
    }
    assert readers == {"rust/subquad-core/src/simd.rs"}


def test_only_two_python_modules_read_the_environment() -> None:
    readers = set()
    for path in sorted(PYTHON.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"):
                readers.add(path.name)
            if isinstance(node, ast.ImportFrom) and node.module == "os":
                assert not {a.name for a in node.names} & {"environ", "getenv", "environb"}, path
    assert "_threads.py" in readers
    assert readers <= {"_threads.py", "_config.py"}


def test_the_library_does_not_know_the_command_line() -> None:
    users = {
        path.name
        for path in sorted(PYTHON.glob("*.py"))
        if re.search(
            r"^\s*(?:from|import)\b.*\b_cli\b", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    assert users == {"__main__.py"}


# A loop over heads or axes is bookkeeping; one over elements would index or offset data.
DATA_LOOP = re.compile(r"\bfor\b[^{]*\bin\b[^{]*\b(?:as_slice|as_array|iter_mut|rows\(\)|data)\b")


def test_the_bindings_hold_no_loop_over_data() -> None:
    for path in rust_files(BINDINGS):
        text = without_tests_and_comments(path.read_text(encoding="utf-8"))
        assert not re.search(r"\b(?:while|loop)\b", text), path
        assert not DATA_LOOP.search(text), path
        # Arithmetic on floats belongs to the core.
        assert not re.search(r"\b(?:exp|ln|sqrt|mul_add|powi|powf)\(", text), path


def test_every_kernel_of_the_bindings_runs_detached() -> None:
    for path in rust_files(BINDINGS):
        text = without_tests_and_comments(path.read_text(encoding="utf-8"))
        for body in re.split(r"#\[pyfunction\]", text)[1:]:
            takes_arrays = re.search(r"\bpub fn \w+[^{]*\bArray<'py>", body)
            assert not takes_arrays or "detached(" in body, path


def test_every_method_of_a_class_of_the_bindings_runs_detached() -> None:
    # Through `detached`, or through the two functions that take the lock of the object inside it.
    seen = 0
    for path in rust_files(BINDINGS):
        text = without_tests_and_comments(path.read_text(encoding="utf-8"))
        for block in re.findall(
            r"^#\[pymethods\]\nimpl[^{]*\{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL
        ):
            for method in re.split(r"^    (?:pub )?fn ", block, flags=re.MULTILINE)[1:]:
                assert re.search(r"\bdetached\(|\bself\.(?:read|write)\(", method), (path, method)
                seen += 1
        for lock in re.finditer(r"\.(?:read|write)\(\) \{", text):
            assert "detached(" in text[lock.start() - 120 : lock.start()], path
        assert len(re.findall(r"\.(?:read|write|try_read|try_write)\(\)", text)) in (0, 2), path
    assert seen >= 10


def test_only_the_bindings_know_python() -> None:
    for path in rust_files(ROOT / "rust"):
        if not path.is_relative_to(BINDINGS):
            text = without_tests_and_comments(path.read_text(encoding="utf-8"))
            assert not re.search(r"\b(?:pyo3|numpy)::", text), path


def test_python_calls_the_compiled_module_in_few_places() -> None:
    callers = set()
    for path in sorted(PYTHON.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
                continue
            if node.value.id == "_subquad" and node.attr.startswith(("attention_", "Halfspace")):
                callers.add((node.attr.partition("_")[0], path.name))
    assert callers == {
        ("attention", "_problem.py"),
        ("attention", "near.py"),
        ("HalfspaceIndex", "halfspace.py"),
    }
