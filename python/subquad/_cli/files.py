"""Read arrays from `.npz` and `.safetensors` files, never through pickle.

Only the arrays asked for are read, so that a large or foreign array beside them costs nothing and
harms nothing. Whatever is wrong with a file ends as one `CaptureError` of one line.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class CaptureError(ValueError):
    """Input that cannot be used; the message is one line written for the user."""


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes
    ----------
    names : tuple of str
        Every array of the file, read or not.
    arrays : dict
        The arrays asked for that are there; bfloat16 widened to float32, which is exact.
    stored : dict
        The type in which the file holds each of them.
    """

    names: tuple[str, ...]
    arrays: dict[str, NDArray[Any]]
    stored: dict[str, str]


def optional(module: str, extra: str) -> Any:
    """Import a module that only an extra brings, or say which extra."""
    try:
        return import_module(module)
    except ImportError:
        top = module.partition(".")[0]
        raise CaptureError(f'{top} is not installed; try: pip install "subquad[{extra}]"') from None


def check_target(option: str, path: Path) -> None:
    """Refuse a file that cannot be written."""
    if not path.parent.is_dir():
        raise CaptureError(f"{option} {path}: no folder {path.parent}")
    if path.is_dir():
        raise CaptureError(f"{option} {path}: a folder, not a file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise CaptureError(f"{option} {path}: may not be written")


def read(path: Path, wanted: Collection[str]) -> Contents:
    """Read the arrays in `wanted` that the file holds.

    Parameters
    ----------
    path : Path
        File whose name ends in `.npz` or `.safetensors`.
    wanted : collection of str
        Names to read; of a safetensors file also the keys of the text metadata that serve.

    Raises
    ------
    CaptureError
        If the file is missing, truncated, of another kind, or holds pickled objects.
    """
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise CaptureError(f"{path}: unknown extension; {' and '.join(readers)} files are read")
    try:
        return reader(path, wanted)
    except CaptureError:
        raise
    except OSError as err:
        raise CaptureError(f"{path}: {err.strerror or _one_line(err)}") from err
    # A damaged archive makes zipfile, zlib, struct and numpy raise about ten different classes,
    # a list that grows with their versions: here all of them mean one thing.
    except Exception as err:
        raise CaptureError(f"{path}: damaged or not what its name says ({_one_line(err)})") from err


def _one_line(err: BaseException) -> str:
    return " ".join(str(err).split()) or type(err).__name__


def _read_npz(path: Path, wanted: Collection[str]) -> Contents:
    with path.open("rb") as stream:
        if stream.read(2) != b"PK":
            raise CaptureError(f"{path}: not an .npz file (no zip archive)")
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as archive:
            names = tuple(archive.files)
            arrays = {name: _member(path, archive, name) for name in names if name in wanted}
    return Contents(names, arrays, {name: str(array.dtype) for name, array in arrays.items()})


def _member(path: Path, archive: Any, name: str) -> NDArray[Any]:
    try:
        array = archive[name]
    except ValueError as err:
        if "allow_pickle" in str(err):
            raise CaptureError(
                f"{path}: `{name}` holds pickled objects, which are never loaded"
            ) from err
        raise
    if not isinstance(array, np.ndarray):
        raise CaptureError(f"{path}: `{name}` is not a numpy array")
    return array


def _read_safetensors(path: Path, wanted: Collection[str]) -> Contents:
    safetensors = optional("safetensors", "safetensors")
    with path.open("rb"):
        pass  # the library's own message for a missing file names no file
    arrays, stored = {}, {}
    with safetensors.safe_open(path, framework="np") as archive:
        metadata: dict[str, str] = archive.metadata() or {}
        names = tuple(archive.keys())
        for name in names:
            if name not in wanted:
                continue
            stored[name] = str(archive.get_slice(name).get_dtype())
            bfloat16 = stored[name] == "BF16"
            arrays[name] = _bfloat16(path, name) if bfloat16 else archive.get_tensor(name)
    for name, text in metadata.items():
        if name in wanted and name in FROM_TEXT and name not in arrays:
            arrays[name] = _from_text(path, name, text)
    return Contents(names, arrays, {name: _NAMES.get(kind, kind) for name, kind in stored.items()})


_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}


def _bfloat16(path: Path, name: str) -> NDArray[np.float32]:
    """Widen a bfloat16 tensor of a file that the library has found sound.

    numpy has no such type, so the bits are read as integers: they are the upper half of the
    float32 of the same value.
    """
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        entry = json.loads(stream.read(length))[name]
        first, last = entry["data_offsets"]
        stream.seek(8 + length + first)
        bits = np.frombuffer(stream.read(last - first), dtype="<u2")
    return (bits.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


def _truth(text: str) -> bool:
    truths = {"true": True, "1": True, "false": False, "0": False}
    return truths[text.strip().lower()]


FROM_TEXT: dict[str, Callable[[str], Any]] = {
    "scale": float,
    "theta": float,
    "window": int,
    "causal": _truth,
    "check_value": str,
}


def _from_text(path: Path, name: str, text: str) -> NDArray[Any]:
    try:
        value = FROM_TEXT[name](text)
    except (KeyError, ValueError):
        value = math.nan
    if isinstance(value, float) and not math.isfinite(value):
        raise CaptureError(f"{path}: metadata `{name}` is {text!r}")
    return np.asarray(value)
