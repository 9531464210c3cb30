"""Which monomials of queries and keys are kept: by degree, or by degree in two blocks of directions.

In a basis in which queries and keys have the same second moments, the largest first, a logit is a + b: a from
the leading directions, b from the trailing ones. A monomial with k leading and u trailing factors is kept if
``k + 2 u <= degree`` and ``u <= trailing``: few directions carry most of the logits of trained heads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._products import product
from .head import Floats

__all__ = ["Basis", "Kept", "blocks_of"]

# Shares of the directions that may lead; degrees in them, and in the others.
_SHARES = (0.06, 0.12, 0.19, 0.25, 0.38, 0.5, 0.75)
_DEGREES, _TRAILING = 10, 2


@dataclass(frozen=True, slots=True)
class Kept:
    """Monomials by degree, and where directions are in two blocks by the degree in each."""

    degree: int
    lead: int | None = None
    """Number of leading directions; None: all directions are alike."""
    trailing: int = 0

    def features(self, width: int) -> int:
        """Count the monomials."""
        if self.lead is None:
            return math.comb(width + self.degree, self.degree)
        rest = width - self.lead
        return sum(
            math.comb(self.lead + self.degree - 2 * u, self.lead)
            * (math.comb(rest + u - 1, u) if u else 1)
            for u in range(self.trailing + 1)
        )

    @property
    def axes(self) -> range:
        """The blocks: a, and b where there are two."""
        return range(1 if self.lead is None else 2)

    def terms(self) -> list[tuple[int, int]]:
        """Return the powers of a and of b."""
        rows = range(self.trailing + 1)
        return [(k, u) for u in rows for k in range(self.degree - 2 * u + 1)]


def blocks_of(width: int, *, gradient: bool) -> Iterator[Kept]:
    """Go through what may be kept in two blocks; for a gradient all directions have slopes."""
    for lead in sorted({max(1, round(width * share)) for share in _SHARES}):
        for degree in range(1, _DEGREES + 1):
            for trailing in range(int(gradient), min(_TRAILING, degree // 2) + 1):
                if lead < width:
                    yield Kept(degree, lead, trailing)


@dataclass(frozen=True, slots=True)
class Basis:
    """A change of coordinates, ``x @ left`` and ``y @ right``, that keeps ``x.y``."""

    left: Floats
    right: Floats

    def of_queries(self, x: NDArray[Any], workers: int) -> NDArray[Any]:
        """Return queries in it, in their type."""
        return product(x, self.left.astype(x.dtype), workers)

    def of_keys(self, y: NDArray[Any], workers: int) -> NDArray[Any]:
        """Return keys in it, in their type."""
        return product(y, self.right.astype(y.dtype), workers)

    def error(self, kind: np.dtype[Any]) -> float:
        """Bound what rounding and the inverse add to ``x.y``, over the product of the norms."""
        residual = np.linalg.norm(self.left @ self.right.T - np.eye(len(self.left)))
        size = float(np.linalg.norm(self.left) * np.linalg.norm(self.right))
        steps = (len(self.left) + 4) * float(np.finfo(kind).eps)
        return float(residual) + (3.0 * steps + 1e-13) * size
