"""Files of an index: what comes back, and what survives a save that fails."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from halfspaces import DTYPES, methods_for, stored_as
from saved import Answers, agree, an_index, answers, numbers

from subquad import _subquad
from subquad.halfspace import Index

unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps files that are in use")


# What is saved comes back


@pytest.mark.parametrize("dim", [3, 24])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_index_comes_back_whole(dim: int, dtype: str, tmp_path: Path) -> None:
    for method in methods_for(dim):
        index = an_index(method, dtype, dim)
        expected = answers(index)
        path = tmp_path / method
        index.save(path)
        assert os.listdir(tmp_path) == [method]
        saved = path.read_bytes()
        for mmap in (True, False):
            loaded = Index.load(str(path), mmap=mmap)
            assert loaded.workers is None
            assert loaded.stats.mapped == mmap
            assert repr(loaded) == repr(index)
            assert agree(answers(loaded), expected)
            again = tmp_path / "again"
            loaded.save(again)
            assert again.read_bytes() == saved
            again.unlink()
            assert loaded.add(stored_as(numbers(dim, 1), dtype)).tolist() == [index.stats.next_id]
        path.unlink()


def test_a_pickle_holds_the_bytes_of_the_file(tmp_path: Path) -> None:
    index = an_index("auto", "float32", 12)
    index.save(tmp_path / "index")
    assert (tmp_path / "index").read_bytes() in pickle.dumps(index)
    assert agree(answers(pickle.loads(pickle.dumps(index))), answers(index))


def test_an_index_without_keys_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    Index(np.empty((0, 5), np.float16)).save(path)
    for mmap in (True, False):
        index = Index.load(path, mmap=mmap)
        assert len(index) == 0
        assert index.stats.dtype == "float16"
        assert index.add(np.ones((2, 5), np.float16)).tolist() == [0, 1]
        assert index.report(np.ones(5, np.float32), 5.0).tolist() == [0, 1]


SAVE = """
import sys
import numpy as np
from subquad.halfspace import Index
for name in sys.argv[2:]:
    data = np.load(name)
    Index(data["keys"], method=str(data["method"])).save(sys.argv[1] + str(data["method"]))
