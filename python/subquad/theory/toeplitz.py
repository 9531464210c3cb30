r"""Rounding errors of products with Toeplitz matrices by transforms, and what they cost.

A product with the weights :math:`w` of all lags is a circular convolution of length n: transform the weights
and the column, multiply, transform back. With a unit roundoff u, all of [1]_, chapter 24:

*A transform.* A pass of radix 4 is two additions (each relatively within u) and a product with a twiddle:
a complex product is within :math:`\sqrt2 \gamma_2` (Lemma 3.5), a twiddle within 4 u of its root of unity,
so that a pass is within 9 u in the Euclidean norm, as it is a unitary matrix times a number. What is done in
registers at the end, transforms of length 3, 4, 5, 6 or 8, is within 20 u: at most seven roundings
on the way from an input to an output, whose factors are at most :math:`\sqrt2` in modulus, times the root of
the length (for 4 and 8, which are two and three additions and two products, 6 u). So a transform with p
passes is within :math:`\epsilon = (9 p + 20) u`, relatively (Theorem 24.2 for these radices).

*Backward* errors are wanted entry by entry. An output is a sum over all inputs with factors of modulus 1 along
paths of p passes, so it is within :math:`(9 p + 10) u` times the sum of the moduli of the inputs.

*Together.* With :math:`\hat w, \hat x` the transforms, of norms :math:`\sqrt n \|w\|, \sqrt n \|x\|`, the
Cauchy-Schwarz inequality bounds :math:`\sum_k |\hat w_k \hat x_k| / n` by :math:`\|w\| \|x\|`. Errors of both
transforms, of the factor 1 / n (two roundings) and of the product (:math:`2 \sqrt2 u`) add up to

.. math:: |\text{error}| \le c(n)\, u\, \|w\|_2 \|x\|_2, \qquad c(n) = 1.01\,(27 p + 55),

for every entry; 1.01 is for the products of errors, as long as :math:`c(n) u < 0.01`. The two columns of which
one is in the real parts and one in the imaginary parts count as one, of norm :math:`\sqrt 2` times that of the
longer.

It is a bound in the norm: a row that is much smaller than the others, as with weights that grow or decay over
many orders of magnitude, may have no digit right. Numbers that underflow are not in it.

References
----------
.. [1] N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, SIAM, 2002.
"""

from __future__ import annotations

import math

from ._arguments import check_count

__all__ = ["convolution_flops", "direct_error", "embedding_length", "passes", "product_error"]


def embedding_length(lags: int) -> int:
    """Length of the transforms for a matrix with so many lags, L + S - 1.

    The least of the form 2^a, 3 * 2^a or 5 * 4^a with at least two factors 2, and at least 12.

    Parameters
    ----------
    lags : int
        At least 1.

    Returns
    -------
    int
        n.

    Examples
    --------
    >>> embedding_length(2 * 1025 - 1), embedding_length(2 * 2050 - 1)
    (3072, 5120)
    """
    needed = check_count("lags", lags)
    found = []
    for least, bits in ((12, 1), (16, 1), (20, 2)):
        doublings = max(0, (-(-needed // least) - 1).bit_length())
        found.append(least << bits * -(-doublings // bits))
    return min(found)


def passes(n: int) -> int:
    """Count the passes of radix 4 of a transform of length n.

    Parameters
    ----------
    n : int
        As `embedding_length` returns.

    Returns
    -------
    int
        p.
    """
    length, count = check_count("n", n), 0
    while length > 8 or count == 0:
        length, count = length // 4, count + 1
    return count


def product_error(lags: int) -> float:
    r"""Give the factor c of the error bound :math:`c u \|w\|_2 \|x\|_2` of every entry of a product.

    Parameters
    ----------
    lags : int
        L + S - 1.

    Returns
    -------
    float
        :math:`1.01 (27 p + 55)` with p passes, for the module's reasons.

    Examples
    --------
    >>> product_error(2 * 65_536 - 1)
    246.44
    """
    return round(1.01 * (27 * passes(embedding_length(lags)) + 55), 6)


def direct_error(terms: int) -> float:
    r"""Give the same factor where products are added up one by one.

    Parameters
    ----------
    terms : int
        Of a sum: S, or L for the transposed matrix.

    Returns
    -------
    float
        1.01 times their number, for :math:`\gamma_n = n u / (1 - n u)` with n u below 0.01.
    """
    return 1.01 * check_count("terms", terms)


def convolution_flops(lags: int, columns: int = 1) -> float:
    r"""Operations of a product by transforms, a pair of columns in one of them.

    Parameters
    ----------
    lags : int
        L + S - 1.
    columns : int
        Number of columns.

    Returns
    -------
    float
        :math:`c (17/4 \cdot n \log_2 n + 3 n)` for c columns: a pass of radix 4 has 34 operations for 4 rows, and
        there is one forward and one backward for two columns.

    Examples
    --------
    >>> round(convolution_flops(1 << 17, 64) / 1e9, 2)
    0.63
    """
    n = embedding_length(lags)
    return check_count("columns", columns) * (17 / 4 * n * math.log2(n) + 3 * n)
