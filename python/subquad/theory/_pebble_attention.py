r"""How many words attention and its gradient must move: proved bounds, and what they are about.

*The algorithms.* Scores :math:`s_{ij} = \sum_k q_{ik} k_{jk}` of Z pairs (i, j), weights P, results O = P V; for the
gradient dP = dO V^T, dV = P^T dO, dQ = dS K and dK = dS^T Q as well, where :math:`ds_{ij}` is made of :math:`p_{ij}` and
:math:`dp_{ij}`. Products are standard: a sum is made from its products of two factors, each made once for
an occurrence of the sum, in any order and grouping of partial sums, fused or not, for all pairs or any set
of them at a time. Factors are entries of the inputs, or numbers made of one such entry (scaled, converted), and
numbers of the pair: :math:`p_{ij}` is made of :math:`s_{ij}` through numbers that belong to this pair, with
maxima and sums of rows as further operands, and partial sums of O may be scaled: softmax with a first pass or
online, other functions, recomputed or kept. Inputs Q, K, V, dO have no entries in common and begin in slow memory;
O, or dQ, dK and dV, end there. A word holds one number. Fast products (Strassen) and
approximations are not in this class, nor are keys that serve as values.

*The bounds* are those of `_pebble_segments` with the products at hand from `_pebble_programs`, the
best of them. (Segments are the method of [1]_ and [2]_, loads and starts that stores pay for that of [3]_; the orders are
those of [4]_ and [5]_.)

========= ================================= ================= ============================= ==============
direction products                          they count        intermediate sums, not paid   if large: M, d
========= ================================= ================= ============================= ==============
forward   O                                 Z d               none                          4 Z d² / M
forward   O, and S by w, starts at price π  (1 + w) Z d       Z of S                        4 Z d / √M - Z
backward  dV, dQ, dK                        3 Z d             none                          12 Z d² / M
backward  dP, dV, dQ, dK                    4 Z d             Z of dP                       8 Z d / √M - Z
backward  all five, S, dQ, dK by √3 / 2     (2 + 3 √3 / 2)    2 Z of S and dP               9.2 Z d / √M
                                            Z d                                             - 2 Z
========= ================================= ================= ============================= ==============

and reading every input and storing every result once. The last column is what remains where M is
large or small beside d², Z beside both. Rows of queries in fast memory (FlashAttention-2's order) move
4 n² d² / M, which is thus optimal with its constant; squares of scores move n² (4 d / √M + 1). A gradient in two
passes moves 14 n² d² / M, squares n² (10 d / √M + 3).

*Not proved:* that 14 rather than 12 n² d² / M are necessary; that scores that are stored cost a word each beside
4 Z d / √M; and where M is between d² / 4 and 4 d², proved and possible differ most, by 1.4 forward (2.9 n² and
4 n² at M = d²) and 1.9 backward (4.7 n² and 9 n² at M = 1.6 d²). Nothing here counts words of row sums and maxima,
nor that blocks have whole numbers of rows.

References
----------
.. [1] J.-W. Hong and H. T. Kung, "I/O complexity: The red-blue pebble game", STOC 1981.
.. [2] D. Irony, S. Toledo and A. Tiskin, "Communication lower bounds for distributed-memory matrix
   multiplication", J. Parallel Distrib. Comput. 64, 2004: segments and Loomis-Whitney.
.. [3] T. M. Smith, B. Lowery, J. Langou and R. A. van de Geijn, "A tight I/O lower bound for matrix
   multiplication", arXiv:1702.02017.
.. [4] B. Saha and C. Ye, "I/O complexity of attention", ICML 2024, arXiv:2402.07443.
.. [5] "Fine-grained I/O complexity of attention backward passes", arXiv:2410.09397.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .._options import check_choice
from ._arguments import check_count
from ._pebble_programs import (
    at_hand_all,
    at_hand_both,
    at_hand_four,
    at_hand_outputs,
    at_hand_slopes,
)
from ._pebble_segments import Floats, Ints, check_memory, fewest_words

__all__ = ["attention_lower_bound", "attention_trivial_bound", "count_scores"]

DIRECTIONS = ("forward", "backward")

# Products at hand, how many are needed over Z d, how many sums over Z are not paid for, and their price.
_Bound = tuple[Callable[[Floats, int], Floats], float, int, float]

# What a product of S counts, and what the start of a score is charged.
SHARES = ((0.3, 0.15), (0.6, 0.4), (0.8, 0.64), (0.9, 0.8), (1.0, 1.0))


def _both(weight: float, price: float) -> _Bound:
    return partial(at_hand_both, weight=weight, price=price), 1.0 + weight, 1, price


_BOUNDS: dict[str, tuple[_Bound, ...]] = {
    "forward": ((at_hand_outputs, 1.0, 0, 1.0), *(_both(*share) for share in SHARES)),
    "backward": (
        (at_hand_slopes, 3.0, 0, 1.0),
        (at_hand_four, 4.0, 1, 1.0),
        (at_hand_all, 2.0 + 1.5 * math.sqrt(3.0), 2, 1.0),
    ),
}


def _at_hand(program: Callable[[Floats, int], Floats], d: int, sizes: Floats) -> Floats:
    return program(sizes, d)


def count_scores(n: int, *, is_causal: bool = False, scores: int | None = None) -> int:
    """Pairs of a query and a key that it sees.

    Parameters
    ----------
    n : int
        Queries, and keys.
    is_causal : bool
        Whether query i sees keys 0 to i only.
    scores : int, optional
        The number itself, for a mask: all entries of the blocks that are computed, at most n^2 (n (n + 1) / 2).

    Returns
    -------
    int
        Z.
    """
    rows = check_count("n", n)
    most = rows * (rows + 1) // 2 if is_causal else rows * rows
    if scores is None:
        return most
    found = check_count("scores", scores, 0)
    if found > most:
        raise ValueError(f"`scores` must be at most {most}, got {found}")
    return found


def attention_trivial_bound(
    n: int,
    d: int,
    *,
    is_causal: bool = False,
    scores: int | None = None,
    direction: str = "forward",
) -> int:
    r"""Words of inputs that are used and of results, each moved once.

    Parameters
    ----------
    n, d, is_causal, scores, direction
        As for `attention_lower_bound`.

    Returns
    -------
    int
        4 n d forward (Q, K, V, O), 7 n d backward (Q, K, V, dO and dQ, dK, dV; O and sums of rows
        can be recomputed). With Z scores, at the rows of r queries and :math:`Z / r` keys at least: rows
        of queries have two arrays forward and three backward, those of keys two and four.
    """
    check_choice("direction", direction, DIRECTIONS)
    pairs = count_scores(n, is_causal=is_causal, scores=scores)
    width = check_count("d", d)
    of_queries, of_keys = (2, 2) if direction == "forward" else (3, 4)
    if scores is None:
        return (of_queries + of_keys) * n * width
    if pairs == 0:
        return 0
    # r real in [Z / n, n] is no more than r whole; the sum is convex in it.
    rows = min(max(math.sqrt(of_keys * pairs / of_queries), pairs / n), n)
    return math.ceil((of_queries * rows + of_keys * pairs / rows) * (1.0 - 1e-12)) * width


def attention_lower_bound(
    n: int,
    d: int,
    memory: Any,
    *,
    is_causal: bool = False,
    scores: int | None = None,
    direction: str = "forward",
) -> Any:
    """Words that any exact attention, or its gradient, loads and stores at least; proved.

    Parameters
    ----------
    n : int
        Queries, and keys.
    d : int
        Width of a head.
    memory : int or array of int
        Words of fast memory, M.
    is_causal : bool
        Whether query i sees keys 0 to i only.
    scores : int, optional
        Z of `count_scores`, for masks. With queries of g heads on the same keys, a bound for all of them is that of
        g Z scores, if n is taken to be g times as large.
    direction : {"forward", "backward"}
        O from Q, K and V, or dQ, dK and dV from these and dO.

    Returns
    -------
    int or ndarray of int64
        Like `memory`. Falls as M grows. Algorithms and proof: the header of this module, with and without
        recomputation. Not for plays in which sources need not be loaded or results not be stored.

    Raises
    ------
    TypeError, ValueError
        For numbers that are no positive integers, more scores than there are, or an unknown direction.

    Examples
    --------
    >>> n, d = 8192, 64
    >>> [round(attention_lower_bound(n, d, m) / n**2, 2) for m in (1024, 4096, 65536)]
    [6.82, 2.95, 0.25]
    """
    check_choice("direction", direction, DIRECTIONS)
    pairs = count_scores(n, is_causal=is_causal, scores=scores)
    width = check_count("d", d)
    least = attention_trivial_bound(n, d, is_causal=is_causal, scores=scores, direction=direction)
    words, is_one = check_memory(memory)
    found: Ints = np.full(words.shape, least, dtype=np.int64)
    for at_hand, share, slack, price in _BOUNDS[direction] if pairs else ():
        needed = share * pairs * width * (1.0 - 1e-12)
        bound = fewest_words(needed, partial(_at_hand, at_hand, width), words, slack * pairs, price)
        found = np.maximum(found, bound)
    return int(found[0]) if is_one else found
