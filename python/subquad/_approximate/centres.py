"""What may be taken off the queries and keys of a head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays import take, wide
from .._coefficients import check_degree
from .._finite import require_finite
from .._problem import Problem
from .._shapes import Shape
from .head import Centres, Head

__all__ = ["CentresOption", "centres_of", "check_centres"]


@dataclass(frozen=True, slots=True)
class CentresOption:
    """The `centres` argument, checked."""

    name: str
    """"auto", "none", "given", or "first 512 tokens"."""
    tokens: int = 0
    query: NDArray[Any] | None = None
    key: NDArray[Any] | None = None


def check_centres(centres: Any, problem: Problem) -> CentresOption:
    """Check the argument against the shapes of a problem."""
    if centres is None:
        return CentresOption("none")
    if isinstance(centres, str):
        if centres != "auto":
            raise ValueError(
                f'`centres` must be "auto", None, (mu_q, mu_k) or an int, got {centres!r}'
            )
        return CentresOption("auto")
    if isinstance(centres, tuple | list):
        return _given(centres, problem)
    tokens = check_degree(centres, "centres")
    return CentresOption(f"first {tokens} tokens", tokens)


def _given(centres: Any, problem: Problem) -> CentresOption:
    if len(centres) != 2:
        raise ValueError(f"`centres` must be two arrays (mu_q, mu_k), got {len(centres)}")
    shapes, found = problem.shapes, []
    for position, (centre, heads, symbols) in enumerate(
        zip(centres, (shapes.heads, shapes.kv_heads), ("H, E", "Hkv, E"), strict=True)
    ):
        operand = take(f"centres[{position}]", centre)
        require_finite(operand)
        wanted = (*shapes.batch, heads, shapes.width)
        try:
            array = np.broadcast_to(wide(operand.array, operand.dtype), wanted)
        except ValueError:
            raise ValueError(
                f"`{operand.name}` must broadcast to (..., {symbols}) = {wanted}, got {operand.shape}"
            ) from None
        found.append(array)
    return CentresOption("given", 0, *found)


def centres_of(problem: Problem, index: Shape, head: Head, option: CentresOption) -> list[Centres]:
    """Return the centres that are to be considered for a head."""
    kind = head.query.dtype
    width = head.query.shape[1]
    zero = np.zeros(width, kind)
    if option.name == "none":
        return [Centres("none", zero, zero)]
    if option.query is not None and option.key is not None:
        group = problem.shapes.heads // problem.shapes.kv_heads
        of_keys = (*index[:-1], index[-1] // group)
        with np.errstate(over="ignore"):
            given = (option.query[index].astype(kind), option.key[of_keys].astype(kind))
        return [Centres("given", *given)]
    count = option.tokens or max(len(head.query), len(head.key))
    with np.errstate(all="ignore"):
        query = head.query[:count].mean(axis=0, dtype=np.float64).astype(kind)
        key = head.key[:count].mean(axis=0, dtype=np.float64).astype(kind)
    if option.tokens:
        return [Centres(option.name, query, key)]
    return [
        Centres("none", zero, zero),
        Centres("keys", zero, key),
        Centres("both", query, key),
    ]
