"""Rows turned by their positions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from . import _subquad
from ._arrays import Array, Operand, result_dtype, stored, take, wide
from ._finite import require_finite
from ._layout import laid_out
from ._options import check_choice
from ._out import writeable_out
from ._rope_scaling import Spectrum, check_rotary_dim, spectrum
from ._shapes import Shape
from ._threads import resolve_workers

__all__ = [
    "LAYOUTS",
    "Turning",
    "check_turning",
    "place",
    "refuse_turned",
    "room",
    "rotate",
    "take_positions",
    "turn",
]

LAYOUTS = ("half", "interleaved")

# Whole numbers up to here are float64 numbers.
_WHOLE = 2**53

# Results from this size on are written past the caches, which takes vectors at their own places.
_LARGE, _PLACE = 1 << 24, 64


@dataclass(frozen=True, slots=True)
class Turning:
    """How rows are turned, whatever their positions."""

    spectrum: Spectrum
    interleaved: bool


def check_turning(width: int, theta: Any, layout: Any, rotary_dim: Any, scaling: Any) -> Turning:
    """Check what says how rows of a width are turned."""
    check_choice("layout", layout, LAYOUTS)
    dim = check_rotary_dim(rotary_dim, width)
    return Turning(spectrum(dim, theta, scaling), layout == "interleaved")


def rotate(
    x: Array,
    *,
    theta: float = 1e4,
    layout: str = "half",
    rotary_dim: int | None = None,
    positions: Array | None = None,
    scaling: Mapping[str, Any] | None = None,
    inverse: bool = False,
    out: Array | None = None,
    workers: int | None = None,
) -> Any:
    """Turn pairs of coordinates of every row by angles that grow with its position.

    With w the `frequencies`, pair i of a row at position p becomes ``(a cos(p w_i) - b sin(p w_i),
    b cos(p w_i) + a sin(p w_i))``. An inner product of two turned rows depends on the difference of their
    positions, not on where they are.

    Parameters
    ----------
    x : array_like, shape (..., L, E)
    theta : float
        Base of the frequencies.
    layout : {"half", "interleaved"}
        Which coordinates are a pair: i and ``i + rotary_dim / 2`` ("half": Llama, Hugging Face's
        ``rotate_half``), or ``2 i`` and ``2 i + 1`` ("interleaved": GPT-J, the paper [1]_). Nothing in the
        numbers shows which one a model was trained with, and the other gives wrong results without an error.
    rotary_dim : int, optional
        Only so many coordinates at the front are turned; all E if not given. Even, 2 <= `rotary_dim` <= E.
    positions : array_like, shape (..., L), optional
        One for each row, axes before L broadcast to those of `x`; any finite numbers, integers up to 2^53.
        ``arange(L)`` if not given.
    scaling : mapping, optional
        Frequencies for longer contexts, see `frequencies`. With "yarn" turned coordinates are multiplied with
        its attention factor, others are not.
    inverse : bool
        Undo: turn back, and divide by the attention factor if there is one. Without one this is also what
        takes a gradient with respect to the result to that with respect to `x`.
    out : array, optional
        Where to write the result: C-contiguous, of its kind, shape and dtype, apart from the inputs.
    workers : int, optional
        Number of threads, as in `scipy.fft`. Results do not depend on it.

    Returns
    -------
    array, shape (..., L, E)
        Of the kind and dtype of `x`; integers become float64.

    Raises
    ------
    ValueError
        If shapes do not fit, an option is not one of those above, a number is not finite, or a result
        exceeds the range of the dtype it is computed in.
    TypeError
        If an array does not hold real numbers.

    See Also
    --------
    attention : Softmax attention of turned queries and keys.

    Notes
    -----
    One pass over memory. Angles are taken in float64, with the rounding error of their product, so a row is off
    by four units of the last place of its norm, wherever it is. A position gives the same bits whatever
    other rows there are: a key that is turned when it comes is the one that a longer call makes. float16 and
    bfloat16 are turned in float32 and rounded once.

    References
    ----------
    .. [1] J. Su, Y. Lu, S. Pan, A. Murtadha, B. Wen and Y. Liu, "RoFormer: enhanced transformer with rotary
       position embedding", arXiv:2104.09864.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> x = np.array([[1.0, 0.0], [1.0, 0.0]])
    >>> subquad.rope.rotate(x, positions=[0.0, np.pi / 2]).round(12)
    array([[1., 0.],
           [0., 1.]])
    """
    operand = take("x", x)
    if len(operand.shape) < 2:
        raise ValueError(f"`x` must have shape (..., L, E), got {operand.shape}")
    turning = check_turning(operand.shape[-1], theta, layout, rotary_dim, scaling)
    if not isinstance(inverse, bool | np.bool_):
        raise TypeError(f"`inverse` must be True or False, got {inverse!r}")
    given = None if positions is None else take_positions("positions", positions)
    where = place("positions", given, operand, 0)
    threads = resolve_workers(workers)
    dtype = result_dtype(operand.dtype)
    compute = np.dtype(np.float64 if dtype == "float64" else np.float32)
    others = {"x": operand} if given is None else {"x": operand, "positions": given}
    target = None
    if out is not None:
        target = writeable_out(out, operand, dtype, operand.shape, "(..., L, E)", others)
    direct = target is not None and dtype == compute.name
    raw = target if direct and target is not None else room(operand.shape, compute)
    factor = turning.spectrum.factor
    finite = turn(
        laid_out(operand, compute),
        where,
        turning,
        raw,
        factor=1.0 / factor if inverse else factor,
        inverse=bool(inverse),
        workers=threads,
    )
    if not finite:
        refuse_turned(operand, compute)
    if direct:
        return out
    result = stored(raw, dtype)
    if target is None:
        return operand.give_back(result, dtype)
    target[...] = result
    return out


def take_positions(name: str, positions: Any) -> Operand:
    """Return positions in float64, checked but for their shape."""
    operand = take(name, positions)
    if operand.dtype == "bool":
        raise TypeError(f"`{name}` must be numbers, got dtype bool")
    require_finite(operand)
    array = wide(operand.array, operand.dtype)
    if array.dtype.kind in "iu" and array.size:
        least, most = int(array.min()), int(array.max())
        if max(-least, most) > _WHOLE:
            largest = most if most > _WHOLE else least
            raise ValueError(
                f"`{name}` must be at most 2^53 where they are integers, got {largest}"
            )
    return replace(operand, array=array.astype(np.float64), dtype="float64")


def place(name: str, given: Operand | None, of: Operand, start: int = 0) -> NDArray[np.float64]:
    """Return a position for every row of an argument: counted from `start` if none are given."""
    shape = of.shape[:-1]
    if given is None:
        return np.broadcast_to(np.arange(start, start + shape[-1], dtype=np.float64), shape)
    fits = len(given.shape) > 0 and given.shape[-1] == shape[-1]
    try:
        if fits:
            return np.broadcast_to(given.array, shape)
    except ValueError:
        pass
    raise ValueError(
        f"`{name}` must have a position for each of {shape[-1]} rows and broadcast to {shape}, as "
        f"`{of.name}` has shape {of.shape}, got shape {given.shape}"
    )


def turn(
    array: NDArray[Any],
    where: NDArray[np.float64],
    turning: Turning,
    out: NDArray[Any],
    *,
    factor: float,
    inverse: bool,
    workers: int,
) -> bool:
    """Turn rows, laid out for the kernels, into `out`; say whether all results are finite."""
    if out.size == 0:
        return True
    return not _subquad.rope_rotate(
        array,
        where,
        turning.spectrum.frequencies,
        out,
        interleaved=turning.interleaved,
        factor=factor,
        inverse=inverse,
        workers=workers,
    )


def refuse_turned(of: Operand, compute: np.dtype[Any]) -> NoReturn:
    """Raise what is wrong with rows whose turned ones are not finite."""
    require_finite(of)
    remedy = "scale it down"
    if compute == np.float32:
        remedy += ", or pass float64 arrays"
    raise ValueError(f"turned rows of `{of.name}` exceed the range of {compute}: {remedy}")


def room(shape: Shape, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array to be written: where it is large, vectors have places of their own."""
    size = math.prod(shape) * dtype.itemsize
    if size < _LARGE:
        return np.empty(shape, dtype)
    memory = np.empty(size + _PLACE, np.uint8)
    first = -memory.ctypes.data % _PLACE
    return memory[first : first + size].view(dtype).reshape(shape)
