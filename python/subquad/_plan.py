"""What a call will do and why, before it runs."""

from __future__ import annotations

from dataclasses import dataclass

from ._shapes import Shape
from ._table import count, html_table, text_table

__all__ = ["Candidate", "Plan", "Workload"]


@dataclass(frozen=True, slots=True)
class Workload:
    """The shapes and options that a plan was made for."""

    query: Shape
    key: Shape
    value: Shape
    mask: Shape | None
    bias: Shape | None
    out: Shape
    dtype: str
    scale: float
    shift: int | None
    window: int | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A method that was considered: what it costs and whether it meets the budget."""

    method: str
    flops: int
    bytes: int
    meets_eps: str


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """The choice of a method for one workload, and the numbers it was decided from.

    Made by `plan`; ``attention(..., plan=plan)`` reuses it on arrays of the same shapes, dtypes and
    options. Its ``repr`` is the table of candidates.

    Attributes
    ----------
    method : str
        "exact" is the only method so far.
    kernel : str
        "decode" for few queries on many keys, where reading those is what takes time, else "tiled".
    reason : str
        Why this method.
    eps : float or None
        The error budget.
    pairs : int
        Pairs of a query and a key, over all heads, that `is_causal` and `window` leave visible.
    candidates : tuple of Candidate
        What was compared: floating-point operations, bytes read and written at least once.
    workload : Workload
        What the plan was made for.
    """

    method: str
    kernel: str
    reason: str
    eps: float | None
    pairs: int
    candidates: tuple[Candidate, ...]
    workload: Workload

    def _rows(self) -> list[tuple[str, str]]:
        w = self.workload
        shapes = f"query {w.query}, key {w.key}, value {w.value}, {w.dtype}"
        for name, shape in (("mask", w.mask), ("bias", w.bias)):
            shapes += "" if shape is None else f", {name} {shape}"
        if w.shift is None:
            seen = "every key"
        else:
            last = "i" if w.shift == 0 else f"i {'+' if w.shift > 0 else '-'} {abs(w.shift)}"
            seen = f"keys j <= {last}"
            seen += "" if w.window is None else f", the last {w.window} of them"
        return [
            ("arrays", shapes),
            ("query i sees", f"{seen} ({count(self.pairs)} pairs)"),
            ("eps", "none given" if self.eps is None else f"{self.eps:g} of the spread"),
            ("method", f"{self.method} ({self.kernel})"),
            ("reason", self.reason),
        ]

    def _candidate_rows(self) -> list[tuple[str, ...]]:
        return [
            (c.method, f"{count(c.flops)}flop", f"{count(c.bytes)}B", c.meets_eps)
            for c in self.candidates
        ]

    def __repr__(self) -> str:
        """Return the table that the choice was made from."""
        table = [_HEADER, *self._candidate_rows()]
        return f"Plan\n{text_table(self._rows())}\n{text_table(table, indent='    ')}"

    def _repr_html_(self) -> str:
        table = html_table("Candidates", self._candidate_rows(), header=_HEADER)
        return html_table("Plan", self._rows()) + table


_HEADER = ("candidate", "work", "memory", "meets eps")
