r"""Products of matrices and butterflies: proved bounds.

The arguments are those of `_pebble_segments`. They hold with and without recomputation, for pebbles that
slide and for values that are recoloured; not if sources need not be loaded or outputs not be stored.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._arguments import check_count
from ._pebble_segments import (
    Floats,
    at_least,
    check_memory,
    fewest_words,
    three_products,
    whole_words,
)

__all__ = ["fft_lower_bound", "matmul_lower_bound"]


def matmul_lower_bound(m: int, n: int, k: int, memory: Any) -> Any:
    r"""Words of a product of an m by k matrix with a k by n one, at least.

    Parameters
    ----------
    m, n, k : int
        Sides.
    memory : int or array of int
        M.

    Returns
    -------
    int or ndarray of int64
        The largest of :math:`h U - (h - 1) M + \max(0, V - M)` over U > M, with :math:`T(U) = (U / 3)^{3/2}` of m n k
        products, of :math:`2 m n k / \sqrt M - M`, and of m k + k n + m n.

    Raises
    ------
    TypeError, ValueError
        For numbers that are no positive integers, or a bound of 2^63 words or more.

    Notes
    -----
    Of U, numbers 1 % apart are tried. For U = 3 M, when :math:`T(U) = M^{3/2}` and h is at least :math:`m n k / M^{3/2} -
    1`, it is at least :math:`2 m n k / \sqrt M - M`. (If h = 0, :math:`3 (m n k)^{2/3}` is more than that.) The order
    is of [1]_; the constant 2, which is best, is of [2]_. Sums may be fused or not and grouped in any way; what counts is
    that the m n results are stored, so that fresh starts are stores. For products in any order there
    is no such bound if the results need not be stored (`attention_lower_bound` subtracts them). In
    the fused form M is at least 4, otherwise 3; nothing is lost there.

    References
    ----------
    .. [1] J.-W. Hong and H. T. Kung, "I/O complexity: The red-blue pebble game", STOC 1981.
    .. [2] T. M. Smith, B. Lowery, J. Langou and R. A. van de Geijn, "A tight I/O lower bound for matrix
       multiplication", arXiv:1702.02017.

    Examples
    --------
    >>> matmul_lower_bound(96, 96, 96, 256)
    110833
    """
    rows, columns, terms = check_count("m", m), check_count("n", n), check_count("k", k)
    words, is_one = check_memory(memory)
    trivial = rows * terms + terms * columns + rows * columns
    least = at_least(trivial, words, "`m`, `n` and `k`")
    products = rows * columns * terms * (1.0 - 1e-12)
    found = np.maximum(least, fewest_words(products, three_products, words))
    found = np.maximum(found, whole_words(2.0 * products / np.sqrt(words) - words))
    return int(found[0]) if is_one else found


def _butterflies(sizes: Floats) -> Floats:
    return np.asarray(sizes * np.log2(np.maximum(sizes, 2.0)))


def fft_lower_bound(n: int, memory: Any) -> Any:
    r"""Words of the butterflies of n points, at least.

    Parameters
    ----------
    n : int
        A power of 2.
    memory : int or array of int
        M.

    Returns
    -------
    int or ndarray of int64
        n, for the stores, and loads after `_pebble_segments` with :math:`T(U) = U \log_2 U` of
        :math:`n \log_2 n` values: the order of [1]_, with a constant of 1 for M large.

    Notes
    -----
    *From r values at most* :math:`r \log_2 r` *others can be computed.* By induction on the stages: those before the last
    are two graphs of half the points, with :math:`r_0` and :math:`r_1` of the values. Of the last stage before the
    last at most :math:`r_0` and :math:`r_1` values can be had, as the values of a stage are linearly independent when
    butterflies are sums and differences. Each value of the last stage needs one of either half, so that there are
    :math:`2 \min(r_0, r_1)` new ones at most, and :math:`r_0 \log_2 r_0 + r_1 \log_2 r_1 + 2 \min(r_0, r_1) \le (r_0 + r_1)
    \log_2 (r_0 + r_1)`, as the entropy of :math:`p \le 1/2` is at least 2 p.

    Every value is computed for a first time. In a segment of which U values were there or are loaded, it is one of
    :math:`U \log_2 U` at most; so loads alone are charged.

    References
    ----------
    .. [1] J.-W. Hong and H. T. Kung, "I/O complexity: The red-blue pebble game", STOC 1981.

    Examples
    --------
    >>> fft_lower_bound(2**16, 66)
    167142
    """
    points = check_count("n", n, 2)
    if points & (points - 1):
        raise ValueError(f"`n` must be a power of 2, got {points}")
    words, is_one = check_memory(memory)
    least = at_least(2 * points, words, "`n`")
    needed = points * math.log2(points) * (1.0 - 1e-12)
    # Loads and stores.
    found = np.maximum(fewest_words(needed, _butterflies, words) + points, least)
    return int(found[0]) if is_one else found
