"""What a call reports about itself, and the gradients it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._plan import Plan
from ._table import count, html_table, text_table

__all__ = ["Gradients", "Info"]

Bounds = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Info:
    """How a result was computed and how far it can be from the exact one.

    Attributes
    ----------
    method : str
        The method that ran.
    error_bound : ndarray of float64, shape (..., L), or None
        For each row of the output a bound on its Euclidean distance from the exact row, rounding
        included, in the units of `value`. None where nothing was certified; NaN on the rows that a
        statistical certificate did not look at.
    relative_bound : ndarray of float64, shape (..., L), or None
        `error_bound` over the distance of the row from the mean of the values: a row that is close
        to that mean meets a budget relative to the spread without saying much.
    spread : ndarray of float64, shape (...), or None
        R, the largest distance of a value of the head from the mean of its values.
    plan : Plan
        What was decided, and from which numbers.
    reason : str
        Why this method, and what was done about rows that exceeded the budget.
    stats : dict
        Exact counts: flops, tiles, bytes_read, tasks, rows_recomputed; with polynomials also the largest
        degree and the most features (rank). Causal polynomials take a pass more, and other tasks, where
        there are more workers than heads; all other counts do not depend on workers.
    grad_bound : Gradients, or None
        From `attention_grad` with polynomials: for every row of each gradient a bound on its distance from
        the exact one, where all heads have one.
    confidence, coverage : float, or None
        Of a statistical certificate: with this confidence at least this share of the rows of a head is
        within `eps`.
    sampled_rows : ndarray of int64, shape (k, d), or None
        Indices (..., row) of the rows that it looked at.
    """

    method: str
    error_bound: Bounds | None
    relative_bound: Bounds | None
    spread: Bounds | None
    plan: Plan
    reason: str
    stats: dict[str, int] = field(default_factory=dict)
    grad_bound: Gradients | None = None
    confidence: float | None = None
    coverage: float | None = None
    sampled_rows: NDArray[np.int64] | None = None

    def _rows(self) -> list[tuple[str, str]]:
        stats = ", ".join(f"{name} {count(n)}" for name, n in self.stats.items())
        return [
            ("method", f"{self.method} ({self.plan.kernel})"),
            ("error bound", self._certified()),
            ("  over |out - mean(v)|", _summary(self.relative_bound)),
            ("spread R", _summary(self.spread)),
            ("reason", self.reason),
            ("stats", stats or "none"),
        ]

    def _certified(self) -> str:
        found = _summary(self.error_bound)
        if self.coverage is None or self.sampled_rows is None:
            return found
        return (
            f"{found} of {len(self.sampled_rows)} random rows: with {self.confidence:.0%} confidence "
            f"{self.coverage:.1%} of the rows of a head are within eps"
        )

    def __repr__(self) -> str:
        """Return a table of the figures, bounds by their median and worst row."""
        return f"Info\n{text_table(self._rows())}"

    def _repr_html_(self) -> str:
        return html_table("Info", self._rows())


def _summary(bounds: Bounds | None) -> str:
    if bounds is None:
        return "not certified"
    if bounds.size == 0:
        return "no rows"
    known = bounds[~np.isnan(bounds)]
    if known.size == 0:
        return "not certified"
    return f"median {np.median(known):.2e}, worst {np.max(known):.2e}"


@dataclass(frozen=True, slots=True, eq=False)
class Gradients:
    """Gradients of ``sum(grad_out * out)``, each in the shape and dtype of its argument.

    Attributes
    ----------
    query, key, value, bias, coefficients, weights, x : array or None
        None where the function has no such argument, or it was not given or not named in `wrt`. Integer
        arguments get the dtype of the output.
    """

    query: Any = None
    key: Any = None
    value: Any = None
    bias: Any = None
    coefficients: Any = None
    weights: Any = None
    x: Any = None
