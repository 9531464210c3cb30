"""The loss of arXiv:2402.04497: its arguments and its polynomial, for the library and its twin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Operand
from ._centring import bound_of_products, centred, longest_row
from ._coefficients import check_accuracy, take_matrix
from ._exponential import minimax, minimax_of_degree
from ._options import check_choice, check_scale
from ._tables.enclosure import LARGEST_BOUND

__all__ = [
    "METHODS",
    "Accuracy",
    "centred_keys",
    "check_method",
    "choose_polynomial",
    "scale_of",
    "take_chain",
]

METHODS = ("exact", "polynomial")

# Error budget and degree, of which one is given.
Accuracy = tuple[float | None, int | None]

_AXES = {"A1": "nd", "X": "dk", "A2": "mk", "A3": "ml", "Y": "lv", "E": "nv"}


def take_chain(*arrays: Any) -> list[Operand]:
    """Return the six matrices, checked for shapes whose products exist."""
    sizes: dict[str, int] = {}
    operands = []
    for (name, pair), array in zip(_AXES.items(), arrays, strict=True):
        operand = take_matrix(name, array, ", ".join(pair))
        for symbol, size in zip(pair, operand.shape, strict=True):
            if sizes.setdefault(symbol, size) != size:
                raise ValueError(
                    f"`{name}` must have shape ({', '.join(pair)}) with {symbol} = {sizes[symbol]} "
                    f"as before, got {operand.shape}"
                )
        operands.append(operand)
    return operands


def scale_of(scale: Any, width: int) -> float:
    """Return the factor of the logits; None means 1 / d as in the paper."""
    return 1.0 / max(width, 1) if scale is None else check_scale(scale, width)


def check_method(method: Any, eps: Any, degree: Any) -> Accuracy | None:
    """Return what the polynomial has to reach; None for the exact method."""
    if check_choice("method", method, METHODS) == "polynomial":
        return check_accuracy(eps, degree)
    for name, value in (("eps", eps), ("degree", degree)):
        if value is not None:
            raise ValueError(f'`{name}` is for method="polynomial", got {value!r} with "exact"')
    return None


def centred_keys(key: NDArray[Any]) -> NDArray[Any]:
    """Take the mean out where that makes logits smaller: what it adds to a row, softmax ignores."""
    _, moved = centred(key.astype(np.float64, copy=False))
    return moved.astype(key.dtype, copy=False)


def choose_polynomial(
    query: NDArray[Any], key: NDArray[Any], scale: float, accuracy: Accuracy
) -> NDArray[np.float64]:
    """Return the coefficients to take for these logits, best for exp and its derivative."""
    (keys, width), (eps, degree) = key.shape, accuracy
    bound = bound_of_products(scale, longest_row(query), longest_row(key), width)
    if not bound <= LARGEST_BOUND:
        raise ValueError(
            f"the logits must be bounded by {LARGEST_BOUND:g} for a polynomial, got |scale| times the "
            f'longest row of A1 X times that of A2 = {bound:.4g}: method="exact" takes any'
        )
    if degree is not None:
        return np.array(minimax_of_degree(bound, degree, both=True)[0])
    assert eps is not None  # one of the two was given
    reached = [(c, error) for c, error in minimax(bound, both=True)]
    for c, error in reached:
        if error <= eps:
            if query.size and keys:
                _refuse_more_features_than_keys(width, len(c) - 1, keys, bound, eps)
            return np.array(c)
    c, error = min(reached, key=lambda pair: pair[1])
    raise ValueError(
        f"`eps` must be reached by a tabulated degree, got {eps:g} for logits bounded by {bound:.4g}, "
        f'where degree {len(c) - 1} has an error of {error:.3g}: method="exact" needs none'
    )


def _refuse_more_features_than_keys(
    width: int, degree: int, keys: int, bound: float, eps: float
) -> None:
    features = math.comb(width + degree, degree)
    if features > keys:
        raise ValueError(
            f"`eps` = {eps:g} for logits bounded by {bound:.4g} takes degree {degree} and {features} "
            f'features, more than there are keys, {keys}: method="exact" costs less (`degree` takes a '
            "polynomial whatever it costs)"
        )
