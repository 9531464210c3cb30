"""The processor's mode in which denormal numbers count as zero."""

from __future__ import annotations

import ctypes
import importlib
import platform
import sys


def denormals() -> bool:
    """Flush them on this thread, and on those that it starts; False where that cannot be done."""
    if sys.platform == "linux" and platform.machine() == "x86_64":
        # The environment of glibc: 28 bytes of the x87 unit, then the mode of the vector units.
        libm = ctypes.CDLL("libm.so.6")
        state = (ctypes.c_uint32 * 8)()
        libm.fegetenv(state)
        state[7] |= 1 << 15 | 1 << 6
        return int(libm.fesetenv(state)) == 0
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return False
    return bool(torch.set_flush_denormal(True))
