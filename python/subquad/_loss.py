"""The loss of arXiv:2402.04497: its arguments and its polynomial, for the library and its twin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Operand, wide
from ._centring import bound_of_products, centred, longest_row
from ._coefficients import check_accuracy, take_matrix
from ._exponential import minimax, minimax_of_degree
from ._options import check_choice, check_scale
from ._relative.arguments import lag_count, prepare_relative, take_support
from ._relative.head import relative_head
from ._tables.enclosure import LARGEST_BOUND

__all__ = [
    "METHODS",
    "Accuracy",
    "Positions",
    "centred_keys",
    "check_method",
    "choose_by_position",
    "choose_polynomial",
    "scale_of",
    "take_chain",
    "take_positions",
]

METHODS = ("exact", "polynomial")

# Error budget and degree, of which one is given.
Accuracy = tuple[float | None, int | None]

# Weights by relative positions, and the entries of the matrices that they are.
Positions = tuple[Any, Any]

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
    keys, width = key.shape
    bound = bound_of_products(scale, longest_row(query), longest_row(key), width)
    found = "|scale| times the longest row of A1 X times that of A2"
    return _of_bound(bound, found, accuracy, (width, "features"), keys if query.size else 0)


def choose_by_position(
    query: NDArray[Any],
    key: NDArray[Any],
    scale: float,
    accuracy: Accuracy,
    positions: Positions,
) -> NDArray[np.float64]:
    """As `choose_polynomial`, for logits by relative positions."""
    weights, support = positions
    call = prepare_relative(
        query,
        key,
        key,
        weights,
        support,
        degree=None,
        coefficients=None,
        eps=None,
        is_causal=False,
        scale=scale,
        enable_gqa=False,
        workers=None,
        check_finite=True,
    )
    head = relative_head(call, (0,))
    found = "|scale| times the sum of |(A1 X)_a| max|W_ab| max|A2_b|"
    keys = head.keys if query.size else 0
    return _of_bound(head.bound, found, accuracy, (head.entries, "Toeplitz terms"), keys)


def take_positions(weights: Any, support: Any, given: list[Operand]) -> Positions | None:
    """Return position weights and their support, of which both or neither must be given."""
    if weights is None and support is None:
        return None
    for name, array, other in (
        ("rope_weights", weights, "support"),
        ("support", support, "rope_weights"),
    ):
        if array is None:
            raise ValueError(f"`{name}` must be given with `{other}`, got None")
    (queries, _), (keys, width) = given[0].shape, given[2].shape
    entries = take_support(support, width)
    operand = take_matrix("rope_weights", weights, "t, n + m - 1")
    wanted = (len(entries), lag_count(queries, keys))
    if operand.shape != wanted:
        raise ValueError(
            f"`rope_weights` must have shape (t, n + m - 1) = {wanted}, got {operand.shape}"
        )
    return wide(operand.array, operand.dtype), entries


def _of_bound(
    bound: float, found: str, accuracy: Accuracy, letters: tuple[int, str], keys: int
) -> NDArray[np.float64]:
    """Choose for a bound on the logits; `keys` is 0 where there is nothing to compute."""
    eps, degree = accuracy
    if not bound <= LARGEST_BOUND:
        raise ValueError(
            f"the logits must be bounded by {LARGEST_BOUND:g} for a polynomial, got {found} = "
            f'{bound:.4g}: method="exact" takes any'
        )
    if degree is not None:
        return np.array(minimax_of_degree(bound, degree, both=True)[0])
    assert eps is not None  # one of the two was given
    reached = [(c, error) for c, error in minimax(bound, both=True)]
    for c, error in reached:
        if error <= eps:
            if keys:
                _refuse_more_features_than_keys(letters, len(c) - 1, keys, bound, eps)
            return np.array(c)
    c, error = min(reached, key=lambda pair: pair[1])
    raise ValueError(
        f"`eps` must be reached by a tabulated degree, got {eps:g} for logits bounded by {bound:.4g}, "
        f'where degree {len(c) - 1} has an error of {error:.3g}: method="exact" needs none'
    )


def _refuse_more_features_than_keys(
    letters: tuple[int, str], degree: int, keys: int, bound: float, eps: float
) -> None:
    width, name = letters
    features = math.comb(width + degree, degree)
    if features > keys:
        raise ValueError(
            f"`eps` = {eps:g} for logits bounded by {bound:.4g} takes degree {degree} and {features} "
            f'{name}, more than there are keys, {keys}: method="exact" costs less (`degree` takes a '
            "polynomial whatever it costs)"
        )
