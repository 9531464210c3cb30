r"""Optima that are known in closed form.

All are words loaded and stored in the game whose sources begin in slow memory and whose outputs end there, without
recomputation, one word per value. If every source is loaded once and every output stored once, it cannot
be less; so where memory suffices for that the optimum is known, with recomputation too. Below it is known for
trees (`_pebble_trees`) and, by exhaustive search, for small pyramids and grids.
"""

from __future__ import annotations

from typing import Any

from ._arguments import check_count

__all__ = [
    "chain_optimum",
    "fft_optimum",
    "grid_optimum",
    "matmul_optimum",
    "pyramid_optimum",
    "tree_optimum",
]

# The largest that exhaustive search has solved.
_PYRAMID, _GRID = 12, 10


def _check_memory(memory: Any, least: int, why: str) -> int:
    words = check_count("memory", memory)
    if words < least:
        raise ValueError(f"`memory` must be at least {least} {why}, got {words}")
    return words


def chain_optimum(length: int, memory: int) -> int:
    """Words of a chain: a source, and `length` values each computed from the one before.

    Parameters
    ----------
    length : int
        At least 1.
    memory : int
        At least 2.

    Returns
    -------
    int
        2: the source, and the last.
    """
    check_count("length", length)
    _check_memory(memory, 2, "for a value and its operand")
    return 2


def tree_optimum(height: int, memory: int, *, sliding: bool = False) -> int:
    r"""Words of a complete binary tree.

    Parameters
    ----------
    height : int
        h: there are :math:`2^h` leaves.
    memory : int
        M, at least 3, or 2 with pebbles that slide.
    sliding : bool
        Whether a value may take the place of an operand.

    Returns
    -------
    int
        :math:`2^h + 1 + 2\,(2^{\max(0, h - M + 2)} - 1)`, with M + 1 for M if pebbles slide: a subtree of height
        M - 2 needs all M words, so that of each pair of such subtrees, and of what is above them, one is stored and
        loaded. A case of `_pebble_trees.tree_words`, which has the proof.

    Examples
    --------
    >>> [tree_optimum(4, memory) for memory in (3, 4, 5, 6)]
    [31, 23, 19, 17]
    """
    levels = check_count("height", height)
    words = _check_memory(memory, 2 if sliding else 3, "for a value and its operands") + sliding
    return (1 << levels) + 1 + 2 * ((1 << max(0, levels - words + 2)) - 1)


def pyramid_optimum(height: int, memory: int) -> int:
    """Words of a pyramid: height + 1 sources, and rows that are shorter by one each, of two neighbours.

    Parameters
    ----------
    height : int
        h, at least 1.
    memory : int
        At least h + 2. For heights to 12 also h + 1, if h is 2 or more, and h, if it is 4 or more.

    Returns
    -------
    int
        h + 2 if M is h + 2 or more: diagonal by diagonal, the last one, of at most h + 1 values, stays. For M = h + 1
        it is h + 4, for M = h it is h + 6; both found by exhaustive search, not proved for larger h.

    Examples
    --------
    >>> [pyramid_optimum(6, memory) for memory in (6, 7, 8)]
    [12, 10, 8]
    """
    rows = check_count("height", height)
    known = rows + 2
    if 2 <= rows <= _PYRAMID:
        known = rows if rows >= 4 else rows + 1
    words = _check_memory(memory, known, f"for height {rows}: less is not known")
    return rows + 2 + 2 * max(0, rows + 2 - words)


def grid_optimum(side: int, memory: int) -> int:
    """Words of a square grid: one source and one sink in opposite corners, values of two neighbours.

    Parameters
    ----------
    side : int
        k, values along a side, at least 2.
    memory : int
        At least k + 1. For sides from 3 to 10 also k.

    Returns
    -------
    int
        2 if M is k + 1 or more: row by row. 6 if M = k, by exhaustive search. (With recomputation it is less: 5
        for k = 3 and 4 for k = 4.)
    """
    values = check_count("side", side, 2)
    known = values if 3 <= values <= _GRID else values + 1
    words = _check_memory(memory, known, f"for side {values}: less is not known")
    return 2 if words > values else 6


def fft_optimum(n: int, memory: int) -> int:
    """Words of the butterflies of n points.

    Parameters
    ----------
    n : int
        A power of 2, at least 2.
    memory : int
        At least n + 2: stage by stage, with room for both results of a butterfly.

    Returns
    -------
    int
        2 n.
    """
    points = check_count("n", n, 2)
    if points & (points - 1):
        raise ValueError(f"`n` must be a power of 2, got {points}")
    _check_memory(memory, points + 2, f"for {points} points: less is not known")
    return 2 * points


def matmul_optimum(m: int, n: int, k: int, memory: int) -> int:
    r"""Words of a product of an m by k matrix with a k by n one, fused or not.

    Parameters
    ----------
    m, n, k : int
        At least 1.
    memory : int
        At least the least of :math:`m n + \min(m, n)`, :math:`m k + \min(m, k)` and :math:`k n + \min(k, n)`,
        and 2 more.

    Returns
    -------
    int
        m k + k n + m n. With the sums in fast memory, for each l a column of A or a row of B, the shorter, joins
        them, and the other is loaded word by word; a new sum needs one word beside the old. With A there, for
        each j either a column of B joins it and sums are made one by one, or all m sums join it. With B
        likewise.

    Examples
    --------
    >>> matmul_optimum(3, 3, 3, 14)
    27
    """
    sides = [check_count(name, value) for name, value in (("m", m), ("n", n), ("k", k))]
    pairs = [(sides[0], sides[1]), (sides[0], sides[2]), (sides[2], sides[1])]
    least = min(x * y + min(x, y) for x, y in pairs) + 2
    _check_memory(memory, least, "for these matrices: less is not known")
    return sum(x * y for x, y in pairs)
