"""Symmetric monomials: what makes a polynomial of an inner product an inner product itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _subquad
from ._arrays import Array, stored
from ._coefficients import check_degree, count_features, take_matrix
from ._finite import refuse_nonfinite
from ._layout import laid_out
from ._threads import resolve_workers

__all__ = ["features", "weights"]


def features(x: Array, degree: int) -> Any:
    """Monomials of the coordinates of every row, up to a degree.

    Parameters
    ----------
    x : array_like, shape (n, d)
    degree : int
        At most 64.

    Returns
    -------
    array, shape (n, r)
        ``r = C(d + degree, degree)`` features in graded lexicographic order: by degree, then by the
        sorted indices of their factors, so 1, x0, x1, ..., x0 x0, x0 x1, .... Of the kind and dtype of
        `x`; integers become float64.

    Raises
    ------
    ValueError
        If the shape is wrong, a number is not finite, or the degree is below 1 or above 64.
    TypeError
        If `x` does not hold real numbers, or `degree` is no integer.
    MemoryError
        If there are more features than memory could hold.

    See Also
    --------
    weights : What makes inner products of them powers of inner products.

    Notes
    -----
    One multiplication per feature. `polynomial_attention` never holds more than 48 features of 96 rows.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> subquad.polynomial.features(np.array([[2.0, 3.0]]), 2)
    array([[1., 2., 3., 4., 6., 9.]])
    """
    operand = take_matrix("x", x, "n, d")
    degree = check_degree(degree)
    rows, width = operand.shape
    count = count_features(rows, width, degree)
    dtype = operand.dtype if operand.dtype in ("float16", "bfloat16", "float32") else "float64"
    compute = np.dtype(np.float64 if dtype == "float64" else np.float32)
    try:
        out = np.empty((rows, count), compute)
    except MemoryError:
        needed = rows * count * compute.itemsize
        raise MemoryError(
            f"{count} features of {rows} rows need {needed} bytes, which cannot be allocated"
        ) from None
    if rows > 0:
        _subquad.polynomial_features(
            laid_out(operand, compute), degree, out, workers=resolve_workers(None)
        )
        if not np.isfinite(out).all():
            refuse_nonfinite((operand,), compute)
    return operand.give_back(stored(out, dtype), dtype)


def weights(d: int, degree: int) -> Any:
    """Multinomial weights of `features`.

    Parameters
    ----------
    d : int
        Number of coordinates.
    degree : int
        At most 64.

    Returns
    -------
    array of float64, shape (r,)
        ``t! / (a_1! ... a_d!)`` for the feature with exponents a of degree t: over the features of degree t,
        the sum of ``weight * feature(x) * feature(y)`` is ``(x.y)**t``.

    Raises
    ------
    ValueError
        If `d` is negative, or the degree below 1 or above 64.
    TypeError
        If a number is no integer.
    MemoryError
        If there are more features than memory could hold.

    Examples
    --------
    >>> import subquad
    >>> subquad.polynomial.weights(2, 2)
    array([1., 1., 1., 1., 2., 1.])
    """
    d, degree = check_degree(d, "d", 0), check_degree(degree)
    count_features(1, d, degree)
    return _subquad.polynomial_weights(d, degree)
