"""Files handed to the command line: those it reads, and the many ways in which it cannot."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Printed, arrays, random, refuse, saved, succeed
from numpy.typing import NDArray

from subquad._cli.files import CaptureError
from subquad._cli.load import load

# Files that cannot be used


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"v": None}, "no array `v`"),
        ({"q": None, "k": None}, "no array `q` or `k`"),
        ({"q": random(2, 24)}, "`k` has shape"),
        ({"q": random(2, 24, 7)}, "differ in their last axis"),
        ({"v": random(2, 23, 8)}, "differ before the last axis"),
        ({"q": random(3, 24, 8)}, "cannot share"),
        ({"q": random(2, 0, 8)}, "`q` has shape (2, 0, 8)"),
        ({"q": random(1, 1, 2, 24, 8)}, "2-D, heads first or layers x heads"),
        ({"k": random(2, 24, 8) + 1j}, "`k` has dtype complex"),
        ({"q": np.full((2, 24, 8), "x")}, "not real numbers"),
        ({"q": np.full((2, 24, 8), None)}, "`q` holds pickled objects, which are never loaded"),
        ({"q": np.full((2, 24, 8), np.nan, np.float32)}, "capture.npz, head 0: `query`"),
        ({"scale": 0.0}, "`scale` is 0"),
        ({"scale": np.inf}, "`scale` is inf"),
        ({"scale": [1.0, 2.0]}, "`scale` is not one number"),
        ({"window": 4}, "`window` is 4, which needs `causal`"),
        ({"window": -4, "causal": True}, "`window` is -4"),
        ({"theta": -1.0}, "`theta` is -1.0"),
        ({"theta": 10.0, "q": random(2, 25, 8)}, "as many queries as keys"),
        ({"kv_of_q": [0, 2]}, "`kv_of_q` must hold rows of `k`, 0 to 1"),
        ({"kv_of_q": [0]}, "`kv_of_q` has shape (1,), but (2,) is needed"),
        ({"do": random(2, 24, 7)}, "`do` has shape (2, 24, 7), but (2, 24, 8) is needed"),
        ({"check_rows": [24]}, "`check_rows` must lie in 0 to 23"),
        ({"check_rows": [1], "check_o": random(2, 2, 8)}, "`check_o` has shape"),
        ({"layer": [1, 2, 3], "head": [1, 2, 3]}, "`layer` has shape (3,)"),
    ],
)
def test_wrong_arrays_are_one_clear_line(
    tmp_path: Path, capsys: Printed, change: dict[str, Any], said: str
) -> None:
    content = {name: array for name, array in (arrays() | change).items() if array is not None}
    line = refuse(capsys, "attend", saved(tmp_path, **content))
    assert "capture.npz" in line
    assert said in line


def test_an_odd_width_cannot_rotate(tmp_path: Path, capsys: Printed) -> None:
    path = saved(tmp_path, **arrays(width=7), theta=10.0)
    assert "the width 7 is odd" in refuse(capsys, "attend", path)


def as_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"q": [1.0]}))


def as_array(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, random(3, 3))


def truncated(path: Path) -> None:
    saved(path.parent, **arrays()).rename(path)
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("absent.npz", lambda path: None, "No such file"),
        ("folder.npz", Path.mkdir, "directory"),
        ("empty.npz", Path.touch, "not an .npz file"),
        ("text.npz", lambda path: path.write_text("q, k, v\n"), "not an .npz file"),
        ("pickled.npz", as_pickle, "not an .npz file"),
        ("array.npz", as_array, "not an .npz file"),
        ("short.npz", truncated, "damaged"),
        ("zip.npz", lambda path: path.write_bytes(b"PK\5\6" + bytes(18)), "no array"),
        ("capture.txt", Path.touch, "unknown extension"),
        ("capture", Path.touch, "unknown extension"),
        ("absent.safetensors", lambda path: None, "No such file"),
        ("text.safetensors", lambda path: path.write_text("q" * 40), "damaged"),
        ("empty.safetensors", Path.touch, "damaged"),
    ],
)
def test_foreign_files_are_one_clear_line(
    tmp_path: Path, capsys: Printed, name: str, write: Callable[[Path], object], said: str
) -> None:
    if name.endswith(".safetensors"):
        pytest.importorskip("safetensors")
    path = tmp_path / name
    write(path)
    line = refuse(capsys, "attend", path)
    assert said in line
    assert name in line


def test_a_pickle_is_never_run(tmp_path: Path, capsys: Printed) -> None:
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
            return Path.touch, (ran,)

    trap = np.empty((), dtype=object)
    trap[()] = Trap()
    refuse(capsys, "attend", saved(tmp_path, **arrays() | {"q": trap}))
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Trap()))
    refuse(capsys, "attend", tmp_path / "bare.npz")
    assert not ran.exists()


def test_no_damage_gets_past_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "capture.npz"
    np.savez_compressed(path, allow_pickle=False, causal=True, **arrays(1, 5, 2))
    sound = path.read_bytes()
    rng = np.random.default_rng(5)
    refused = read = 0
    for _ in range(300):
        damaged = bytearray(sound)
        for place in rng.integers(len(sound), size=rng.integers(1, 4)):
            damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged[: rng.integers(1, len(sound))] if rng.random() < 0.2 else damaged)
        try:
            load(path)
        except CaptureError as err:
            refused += "\n" not in str(err)
        else:
            read += 1
    # Flipping a bit that nothing depends on leaves a sound file.
    assert refused + read == 300
    assert refused > 100


# safetensors


def safetensors_file(path: Path, tensors: dict[str, NDArray[Any]], **metadata: str) -> Path:
    """Write the format by hand; uint16 arrays go in as bfloat16."""
    kinds = {"float16": "F16", "float32": "F32", "uint16": "BF16"}
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    body = b""
    for name, tensor in tensors.items():
        ends = [len(body), len(body) + tensor.nbytes]
        kind = kinds[str(tensor.dtype)]
        header[name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": ends}
        body += tensor.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_safetensors_files_are_read_like_npz(tmp_path: Path, capsys: Printed, kind: str) -> None:
    pytest.importorskip("safetensors")
    content = arrays()
    stored: dict[str, NDArray[Any]]
    exact: dict[str, NDArray[Any]]
    if kind == "bfloat16":
        stored = {name: (a.view(np.uint32) >> 16).astype(np.uint16) for name, a in content.items()}
        exact = {name: (a.astype(np.uint32) << 16).view(np.float32) for name, a in stored.items()}
    else:
        stored = exact = {name: a.astype(kind) for name, a in content.items()}
    path = safetensors_file(
        tmp_path / "a.safetensors", stored, scale="0.25", causal="true", window="5", theta="100.0"
    )
    found = load(path)
    expected = load(saved(tmp_path, **exact, scale=0.25, causal=True, window=5, theta=100.0))
    assert found.stored == kind
    assert found.dtype == np.float32
    assert (found.scale, found.causal, found.window, found.theta) == (0.25, True, 5, 100.0)
    for one, other in zip(
        (found.query, found.key, found.value),
        (expected.query, expected.key, expected.value),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    assert kind in succeed(capsys, "attend", path, "--heads", "1")


def test_the_safetensors_library_wrote_the_same_format(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    content = arrays()
    library.save_file(content, tmp_path / "a.safetensors", metadata={"scale": "0.5"})
    found = load(tmp_path / "a.safetensors")
    assert found.scale == 0.5
    np.testing.assert_array_equal(found.key, content["k"])


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"scale": "one"}, "metadata `scale` is 'one'"),
        ({"causal": "maybe"}, "metadata `causal` is 'maybe'"),
        ({"theta": "nan"}, "metadata `theta` is 'nan'"),
        ({"window": "2.5"}, "metadata `window` is '2.5'"),
    ],
)
def test_metadata_that_says_nothing_is_refused(
    tmp_path: Path, capsys: Printed, metadata: dict[str, str], said: str
) -> None:
    pytest.importorskip("safetensors")
    path = safetensors_file(tmp_path / "a.safetensors", arrays(), **metadata)
    assert said in refuse(capsys, "attend", path)
