"""Arrays at the boundary: what a caller may pass, checked once, and how results go back.

Frameworks are recognised, never imported: an array of one can only exist once its module is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["FLOATS", "Array", "GiveBack", "Operand", "result_dtype", "stored", "take", "wide"]


class SupportsDLPack(Protocol):
    """An array of a library that exchanges data through DLPack."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, Any]: ...


Array: TypeAlias = ArrayLike | SupportsDLPack
GiveBack: TypeAlias = Callable[[NDArray[Any], str], Any]

# Names of the dtypes a result can have.
FLOATS = ("bfloat16", "float16", "float32", "float64")

# Names by type character of bool, the integers, float16, float32 and float64: numpy's own types, for
# what extensions add under the same kinds (float8, int4) is not what it looks like. A table, because
# asking a dtype for its name takes microseconds.
_REAL = {char: np.dtype(char).name for char in "?bBhHiIlLqQefd"}

# Device codes of DLPack whose memory the processor reads directly: CPU, CUDA host, ROCm host, CUDA
# managed. The names of the others appear in messages only.
_HOST_DEVICES = {1, 3, 11, 13}
_DEVICES = {2: "CUDA", 4: "OpenCL", 7: "Vulkan", 8: "Metal", 10: "ROCm", 14: "oneAPI", 15: "WebGPU"}


@dataclass(slots=True)
class Operand:
    """One array argument, as numpy sees it; not changed once made."""

    name: str
    """The argument, for messages."""
    array: NDArray[Any]
    """The numbers, in the caller's memory where possible; uint16 bits for bfloat16."""
    dtype: str
    """Name of the dtype the caller sees: "float32", "bfloat16", "int64", "bool", ..."""
    give_back: GiveBack
    """Turns a result into an array of the caller's library."""

    @property
    def kind(self) -> str:
        """The library: "numpy" (sequences too), "torch" or "other"."""
        if self.give_back is _numpy_result:
            return "numpy"
        return "torch" if self.give_back is _torch_result else "other"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape as given."""
        return self.array.shape


def take(name: str, x: Any) -> Operand:
    """Look at one argument: real numbers in main memory, of whatever library."""
    if type(x) is np.ndarray:
        return _operand(name, x, _numpy_result)
    torch = sys.modules.get("torch")
    if isinstance(x, getattr(torch, "Tensor", ())):
        return _take_torch(name, x, torch)
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"`{name}` is a masked array: pass its `.data`, and to attention what it hides as `mask`"
        )
    if not isinstance(x, np.ndarray):
        if hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__"):
            return _take_dlpack(name, x)
        if hasattr(x, "__cuda_array_interface__"):
            raise TypeError(f"`{name}` is on a CUDA device: only arrays in main memory are taken")
    try:
        array = np.asarray(x)
    except (TypeError, ValueError) as err:
        raise type(err)(f"`{name}` cannot be made into an array: {err}") from err
    return _operand(name, array, _numpy_result)


def _operand(name: str, array: NDArray[Any], give_back: GiveBack) -> Operand:
    dtype = array.dtype
    real = _REAL.get(dtype.char)
    if real is not None:
        return Operand(name, array, real, give_back)
    if dtype.name == "bfloat16":  # the numpy extension type of ml_dtypes
        return Operand(name, array.view(np.uint16), "bfloat16", give_back)
    raise TypeError(
        f"`{name}` must hold real numbers of at most 64 bits, got dtype {dtype.name or dtype}"
    )


def _take_torch(name: str, x: Any, torch: Any) -> Operand:
    if x.requires_grad:
        raise TypeError(
            f"`{name}` requires grad, and this call would cut the graph: pass `{name}.detach()`, "
            "or differentiate through `subquad.torch`"
        )
    if x.device.type != "cpu":
        raise TypeError(
            f"`{name}` is on device {x.device}: only tensors on the CPU are taken (`.cpu()`)"
        )
    try:
        # numpy has neither lazily conjugated nor lazily negated views.
        x = x.resolve_conj().resolve_neg()
        if x.dtype is torch.bfloat16:
            bits = x.view(torch.int16).numpy().view(np.uint16)
            return Operand(name, bits, "bfloat16", _torch_result)
        array = x.numpy()
    except (RuntimeError, TypeError, NotImplementedError) as err:
        raise TypeError(
            f"`{name}` is a tensor of dtype {x.dtype} and layout {x.layout} that numpy cannot read"
        ) from err
    return _operand(name, array, _torch_result)


def _take_dlpack(name: str, x: Any) -> Operand:
    code, number = (int(part) for part in x.__dlpack_device__())
    if code not in _HOST_DEVICES:
        device = f"{_DEVICES.get(code, f'DLPack type {code}')} device {number}"
        raise TypeError(f"`{name}` is on {device}: only arrays in main memory are taken")
    try:
        array = np.from_dlpack(x)
    except (BufferError, RuntimeError, TypeError, ValueError) as err:
        dtype = getattr(x, "dtype", "unknown")
        raise TypeError(
            f"`{name}` of dtype {dtype} cannot be read through DLPack by numpy: {err}"
        ) from err
    if hasattr(x, "__array_namespace__"):
        namespace = x.__array_namespace__()
    else:
        namespace = sys.modules.get(type(x).__module__.partition(".")[0])
    from_dlpack = getattr(namespace, "from_dlpack", None)

    def give_back(result: NDArray[Any], dtype: str) -> Any:
        result = _numpy_result(result, dtype)
        return result if from_dlpack is None else from_dlpack(result)

    return _operand(name, array, give_back)


def _numpy_result(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    if dtype != "bfloat16":
        return array
    ml_dtypes = sys.modules.get("ml_dtypes")
    # Without the extension type (a bfloat16 key of another library beside a numpy query) the
    # gradient keeps its values in the next wider type.
    return wide(array, dtype) if ml_dtypes is None else array.view(ml_dtypes.bfloat16)


def _torch_result(array: NDArray[Any], dtype: str) -> Any:
    torch = sys.modules["torch"]
    if dtype == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


@lru_cache
def result_dtype(*names: str) -> str:
    """Name of the dtype of a result: numpy's promotion, and float64 where all are integers.

    bfloat16 stays bfloat16 among its own kind and counts as float32 beside any other dtype.
    """
    if len(set(names)) == 1:
        name = names[0]
    else:
        name = np.result_type(*("float32" if n == "bfloat16" else n for n in names)).name
    return name if name in FLOATS else "float64"


def wide(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return bfloat16 bits as float32; every other array as it is."""
    if dtype != "bfloat16":
        return array
    return (array.astype(np.uint32) << 16).view(np.float32)


def stored(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Round floats to the dtype of that name, ties to even; bfloat16 as its bits."""
    if dtype != "bfloat16":
        return array.astype(dtype, copy=False)
    single = np.ascontiguousarray(array, np.float32)
    bits = single.view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    # The carry would turn some NaN into infinity or zero.
    return np.where(np.isnan(single), 0x7FC0, rounded).astype(np.uint16)
