"""An array of a library that this one has never heard of."""

from __future__ import annotations

from typing import Any

import numpy as np


class Exchanged:
    """What it can do is to be exchanged through DLPack."""

    def __init__(self, array: Any, device: tuple[int, int] = (1, 0)) -> None:
        self.array, self.device, self.dtype = array, device, array.dtype

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __array_namespace__(self) -> Any:
        return Namespace


class Namespace:
    """The module of that library."""

    @staticmethod
    def from_dlpack(x: Any) -> Exchanged:
        return Exchanged(np.from_dlpack(x))