"""


@pytest.mark.parametrize("isa", ["portable", "v3"])
def test_a_file_can_be_read_on_a_machine_with_other_instructions(isa: str, tmp_path: Path) -> None:
    if isa == "v3" and _subquad.best_isa == "portable":
        pytest.skip("this machine has no AVX2")
    keys = numbers(12, 3000)
    names = []
    for method in methods_for(12):
        names.append(str(tmp_path / f"{method}.npz"))
        np.savez(names[-1], allow_pickle=False, keys=keys, method=np.array(method))
    command = [sys.executable, "-c", SAVE, str(tmp_path / "saved-"), *names]
    subprocess.run(command, check=True, timeout=120, env=os.environ | {"SUBQUAD_ISA": isa})
    for method in methods_for(12):
        expected = answers(Index(keys, method="scan"))
        assert agree(answers(Index.load(tmp_path / f"saved-{method}")), expected)


# Saving


def two(folder: Path, rows: int = 200) -> tuple[Path, Answers, Index]:
    """A saved index, what it answers, and another one."""
    path = folder / "index"
    index = an_index("auto", "float32", 8, rows)
    index.save(path)
    return path, answers(index), Index(numbers(8, rows + 100, seed=2))


def test_a_mapped_file_can_be_replaced(tmp_path: Path) -> None:
    path, expected, other = two(tmp_path)
    mapped = Index.load(path)
    if sys.platform == "win32":
        with pytest.raises(PermissionError):
            other.save(path)
    else:
        other.save(path)
        assert agree(answers(Index.load(path)), answers(other))
    assert agree(answers(mapped), expected)
    assert os.listdir(tmp_path) == ["index"]


@unix
def test_a_mapped_index_outlives_its_file(tmp_path: Path) -> None:
    path, expected, _ = two(tmp_path)
    mapped = Index.load(path)
    path.unlink()
    assert agree(answers(mapped), expected)
    mapped.save(path)
    assert agree(answers(Index.load(path)), expected)


def test_changing_a_mapped_index_leaves_its_file_alone(tmp_path: Path) -> None:
    path, expected, _ = two(tmp_path)
    saved = path.read_bytes()
    changes: tuple[Callable[[Index], Any], ...] = (
        lambda index: index.add(numbers(8, 3)),
        lambda index: index.remove(index.report(numbers(8, 1)[0], 0.0)),
        lambda index: index.compact(),
    )
    for order in itertools.permutations(changes):
        index, other = Index.load(path), Index.load(path)
        for change in order:
            change(index)
        assert not agree(answers(index), expected)
        assert agree(answers(other), expected)
        assert path.read_bytes() == saved


@unix
def test_an_index_that_was_read_does_not_need_its_file(tmp_path: Path) -> None:
    path, expected, _ = two(tmp_path)
    index = Index.load(path, mmap=False)
    # In place, which an index that is mapped would not survive.
    path.write_bytes(b"something else")
    assert agree(answers(index), expected)


# Files of at most some bytes, as on a disk that is nearly full.
LIMITED = """
import errno, os, resource, sys
import numpy as np
from subquad.halfspace import Index
index = Index(np.ones((5000, 8), np.float32))
path = sys.argv[1]
for limit in (0, 10, 4096, 100_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        index.save(path)
    except OSError as err:
        assert err.errno == errno.EFBIG and err.filename == path, err
    else:
        sys.exit(f"{limit} bytes were enough")
    assert os.listdir(os.path.dirname(path)) == ["index"]
"""


@unix
def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    path, expected, _ = two(tmp_path)
    saved = path.read_bytes()
    command = [sys.executable, "-c", LIMITED, str(path)]
    child = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert child.returncode == 0, child.stderr
    assert path.read_bytes() == saved
    assert agree(answers(Index.load(path)), expected)


SAVING = """
import sys
from subquad.halfspace import Index
one, other = (Index.load(path, mmap=False) for path in sys.argv[1:3])
print("ready", flush=True)
while True:
    one.save(sys.argv[3])
    other.save(sys.argv[3])
"""


@unix
def test_a_save_that_is_killed_leaves_one_index_or_the_other(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one", "other")]
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "index"
    for i, name in enumerate(paths):
        # Large enough for most kills to come while the file is written.
        Index(numbers(16, 60_000 + i), method="scan").save(name)
    shutil.copy(paths[0], path)
    complete = [name.read_bytes() for name in paths]
    rng = random.Random(2)
    interrupted = 0
    for _ in range(12):
        command = [sys.executable, "-c", SAVING, *map(str, [*paths, path])]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout
            assert child.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.0, 0.06))
            child.send_signal(signal.SIGKILL)
        assert path.read_bytes() in complete
        leftover = [name for name in folder.iterdir() if name != path]
        interrupted += len(leftover)
        for name in leftover:
            name.unlink()
    assert interrupted


@unix
@pytest.mark.parametrize("mmap", [True, False])
def test_what_is_no_file_is_refused_as_python_does(mmap: bool, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent", tmp_path / "absent" / "index"):
        with pytest.raises(OSError, match=str(path)) as expected:
            path.read_bytes()
        with pytest.raises(type(expected.value)) as caught:
            Index.load(path, mmap=mmap)
        assert str(caught.value) == str(expected.value)


@unix
def test_where_nothing_can_be_written_nothing_changes(tmp_path: Path) -> None:
    index = an_index("scan", "float32", 3)
    for path, error in (
        (tmp_path / "absent" / "index", FileNotFoundError),
        (tmp_path, OSError),
        (Path("/dev/null"), OSError),
    ):
        with pytest.raises(error) as caught:
            index.save(path)
        assert str(path) in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_paths_are_paths() -> None:
    index = an_index("scan", "float32", 3)
    for path in (7, None, numbers(3, 1)):
        with pytest.raises(TypeError, match="`path`"):
            index.save(path)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="`path`"):
            Index.load(path)  # type: ignore[arg-type]
