"""Files of an index: what comes back, what is refused, and what survives a save that fails."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from halfspaces import DTYPES, keys_and_queries, methods_for, stored_as
from numpy.typing import NDArray

from subquad import _subquad
from subquad.halfspace import Index

Answers = list[NDArray[Any]]

unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps files that are in use")


def numbers(dim: int, rows: int, seed: int = 0) -> NDArray[np.float32]:
    return keys_and_queries("gaussian", np.random.default_rng(seed), rows, dim, 1)[0]


def an_index(method: str, dtype: str, dim: int, rows: int = 120) -> Index:
    """Ids with gaps, and removed keys that are still stored."""
    keys = stored_as(numbers(dim, rows), dtype)
    index = Index(keys[: rows // 2], dtype=dtype, method=method, workers=1)
    index.remove(np.arange(0, rows // 2, 3))
    index.compact()
    index.add(keys[rows // 2 :])
    index.remove(np.arange(rows // 2, rows, 5))
    return index


def answers(index: Index) -> Answers:
    """What an index reports of queries that always are the same."""
    queries = numbers(index.stats.dim, 3, seed=1)
    return [
        *index.report(queries[0], 0.5, return_scores=True),
        *index.report_batch(queries, np.array([0.0, 1.0, -np.inf])),
        index.topk(queries, min(4, len(index))),
    ]


def agree(found: Answers, expected: Answers) -> bool:
    return all(itertools.starmap(np.array_equal, zip(found, expected, strict=True)))


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


# Files that are not what they should be


def flipped(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 1, 2, 8])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def cut_at_a_line(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) // 64 * 64 :]


def prolonged(data: bytearray, rng: random.Random) -> None:
    data += bytes(rng.choice([1, 64, 4096])) if rng.random() < 0.5 else data[-64:]


def shortened_within(data: bytearray, rng: random.Random) -> None:
    begin = rng.randrange(len(data) // 64) * 64
    del data[begin : begin + rng.choice([64, 128, 1024])]


def wiped(data: bytearray, rng: random.Random) -> None:
    begin = rng.randrange(len(data))
    end = min(len(data), begin + rng.choice([1, 64, 512, 4096]))
    data[begin:end] = bytes(end - begin) if rng.random() < 0.5 else rng.randbytes(end - begin)


def swapped(data: bytearray, rng: random.Random) -> None:
    """Two sections in each other's place; the longer one is cut."""
    (_, a, n), (_, b, m) = rng.sample(table_of(data), 2)
    size = min(n, m)
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def renamed(data: bytearray, rng: random.Random) -> None:
    """Two names in each other's place."""
    i, j = (32 * (1 + i) for i in rng.sample(range(len(table_of(data))), 2))
    data[i : i + 8], data[j : j + 8] = data[j : j + 8], data[i : i + 8]


def another_number(data: bytearray, rng: random.Random) -> None:
    """A version, a length or an offset that somebody would regret to believe."""
    at = rng.randrange(8, 32 * (1 + len(table_of(data))), 4)
    number = rng.choice([0, 1, 2, 0x7FFFFFFF, 0xFFFFFFFF, rng.getrandbits(32)])
    struct.pack_into("=I", data, at, number)


DAMAGES = (
    flipped,
    cut,
    cut_at_a_line,
    prolonged,
    shortened_within,
    wiped,
    swapped,
    renamed,
    another_number,
)


def table_of(data: bytes | bytearray) -> list[tuple[bytes, int, int]]:
    """Name, begin and length of every section; see `store.rs` for the format."""
    (count,) = struct.unpack_from("=I", data, 24)
    return [struct.unpack_from("=8sQQ", data, 32 * (1 + i)) for i in range(count)]


