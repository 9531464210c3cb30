"""The parts of the polynomial method by their definitions: every monomial, every matrix."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial.polynomial import polyder, polyval

from .._arrays import Array
from .._coefficients import check_accuracy, check_degree, count_features, take_matrix, take_pair
from .._factors import refuse_row_sum, take_columns
from .._finite import refuse_nonfinite
from .._loss import (
    centred_keys,
    check_method,
    choose_by_position,
    choose_polynomial,
    scale_of,
    take_chain,
    take_positions,
)
from .._options import check_scale
from ._heads import Floats, numbers

__all__ = ["Factors", "attention_loss_grad", "factor", "features", "weights"]

# Beyond it, 1 / degree! and with it every further term is lost in float64.
_LARGEST_DEGREE = 170


class Factors(NamedTuple):
    """Factors of ``exp(scale * Q K^T)``, as `subquad.polynomial.Factors`."""

    u: Floats
    v: Floats
    error_bound: float
    """The largest entry of ``|u v^T - exp(scale * Q K^T)|``."""

    def matvec(self, x: Array) -> Any:
        """Multiply by the matrix itself."""
        return self.u @ self.v.T @ numbers(take_columns(x, len(self.v)))

    def rmatvec(self, x: Array) -> Any:
        """Multiply by its transpose."""
        return self.v @ self.u.T @ numbers(take_columns(x, len(self.u)))

    def row_sums(self) -> Any:
        """Sum every row."""
        return (self.u @ self.v.T).sum(axis=1)

    def normalise(self, x: Array) -> Any:
        """Multiply by the matrix whose rows are divided by their sums."""
        columns = numbers(take_columns(x, len(self.v)))
        product, sums = self.u @ self.v.T, self.row_sums()
        if len(self.v) == 0:
            return product @ columns
        doubt = (product.shape[1] + self.u.shape[1]) * 2.0**-53 * np.abs(product).sum(axis=1)
        if not (sums > doubt).all():
            row = int(np.argmin(sums > doubt))
            refuse_row_sum(row, float(sums[row]), float(doubt[row]))
        return product / sums[:, np.newaxis] @ columns


def features(x: Array, degree: int) -> Any:
    """All monomials of every row up to a degree; arguments as in `subquad.polynomial.features`."""
    rows = numbers(take_matrix("x", x, "n, d"))
    count = count_features(len(rows), rows.shape[1], check_degree(degree))
    # Before the loop, so that what does not fit is refused at once.
    result = np.empty((len(rows), count))
    with np.errstate(over="ignore"):
        for column, chosen in enumerate(_monomials(rows.shape[1], degree)):
            result[:, column] = rows[:, chosen].prod(axis=1)
    if not np.isfinite(result).all():
        refuse_nonfinite((), result.dtype)
    return result


def weights(d: int, degree: int) -> Any:
    """How often each monomial occurs in a power of a sum; as `subquad.polynomial.weights`."""
    d, degree = check_degree(d, "d", 0), check_degree(degree)
    result = np.empty(count_features(1, d, degree))
    for column, chosen in enumerate(_monomials(d, degree)):
        repeats = math.prod(math.factorial(chosen.count(i)) for i in set(chosen))
        result[column] = math.factorial(len(chosen)) // repeats
    return result


def factor(
    query: Array,
    key: Array,
    *,
    eps: float | None = None,
    degree: int | None = None,
    scale: float | None = None,
) -> Factors:
    """Low-rank factors of exp(scale * Q K^T), by Taylor's polynomial of the least degree.

    Arguments as in `subquad.polynomial.factor`, where a better polynomial may do with a lower
    degree. The error is measured, entry by entry.
    """
    q, k = (numbers(operand) for operand in take_pair(query, key))
    budget, degree = check_accuracy(eps, degree)
    sigma = check_scale(scale, q.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        logits = sigma * (q @ k.T)
        exact = np.exp(logits)
    if not np.isfinite(exact).all():
        refuse_nonfinite((), exact.dtype)
    if budget is not None:
        degree = _least_degree(logits, exact, budget)
    assert degree is not None  # one of the two was given
    of_degree = np.array([len(chosen) for chosen in _monomials(q.shape[1], degree)])
    taylor = np.array([sigma**t / math.factorial(t) for t in range(degree + 1)])
    u = features(q, degree) * weights(q.shape[1], degree) * taylor[of_degree]
    v = features(k, degree)
    error = np.abs(u @ v.T - exact)
    if budget is not None and (error > budget * exact).any():
        raise ValueError(f"rounding to float64 alone exceeds `eps` = {eps}")
    return Factors(u, v, float(error.max(initial=0.0)))


def _least_degree(logits: Floats, exact: Floats, eps: float) -> int:
    total, term = np.zeros_like(logits), np.ones_like(logits)
    for degree in range(_LARGEST_DEGREE + 1):
        total += term
        if degree and (np.abs(total - exact) <= eps * exact).all():
            return degree
        term *= logits / (degree + 1)
    raise ValueError(f"no degree up to {_LARGEST_DEGREE} meets `eps` = {eps} in float64")


def attention_loss_grad(
    A1: Array,
    X: Array,
    A2: Array,
    A3: Array,
    Y: Array,
    E: Array,
    *,
    scale: float | None = None,
    method: str = "exact",
    eps: float | None = None,
    degree: int | None = None,
    rope_weights: Array | None = None,
    support: Array | None = None,
) -> Any:
    """Gradient with respect to X of ``0.5 * ||softmax(scale * A1 X A2^T) A3 Y - E||_F^2``.

    Arguments as in `subquad.polynomial.attention_loss_grad`; ``scale=None`` is 1/d. The names are
    those of arXiv:2402.04497, whose formula this is with q the right way round: one row per query.
    For "polynomial", exp and its derivative are those of the polynomial.
    """
    given = take_chain(A1, X, A2, A3, Y, E)
    accuracy = check_method(method, eps, degree)
    positions = take_positions(rope_weights, support, given)
    a1, x, a2, a3, y, e = (numbers(operand) for operand in given)
    sigma = scale_of(scale, x.shape[1])
    if accuracy is not None and positions is None:
        a2 = centred_keys(a2)
    with np.errstate(over="ignore", invalid="ignore"):
        query = a1 @ x
        # Row (i, j) is W_{i-j} A2_j, with W = 1 where there are no matrices.
        turned = np.broadcast_to(a2, (len(query), *a2.shape))
        if positions is not None:
            turned = _turned(a2, len(query), *positions)
        logits = sigma * np.einsum("ia,ija->ij", query, turned)
    if not np.isfinite(logits).all():
        refuse_nonfinite((), logits.dtype)
    if accuracy is None:
        slopes = powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    else:
        if positions is None:
            terms = choose_polynomial(query, a2, sigma, accuracy)
        else:
            terms = choose_by_position(query, a2, sigma, accuracy, positions)
        powers, slopes = polyval(logits, terms), polyval(logits, polyder(terms))
    total = powers.sum(axis=1, keepdims=True)
    f = powers / total
    h = a3 @ y
    c = f @ h - e
    q = c @ h.T
    # The slope of exp is exp: then this is f * q - (f * q).sum(axis=1, keepdims=True) * f.
    p = slopes / total * (q - (f * q).sum(axis=1, keepdims=True))
    return sigma * (a1.T @ np.einsum("ij,ija->ia", p, turned))


def _turned(key: Floats, queries: int, weights: Any, support: Any) -> Floats:
    """Multiply every key by the matrix of its distance from every query, shape (n, m, k)."""
    lags = np.arange(queries)[:, np.newaxis] - np.arange(len(key)) + len(key) - 1
    turned = np.zeros((queries, *key.shape))
    for row, (a, b) in zip(weights.astype(np.float64), support, strict=True):
        turned[:, :, a] += row[lags] * key[:, b]
    return turned


def _monomials(d: int, degree: int) -> Iterator[tuple[int, ...]]:
    """Yield monomials as the coordinates multiplied: by degree, then lexicographically."""
    for t in range(degree + 1):
        yield from combinations_with_replacement(range(d), t)
