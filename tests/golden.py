"""Files of indices that all later versions must answer from: how they are made.

    python tests/golden.py

writes one for each method into `tests/data/halfspace`, named after the method and the version of the
format. `test_halfspace_golden.py` compares them with the twin in `reference`, which gets the same keys
by the same steps, so nothing but the indices themselves is stored.

When the version of the format grows, the files that are there stay: this command then writes others
beside them, and the tests go on to read them all. They may be written over only as long as no release
has the format that they are in.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from halfspaces import Array, Floats, stored_as
from numpy.typing import NDArray

from subquad.halfspace import Index

FOLDER = Path(__file__).parent / "data" / "halfspace"


def numbers(seed: int, rows: int, dim: int) -> NDArray[np.float64]:
    """Bell-shaped, smaller from coordinate to coordinate, the same ones whatever numpy's version."""
    rng = random.Random(seed)
    return np.array(
        [
            [(sum(rng.random() for _ in "four") - 2) / (1 + j) for j in range(dim)]
            for _ in range(rows)
        ]
    )


@dataclass(frozen=True)
class Golden:
    """An index that has seen changes, and what is built of it."""

    method: str
    dtype: str
    dim: int
    rows: int
    engines: tuple[str, ...]

    def keys(self, seed: int, rows: int) -> Array:
        return stored_as(numbers(seed, rows, self.dim).astype(np.float32), self.dtype)

    @property
    def queries(self) -> Floats:
        return numbers(3, 4, self.dim).astype(np.float32)

    def make(self, new: Callable[..., Any]) -> Any:
        """An index, or its twin: ids with gaps, keys of two generations, some removed but stored."""
        index = new(self.keys(1, self.rows), dtype=self.dtype, method=self.method, workers=1)
        index.remove(np.arange(0, self.rows, 9))
        index.compact()
        index.add(self.keys(2, 20))
        index.remove(self.removed)
        return index

    @property
    def removed(self) -> NDArray[np.int64]:
        """Of both generations, removed after the last time that memory was freed."""
        return np.arange(5, self.rows + 20, 18)

    def path(self, version: int) -> Path:
        return FOLDER / f"{self.method}-v{version}.index"


GOLDEN = {
    one.method: one
    for one in (
        Golden("scan", "bfloat16", 16, 300, ("scan",)),
        Golden("quantized", "float32", 16, 400, ("scan", "int8", "int4")),
        Golden("rotated", "float16", 24, 320, ("scan", "int8", "rotated")),
        Golden("tree", "float32", 3, 300, ("scan", "tree")),
    )
}


def version_of(data: bytes) -> int:
    """The version of the format that a file is in; `store.rs` has its header."""
    (version,) = struct.unpack_from("=I", data, 12)
    return int(version)


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    for one in GOLDEN.values():
        index = one.make(Index)
        path = one.path(version_of(index.__getstate__()[0]))
        index.save(path)
        print(f"{path.name}: {path.stat().st_size} bytes, {index!r}, {index.stats.engines}")


if __name__ == "__main__":
    write()
