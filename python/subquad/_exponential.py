"""Coefficients of polynomials close to exp, with a proved error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from ._options import check_choice, check_real
from ._tables.enclosure import LARGEST_BOUND, derivative, relative_error
from ._tables.series import chebyshev, taylor
from ._tables.table import LARGEST_DEGREE, Value, integral, load

__all__ = [
    "KINDS",
    "check_bound",
    "check_share",
    "coefficients",
    "minimax",
    "minimax_of_degree",
]

KINDS = ("taylor", "chebyshev", "minimax", "moment")
# The least bound in the table; a smaller one gains nothing that float64 shows.
SMALLEST_BOUND = 1e-3

Floats = NDArray[np.float64]
Choice = tuple[tuple[float, ...], float]


@overload
def coefficients(
    bound: float,
    eps: float,
    *,
    kind: Literal["taylor", "chebyshev", "minimax"] = "minimax",
    derivative: bool = False,
    second_moment: None = None,
) -> tuple[Floats, float]: ...


@overload
def coefficients(
    bound: float,
    eps: float,
    *,
    kind: Literal["moment"],
    derivative: Literal[False] = False,
    second_moment: float,
) -> tuple[Floats, tuple[float, float]]: ...


def coefficients(
    bound: float,
    eps: float,
    *,
    kind: str = "minimax",
    derivative: bool = False,
    second_moment: float | None = None,
) -> tuple[Floats, Any]:
    r"""Return the polynomial of least degree that is close enough to the exponential.

    Parameters
    ----------
    bound : float
        Largest absolute value of a logit, 0 <= bound <= 16.
    eps : float
        Error that is allowed, 0 < eps < 1: :math:`|p(s) - e^s| \le \epsilon e^s` for every s of
        [-bound, bound]; for "moment" see below.
    kind : {"minimax", "taylor", "chebyshev", "moment"}
        "minimax" has the least relative error of its degree. "taylor" is best where most logits are
        near 0. "chebyshev" truncates the Chebyshev series, which is close to the least absolute
        error. "moment" has the least :math:`\alpha + \beta m_2` with :math:`|p(s) - e^s| \le \alpha
        + \beta s^2`: what a mean over keys needs when only the second moment of its logits is
        known.
    derivative : bool
        Also ask for :math:`|p'(s) - e^s| \le \epsilon e^s`, which gradients need. It costs exactly
        one degree: p is the integral of the best polynomial of the degree below. Not for "moment".
    second_moment : float, optional
        :math:`m_2 \ge 0`, the mean of :math:`s^2` (or a bound on it); for "moment", and only there.

    Returns
    -------
    c : ndarray of float64, shape (g + 1,)
        Coefficients in ascending powers, as in `numpy.polynomial`; g >= 1.
    error : float, or (float, float)
        The error that is achieved, at most `eps`. For "moment" :math:`(\alpha, \beta)`, of which
        :math:`\alpha + \beta m_2` is at most `eps`; they hold whatever the second moment turns out
        to be.

    Raises
    ------
    ValueError
        If an argument is out of range, or no degree up to 24 (16 for "moment") reaches `eps`.
    TypeError
        If a number is not real, or `derivative` not a boolean.

    Notes
    -----
    The error is that of the float64 coefficients that are returned, over the real numbers, proved in
    integer arithmetic: when the table was made for "minimax" and "moment", now for the others. What
    evaluating p in floating point adds is the caller's: ascending powers lose a factor of up to
    ``exp(2 * bound)`` of the relative precision at -bound, coefficients included, so that a bound of
    16 comes with an error of 1e-3 at best.

    A relative error below 1 keeps p positive on [-bound, bound], of either parity of g; beyond it, and
    for "moment", p may be negative.

    "minimax" and "moment" are tabulated for preferred numbers, 40 and 20 to a factor of ten. A bound
    is rounded up to the next of them.

    Takes O(1) time for "minimax" and "moment", some milliseconds for the others. The degree grows
    as in `subquad.theory.polynomial.degree_growth` [1]_.

    References
    ----------
    .. [1] Aggarwal, Alman, "Optimal-degree polynomial approximations for exponentials and Gaussian
       kernel density estimation", CCC 2022, arXiv:2205.06249.

    Examples
    --------
    >>> import subquad
    >>> c, error = subquad.polynomial.coefficients(1.0, 1e-2)
    >>> len(c) - 1, f"{error:.1e}"
    (3, '5.0e-03')
    >>> c, error = subquad.polynomial.coefficients(1.0, 1e-2, derivative=True)
    >>> len(c) - 1, f"{error:.1e}"
    (4, '5.0e-03')
    """
    check_choice("kind", kind, KINDS)
    largest, budget = check_bound(bound), check_share("eps", eps)
    if not isinstance(derivative, bool | np.bool_):
        raise TypeError(f"`derivative` must be True or False, got {derivative!r}")
    if kind == "moment":
        return _moment(largest, budget, bool(derivative), second_moment)
    if second_moment is not None:
        raise ValueError(
            f'`second_moment` is for kind="moment", got {second_moment!r} with {kind!r}'
        )
    c, error = _FIND[kind](largest, budget, bool(derivative))
    return np.array(c), error


def check_bound(bound: Any) -> float:
    """Return a bound on logits that the tables reach."""
    largest = check_real("bound", bound)
    if not 0.0 <= largest <= LARGEST_BOUND:
        raise ValueError(f"`bound` must satisfy 0 <= bound <= {LARGEST_BOUND:g}, got {largest}")
    return max(largest, SMALLEST_BOUND)


def check_share(name: str, value: Any) -> float:
    """Return a number between 0 and 1."""
    share = check_real(name, value)
    if not 0.0 < share < 1.0:
        raise ValueError(f"`{name}` must satisfy 0 < {name} < 1, got {share}")
    return share


def minimax(bound: float, both: bool = False) -> Iterator[Choice]:
    """Yield polynomials for a bound with their errors, by degree, from the first that is of use.

    `both` counts the error of the derivative too. Below the table, Taylor's are as good.
    """
    if bound < SMALLEST_BOUND:
        for degree in range(int(both), 5):
            c = taylor(degree)
            error = relative_error(c, bound)
            yield tuple(c), max(error, relative_error(derivative(c), bound)) if both else error
        return
    for entry in load().values(bound):
        if entry.degree + both <= LARGEST_DEGREE:
            yield _choice(entry, both)


def minimax_of_degree(bound: float, degree: int, both: bool = False) -> Choice:
    """Return the tabulated polynomial of one degree, and its error on [-bound, bound]."""
    least = LARGEST_DEGREE
    for c, error in minimax(bound, both):
        if len(c) - 1 == degree and error < 1.0:
            return c, error
        if error < 1.0:
            least = min(least, len(c) - 1)
    if least < degree <= LARGEST_DEGREE:
        # A lower degree leaves no error, and there the table ends; that of a wider interval goes on.
        for entry in load().value:
            if entry.bound >= bound and entry.degree + both == degree:
                return _choice(entry, both)
    raise ValueError(
        f"`degree` must be from {least} to {LARGEST_DEGREE} for logits bounded by {bound:.3g}, where "
        f"no other polynomial for exp is tabulated, got {degree}"
    )


def _choice(entry: Value, both: bool) -> Choice:
    if both:
        return tuple(integral(entry)), entry.joint_error
    return tuple(entry.c), entry.error


def _minimax(bound: float, eps: float, both: bool) -> Choice:
    reached = (0, math.inf)
    for c, error in minimax(bound, both):
        degree = len(c) - 1
        if degree < 1:
            continue
        if error <= eps:
            return c, error
        reached = min(reached, (degree, error), key=lambda pair: pair[1])
    raise _out_of_reach(bound, eps, *reached, LARGEST_DEGREE)


@lru_cache(maxsize=256)
def _taylor(bound: float, eps: float, both: bool) -> Choice:
    return _series(taylor, bound, eps, both)


@lru_cache(maxsize=256)
def _chebyshev(bound: float, eps: float, both: bool) -> Choice:
    return _series(lambda degree: chebyshev(degree, bound), bound, eps, both)


def _series(truncate: Callable[[int], list[float]], bound: float, eps: float, both: bool) -> Choice:
    reached = (0, math.inf)
    for degree in range(1, LARGEST_DEGREE + 1):
        c = truncate(degree)
        error = relative_error(c, bound)
        if both and error <= eps:
            error = max(error, relative_error(derivative(c), bound))
        if error <= eps:
            return tuple(c), error
        reached = min(reached, (degree, error), key=lambda pair: pair[1])
    raise _out_of_reach(bound, eps, *reached, LARGEST_DEGREE)


def _moment(
    bound: float, eps: float, both: bool, second_moment: Any
) -> tuple[Floats, tuple[float, float]]:
    if both:
        raise ValueError('`derivative` must be False for kind="moment", got True')
    if second_moment is None:
        raise ValueError('`second_moment` must be given for kind="moment", got None')
    m2 = check_real("second_moment", second_moment)
    if not 0.0 <= m2 < math.inf:
        raise ValueError(f"`second_moment` must satisfy 0 <= second_moment < inf, got {m2}")
    # Entries of two ratios of alpha to beta: the better one of a degree depends on the moment.
    entries = load().moments(bound)
    best = min(
        entries, key=lambda entry: (max(entry.alpha + entry.beta * m2 - eps, 0.0), entry.degree)
    )
    least = min(
        (entry for entry in entries if entry.degree == best.degree),
        key=lambda entry: entry.alpha + entry.beta * m2,
    )
    total = least.alpha + least.beta * m2
    if total > eps:
        limit = max(entry.degree for entry in load().moment)
        raise ValueError(
            f"`eps` must be reached by a tabulated degree: alpha + beta m2 <= {eps:g} on "
            f"[-{bound:g}, {bound:g}] with m2 = {m2:g} takes more than degree {limit}, got "
            f"{total:.3g} at degree {least.degree}"
        )
    return np.array(least.c), (least.alpha, least.beta)


def _out_of_reach(bound: float, eps: float, degree: int, error: float, limit: int) -> ValueError:
    return ValueError(
        f"`eps` must be reached by a degree of at most {limit}: |p(s) - exp(s)| <= {eps:g} exp(s) on "
        f"[-{bound:g}, {bound:g}] is not, got {error:.3g} at degree {degree}"
    )


_FIND: dict[str, Callable[[float, float, bool], Choice]] = {
    "taylor": _taylor,
    "chebyshev": _chebyshev,
    "minimax": _minimax,
}
