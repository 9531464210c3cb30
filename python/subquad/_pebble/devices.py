"""Where the fast memories of devices lie, in the terms of the theorems: M against d^2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._options import check_choice
from .._table import html_table, text_table
from .arguments import take_count
from .plan import candidates_of, choose
from .workload import take_workload

__all__ = ["Device", "Devices", "devices"]

# Shared memory of one multiprocessor, in KiB, from the vendors' programming guides; the last two are common and least
# sizes of workgroup memory in Vulkan.
_MEMORIES = (
    ("H100, B200", 228),
    ("A100", 164),
    ("RTX 4090", 100),
    ("Vulkan, NVIDIA", 48),
    ("Vulkan, mobile", 32),
    ("Vulkan, least", 16),
)
_WIDTHS = (64, 128, 256, 512)
_DTYPES = ("float16", "float32")


@dataclass(frozen=True, slots=True)
class Device:
    """One memory, one type, one width.

    Attributes
    ----------
    device : str
        Where there is such a memory.
    kilobytes : int
        Its size in KiB.
    dtype : str
        Type of all words.
    d : int
        Width of a head.
    ratio : float
        M / d^2, for M words.
    schedule : str
        What moves least.
    words : int
        What that moves.
    gain : float
        What the order of FlashAttention-2 moves over that.
    """

    device: str
    kilobytes: int
    dtype: str
    d: int
    ratio: float
    schedule: str
    words: int
    gain: float

    def _cells(self) -> tuple[str, ...]:
        memory = f"{self.kilobytes} KiB"
        numbers = (f"{self.ratio:.2f}", self.schedule, f"{self.gain:.2f}")
        return (self.device, memory, self.dtype, str(self.d), *numbers)


_HEADER = ("device", "fast memory", "dtype", "d", "M / d^2", "schedule", "gain")


class Devices(tuple[Device, ...]):
    """Rows of `Device`; a tuple whose ``repr`` is a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the rows as a table."""
        return f"Devices\n{text_table([_HEADER, *(row._cells() for row in self)])}"

    def _repr_html_(self) -> str:
        return html_table("Devices", [row._cells() for row in self], header=_HEADER)


def devices(n: int = 16_384, *, direction: str = "forward") -> Devices:
    """List where devices lie between small and large caches, and what the best schedule gains there.

    Parameters
    ----------
    n : int, optional
        Queries, and keys.
    direction : {"forward", "backward"}, optional
        What is computed. Backward, the gain is over one pass.

    Returns
    -------
    Devices
        A row for each device, type and width.

    Notes
    -----
    Numbers of words, not times: registers, larger caches and multiprocessors that share what they load are
    not in the model, nor are shapes that matrix units want.

    Examples
    --------
    >>> from subquad.pebble import devices
    >>> rows = devices()
    >>> [row for row in rows if (row.device, row.dtype, row.d) == ("A100", "float16", 512)][0].schedule
    'row-resident'
    """
    take_count("n", n)
    check_choice("direction", direction, ("forward", "backward"))
    published = "flash-2" if direction == "forward" else "one-pass"
    rows = []
    for device, kilobytes in _MEMORIES:
        for d in _WIDTHS:
            for dtype in _DTYPES:
                memory = kilobytes * 1024 // np.dtype(dtype).itemsize
                workload = take_workload(n, d, memory, direction=direction)
                table = candidates_of(workload, workload.core(), [memory])[0]
                best = choose(table, workload.unit)
                assert best is not None
                before = next(row.words for row in table if row.schedule == published)
                gain = np.inf if before is None else before / (best.words or 1)
                ratio = memory / d**2
                name, words = best.schedule, best.words or 0
                rows.append(Device(device, kilobytes, dtype, d, ratio, name, words, float(gain)))
    return Devices(rows)
