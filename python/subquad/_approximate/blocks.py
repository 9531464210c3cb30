r"""The certified choice of monomials in two blocks of directions.

With :math:`P(a, b) = \sum_{u \le h} b^u p_u(a) / u!` and :math:`|p_u(a) - e^a| \le \delta_u e^a`, for
:math:`|a| \le A` and :math:`|b| \le T` the weight is within :math:`\delta e^{a + b}` of :math:`e^{a + b}` with

.. math:: \delta = e^T \Big(\sum_{u \le h} \frac{T^u}{u!} \, \delta_u + \frac{T^{h+1}}{(h+1)!} e^T\Big).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from .._tables.table import Value, integral, load
from .bounds import Approximant, Rounding, prior
from .division import Cost, Division, Group
from .head import Floats
from .kept import Kept, blocks_of
from .measures import Measures

__all__ = ["blocks_division"]

# Rows that the longest queries are looked for among, and the share that may be computed from all keys.
_LEFT_OUT = 0.01
# Trailing logits beyond are not worth a look.
_LARGEST = 16.0


def blocks_division(
    measures: Measures,
    eps: float,
    rounding: Rounding,
    cost: Cost,
    below: float,
    *,
    gradient: bool,
    choices: Sequence[Kept] | None = None,
) -> Division | None:
    """Return the cheapest choice that answers nearly all rows in fewer operations than `below`."""
    basis, head = measures.basis, measures.centred.head
    if basis is None or head.shift is not None:
        return None
    width, count = len(basis.left), len(head.query)
    every = choices or blocks_of(width, gradient=gradient)
    ordered = sorted(every, key=lambda kept: kept.features(width))
    ordered = [kept for kept in ordered if cost.features(kept.features(width), count) < below]
    leads = sorted({kept.lead for kept in ordered if kept.lead is not None})
    if not leads:
        return None
    lead_logits, rest_logits = measures.block_logits(basis, leads)
    # The longest queries would decide about all others.
    reach = [np.quantile(x, 1.0 - _LEFT_OUT, axis=1) for x in (lead_logits, rest_logits)]
    wrong = basis.error(head.query.dtype) * abs(head.scale)
    wrong *= float(measures.lengths[0].max() * measures.lengths[1].max())
    budget = measures.budget(eps)
    for kept in ordered:
        i = leads.index(kept.lead or 0)
        a, b = float(reach[0][i]), float(reach[1][i])
        found = _polynomial(kept, a, b, wrong, gradient=gradient)
        if found is None or found[1] >= eps:
            continue
        table, delta = found
        p = Approximant("minimax", kept, math.inf, table, (delta,), basis)
        inside = (lead_logits[i] <= a) & (rest_logits[i] <= b)
        rows = measures.rows(0)
        rho = rounding.over(measures, rows, p, _size(table, a, b) * np.ones(count))
        rho[~inside] = np.inf
        bound = prior(measures, rows, p, rho, eps)
        good = bound <= budget
        exact = np.flatnonzero(~good)
        total = cost.features(kept.features(width), count) + cost.exact(exact.size)
        if good.any() and total < below:
            group = Group(p, rho, np.flatnonzero(good))
            return Division(measures, rows, (group,), exact, total, float(bound[good].max()))
    return None


def _polynomial(
    kept: Kept, a: float, b: float, wrong: float, *, gradient: bool
) -> tuple[Floats, float] | None:
    """Return the table of a choice and its relative error; `wrong` is what logits are off by."""
    if wrong + b > _LARGEST:
        return None
    table = np.zeros((kept.trailing + 1, kept.degree + 1))
    delta = b ** (kept.trailing + 1) * math.exp(b) / math.factorial(kept.trailing + 1)
    for u in range(kept.trailing + 1):
        entry = _entry(kept.degree - 2 * u - gradient, a)
        if entry is None:
            return None
        c = integral(entry) if gradient else entry.c
        error = entry.joint_error if gradient else entry.error
        table[u, : len(c)] = np.array(c) / math.factorial(u)
        delta += b**u / math.factorial(u) * error
    return table, 1e-9 + math.expm1(wrong) + math.exp(wrong + b) * delta * (1.0 + 1e-9)


def _entry(degree: int, bound: float) -> Value | None:
    bounds = _by_degree().get(degree, [])
    return next((entry for entry in bounds if entry.bound >= bound), None)


@lru_cache(maxsize=1)
def _by_degree() -> dict[int, list[Value]]:
    found: dict[int, list[Value]] = {}
    for entry in load().value:  # bounds ascend
        found.setdefault(entry.degree, []).append(entry)
    return found


def _size(table: Floats, a: float, b: float) -> float:
    powers = np.abs(table) * a ** np.arange(table.shape[1])
    return float((powers * b ** np.arange(table.shape[0])[:, np.newaxis]).sum() * (1.0 + 1e-9))
