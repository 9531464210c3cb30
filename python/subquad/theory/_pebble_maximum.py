r"""The most that can be done with U words that may be divided at will, from above.

A program says, or bounds from above, what can be done with at most x words of one kind, y of another and z of a third.
More words are never worse: if not for a bound, then for what it bounds, and that suffices. So among all divisions with x in [i, i + 1] h and y in [j, j + 1] h nothing
does more than (i + 1) h, (j + 1) h and U - i h - j h words would. Cells whose bound is within 0.4 % of what
some division is known to do are done with, the others are halved.

For attention the words that fit one head can be measured by d²: if a, b, ... words do f products for d = 1,
then a d², b d², ... words do f d³ products, and conversely. So T(U) = d³ τ(U / d²), and one table of τ serves
every d. Multiplying all words by t > 1 multiplies products by :math:`t^{3/2}` at least and :math:`t^2` at
most, as it does each term of what is bounded (but see `at_hand_slopes`). This bounds τ between the points of the
table, and beyond.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._pebble_segments import Floats

__all__ = ["Program", "between", "most", "tightened"]

Program = Callable[[Floats, Floats, Floats], Floats]

_CLOSE = 4e-3
_LEVELS = 12
_FIRST = 16


def most(program: Program, budgets: Floats, kinds: int) -> Floats:
    """Bound what can be done.

    Parameters
    ----------
    program : callable
        With two kinds of words, x and z, its y is 0.
    budgets : (m,) ndarray
        U.
    kinds : {2, 3}
        How many kinds of words there are.

    Returns
    -------
    (m,) ndarray
    """
    step, flat = 1.0 / _FIRST, 1.0 if kinds == 3 else 0.0
    x, y = np.meshgrid(
        np.arange(_FIRST) * step, np.arange(_FIRST if kinds == 3 else 1) * step, indexing="ij"
    )
    cells = np.stack([x[x + y < 1.0], y[x + y < 1.0]])
    which = np.repeat(np.arange(len(budgets)), cells.shape[1])
    x, y = np.tile(cells, len(budgets))
    reached = np.zeros(len(budgets))
    bound = np.zeros(len(budgets))
    for level in range(_LEVELS):
        words, left = budgets[which], 1.0 - x - y
        high = (x + step) * words, (y + flat * step) * words
        above = program(*high, left * words)
        after = left - (1.0 + flat) * step
        inside = after >= 0.0
        known = program(high[0][inside], high[1][inside], after[inside] * words[inside])
        np.maximum.at(reached, which[inside], known)
        is_open = above > reached[which] * (1.0 + _CLOSE)
        if level == _LEVELS - 1:
            np.maximum.at(bound, which[is_open], above[is_open])
        which, x, y = which[is_open], x[is_open], y[is_open]
        step /= 2.0
        corners = [(0.0, 0.0), (step, 0.0), (0.0, step), (step, step)][: 4 if kinds == 3 else 2]
        x, y = (np.concatenate([at + move[i] for move in corners]) for i, at in enumerate((x, y)))
        which = np.tile(which, len(corners))
        inside = x + y < 1.0
        which, x, y = which[inside], x[inside], y[inside]
    return np.maximum(bound, reached * (1.0 + _CLOSE))


def tightened(points: Floats, values: Floats) -> Floats:
    """Return the bounds that each other implies, for a function of powers from 3/2 to 2."""
    found = values.copy()
    for at in range(1, len(points)):
        found[at] = min(found[at], found[at - 1] * (points[at] / points[at - 1]) ** 2)
    for at in reversed(range(len(points) - 1)):
        found[at] = min(found[at], found[at + 1] * (points[at] / points[at + 1]) ** 1.5)
    return found


def between(points: Floats, values: Floats, scaled: Floats) -> Floats:
    """Bound a function of powers from 3/2 to 2 by what bounds it at ascending points."""
    above = np.searchsorted(points, scaled)
    under = np.maximum(above - 1, 0)
    over = np.minimum(above, len(points) - 1)
    grown = values[under] * np.maximum(scaled / points[under], 1.0) ** 2
    shrunk = values[over] * np.minimum(scaled / points[over], 1.0) ** 1.5
    inside = np.minimum(grown, shrunk)
    return np.where(above == 0, shrunk, np.where(above == len(points), grown, inside))
