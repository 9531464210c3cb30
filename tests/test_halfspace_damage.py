"""Files of an index that are damaged, made by hand, of another version or something else."""

from __future__ import annotations

import io
import pickle
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from halfspaces import DTYPES, methods_for
from saved import Answers, agree, an_index, answers, numbers

from subquad.halfspace import Index


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
    (version,) = struct.unpack_from("=I", data, 12)
    struct.pack_into("=I", data, 12, version + 1)
    path = tmp_path / "newer"
    path.write_bytes(sealed(data))
    with pytest.raises(ValueError, match=rf"format version .* got version {version + 1}"):
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


def test_what_is_no_pickle_of_an_index_is_refused() -> None:
    state = an_index("auto", "float32", 3).__getstate__()[0]
    for data in (b"", state[:-1], state + b"\0", state[::-1]):
        with pytest.raises(ValueError, match="the file must be"):
            object.__new__(Index).__setstate__((data, None))
