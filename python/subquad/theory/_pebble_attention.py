r"""How many words attention and its gradient must move: proved bounds, and what they are about.

*The algorithms.* Scores :math:`s_{ij} = \sum_k q_{ik} k_{jk}` of pairs (i, j), weights P, results O = P V; for the
gradient dP = dO V^T, dV = P^T dO, dQ = dS K and dK = dS^T Q as well, where :math:`ds_{ij}` is made of :math:`p_{ij}` and
:math:`dp_{ij}`. Products are standard: a sum is made from its products of two factors, each made once for
an occurrence of the sum, in any order and grouping of partial sums, fused or not, for all pairs or any set
of them at a time. Factors are entries of the inputs, or numbers made of one such entry (scaled, converted), and
numbers of the pair: :math:`p_{ij}` is made of :math:`s_{ij}` through numbers that belong to this pair, with
maxima and sums of rows as further operands, and partial sums of O may be scaled: softmax with a first pass or
online, other functions, recomputed or kept. Inputs Q, K, V, dO have no entries in common and begin in slow memory;
O, or dQ, dK and dV, end there. A word holds one number.

*Every score is made of its d products, and every weight of its own score*, even where softmax would not need it. Exempt are
rows that see one key: their weight is 1, and Z counts the scores of other rows only (`_pebble_scores`). Not in
this class are the last weight of a row as 1 minus the others; sums that are differences of scores; fast products
(Strassen) and approximations; keys that serve as values; and Q and K that are made in fast memory from other
words, as by a rotation on the fly: they count as they enter the products.

*The bounds* are those of `_pebble_segments` with the products at hand from `_pebble_programs`, the
best of them. (Segments are the method of [1]_ and [2]_, loads and starts that stores pay for that of [3]_; the orders are
those of [4]_ and [5]_.)

========= ============================ ============ =========== ==================== =============
direction products                     they count   sums, not   M small beside d²    M large
                                                    paid for                         beside d²
========= ============================ ============ =========== ==================== =============
forward   O                            Z d          none        2 Z d / √M           4 Z d² / M
forward   O, and S by w, with starts   (1 + w) Z d  Z of S      4 Z d / √M - Z       less
          at price π
backward  dV, dQ, dK                   3 Z d        none        6 Z d / √M           12 Z d² / M
backward  dP, dV, dQ, dK               4 Z d        Z of dP     8 Z d / √M - Z       less
backward  all five, S, dQ, dK by       (2 + 3 √3    2 Z of S    9.2 Z d / √M - 2 Z   less
          √3 / 2                       / 2) Z d     and dP
========= ============================ ============ =========== ==================== =============

and reading every input and storing every result once. The last columns are what the bounds tend to, for M far below
the size of the inputs; neither holds for all M. The first line is 2 Z d / √M to M = 3.16 d² and 4 Z d² / M from 4.74 d² on,
whole segments apart. The others are within 1 % of what stands there for M below 0.02, 0.2, 0.1 and 0.006 d² in turn,
the third line also from 12 d² on; between they are less than either.

Rows of queries in fast memory (FlashAttention-2's order) take 2 d + 3 words each, and move :math:`(4 d + 6) n^2 d / M` words
beside inputs and results, with a causal mask half as many. So for d² far below M, M far below n d and large d, they are
optimal with their constant 4 Z d² / M, dense or causal. Squares of scores move n² (4 d / √M + 1), optimal with the 4 for M
far below d². A gradient in two passes moves 14 n² d² / M, squares n² (10 d / √M + 3).

*Not proved:* that 14 rather than 12 n² d² / M are necessary; that scores that are stored cost a word each beside
4 Z d / √M; and between M = d² / 4 and 4 d² proved and possible differ most, by 1.4 forward (2.95 n² and 4 n² at M = d²) and
1.7 backward (4.6 n² and 7.6 n² at 1.6 d², the latter with dS stored: 9 n² d² / M + 2 n²). Nothing here counts words of row
sums and maxima, nor that blocks have whole numbers of rows.

References
----------
.. [1] J.-W. Hong and H. T. Kung, "I/O complexity: The red-blue pebble game", STOC 1981.
.. [2] D. Irony, S. Toledo and A. Tiskin, "Communication lower bounds for distributed-memory matrix
   multiplication", J. Parallel Distrib. Comput. 64, 2004: segments and Loomis-Whitney.
.. [3] T. M. Smith, B. Lowery, J. Langou and R. A. van de Geijn, "A tight I/O lower bound for matrix
   multiplication", arXiv:1702.02017.
.. [4] B. Saha and C. Ye, "I/O complexity of attention", ICML 2024, arXiv:2402.07443.
.. [5] "On fine-grained I/O complexity of attention backward passes", arXiv:2410.09397.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .._options import check_choice
from ._pebble_programs import (
    at_hand_all,
    at_hand_both,
    at_hand_four,
    at_hand_outputs,
    at_hand_slopes,
)
from ._pebble_scores import (
    DIRECTIONS,
    attention_trivial_bound,
    check_size,
    count_scores,
    needed_scores,
)
from ._pebble_segments import Floats, at_least, check_memory, fewest_words

__all__ = ["attention_lower_bound"]

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


def attention_lower_bound(
    n: int,
    d: int,
    memory: Any,
    *,
    is_causal: bool = False,
    scores: int | None = None,
    direction: str = "forward",
) -> Any:
    """Words that attention in which every weight is made of its score, or its gradient, moves at least; proved.

    Parameters
    ----------
    n : int
        Queries, and keys. For a rectangle the larger of the two, with `scores` the number of its pairs.
    d : int
        Width of a head.
    memory : int or array of int
        Words of fast memory, M.
    is_causal : bool
        Whether query i sees keys 0 to i only.
    scores : int, optional
        Z of `count_scores`, for masks; nothing else is supposed about them. With queries of g heads on the same keys, a
        bound for all of them is that of g Z scores, if n is taken to be g times as large.
    direction : {"forward", "backward"}
        O from Q, K and V, or dQ, dK and dV from these and dO.

    Returns
    -------
    int or ndarray of int64
        Like `memory`. Falls as M grows. Of all algorithms that make scores and weights by standard products, each weight
        of its own score, exempt rows that see one key; with and without recomputation. The header of this module
        says which these are, and has the proof. Not for plays in which sources need not be loaded or results
        not be stored.

    Raises
    ------
    TypeError, ValueError
        For numbers that are no positive integers or 2^63 and more, also if the bound is; more scores than there are; or
        an unknown direction.

    Examples
    --------
    >>> n, d = 8192, 64
    >>> [round(attention_lower_bound(n, d, m) / n**2, 2) for m in (1024, 4096, 65536)]
    [6.82, 2.95, 0.25]
    """
    check_choice("direction", direction, DIRECTIONS)
    rows, width = check_size("n", n), check_size("d", d)
    pairs = count_scores(rows, is_causal=is_causal, scores=scores)
    made = needed_scores(rows, pairs, is_causal=is_causal)
    least = attention_trivial_bound(
        rows, width, is_causal=is_causal, scores=scores, direction=direction
    )
    words, is_one = check_memory(memory)
    found = at_least(least, words, "`n` and `d`")
    for at_hand, share, slack, price in _BOUNDS[direction] if made else ():
        needed = share * made * width * (1.0 - 1e-12)
        bound = fewest_words(needed, partial(_at_hand, at_hand, width), words, slack * made, price)
        found = np.maximum(found, bound)
    return int(found[0]) if is_one else found