def sealed(data: bytes | bytearray) -> bytes:
    """The same with all checksums made right."""
    data = bytearray(data)
    for i, (_, begin, size) in enumerate(table_of(data)):
        struct.pack_into("=I", data, 32 * (1 + i) + 24, zlib.crc32(data[begin : begin + size]))
    end = -(-32 * (1 + len(table_of(data))) // 64) * 64
    struct.pack_into("=I", data, 28, 0)
    struct.pack_into("=I", data, 28, zlib.crc32(data[:end]))
    return bytes(data)


@pytest.fixture(scope="module")
def samples() -> list[tuple[bytes, Answers]]:
    """Files with every kind of section, and what they answer."""
    indices = [
        an_index(method, dtype, dim, rows=60)
        for dim in (3, 24)
        for method in methods_for(dim)
        for dtype in DTYPES
    ]
    indices += [an_index(method, "float32", 24, rows=900) for method in ("auto", "rotated")]
    engines = {name for index in indices for name in index.stats.engines}
    assert engines == {"scan", "int8", "int4", "rotated", "tree"}
    return [(index.__getstate__()[0], answers(index)) for index in indices]


def test_the_tests_know_the_format(samples: list[tuple[bytes, Answers]]) -> None:
    for data, _ in samples:
        assert sealed(data) == data


def test_no_damage_is_mistaken_for_an_index(
    samples: list[tuple[bytes, Answers]], tmp_path: Path
) -> None:
    path = tmp_path / "index"
    rng = random.Random(0)
    refused = right = 0
    for i in range(10_000):
        data, expected = samples[i % len(samples)]
        damaged = bytearray(data)
        rng.choice(DAMAGES)(damaged, rng)
        if rng.random() < 0.1:
            # Spliced with a file of another index.
            other = rng.choice(samples)[0]
            begin = 64 * rng.randrange(1, len(other) // 64)
            damaged[begin:] = other[begin:]
        path.unlink(missing_ok=True)
        path.write_bytes(damaged)
        try:
            index = Index.load(path, mmap=bool(i % 2))
        except ValueError as err:
            refused += str(err).startswith("the file must be ")
        else:
            # A bit that is flipped twice.
            assert damaged == data
            assert agree(answers(index), expected)
            right += 1
    assert refused + right == 10_000
    assert refused > 9_000


def test_files_made_by_hand_are_refused_or_answer_something(
    samples: list[tuple[bytes, Answers]], tmp_path: Path
) -> None:
    # Checksums are right, so what the sections say is all that stands between a file and a crash.
    path = tmp_path / "index"
    rng = random.Random(1)
    refused = used = 0
    for i in range(2_000):
        made = bytearray(samples[i % len(samples)][0])
        kind = rng.randrange(4)
        if kind == 0:
            renamed(made, rng)
        elif kind == 1:
            swapped(made, rng)
        else:
            _, begin, size = rng.choice([x for x in table_of(made) if x[2]])
            at = begin + rng.randrange(size) // 8 * 8
            number = rng.choice([0, 1, 0xFF, 1 << 31, 1 << 63, rng.getrandbits(64)])
            end = min(at + 8, begin + size)
            made[at:end] = struct.pack("=Q", number)[: end - at]
        path.unlink(missing_ok=True)
        path.write_bytes(sealed(made))
        try:
            index = Index.load(path, mmap=bool(i % 2))
        except ValueError:
            refused += 1
            continue
        used += 1
        answers(index)
        index.remove(index.report(numbers(index.stats.dim, 1)[0], 0.0))
        index.compact()
        answers(index)
    assert refused > 100
    assert used > 100


def test_a_newer_version_says_so(tmp_path: Path) -> None:
    data = bytearray(an_index("auto", "float32", 3).__getstate__()[0])
    struct.pack_into("=I", data, 12, 2)
    path = tmp_path / "newer"
    path.write_bytes(sealed(data))
    with pytest.raises(ValueError, match=r"format version .* got version 2"):
        Index.load(path)


def as_array() -> bytes:
    file = io.BytesIO()
    np.save(file, numbers(3, 400))
    return file.getvalue()


FOREIGN: dict[str, Callable[[], bytes]] = {
    "empty": bytes,
    "one byte": lambda: b"\x89",
    "zeros": lambda: bytes(8192),
    "text": lambda: b"keys and queries " * 99,
    "array": as_array,
    "pickle": lambda: pickle.dumps(numbers(3, 400)),
    "headless": lambda: an_index("scan", "float32", 3).__getstate__()[0][8:],
}


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("kind", FOREIGN)
def test_other_files_are_refused(kind: str, mmap: bool, tmp_path: Path) -> None:
    path = tmp_path / kind
    path.write_bytes(FOREIGN[kind]())
    with pytest.raises(ValueError, match="the file must be"):
        Index.load(path, mmap=mmap)


@unix
@pytest.mark.parametrize("mmap", [True, False])
def test_what_is_no_file_is_refused_as_python_does(mmap: bool, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent", tmp_path / "absent" / "index"):
        with pytest.raises(OSError, match=str(path)) as expected:
            path.read_bytes()
        with pytest.raises(type(expected.value)) as caught:
            Index.load(path, mmap=mmap)
        assert str(caught.value) == str(expected.value)


def test_what_is_no_pickle_of_an_index_is_refused() -> None:
    state = an_index("auto", "float32", 3).__getstate__()[0]
    for data in (b"", state[:-1], state + b"\0", state[::-1]):
        with pytest.raises(ValueError, match="the file must be"):
            object.__new__(Index).__setstate__((data, None))


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
