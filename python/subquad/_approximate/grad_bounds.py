r"""How far gradients by polynomials are from those of exact attention.

With a relative error of at most :math:`\delta` of weights and of their slopes, the share P of a key and its
slope are off by :math:`\kappa P` at most, :math:`\kappa = (1 + \delta) / (1 - \delta - \rho / D) - 1`; and a row of
the output by :math:`\epsilon`, which is what was certified. So what a logit gets,
:math:`P_{ij} \, g_i \cdot (v_j - O_i)`, is off by :math:`P_{ij} |g_i| (\kappa |v_j - O_i| + (1 + \kappa) \epsilon_i)`;
its sum over the keys by :math:`|g_i| (\kappa R + (1 + \kappa) \epsilon_i)`, as the mean distance of values
from their mean is at most R. Sums over queries take :math:`P_{ij} \le m_j e^{B_i} / D_i`, and 1. Rounding is a
number of steps times the sum of everything that is added up, as for the output; what underflows is a number
of steps times the smallest number and all that it may be multiplied with. Rows computed from all keys have the
:math:`\kappa` of rounding alone, and that of products with values and output, from which no mean is taken off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bounds import Rounding, rounding_of
from .forward import HeadRows
from .head import UP, Floats, Head, distances, length
from .measures import TINY

__all__ = ["grad_bounds"]


@dataclass(slots=True)
class _Sums:
    """What queries with some kind of weights leave to the keys: a number for all, times masses or not."""

    key: float = 0.0
    value: float = 0.0


def grad_bounds(
    head: Head,
    done: HeadRows | None,
    bound: Floats,
    grad_out: NDArray[Any],
    summed: int,
) -> dict[str, Floats] | None:
    """Bound the gradients of a head; None where slopes of weights are not known to be close.

    So many gradients are added up, of heads that share what they are gradients of.
    """
    if done is not None and not _is_bounded(done):
        return None
    lengths = _lengths(head)
    rounding = rounding_of(head, 0.0 if done is None else done.division.measures.centred.mass_error)
    norms = distances(grad_out, np.zeros(grad_out.shape[1]))
    exact = np.ones(len(bound), bool) if done is None else done.exact
    reach = _reach(head)
    query = np.zeros(len(bound))
    whole = _exact(head, exact, (bound, norms), lengths, (reach, rounding, summed), query)
    by_mass, lost = _Sums(), _Sums()
    masses = np.zeros(len(head.key))
    if done is not None:
        masses = done.division.measures.centred.masses
        by_mass, lost = _polynomials(done, (bound, norms), rounding, summed, query)
    with np.errstate(invalid="ignore"):
        key = whole.key + lost.key + by_mass.key * masses
        value = whole.value + lost.value + by_mass.value * masses
    found = {"query": query, "key": key, "value": value}
    return {name: np.where(np.isnan(one), np.inf, UP * one) for name, one in found.items()}


def _is_bounded(done: HeadRows) -> bool:
    measures = done.division.measures
    kinds = {group.p.kind for group in done.division.groups if group.p.basis is None}
    return kinds == {"minimax"} and not measures.apart


def _lengths(head: Head) -> tuple[Floats, float]:
    zero = np.zeros(head.query.shape[1])
    return distances(head.query, zero), float(distances(head.key, zero).max(initial=0.0))


def _reach(head: Head) -> float:
    mean = head.value.mean(axis=0, dtype=np.float64)
    return float(distances(head.value, mean).max(initial=0.0))


def _exact(
    head: Head,
    rows: NDArray[np.bool_],
    known: tuple[Floats, Floats],
    lengths: tuple[Floats, float],
    numbers: tuple[float, Rounding, int],
    query: Floats,
) -> _Sums:
    """Bound what rows computed from all keys give: rounding of logits, exponentials and sums."""
    (bound, norms), (of_query, longest), (reach, rounding, summed) = known, lengths, numbers
    unit = rounding.unit
    if not rows.any():
        return _Sums()
    scale, width, columns = abs(head.scale), head.query.shape[1], head.value.shape[1]
    logit = scale * of_query[rows] * longest
    wrong = np.expm1(np.minimum(unit * (4.0 * (width + 8) * logit + len(head.key) + 32), 600.0))
    sums = unit * (max(len(head.key), len(head.query)) + width + columns + summed + 32)
    up, off = norms[rows], bound[rows]
    # Values less the output may be twice the spread; products with either are rounded before.
    largest = reach + length(head.value.mean(axis=0, dtype=np.float64))
    size = 2.0 * (2.0 * reach + off)
    gets = up * (wrong * size + sums * (size + 2.0 * largest) + (1.0 + wrong) * off)
    count = len(head.key) + len(head.query) + width + columns + 8
    lost = rounding.smallest * count**2 * (1.0 + scale) * (1.0 + up)
    lost *= 1.0 + largest + off
    query[rows] = scale * longest * gets + lost * (1.0 + longest)
    key = scale * of_query[rows] * gets + lost * (1.0 + of_query[rows])
    return _Sums(float(key.sum()), float((up * (wrong + sums) + lost).sum()))


def _polynomials(
    done: HeadRows,
    known: tuple[Floats, Floats],
    rounding: Rounding,
    summed: int,
    query: Floats,
) -> tuple[_Sums, _Sums]:
    """Bound what rows by polynomials give, and what of that underflows, whatever the masses are."""
    measures, facts = done.division.measures, done.division.rows
    centred = measures.centred
    scale, bound, norms = abs(centred.head.scale), *known
    _, y = measures.lengths
    longest, reach = float(y.max(initial=0.0)), measures.reach
    centre = length(centred.centres.query.astype(np.float64))
    # A query that sees nothing gets and gives nothing, nor does one without an upstream gradient.
    mine = ~done.exact & (centred.head.seen > 0) & (norms > 0.0)
    sums, lost = _Sums(), _Sums()
    for group in done.division.groups:
        (delta,), rows = group.p.errors, group.rows[mine[group.rows]]
        if not rows.size:
            continue
        some = facts.some(rows)
        rho = np.broadcast_to(group.rho, norms.shape)[rows] / some.least
        most = (1.0 + delta) * (1.0 + rounding.mass_error)
        wrong = most / np.maximum(1.0 - delta - rho, TINY) - 1.0
        # Products with upstream gradients, and sums over queries as long as those over keys.
        kept = group.p.kept.features(centred.x.shape[1])
        steps = rounding.steps(centred.head, group.p.degree, kept) + len(norms) // 96 + 96
        steps += centred.head.value.shape[1] + summed
        features = 2.0 * steps * rounding.unit
        # Every number that is added up, over the sum of weights.
        size = _sizes(group.p.c, scale * some.length * longest) / some.least
        off, up = bound[rows], norms[rows]
        rounds = features * size * (2.0 * reach + off)
        gets = up * (wrong * reach + (1.0 + wrong) * off + rounds)
        # What underflows, times the other numbers that it is multiplied with; with shares of a key of mass one.
        least = some.least * np.maximum(some.total, TINY)
        tiny = measures.underflow(group.p.c, rounding.smallest) * float(2 * steps)
        few = tiny * (1.0 + (1.0 + wrong) * up / least) * (1.0 + 2.0 * reach + off)
        query[rows] = scale * longest * gets + few
        # The largest share of a key of mass one.
        share = np.exp(np.minimum(some.logits, 600.0)) / least
        wide = up * (wrong * 2.0 * reach + (1.0 + wrong) * off)
        add = features * up * size / np.maximum(some.total, TINY)
        both = share * wide + add * (2.0 * reach + off)
        sums.key += float((scale * (some.length + centre) * both).sum())
        sums.value += float((share * wrong * up + add).sum())
        lost.key += float((few * (1.0 + scale * centre)).sum())
        lost.value += float(few.sum())
    return sums, lost


def _sizes(c: Floats, logit: Floats) -> Floats:
    """Return the larger of sums of absolute terms of a polynomial and of its slope."""
    value, slope = np.zeros_like(logit), np.zeros_like(logit)
    for coefficient in np.abs(c)[::-1]:
        slope = slope * logit + value
        value = value * logit + coefficient
    return np.maximum(value, slope) * (1.0 + 1e-9)
