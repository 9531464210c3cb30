"""What a call will do and why, before it runs."""

from __future__ import annotations

from dataclasses import dataclass

from ._shapes import Shape
from ._table import count, html_table, text_table

__all__ = ["Candidate", "HeadPlan", "Plan", "Workload"]


@dataclass(frozen=True, slots=True)
class Workload:
    """The shapes and options that a plan was made for."""

    query: Shape
    key: Shape
    value: Shape
    mask: Shape | None
    bias: Shape | str | None
    """The shape of an array, or kind and parameters of a `toeplitz.Bias`."""
    out: Shape
    dtype: str
    scale: float
    shift: int | None
    window: int | None
    centres: str
    certificate: str


@dataclass(frozen=True, slots=True)
class HeadPlan:
    """What is done with one head where polynomials are considered.

    Attributes
    ----------
    method : str
        "polynomial", or "exact" where no polynomial within the budget is cheaper.
    centres : str
        What is taken off before: "none", "keys", "both", or as given.
    degrees : tuple of (int, int)
        Degrees, and how many rows each of them answers.
    tables : tuple of (str, float)
        For each degree the kind of polynomial ("minimax" and "moment" as in `polynomial.coefficients`),
        and the bound on logits that it is for.
    features : int
        The most features of a degree.
    exact_rows, exact_keys : int
        Rows computed from all keys; keys whose weights are exponentials for all rows.
    largest_logit : float
        Bound on the logits that polynomials see.
    bound : float
        Bound on the error of a row over the spread, before anything is computed; with a statistical
        certificate the error of the rows that were looked at.
    flops : float
        Floating-point operations.
    reason : str
        Why exact; empty for "polynomial".
    half : bool
        Whether products are in bf16: where the machine has them, the budget allows their rounding, and no
        gradient is asked for.
    lead, trailing : int or None, int
        Number of leading directions where these and the others have degrees of their own, and the
        degree in the others; None: all directions are alike.
    coefficients : tuple of tuples of float
        With a statistical certificate, the polynomial.
    route : str
        With a `toeplitz.Bias`, how that is taken: "rank-1 decay", "exact band and constant tail",
        "separable blocks" or "Toeplitz products by FFT"; empty without.
    block : int
        Tokens of a block, where a route has blocks.
    """

    method: str
    centres: str
    degrees: tuple[tuple[int, int], ...]
    tables: tuple[tuple[str, float], ...]
    features: int
    exact_rows: int
    exact_keys: int
    largest_logit: float
    bound: float
    flops: float
    reason: str
    half: bool = False
    lead: int | None = None
    trailing: int = 0
    coefficients: tuple[tuple[float, ...], ...] = ()
    route: str = ""
    block: int = 0


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
    options. Its ``repr`` is the table of candidates, and what is done with each head.

    Attributes
    ----------
    method : str
        "exact", or "polynomial" where that answers at least one head.
    kernel : str
        "decode" for few queries on many keys, where reading those is what takes time, else "tiled";
        "sums over features" where there are polynomials.
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
    heads : tuple of HeadPlan
        What is done with each head; empty where polynomials were not considered.
    derivative : bool
        Whether polynomials were chosen for gradients, one degree higher.
    """

    method: str
    kernel: str
    reason: str
    eps: float | None
    pairs: int
    candidates: tuple[Candidate, ...]
    workload: Workload
    heads: tuple[HeadPlan, ...] = ()
    derivative: bool = False

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

    def _head_rows(self) -> list[tuple[str, ...]]:
        rows = [(str(number), *_cells(head)) for number, head in enumerate(self.heads[:_SHOWN])]
        left = len(self.heads) - _SHOWN
        return [*rows, (f"{left} more", *[""] * 6)] if left > 0 else rows

    def __repr__(self) -> str:
        """Return the tables that the choice was made from."""
        tables = [[_HEADER, *self._candidate_rows()]]
        if self.heads:
            tables.append([_HEADS, *self._head_rows()])
        parts = [text_table(table, indent="    ") for table in tables]
        return "\n".join(["Plan", text_table(self._rows()), *parts])

    def _repr_html_(self) -> str:
        tables = html_table("Plan", self._rows())
        tables += html_table("Candidates", self._candidate_rows(), header=_HEADER)
        if self.heads:
            tables += html_table("Heads", self._head_rows(), header=_HEADS)
        return tables


# Heads that a table shows.
_SHOWN = 16

_HEADER = ("candidate", "work", "memory", "meets eps")
_HEADS = ("head", "method", "centred", "degrees: rows", "features", "max|s|", "error over spread")


def _cells(head: HeadPlan) -> tuple[str, ...]:
    if head.method == "exact":
        return ("exact", "", "", "", f"{head.largest_logit:.3g}", head.reason)
    degrees = ", ".join(f"{degree}: {count(rows)}" for degree, rows in head.degrees)
    for number, what in ((head.exact_rows, "rows"), (head.exact_keys, "keys")):
        degrees += f", {count(number)} {what} exact" if number else ""
    degrees += f" ({head.route})" if head.route else ""
    logits, bound = f"{head.largest_logit:.3g}", f"{head.bound:.2g}"
    return ("polynomial", head.centres, degrees, count(head.features), logits, bound)
