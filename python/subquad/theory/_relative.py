"""How many Toeplitz terms a polynomial of relative positions has, and what they cost."""

from __future__ import annotations

import math

from ._arguments import check_count
from .toeplitz import embedding_length

__all__ = ["relative_flops", "term_count", "term_flops"]


def term_count(support: int, degree: int) -> int:
    r"""Count the Toeplitz matrices in a polynomial of logits with general relative positions.

    Parameters
    ----------
    support : int
        Number of entries of the matrices that are not zero, at least 0.
    degree : int
        g >= 0.

    Returns
    -------
    terms : int
        :math:`C(|S| + g, g)`, one for each monomial in the entries.

    Notes
    -----
    The lemma of arXiv:2505.11892 that makes its theorem: Hadamard products of rescaled Toeplitz matrices are rescaled Toeplitz matrices. Rotary
    positions of width d are a support of 2 d, so :math:`C(2d + g, g)`; rotating queries and keys
    instead leaves :math:`C(d + g, g)` features and no transforms.
    """
    entries = check_count("support", support, least=0)
    return math.comb(entries + check_count("degree", degree, least=0), entries)


def term_flops(lags: int, columns: int) -> float:
    r"""Floating-point operations of one Toeplitz term by transforms of real numbers.

    Parameters
    ----------
    lags : int
        L + S - 1.
    columns : int
        Columns that are multiplied: those of the values, and one of ones.

    Returns
    -------
    flops : float
        :math:`(2 c + 1) \tfrac52 N \log_2 N + 3 c (N + L + S)` with N the length of the transforms,
        `subquad.theory.toeplitz.embedding_length`: one transform of the lags, two for each column, and
        the products between.

    Notes
    -----
    What the theorem of arXiv:2505.11892 calls O(n log n), times the columns.
    """
    length, width = embedding_length(lags), check_count("columns", columns)
    transforms = (2 * width + 1) * 2.5 * length * math.log2(length)
    return transforms + 3.0 * width * (length + lags + 1)


def relative_flops(pairs: int, support: int, columns: int) -> float:
    """Floating-point operations of softmax attention with general relative positions, all keys.

    Parameters
    ----------
    pairs : int
        Pairs of a query and a key that it sees.
    support : int
        Number of entries of the matrices that are not zero.
    columns : int
        Columns of the values.

    Returns
    -------
    flops : float
        ``pairs * (3 * support + 2 * columns)``, exponentials apart.

    Notes
    -----
    What the theorem of arXiv:2505.11892 is compared with.
    """
    each = 3 * check_count("support", support, least=0) + 2 * check_count(
        "columns", columns, least=0
    )
    return float(check_count("pairs", pairs, least=0) * each)
