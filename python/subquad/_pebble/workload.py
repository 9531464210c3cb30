"""What an attention plan is made for: sizes, masks and widths of words, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _subquad
from .._options import check_choice
from .arguments import take_count, take_flag

__all__ = ["DIRECTIONS", "Mask", "Workload", "take_mask", "take_widths", "take_workload"]

DIRECTIONS = ("forward", "backward", "loss")
_CLASSES = ("operands", "accumulators", "statistics")
_UNITS = ("words", "bytes")

# All sizes, rows of all heads, and products of three sizes are kept below overflow.
_LARGEST, _MOST_PRODUCTS = 2**24, 2**56

_MASKS = "`mask_blocks` must be a matrix, or a tuple of it and the side of its blocks"

Mask = tuple[NDArray[np.bool_], int]


@dataclass(frozen=True, slots=True)
class Workload:
    """The sizes and options that a plan was made for.

    Attributes
    ----------
    n, keys, d : int
        Positions of queries, keys, and the width of both and of values.
    group : int
        Query heads that share the keys.
    memory : int
        Fast memory, in `unit`.
    unit : str
        "words", or "bytes".
    dtypes : tuple of str
        Types of operands, accumulators and statistics.
    direction : str
        "forward", "backward" or "loss".
    is_causal : bool
        Whether query i sees keys 0 to i only.
    mask_blocks : ndarray of bool or None, block : int
        Which blocks of queries and keys are computed, and their side.
    cache : str
        "scratchpad" or "lru".
    """

    n: int
    keys: int
    d: int
    group: int
    memory: int
    unit: str
    dtypes: tuple[str, str, str]
    direction: str
    is_causal: bool
    mask_blocks: NDArray[np.bool_] | None = field(compare=False)
    block: int
    cache: str
    _mask: bytes = field(default=b"", init=False, repr=False)

    def __post_init__(self) -> None:
        """Keep the mask in a form that compares."""
        if self.mask_blocks is not None:
            object.__setattr__(self, "_mask", self.mask_blocks.tobytes())

    @property
    def itemsizes(self) -> list[int]:
        """Bytes of a word of each class."""
        return [np.dtype(name).itemsize for name in self.dtypes]

    @property
    def widths(self) -> list[int]:
        """What a word of each class takes of the memory."""
        return self.itemsizes if self.unit == "bytes" else [1, 1, 1]

    def core(self, scale: float = 1.0) -> _subquad.PebbleAttention:
        """Return the problem as the compiled module has it."""
        sizes = (self.n, self.keys, self.group, self.d, scale)
        mask, block = self.mask_blocks, self.block
        return _subquad.PebbleAttention(*sizes, causal=self.is_causal, mask=mask, block=block)


def take_workload(
    n: Any,
    d: Any,
    memory: Any,
    *,
    unit: Any = "words",
    dtypes: Any = None,
    is_causal: Any = False,
    mask_blocks: Any = None,
    direction: Any = "forward",
    cache: Any = "scratchpad",
    keys: Any = None,
    group: Any = 1,
) -> Workload:
    """Return the arguments of `attention_plan`, checked."""
    queries = take_count("n", n, most=_LARGEST)
    all_keys = queries if keys is None else take_count("keys", keys, most=_LARGEST)
    causal = take_flag("is_causal", is_causal)
    if causal and all_keys != queries:
        raise ValueError(f"`keys` must be n = {queries} if `is_causal`, got {all_keys}")
    width = take_count("d", d, most=_LARGEST)
    heads = take_count("group", group, most=_LARGEST // queries)
    if queries * heads * all_keys * width > _MOST_PRODUCTS:
        raise ValueError(
            f"`n`, `keys` and `d` must have a product of at most 2^56, got {queries * heads} rows, "
            f"{all_keys} keys and d = {width}"
        )
    mask, block = take_mask(mask_blocks, queries, all_keys)
    check_choice("unit", unit, _UNITS)
    return Workload(
        n=queries,
        keys=all_keys,
        d=width,
        group=heads,
        memory=take_count("memory", memory, most=2**62),
        unit=unit,
        dtypes=take_widths(dtypes),
        direction=check_choice("direction", direction, DIRECTIONS),
        is_causal=causal,
        mask_blocks=mask,
        block=block,
        cache=check_choice("cache", cache, ("scratchpad", "lru")),
    )


def take_mask(mask_blocks: Any, queries: int, keys: int) -> tuple[NDArray[np.bool_] | None, int]:
    """Return the matrix of blocks, and their side: as given, or what the shape of the matrix says."""
    if mask_blocks is None:
        return None, 1
    if isinstance(mask_blocks, tuple) and len(mask_blocks) != 2:
        raise ValueError(f"{_MASKS}, got a tuple of {len(mask_blocks)}")
    matrix, side = mask_blocks if isinstance(mask_blocks, tuple) else (mask_blocks, None)
    try:
        array = np.asarray(matrix)
    except ValueError as err:
        raise ValueError(f"{_MASKS}: {err}") from None
    if array.dtype != np.bool_:
        raise TypeError(f"`mask_blocks` must be boolean, got an array of {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"`mask_blocks` must have two axes, got shape {array.shape}")
    if side is None:
        rows, columns = array.shape
        if (
            0 in (rows, columns)
            or queries % rows
            or keys % columns
            or queries // rows != keys // columns
        ):
            raise ValueError(
                f"`mask_blocks` must be square blocks of the {queries} by {keys} scores, or a pair of the "
                f"matrix and the side of its blocks, got shape {array.shape}"
            )
        side = queries // rows
    side = take_count("mask_blocks[1]", side)
    expected = (-(-queries // side), -(-keys // side))
    if array.shape != expected:
        raise ValueError(
            f"`mask_blocks` must have shape {expected} for blocks of side {side}, got {array.shape}"
        )
    array = np.array(array, order="C")
    array.flags.writeable = False
    return array, side


def take_widths(dtypes: Any) -> tuple[str, str, str]:
    """Return the types of operands, accumulators and statistics.

    One type is that of the operands; sums are then at least float32.
    """
    if dtypes is None:
        return ("float32", "float32", "float32")
    if isinstance(dtypes, Mapping):
        unknown = [name for name in dtypes if name not in _CLASSES]
        if unknown or "operands" not in dtypes:
            raise ValueError(
                '`dtypes` must name "operands", and may name "accumulators" and "statistics", '
                f"got {sorted(map(str, dtypes))}"
            )
        operands = _dtype(dtypes["operands"])
        wide = _wider(operands)
        found = [_dtype(dtypes.get(name, wide)) for name in _CLASSES[1:]]
        return (operands, found[0], found[1])
    operands = _dtype(dtypes)
    return (operands, _wider(operands), _wider(operands))


def _wider(name: str) -> str:
    return "float64" if name == "float64" else "float32"


def _dtype(value: Any) -> str:
    """Return the name of a type of floats; bfloat16 counts as float16, which is as wide."""
    if isinstance(value, str) and value == "bfloat16":
        return "float16"
    try:
        dtype = np.dtype(value)
    except TypeError:
        raise TypeError(f"`dtypes` must be types of floats, got {value!r}") from None
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise ValueError(f"`dtypes` must be float16, float32 or float64, got {dtype}")
    return str(dtype.name)
