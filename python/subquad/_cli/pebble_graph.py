"""The computation that an argument of `pebble` names: a file, or a family with its sizes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..pebble import Dag
from .files import CaptureError
from .numbers import counted

__all__ = ["Problem", "parse"]

# Attention with more multiply-adds is planned in blocks instead of searched as a graph.
_LARGEST_ATTENTION = 5_000

_SIZES: dict[str, tuple[int, Callable[..., Dag]]] = {
    "chain": (1, Dag.chain),
    "tree": (1, Dag.tree),
    "pyramid": (1, Dag.pyramid),
    "grid": (2, Dag.grid),
    "stencil": (2, Dag.stencil),
    "fft": (1, Dag.fft),
    "matmul": (3, Dag.matmul),
    "attention": (2, Dag.attention),
    "attention_grad": (2, Dag.attention_grad),
    "random": (2, Dag.random),
}
_FORMS, _SOFTMAXES = ("fma", "chain", "tree"), ("unnormalised", "safe", "online")


@dataclass(frozen=True)
class Problem:
    """A computation.

    Attributes
    ----------
    name : str
        As it was given.
    family : str or None
        Whose sizes `sizes` are; None for files.
    sizes : tuple of int
        Numbers of the family.
    dag : Dag or None
        The graph; None for attention that is too large for one.
    """

    name: str
    family: str | None
    sizes: tuple[int, ...]
    dag: Dag | None


def parse(text: str) -> Problem:
    """Return the computation that a text names."""
    path = Path(text)
    readers = {".hdag": Dag.from_hdag, ".dot": Dag.from_dot}
    reader = readers.get(path.suffix.lower())
    if reader is not None:
        return Problem(path.name, None, (), reader(text))
    family, colon, rest = text.partition(":")
    if not colon or family not in _SIZES:
        known = ", ".join(_SIZES)
        raise CaptureError(f"{text}: a file .hdag or .dot is needed, or one of {known} with sizes")
    count, generate = _SIZES[family]
    words = rest.split(",")
    numbers = [word.strip() for word in words[:count]]
    options = [word.strip() for word in words[count:]]
    if len(numbers) < count or not all(re.fullmatch(r"\d{1,18}", n, re.ASCII) for n in numbers):
        raise CaptureError(
            f"{text}: {family} needs {counted(count, 'whole number')}, as {family}:{_example(count)}"
        )
    sizes = tuple(map(int, numbers))
    if (
        family.startswith("attention")
        and not options
        and _multiply_adds(sizes) > _LARGEST_ATTENTION
    ):
        return Problem(text, family, sizes, None)
    return Problem(text, family, sizes, generate(*sizes, **_options(text, family, options)))


def _example(count: int) -> str:
    return ",".join("8" * count)


def _multiply_adds(sizes: tuple[int, ...]) -> int:
    n, d = sizes
    return n * n * d


def _options(text: str, family: str, words: list[str]) -> dict[str, str]:
    allowed = {"form": _FORMS} if family in ("matmul", "attention", "attention_grad") else {}
    if family == "attention":
        allowed["softmax"] = _SOFTMAXES
    found: dict[str, str] = {}
    for word in words:
        name = next((name for name, values in allowed.items() if word in values), None)
        if name is None or name in found:
            listed = (
                ", ".join(value for values in allowed.values() for value in values) or "nothing"
            )
            raise CaptureError(
                f"{text}: {listed} may follow the sizes, each kind once, not {word!r}"
            )
        found[name] = word
    return found
