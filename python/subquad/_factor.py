"""Low-rank factors of the exponential of a matrix of products."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from . import _subquad
from ._arrays import Array, result_dtype
from ._coefficients import check_accuracy, count_features, take_pair
from ._exponential import minimax, minimax_of_degree
from ._factor_bounds import Error, Parts, split
from ._factors import Factors
from ._options import check_scale
from ._threads import resolve_workers

__all__ = ["factor"]

Floats = NDArray[np.float64]

# Features that are made in float64 before they are rounded to float32.
_BLOCK = 1 << 18


def factor(
    query: Array,
    key: Array,
    *,
    eps: float | None = None,
    degree: int | None = None,
    scale: float | None = None,
) -> Factors:
    r"""Low-rank factors of the unnormalised weights of attention, ``A = exp(scale * Q K^T)``.

    Parameters
    ----------
    query : array_like, shape (n, d)
    key : array_like, shape (m, d)
    eps : float, optional
        Take the least degree with :math:`|U V^T - A|_{ij} \le \epsilon A_{ij}` for all i and j, over the
        real numbers: for the factors as they are stored.
    degree : int, optional
        Take the polynomial of this degree that is best for these logits. One of `eps` and `degree` is
        needed.
    scale : float, optional
        Factor of the products, negative ones too; ``1 / sqrt(d)`` if not given.

    Returns
    -------
    factors : Factors
        ``factors.u`` of shape (n, r) and ``factors.v`` of shape (m, r) with r = C(d + g, g), g the degree;
        ``factors.error_bound``, above every :math:`|U V^T - A|_{ij}`, which always holds. Of the kind of
        `query`, float64 if ``np.result_type(query, key)`` is, else float32.

    Raises
    ------
    ValueError
        If a shape is wrong, a number is not finite, or not one of `eps` and `degree` is given; if the
        logits are bounded by more than 16, or too large for exp in the dtype of the factors; if no degree
        up to 24 has an error of `eps`, rounding included, or `degree` is not tabulated for these logits.
    TypeError
        If an array does not hold real numbers, or `degree` is no integer.
    MemoryError
        If the factors do not fit into memory.

    See Also
    --------
    coefficients : The polynomials, with proved errors.
    feasibility : For which logits r is smaller than the number of keys.
    subquad.polynomial_attention : Attention with a polynomial, which never stores factors.

    Notes
    -----
    O((n + m) r) operations and the memory of the factors [1]_. A polynomial p of the logits is a product
    of two matrices of `features`. Logits are bounded by the longest query and the longest key. Where
    that makes them shorter, their means are taken out first, and put back as factors of the rows of u
    and v: :math:`e^{q \cdot k} = e^{q \cdot \mu} \, e^{\nu \cdot (k - \mu)} \, e^{(q - \nu) \cdot (k -
    \mu)}` for any :math:`\mu, \nu`, so relative errors stay. Roots of the absolute values of multinomial
    weights times coefficients multiply the columns of both factors, so neither overflows alone, and the
    signs are in u.

    Factors are computed in float64 and rounded once. For logits bounded by B this costs a relative
    error of up to ``2 u exp(2 B)``, u the unit of roundoff of the dtype (1e-4 in float32 for B = 3.3),
    which counts: it is part of `error_bound`, and leaves less of `eps` to the polynomial. Products with
    the factors, such as ``factors @ x``, add the rounding of their own sums.

    References
    ----------
    .. [1] J. Alman and Z. Song, "Fast attention requires bounded entries", arXiv:2302.13214.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> rng = np.random.default_rng(0)
    >>> q, k = 0.3 * rng.standard_normal((2, 500, 8))
    >>> factors = subquad.polynomial.factor(q, k, eps=1e-2)
    >>> factors.shape, factors.rank, factors.degree
    ((500, 500), 165, 3)
    >>> A = np.exp(q @ k.T / np.sqrt(8))
    >>> error = np.abs(factors.u @ factors.v.T - A)
    >>> bool((error <= 1e-2 * A).all()), bool(error.max() <= factors.error_bound)
    (True, True)
    """
    q, k = take_pair(query, key)
    budget, degree = check_accuracy(eps, degree)
    sigma = check_scale(scale, q.shape[1])
    double = result_dtype(q.dtype, k.dtype) == "float64"
    dtype = np.dtype(np.float64 if double else np.float32)
    parts = split(q, k, sigma, dtype)
    c, error = _choose(parts, dtype, budget, degree)
    # Both before anything is computed, so that what does not fit is refused at once.
    u, v = (_allocate(len(x), q.shape[1], error.degree, dtype) for x in (parts.x, parts.y))
    roots, signs = _weights(c, q.shape[1])
    _fill(u, parts.x, parts.rows, error.degree, roots * signs)
    _fill(v, parts.y, parts.columns, error.degree, roots)
    u, v = (q.give_back(side, dtype.name) for side in (u, v))
    return Factors(u, v, error.largest(), error.degree)


def _choose(
    parts: Parts, dtype: np.dtype[Any], eps: float | None, degree: int | None
) -> tuple[tuple[float, ...], Error]:
    """Return a polynomial, and what it and rounding do to the entries."""
    if degree is not None:
        c, error = minimax_of_degree(parts.bound, degree)
        return c, Error(parts, c, error, dtype)
    assert eps is not None  # one of the two was given
    best: Error | None = None
    for c, error in minimax(parts.bound):
        found = Error(parts, c, error, dtype)
        if found.relative() <= eps:
            return c, found
        if best is None or found.relative() < best.relative():
            best = found
    assert best is not None  # every bound has entries
    _refuse_budget(eps, best, dtype)


def _refuse_budget(eps: float, best: Error, dtype: np.dtype[Any]) -> NoReturn:
    remedy = ": pass float64 arrays" if dtype == np.float32 else ""
    raise ValueError(
        f"`eps` must be reached by a tabulated degree, got {eps:g} for logits bounded by "
        f"{best.parts.bound:.4g}: at best, degree {best.degree} has a relative error of "
        f"{best.relative():.3g}, of which {best.approximation:.3g} is the polynomial's and the rest "
        f"that of rounding factors to {dtype}{remedy}"
    )


def _allocate(rows: int, width: int, degree: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    shape = (rows, count_features(rows, width, degree))
    try:
        return np.empty(shape, dtype)
    except MemoryError:
        raise MemoryError(
            f"{shape[1]} features of degree {degree} of {rows} rows need "
            f"{math.prod(shape) * dtype.itemsize} bytes, which cannot be allocated"
        ) from None


def _weights(c: tuple[float, ...], width: int) -> tuple[Floats, Floats]:
    """Return the roots of the absolute weights of all features, and the signs of the weights."""
    multinomial = _subquad.polynomial_weights(width, len(c) - 1)
    sizes = [math.comb(width + t - 1, t) if width else int(t == 0) for t in range(len(c))]
    of_feature = np.repeat(c, sizes)
    return np.sqrt(np.abs(of_feature) * multinomial), np.where(of_feature < 0.0, -1.0, 1.0)


def _fill(out: NDArray[Any], x: Floats, of_row: Floats, degree: int, weights: Floats) -> None:
    """Write features of x, times a weight for each and a factor for each row."""
    workers = resolve_workers(None)
    double = out.dtype == np.float64
    step = max(1, _BLOCK // len(weights))
    for start in range(0, len(x), step):
        block = slice(start, min(start + step, len(x)))
        part = out[block] if double else np.empty((block.stop - start, len(weights)))
        _subquad.polynomial_features(x[block], degree, part, workers=workers)
        with np.errstate(under="ignore"):
            part *= weights
            part *= of_row[block, np.newaxis]
            if not double:
                out[block] = part
