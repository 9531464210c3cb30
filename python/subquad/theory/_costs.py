"""What a query, a build and an update of half-space reporting cost."""

from __future__ import annotations

import math
from typing import Any

from ._arguments import LARGEST, check_count, check_within
from ._counts import sparse_count

__all__ = [
    "build_exponent",
    "decoding_steps",
    "prefill_steps",
    "query_exponent",
    "query_steps",
    "space",
    "update_exponent",
    "update_steps",
]


def build_exponent(d: int, part: int) -> float:
    r"""Exponent of n in the time to build the data structure.

    Parameters
    ----------
    d : int
        Dimension, at least 2 and fixed.
    part : {1, 2}
        Part of the corollary: little space, or quick queries.

    Returns
    -------
    exponent : float
        1 (times :math:`\log n`), or :math:`\lfloor d/2 \rfloor`.

    Notes
    -----
    Corollary B.12, which is Corollary 3.1. At d = 64, part 2 takes :math:`n^{32}`.
    """
    half = _half(d)
    return float(half if _part(part) == 2 else 1)


def query_exponent(d: int, part: int) -> float:
    r"""Exponent of n in the time of a query, output apart.

    Parameters
    ----------
    d : int
        Dimension, at least 2 and fixed.
    part : {1, 2}
        Part of the corollary: little space, or quick queries.

    Returns
    -------
    exponent : float
        :math:`1 - 1/\lfloor d/2 \rfloor`, or 0 (for :math:`\log n`).

    Notes
    -----
    Corollary B.12, which is Corollary 3.1: :math:`O(d \, n^{1 - 1/\lfloor d/2 \rfloor} + d k)` and
    :math:`O(d \log n + d k)` for k reported keys. (The proof of Lemma C.1 prints the exponent of part
    1 as :math:`1 - \lfloor d/2 \rfloor`.) At d = 64 it is 0.969: a million keys cost 0.65 of a scan,
    before constants. The boxes of ``method="tree"`` have no such worst case, and grow more slowly
    than this on Gaussian keys.
    """
    half = _half(d)
    return 1.0 - 1.0 / half if _part(part) == 1 else 0.0


def update_exponent(d: int, part: int) -> float:
    r"""Exponent of n in the amortised time to insert or delete a key.

    Parameters
    ----------
    d : int
        Dimension, at least 2 and fixed.
    part : {1, 2}
        Part of the corollary: little space, or quick queries.

    Returns
    -------
    exponent : float
        0 or :math:`\lfloor d/2 \rfloor - 1`, plus any positive number.

    Notes
    -----
    Theorem B.11 at the trade-offs of the corollary.
    """
    return build_exponent(d, part) - 1.0


def space(n: int, d: int, trade_off: float, eps: float = 0.0) -> float:
    r"""Space, and time to build, at a trade-off.

    Parameters
    ----------
    n : int
        Number of keys.
    d : int
        Dimension, at least 2 and fixed.
    trade_off : float
        t of the theorem, :math:`n \le t \le n^{\lfloor d/2 \rfloor}`.
    eps : float
        Not negative; the theorem holds for every positive one.

    Returns
    -------
    words : float
        :math:`t^{1 + \epsilon}`.

    Notes
    -----
    Theorem B.11.
    """
    t = _trade_off(n, d, trade_off)
    return _power(t, 1.0 + check_within("eps", eps, 0.0, LARGEST, "0 <= eps < inf"))


def query_steps(n: int, d: int, trade_off: float, count: float = 0.0) -> float:
    r"""Time of a query at a trade-off.

    Parameters
    ----------
    n : int
        Number of keys.
    d : int
        Dimension, at least 2 and fixed.
    trade_off : float
        t of the theorem, :math:`n \le t \le n^{\lfloor d/2 \rfloor}`.
    count : float
        Number of keys that are reported, 0 <= count <= n.

    Returns
    -------
    steps : float
        :math:`(n / t^{1/\lfloor d/2 \rfloor}) \log n + k`.

    Notes
    -----
    Theorem B.11.
    """
    t, keys = _trade_off(n, d, trade_off), check_count("n", n)
    reported = check_within("count", count, 0.0, keys, "0 <= count <= n")
    return keys / _power(t, 1.0 / _half(d)) * math.log(keys) + reported


def update_steps(n: int, d: int, trade_off: float, eps: float = 0.0) -> float:
    r"""Amortised time to insert or delete a key at a trade-off.

    Parameters
    ----------
    n : int
        Number of keys.
    d : int
        Dimension, at least 2 and fixed.
    trade_off : float
        t of the theorem, :math:`n \le t \le n^{\lfloor d/2 \rfloor}`.
    eps : float
        Not negative; the theorem holds for every positive one.

    Returns
    -------
    steps : float
        :math:`t^{1 + \epsilon} / n`.

    Notes
    -----
    Theorem B.11.
    """
    return space(n, d, trade_off, eps) / check_count("n", n)


def decoding_steps(m: int, n: int, d: int) -> float:
    """Time of ReLU attention for few queries over n keys that are already in the data structure.

    Parameters
    ----------
    m : int
        Number of queries, bounded by a constant.
    n : int
        Number of keys.
    d : int
        Width.

    Returns
    -------
    steps : float
        m n ** (4/5) d.

    Notes
    -----
    Theorem 4.1, which is Theorem D.2, with part 2 of Corollary 3.1; Theorem 4.2 for softmax over the
    n ** (4/5) largest logits.
    """
    return check_count("m", m) * sparse_count(n) * check_count("d", d)


def prefill_steps(n: int, d: int) -> float:
    r"""Time of ReLU attention for n queries over n keys, building the data structure included.

    Parameters
    ----------
    n : int
        Number of queries and of keys.
    d : int
        Width, at least 2.

    Returns
    -------
    steps : float
        :math:`n^{2 - 1/\lfloor d/2 \rfloor} d + n^{1 + 4/5} d`.

    Notes
    -----
    Theorem 5.1, which is Theorem C.2, with part 1 of Corollary 3.1; Theorem 5.2 for softmax over the
    :math:`n^{4/5}` largest logits.
    """
    keys, width = check_count("n", n), check_count("d", d)
    queries = math.pow(keys, 1.0 + query_exponent(d, 1))
    return (queries + keys * sparse_count(n)) * width


def _half(d: Any) -> int:
    """Return floor(d/2), which the theorems divide by."""
    return check_count("d", d, least=2) // 2


def _part(part: Any) -> int:
    number = check_count("part", part)
    if number > 2:
        raise ValueError(f"`part` must be 1 or 2, got {number}")
    return number


def _trade_off(n: Any, d: Any, trade_off: Any) -> float:
    keys, most = float(check_count("n", n)), _half(d)
    # The upper end is rounded: whoever computed it by another formula may be a little beyond.
    end = _power(keys, float(most)) * (1.0 + 1e-12)
    return check_within("trade_off", trade_off, keys, end, "n <= trade_off <= n ** floor(d / 2)")


def _power(x: float, y: float) -> float:
    """Return x to the power y, infinite where float64 ends."""
    try:
        return math.pow(x, y)
    except OverflowError:
        return math.inf
