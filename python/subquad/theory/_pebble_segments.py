r"""How many words must move, if no stretch of a play can do much: the argument behind all proved bounds.

*Segments.* Cut a play into segments and charge to each its loads and its fresh starts. A **word type** is a
set of values that only one place of an array has: an entry of an input, the partial sums of one entry of a
result. A sum is **open** at a moment of a segment if one of its partial sums was in fast memory when
the segment began, or has been loaded or started since; adding to a sum that is not open is a **fresh start**,
charged when it happens. Segments have prescribed charges: the first U, the others U - M each; a segment
ends just before the event that would exceed its charge. When a segment begins, M words at most are in fast memory
(none in the first). So in any segment the inputs that can be used and the sums that are added to are together at
most U words, each at its charge: it was there, or was loaded, or was started.

*Fresh starts are stores.* With recomputation a sum may be made several times; take for every result the
occurrence that is stored at last, follow it back through what it was computed from (a loaded value is
the one that was stored), and count only products on this way: each once, and there all are. Let a sum be
started freshly in segments t_1 < t_2 < ... < t_m. The product that starts it in t_i is on the way to the
final occurrence, as is one of t_{i+1}; so when segment t_{i+1} begins, a partial sum with the former is waiting to be
used. It is neither in fast memory nor loaded before the start, or the sum would be open; hence it was
stored, after the start in t_i and before t_{i+1} began. These are m - 1 stores in disjoint times, before the
last start, and the final store comes after it. So all fresh starts of results together are at most the
stores.

Of a sum that need not be stored at last, an intermediate result, several occurrences may be on these ways. Choose one
of them for each such sum, and count and charge only its products; what there is of others in fast memory are words
of the same type, of which nothing more is used. The same argument gives m - 1 stores for m starts, and the
other start is not paid for: there are at most as many fresh starts as stores and such sums. They may be charged
less, :math:`\pi \le 1` each.

*Conclusion.* If a segment with U words at hand contributes at most T(U) of N products that must be counted,
then with :math:`h = \lceil N / T(U) \rceil - 1` segments the play is not done, and what is left needs V words at hand
for the least V with :math:`T(V) \ge N - h T(U)`. Loads and stores, and the slack of intermediate sums, are at least

.. math:: h U - (h - 1) M + \max(0, V - M) \quad (h \ge 1), \qquad V \quad (h = 0),

for every integer U > M. The terms fall as M grows. No property of T but monotony is used. (If charges are not whole
numbers, a segment may end with less than 1 missing: U and V are then less by 1 in these terms.) Not all U are
tried, but the same for every M, so that what is returned falls with M too.

It holds with and without recomputation, with pebbles that slide (there are never more than M), with values
that are recoloured, with deletions forbidden, where inputs begin in slow memory and results end there.

*Products at hand* (Loomis and Whitney). Of the triples (i, j, k) whose pairs (i, j), (i, k) and (j, k) are in sets of
c, a and b pairs there are at most :math:`\sqrt{a b c}`. So :math:`T(U) = (U / 3)^{3/2}` for a product
of matrices, as a + b + c is at most U.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arguments import check_count

__all__ = [
    "Floats",
    "Ints",
    "at_least",
    "check_memory",
    "fewest_words",
    "three_products",
    "whole_words",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Sums and roots in double precision are right within this, relatively, many times over.
_ROUNDING = 1e-12


_LARGEST = np.iinfo(np.int64).max


def check_memory(memory: Any) -> tuple[Ints, bool]:
    """Return words of fast memory as a flat or deep array, and whether it was one number."""
    if np.ndim(memory) == 0 and not isinstance(memory, np.ndarray):
        words, is_one = np.array([check_count("memory", memory)]), True
    else:
        words = np.asarray(memory)
        if words.dtype.kind not in "iu":
            raise TypeError(
                f"`memory` must be an integer or an array of integers, got {words.dtype}"
            )
        words, is_one = np.atleast_1d(words), words.ndim == 0
    if words.size and words.min() < 1:
        raise ValueError(f"`memory` must be at least 1, got {words.min()}")
    if words.size and words.max() > _LARGEST:
        raise ValueError(f"`memory` must be below 2^63, got {words.max()}")
    return words.astype(np.int64), is_one


def whole_words(words: Floats) -> Ints:
    """Round up, and what is below 0 to 0; rounding errors do not make more of it."""
    found = np.maximum(np.ceil(words - _ROUNDING * np.abs(words)), 0.0)
    if found.size and found.max() >= 2.0**63:
        raise ValueError(
            "`memory` must be larger, or what is computed smaller: a bound must be below 2^63 words, "
            f"got {found.max():.4g}"
        )
    return np.asarray(found.astype(np.int64))


def at_least(least: int, memory: Ints, names: str) -> Ints:
    """Return what inputs and results of the sizes `names` are, for each memory."""
    if least > _LARGEST:
        raise ValueError(
            f"{names} must be such that inputs and results are below 2^63 words, got {least}"
        )
    return np.full(memory.shape, least, dtype=np.int64)


@cache
def _sizes() -> Floats:
    """Numbers U to try: all to 256, then 1 % apart, to nearly 2^63; the same for every M."""
    steps = np.floor(256 * 1.01 ** np.arange(1, 3800))
    sizes = np.concatenate([np.arange(1.0, 257.0), steps])
    sizes.flags.writeable = False
    return sizes


def three_products(sizes: Floats) -> Floats:
    r"""Products of a segment in a product of matrices, :math:`(U / 3)^{3/2}`."""
    return np.asarray((sizes / 3.0) ** 1.5)


def fewest_words(
    needed: float,
    at_hand: Callable[[Floats], Floats],
    memory: Ints,
    slack: float = 0.0,
    price: float = 1.0,
) -> Ints:
    """Count the loads and stores without which `needed` products are not done.

    Parameters
    ----------
    needed : float
        N.
    at_hand : callable
        T, or more: for an increasing array of numbers of words, the products at hand.
    memory : (m,) ndarray of int64
        M.
    slack : float
        Fresh starts that no store pays for, at most.
    price : float
        What each start of an intermediate sum is charged, at most 1. (Those that stores pay for are then cheaper, too.)

    Returns
    -------
    (m,) ndarray of int64
        At least 0.

    Raises
    ------
    ValueError
        If it is 2^63 or more.
    """
    sizes = _sizes()
    products = np.maximum.accumulate(at_hand(sizes) * (1.0 + _ROUNDING))
    full = np.maximum(np.ceil(needed / products) - 1.0, 0.0)
    rest = needed - full * products
    # One more than the largest size that does not do; where the smallest does, one.
    smaller = np.searchsorted(products, rest)
    last = np.where(smaller > 0, sizes[np.maximum(smaller, 1) - 1] + 1.0, 1.0)
    # A segment that must not exceed its charge may miss it by less than an event.
    missed = 0.0 if price == 1.0 else 1.0
    words = np.zeros(memory.shape)
    flat = words.reshape(-1)
    for place, room in enumerate(memory.reshape(-1).tolist()):
        many = full * (sizes - missed) - (full - 1.0) * room + np.maximum(last - missed - room, 0.0)
        found = np.where(full > 0.0, many, last - missed)[sizes > room]
        flat[place] = found.max(initial=0.0)
    return whole_words(words * (1.0 - _ROUNDING) - price * slack)
