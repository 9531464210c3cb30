"""Computations by name, which `Dag` has as methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

from .. import _subquad
from .._options import check_choice
from .arguments import take_count

__all__ = ["FORMS", "SOFTMAXES", "Names", "Spec", "random_spec", "shown", "spec"]

FORMS = ("fma", "chain", "tree")
SOFTMAXES = ("unnormalised", "safe", "online")

# A family, its numbers, form and softmax, as the compiled module takes them.
Spec = tuple[str, tuple[int, ...], str, str]

_LARGEST = 2**30
# Names of larger graphs are made one at a time.
_ALL_NAMED = 1 << 20
# Names that a repr shows.
_SHOWN = 6


def spec(
    family: str,
    sizes: dict[str, Any],
    *,
    form: Any = "fma",
    softmax: Any = "unnormalised",
    least: int = 1,
) -> Spec:
    """Return the specification of a family; sizes are checked under their names."""
    numbers = tuple(
        take_count(name, size, least=least, most=_LARGEST) for name, size in sizes.items()
    )
    check_choice("form", form, FORMS)
    check_choice("softmax", softmax, SOFTMAXES)
    return family, numbers, form, softmax


def random_spec(num_vertices: Any, sources: Any, operands: Any, seed: Any) -> Spec:
    """Return the specification of a random graph."""
    family, sizes, form, softmax = spec(
        "random", {"num_vertices": num_vertices, "sources": sources}
    )
    if sizes[1] > sizes[0]:
        raise ValueError(f"`sources` must be at most {sizes[0]}, got {sizes[1]}")
    try:
        least, most = operands
    except (TypeError, ValueError):
        raise TypeError(f"`operands` must be a pair of integers, got {operands!r}") from None
    least = take_count("operands", least, most=_LARGEST)
    most = take_count("operands", most, least=least, most=_LARGEST)
    number = take_count("seed", seed, least=0, most=2**64 - 1)
    return family, (*sizes, least, most, number), form, softmax


class Names(Sequence[str]):
    """What the vertices of a generated graph are, found out when somebody asks."""

    def __init__(self, spec: Spec, vertices: int) -> None:
        self.spec = spec
        self._vertices = vertices
        self._names: list[str] | None = None

    def _all(self) -> list[str]:
        if self._names is None:
            self._names = _subquad.pebble_names(self.spec, None)
        return self._names

    def __len__(self) -> int:
        return self._vertices

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice) or self._names is not None or len(self) <= _ALL_NAMED:
            return self._all()[index]
        return _subquad.pebble_names(self.spec, range(len(self))[index])[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __repr__(self) -> str:
        """Return how many names there are, and the first of them."""
        return shown(self)


def shown(names: Sequence[str]) -> str:
    """Return what is shown of names that are found out when somebody asks."""
    first = [names[v] for v in range(min(len(names), _SHOWN))]
    more = ", ..." if len(names) > _SHOWN else ""
    return f"Names({len(names)}{': ' if first else ''}{', '.join(first)}{more})"
