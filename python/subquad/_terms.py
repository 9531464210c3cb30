"""Monomials of rows of numbers, in chunks: the products that make a polynomial of a sum a sum of products.

With s = x_1 + ... + x_t, every power of s is a sum of products of its terms, one for each sorted word
over the letters 1 to t. A word of length u stands for u! / (a_1! ... a_t!) of the products, where letter l
occurs a_l times. Where each x_l is itself a product of one number per query, per key and per lag, so is
that of a word, and the numbers of the three can be multiplied apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations_with_replacement, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._products import product

__all__ = ["Words", "add_slopes", "multiply", "words"]


@dataclass(frozen=True, slots=True)
class Words:
    """Some sorted words of one length."""

    letters: NDArray[np.intp]
    """Shape (words, length)."""
    counts: NDArray[np.float64]
    """How many products of the power each of them stands for."""

    @property
    def length(self) -> int:
        """Degree of the monomials."""
        return int(self.letters.shape[1])


def words(letters: int, length: int, most: int) -> Iterator[Words]:
    """Yield all sorted words of one length over so many letters, at most `most` at a time."""
    rest = combinations_with_replacement(range(letters), length)
    while chunk := list(islice(rest, most)):
        flat = np.fromiter(chain.from_iterable(chunk), np.intp, len(chunk) * length)
        table = flat.reshape(len(chunk), length)
        yield Words(table, _counts(table))


def _counts(letters: NDArray[np.intp]) -> NDArray[np.float64]:
    count, length = letters.shape
    # A letter that occurs a times in a row divides by 1, 2, ..., a.
    run, divisor = np.ones(count), np.ones(count)
    for k in range(1, length):
        run = np.where(letters[:, k] == letters[:, k - 1], run + 1.0, 1.0)
        divisor *= run
    return math.factorial(length) / divisor


def multiply(rows: NDArray[Any], some: Words) -> NDArray[Any]:
    """Return the products of the rows that each word names; ones for the empty word."""
    table = some.letters
    if some.length == 0:
        return np.ones((len(table), rows.shape[1]), rows.dtype)
    out: NDArray[Any] = rows[table[:, 0]]
    for k in range(1, some.length):
        out *= rows[table[:, k]]
    return out


def add_slopes(
    rows: NDArray[Any], some: Words, slopes: NDArray[Any], into: NDArray[Any], workers: int
) -> None:
    """Add to `into` the gradient with respect to `rows`, given that of ``multiply(rows, some)``."""
    table, length = some.letters, some.length
    before: list[NDArray[Any] | None] = [None]
    for k in range(length - 1):
        last = before[-1]
        before.append(rows[table[:, k]] if last is None else last * rows[table[:, k]])
    after = slopes
    for k in reversed(range(length)):
        left = before.pop()
        part = after if left is None else after * left
        # Row l of a matrix of zeros and ones picks the words whose letter here is l.
        picks = (table[:, k] == np.arange(len(rows))[:, np.newaxis]).astype(rows.dtype)
        into += product(picks, np.ascontiguousarray(part), workers)
        if k:
            after = after * rows[table[:, k]]
