r"""Trees in general: how often a value must be put away, after Sethi and Ullman.

A tree is computed from its leaves, the sources; every value has one use; the root is the output. With
one word per value and free deletions, the optimum is

.. math:: \text{leaves} + 1 + 2 \cdot \text{spills},

where spills are the values that are stored though not wanted, each of which is loaded once. How few suffice:

*The number of a value* [1]_ is the words of fast memory that its subtree needs. A leaf has 1. A value of operands
whose numbers are :math:`r_1 \ge r_2 \ge \dots \ge r_m` has :math:`\max_i (r_i + i - 1)`, or m + 1 if that is
more (m, if pebbles slide): computed in this order, operand i has i - 1 finished ones beside it. A spilled value
counts as a leaf where it is used, as it can be loaded last.

*Recomputation does not help*, as every value has one use: of a play keep what the final root was computed from,
one computation of each value, and leave out the others.

*No play does with less.* Let S be the spills of a play; cut the tree above each. In a piece let v be computed at t.
Its operands inside the piece are computed once and not stored, so each stays in fast memory from then until t.
For operand i let :math:`b_i` be the last time before t when nothing of its subtree was in fast memory; from
:math:`b_i` on something is, until t. While the subtree of the operand that began j-th is computed, it holds at
some time as many words as its number, by induction, and the j - 1 that began before hold a word each: with any
order the largest :math:`r_i + j - 1` is at least that of the descending order. At t itself all operands
are there, and v. So every piece has a number of at most M. And I/O is at least the leaves, the root, and
two for each of S (a store without a load after it can be left out).

*The fewest spills.* From the leaves up, keep for each subtree the fewest spills inside it, and among these the
least number of its root. That is enough: one spill more, of the root itself, makes the number 1. At a
value whose number would exceed M spill the operands with the largest numbers until it does not; as numbers
grow with those of operands, no other choice is better, in spills or in the number.

References
----------
.. [1] R. Sethi and J. D. Ullman, "The generation of optimal code for arithmetic expressions", J. ACM 17, 1970.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from ._arguments import check_count

__all__ = ["tree_number", "tree_spills", "tree_words"]


def _children(parents: Sequence[int]) -> tuple[list[list[int]], list[int]]:
    """Return the operands of each value, and the values from the root down."""
    listed: list[int] = []
    for index, parent in enumerate(parents):
        try:
            listed.append(operator.index(parent))
        except TypeError:
            raise TypeError(
                f"`parents` must hold integers, got {parent!r} at index {index}"
            ) from None
        if not -1 <= listed[-1] < len(parents):
            raise ValueError(
                f"`parents` must be -1 or below {len(parents)}, got {parent} at index {index}"
            )
    children: list[list[int]] = [[] for _ in listed]
    for value, parent in enumerate(listed):
        if parent >= 0:
            children[parent].append(value)
    order = [value for value, parent in enumerate(listed) if parent < 0]
    if len(order) != 1:
        raise ValueError(f"`parents` must have one -1, for the root, got {len(order)}")
    for value in order:
        order.extend(children[value])
    if len(order) < len(listed):
        raise ValueError("`parents` must lead to the root from everywhere, got a cycle")
    return children, order


def _number(below: list[int], sliding: bool) -> int:
    """Return the number of a value from those of its operands, descending."""
    together = len(below) + (not sliding)
    return max(together, *(number + place for place, number in enumerate(below)))


def tree_number(parents: Sequence[int], *, sliding: bool = False) -> int:
    """Words of fast memory with which a tree is computed without spills.

    Parameters
    ----------
    parents : sequence of int
        What each value is used for; -1 for the root.
    sliding : bool
        Whether a value may take the place of an operand.

    Returns
    -------
    int
        The number of Sethi and Ullman.

    Examples
    --------
    >>> tree_number([-1, 0, 0, 1, 1, 2, 2])
    4
    """
    children, order = _children(parents)
    numbers = [1] * len(order)
    for value in reversed(order):
        if children[value]:
            below = sorted((numbers[child] for child in children[value]), reverse=True)
            numbers[value] = _number(below, sliding)
    return numbers[order[0]]


def tree_spills(parents: Sequence[int], memory: int, *, sliding: bool = False) -> int:
    """Fewest values of a tree that are put away and fetched again. O(V log V).

    Parameters
    ----------
    parents : sequence of int
        What each value is used for; -1 for the root.
    memory : int
        M, with room for any value beside its operands (or in the place of one, if pebbles slide).
    sliding : bool
        Whether a value may take the place of an operand.

    Returns
    -------
    int
        Exact.

    Examples
    --------
    >>> [tree_spills([-1, 0, 0, 1, 1, 2, 2], memory) for memory in (3, 4)]
    [1, 0]
    """
    words = check_count("memory", memory)
    children, order = _children(parents)
    least = max((len(below) + (not sliding) for below in children if below), default=1)
    if words < least:
        raise ValueError(f"`memory` must be at least {least} for this tree, got {words}")
    numbers, spills = [1] * len(order), 0
    for value in reversed(order):
        below = sorted((numbers[child] for child in children[value]), reverse=True)
        # Those that are spilled wait at the end of the list, as leaves.
        while below and _number(below, sliding) > words:
            below = [*below[1:], 1]
            spills += 1
        if below:
            numbers[value] = _number(below, sliding)
    return spills


def tree_words(parents: Sequence[int], memory: int, *, sliding: bool = False) -> int:
    """Fewest words that a tree moves: the optimum.

    Parameters
    ----------
    parents, memory, sliding
        As for `tree_spills`.

    Returns
    -------
    int
        Leaves, the root, and 2 for each spill; 0 for a tree of one value, which is where it must be.
    """
    spills = tree_spills(parents, memory, sliding=sliding)
    used: set[Any] = set(parents)
    leaves = sum(value not in used for value in range(len(parents)))
    return leaves + 1 + 2 * spills if len(parents) > 1 else 0
