r"""Orders of growth from the papers, with constant 1: for pictures and exponents, never as inequalities.

A theorem that says :math:`\Theta(f)` bounds nothing by f itself. Executed schedules move between 4 and 25 times these
numbers; proved numbers are those of `attention_lower_bound`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arguments import check_count, check_positive
from ._pebble_segments import check_memory

__all__ = [
    "attention_gradient_order",
    "attention_order",
    "flash_attention_order",
    "sparse_attention_order",
    "standard_attention_order",
    "var_kv_lower_bound",
]


def _like(memory: Any, words: NDArray[np.float64]) -> Any:
    return float(words[0]) if check_memory(memory)[1] else words


def standard_attention_order(n: int, d: int) -> float:
    """Attention that stores its scores moves of the order of n d + n^2 words (arXiv:2205.14135).

    Parameters
    ----------
    n, d : int
        Rows, width.

    Returns
    -------
    float
    """
    rows, width = check_count("n", n), check_count("d", d)
    return float(rows * width + rows * rows)


def flash_attention_order(n: int, d: int, memory: Any, *, density: float = 1.0) -> Any:
    r"""FlashAttention moves of the order of n² d² / M words (arXiv:2205.14135).

    Parameters
    ----------
    n, d : int
        Rows, width.
    memory : int or array of int
        M, from d to n d: there the theorem speaks.
    density : float
        The part s of blocks that a mask leaves; then it is n d + s n² d² / M.

    Returns
    -------
    float or ndarray
    """
    rows, width = check_count("n", n), check_count("d", d)
    part = check_positive("density", density)
    words = check_memory(memory)[0].astype(np.float64)
    order = part * (rows * width) ** 2 / words
    return _like(memory, order if part == 1.0 else order + rows * width)


def attention_order(n: int, d: int, memory: Any) -> Any:
    r"""Attention needs words of the order of min(n² d / √M, n² d² / M) (arXiv:2402.07443).

    Parameters
    ----------
    n, d : int
        Rows, width.
    memory : int or array of int
        M. The two meet at M = d^2.

    Returns
    -------
    float or ndarray
        For standard products of matrices. With fast ones and M < d^2 less may do, but not below the order
        of min(n² d² / M, n²).
    """
    rows, width = float(check_count("n", n)), float(check_count("d", d))
    words = check_memory(memory)[0].astype(np.float64)
    return _like(memory, rows**2 * width / np.sqrt(words) * np.minimum(1.0, width / np.sqrt(words)))


def attention_gradient_order(n: int, d: int, memory: Any) -> Any:
    r"""Return the order of the papers' gradient (arXiv:2410.09397).

    Parameters
    ----------
    n, d : int
        Rows, width.
    memory : int or array of int
        M. The two meet at M = d^2.

    Returns
    -------
    float or ndarray
        min((n² d² + n d³) / M, (n² d + n d²) / √M) words, for the gradient of a loss by a d by d matrix of
        parameters and standard products.
    """
    rows, width = float(check_count("n", n)), float(check_count("d", d))
    words = check_memory(memory)[0].astype(np.float64)
    small = (rows**2 * width + rows * width**2) / np.sqrt(words)
    return _like(memory, small * np.minimum(1.0, width / np.sqrt(words)))


def sparse_attention_order(inputs: int, scores: int, memory: Any) -> Any:
    r"""Attention of sparse inputs needs of the order of min(I² / M, I √Z / √M) words for the worst of them.

    Parameters
    ----------
    inputs : int
        I, entries of Q and K that are not 0; n d if they are dense.
    scores : int
        Z, entries of Q K^T that are not 0.
    memory : int or array of int
        M.

    Returns
    -------
    float or ndarray
        The theorem of arXiv:2410.09397 says that there are inputs of so many entries for which so much is needed; not
        that all need it. It is **not a bound for masks**, where Q and K are dense and Z counts what the mask
        leaves: FlashAttention-2's order with a block mask of density 1/16 (n = 4096, d = 64, M = 16384) moves 0.79
        times this number. For masks, `attention_lower_bound` with its argument ``scores`` holds for each.
    """
    entries, pairs = float(check_count("inputs", inputs)), float(check_count("scores", scores))
    words = check_memory(memory)[0].astype(np.float64)
    return _like(memory, entries * np.minimum(entries / words, np.sqrt(pairs / words)))


def var_kv_lower_bound(side: int, d: int) -> float:
    r"""Memory of the order of side² d words for generating a map of side by side tokens (arXiv:2503.14881).

    Parameters
    ----------
    side : int
        Tokens along a side of the last map. (The abstract calls n the number of tokens; its proof has an n by n map,
        and all maps together have of the order of n² tokens.)
    d : int
        Width. The theorem supposes that it is at least of the order of log side.

    Returns
    -------
    float
        side² d: a cache of keys and values cannot be of a lower order, even if each weight of attention is
        only to be right within a constant factor. It is about words that are kept, not about words moved.
    """
    length, width = check_count("side", side, 2), check_count("d", d)
    if width < math.log2(length):
        raise ValueError(
            f"`d` must be at least log2(side) = {math.log2(length):.3g} for the theorem, got {width}"
        )
    return float(length * length * width)
