r"""How many scores attention needs, and the words of its inputs and results.

A row that sees one key has the weight 1 there, whatever its score is: it needs neither query nor key. So the
bounds count scores of other rows. For a mask of which only the number of pairs is known, as many rows as possible
are taken to see one key.
"""

from __future__ import annotations

import math

from .._options import check_choice
from ._arguments import check_count

__all__ = ["DIRECTIONS", "attention_trivial_bound", "check_size", "count_scores", "needed_scores"]

DIRECTIONS = ("forward", "backward")

_TOO_LARGE = 1 << 63


def check_size(name: str, value: int) -> int:
    """Return a positive integer below 2^63."""
    size = check_count(name, value)
    if size >= _TOO_LARGE:
        raise ValueError(f"`{name}` must be below 2^63, got {size}")
    return size


def count_scores(n: int, *, is_causal: bool = False, scores: int | None = None) -> int:
    """Pairs of a query and a key that it sees.

    Parameters
    ----------
    n : int
        Queries, and keys; of a rectangle the larger of the two, with `scores` their product.
    is_causal : bool
        Whether query i sees keys 0 to i only.
    scores : int, optional
        The number itself, for a mask: pairs that it leaves, at most n^2 (n (n + 1) / 2). With all pairs of the blocks
        in which there are some, bounds hold only for algorithms that compute blocks as a whole.

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


def needed_scores(n: int, pairs: int, *, is_causal: bool = False) -> int:
    """Count scores in rows that see more than one key, at least.

    Parameters
    ----------
    n : int
        Queries, and keys.
    pairs : int
        Z of `count_scores`.
    is_causal : bool
        Whether query i sees keys 0 to i only.

    Returns
    -------
    int
        Of n^2 all if n > 1; with a causal mask all but the first; of as few pairs as rows none.
    """
    if is_causal:
        # Rows that see one key instead of 1, 2, ..., s cost 0 + 1 + ... + (s - 1) pairs.
        missing = n * (n + 1) // 2 - pairs
        alone = (1 + math.isqrt(1 + 8 * missing)) // 2
    else:
        alone = (n * n - pairs) // (n - 1) if n > 1 else 1
    return pairs - min(alone, n, pairs)


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
        can be recomputed). A query that sees one key is not used, as the first of a causal mask, nor is its key if
        there is no other: for n = 1, 2 d (V, O) and 4 d (dO, dQ, dK, dV).

        Of Z scores the least for any mask: :math:`4 \sqrt Z d` forward and :math:`\sqrt{48 Z}\, d` backward, for a box
        of queries and keys, more if that has a side above n. Or, where it is less, (Z + 1) d and (2 Z + 2) d: Z rows
        that see the same key alone.

    Notes
    -----
    Let t queries see c keys, each more than one, and s others one key each; :math:`Z \le t c + s`. Then (2 t + 2 c + s) d
    or (3 t + 4 c + 2 s) d words are used, and a key at least if t = 0. Where tc < Z, this is :math:`Z + 4 - (t - 2)
    (c - 2)` or :math:`2 Z + 6 - 2 (t - 2)(c - 3/2)` times d, with :math:`c \ge 2`: more than that of t = 0 if
    :math:`t \le 2`, and else falling as c or t grows.
    """
    check_choice("direction", direction, DIRECTIONS)
    size, width = check_size("n", n), check_size("d", d)
    pairs = count_scores(size, is_causal=is_causal, scores=scores)
    forward = direction == "forward"
    if scores is None:
        if size == 1:
            return (2 if forward else 4) * width
        return ((4 if forward else 7) * size - is_causal) * width
    if pairs == 0:
        return 0
    of_queries, of_keys = (2, 2) if forward else (3, 4)
    # r queries, real in [Z / n, n], are no more than r whole ones; the sum is convex in r.
    rows = min(max(math.sqrt(of_keys * pairs / of_queries), pairs / size), size)
    box = math.ceil((of_queries * rows + of_keys * pairs / rows) * (1.0 - 1e-12))
    alone = pairs + 1 if forward else 2 * pairs + 2
    return min(box, alone if pairs <= size else box) * width
