"""What the polynomial method can do for a number of tokens: features, bounds, and where it pays."""

from __future__ import annotations

from dataclasses import dataclass

from ._exponential import check_share
from ._table import html_table, text_table
from ._tables.table import LARGEST_DEGREE, load
from .theory._arguments import check_count
from .theory.polynomial import feature_count, logit_threshold

__all__ = ["Feasibility", "FeasibleDegree", "feasibility"]

# The row of the diagram: n and as many factors of four on either side.
FACTOR = 4
AROUND = 2


@dataclass(frozen=True, slots=True)
class FeasibleDegree:
    """What polynomials of one degree do.

    Attributes
    ----------
    degree : int
        g.
    features : int
        r = C(d + g, g), the width of the factors.
    bound : float
        Largest tabulated bound on the logits for which every weight is within `eps`, relatively;
        0 if there is none.
    grad_bound : float
        The same for weights and their derivative, which gradients need.
    pays : bool
        Whether r <= n: fewer features than keys.
    """

    degree: int
    features: int
    bound: float
    grad_bound: float
    pays: bool


@dataclass(frozen=True, slots=True, repr=False)
class Feasibility:
    """Which logits the polynomial method reaches with fewer features than keys.

    Made by `feasibility`; its ``repr`` is the phase diagram.

    Attributes
    ----------
    d : int
        Width of queries and keys.
    n : int
        Number of keys.
    eps : float
        Relative error of the weights.
    degrees : tuple of FeasibleDegree
        From 1 to the first degree that does not pay, or to 24.
    """

    d: int
    n: int
    eps: float
    degrees: tuple[FeasibleDegree, ...]

    @property
    def best(self) -> FeasibleDegree | None:
        """The highest degree that pays; None where none does."""
        return max((row for row in self.degrees if row.pays), key=_degree, default=None)

    def _degree_rows(self) -> list[tuple[str, ...]]:
        return [
            (
                str(row.degree),
                str(row.features),
                f"{row.bound:.3g}",
                f"{row.grad_bound:.3g}",
                "yes" if row.pays else "no: more features than keys",
            )
            for row in self.degrees
        ]

    def _diagram_rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for step in range(-AROUND, AROUND + 1):
            n = self.n * FACTOR ** (step + AROUND) // FACTOR**AROUND
            if n < 1:
                continue
            best = self.best if step == 0 else _feasibility(self.d, n, self.eps).best
            cells = ("none", "", "") if best is None else _cells(best)
            rows.append((str(n), *cells, f"{logit_threshold(n):.3g}"))
        return rows

    def __repr__(self) -> str:
        """Return the phase diagram."""
        head = f"Feasibility: d = {self.d}, n = {self.n}, weights within {self.eps:g}"
        degrees = text_table([_DEGREES, *self._degree_rows()])
        diagram = text_table([_DIAGRAM, *self._diagram_rows()])
        return f"{head}\n{degrees}\nthe highest degree that pays, by n\n{diagram}"

    def _repr_html_(self) -> str:
        title = f"d = {self.d}, n = {self.n}, weights within {self.eps:g}"
        degrees = html_table(title, self._degree_rows(), header=_DEGREES)
        diagram = html_table(
            "The highest degree that pays, by n", self._diagram_rows(), header=_DIAGRAM
        )
        return degrees + diagram


def feasibility(d: int, n: int, eps: float) -> Feasibility:
    r"""Say which logits the polynomial method reaches, by degree, and whether it pays.

    Parameters
    ----------
    d : int
        Width of queries and keys, at least 1.
    n : int
        Number of keys, at least 1.
    eps : float
        Relative error of every weight that is allowed, 0 < eps < 1. No coordinate of the output
        is then wrong by more than :math:`\epsilon / (1 - \epsilon)` times half the range of that
        coordinate of the values (`subquad.theory.polynomial.output_error`).

    Returns
    -------
    feasibility : Feasibility
        Its ``repr`` is a table: per degree the features and the largest logits; and the same for
        n / 16 to 16 n keys.

    Raises
    ------
    ValueError
        If an argument is out of range.
    TypeError
        If `d` or `n` is no integer or `eps` not real.

    Notes
    -----
    Logits are :math:`s_{ij} = \text{scale} \, \langle q_i, k_j \rangle`; the least bound on them counts, which
    is that after the means of queries and of keys are taken out. The bounds are those of
    `coefficients` with ``kind="minimax"``, proved, on a grid of 6 %. Two floating-point operations
    per feature stand against two per key, so "pays" means r <= n; how much faster a processor does
    the one than the other moves this by a factor of about 2
    (`subquad.theory.polynomial.crossover`).

    The last column of the diagram is log n, where the theorems [1]_ put the threshold. It is asymptotic,
    and the reachable logits are far below it.

    References
    ----------
    .. [1] Alman, Song, "Fast attention requires bounded entries", NeurIPS 2023,
       arXiv:2302.13214.

    Examples
    --------
    >>> import subquad
    >>> subquad.polynomial.feasibility(64, 65536, 1e-2)
    Feasibility: d = 64, n = 65536, weights within 0.01
      degree  features  max|s|  with gradient  pays
      1       65        0.2     0.01           yes
      2       2145      0.6     0.2            yes
      3       47905     1.18    0.6            yes
      4       814385    1.8     1.18           no: more features than keys
    the highest degree that pays, by n
      keys     degree  max|s|  with gradient  log n
      4096     2       0.6     0.2            8.32
      16384    2       0.6     0.2            9.7
      65536    3       1.18    0.6            11.1
      262144   3       1.18    0.6            12.5
      1048576  4       1.8     1.18           13.9
    """
    width, keys = check_count("d", d), check_count("n", n)
    return _feasibility(width, keys, check_share("eps", eps))


def _feasibility(d: int, n: int, eps: float) -> Feasibility:
    bounds, grad_bounds = _bounds(eps)
    rows: list[FeasibleDegree] = []
    for degree in range(1, LARGEST_DEGREE + 1):
        r = feature_count(d, degree)
        bound, grad_bound = bounds.get(degree, 0.0), grad_bounds.get(degree, 0.0)
        rows.append(FeasibleDegree(degree, r, bound, grad_bound, r <= n))
        if r > n:
            break
    return Feasibility(d, n, eps, tuple(rows))


def _bounds(eps: float) -> tuple[dict[int, float], dict[int, float]]:
    """Return the largest tabulated bound by degree, for values and for gradients."""
    value: dict[int, float] = {}
    both: dict[int, float] = {}
    for entry in load().value:  # bounds ascend
        if entry.error <= eps:
            value[entry.degree] = entry.bound
        if entry.joint_error <= eps:
            both[entry.degree + 1] = entry.bound
    return value, both


def _degree(row: FeasibleDegree) -> int:
    return row.degree


def _cells(row: FeasibleDegree) -> tuple[str, str, str]:
    return str(row.degree), f"{row.bound:.3g}", f"{row.grad_bound:.3g}"


_DEGREES = ("degree", "features", "max|s|", "with gradient", "pays")
_DIAGRAM = ("keys", "degree", "max|s|", "with gradient", "log n")
