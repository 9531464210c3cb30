"""Make the table of polynomials that the package carries, and prove every error in it.

    python -m subquad._tables.generate PATH     writes it, in a minute or two
    python -m subquad._tables.generate --check  proves the errors of the one in the package again

A polynomial per bound and degree: bounds are preferred numbers, 40 to a factor of ten, so a request is
rounded up by 6 % at most; degrees go on until float64 coefficients gain nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from .enclosure import LARGEST_BOUND, derivative, moment_holds, relative_error
from .remez import best, joint_constant, moment
from .table import LARGEST_DEGREE, Moment, Value, integral, load

__all__ = ["holds", "main", "moment_entry", "value_entry"]

# The series R40 of ISO 3.
PREFERRED = (
    *(1.00, 1.06, 1.12, 1.18, 1.25, 1.32, 1.40, 1.50, 1.60, 1.70, 1.80, 1.90, 2.00, 2.12),
    *(2.24, 2.36, 2.50, 2.65, 2.80, 3.00, 3.15, 3.35, 3.55, 3.75, 4.00, 4.25, 4.50, 4.75),
    *(5.00, 5.30, 5.60, 6.00, 6.30, 6.70, 7.10, 7.50, 8.00, 8.50, 9.00, 9.50),
)
DECADES = (-3, -2, -1, 0, 1)
# A relative error of 1 is that of p = 0.
USELESS = 0.95
PERFECT = 1e-13
GAIN = 0.9
# Of the bound's square. The second is the better one for second moments below a 16th of it; the better
# of the two is within 20 % of the best ratio down to a 1000th.
MOMENT_RATIOS = (2.0**-6, 2.0**-12)
MOMENT_DEGREE = 16
# The second moment that decides which entries are of use, of the bound's square.
TYPICAL = 2.0**-4
MOMENT_PERFECT = 1e-8
# How much more than what was found on samples is claimed, and proved: the least that can be.
MARGINS = (2.0**-12, 2.0**-10, 2.0**-8, 2.0**-6)


def bounds() -> list[float]:
    """Return the bounds of the table, ascending."""
    # Through text, so that they are the float64 nearest to the decimal number.
    every = (float(f"{x:.2f}e{decade}") for decade in DECADES for x in PREFERRED)
    return [x for x in every if x <= LARGEST_BOUND]


def joint(c: list[float], bound: float) -> tuple[float, float]:
    """Return the constant that makes the integral best for value and derivative, and its error.

    An error of at most e exp(s) of the derivative, integrated from where the value is exact, is at most
    e exp(s); and no polynomial has a better derivative.
    """
    entry = Value(bound, len(c) - 1, c, nan, 0.0, nan)
    constant = joint_constant(integral(entry), bound)
    return constant, joint_error(integral(entry._replace(joint_constant=constant)), bound)


def joint_error(c: Sequence[float], bound: float) -> float:
    """Bound the relative error of a polynomial and of its derivative."""
    return max(relative_error(c, bound), relative_error(derivative(c), bound))


def value_entry(bound: float, degree: int) -> Value:
    """Find and prove a minimax polynomial, and the joint one of one degree more."""
    c = best(degree, bound)
    return Value(bound, degree, c, relative_error(c, bound), *joint(c, bound))


def moment_entry(bound: float, degree: int, ratio: float) -> Moment | None:
    """Find and prove a polynomial within ``alpha + beta s**2``; None where that is of no use."""
    c, least = moment(degree, bound, ratio)
    square = bound * bound
    if least * (ratio + TYPICAL) * square >= 1.0:
        return None
    for margin in MARGINS:
        beta = least * (1.0 + margin)
        entry = Moment(bound, degree, c, beta * ratio * square, beta)
        if holds(entry):
            return entry
    raise ArithmeticError(f"not proved: {entry}")


def holds(entry: Value | Moment) -> bool:
    """Prove the errors that an entry claims."""
    if isinstance(entry, Moment):
        return moment_holds(entry.c, entry.alpha, entry.beta, entry.bound)
    if relative_error(entry.c, entry.bound) > entry.error:
        return False
    return joint_error(integral(entry), entry.bound) <= entry.joint_error


def values(bound: float) -> Iterator[Value]:
    """Yield the entries of a bound by degree."""
    error = USELESS
    for degree in range(LARGEST_DEGREE + 1):
        entry = value_entry(bound, degree)
        if error < USELESS and entry.error > GAIN * error:
            return
        if entry.error < USELESS:
            error = entry.error
            yield entry
        if error < PERFECT:
            return


def moments(bound: float, ratio: float) -> Iterator[Moment]:
    """Yield the entries of a bound and a ratio by degree."""
    for degree in range(1, MOMENT_DEGREE + 1):
        entry = moment_entry(bound, degree, ratio)
        if entry is None:
            continue
        yield entry
        if entry.alpha + entry.beta * TYPICAL * bound * bound < MOMENT_PERFECT:
            return


def write(path: Path) -> None:
    """Make the table."""
    value = [entry for bound in bounds() for entry in values(bound)]
    moment_values = [
        entry
        for bound in bounds()[::2]
        for ratio in MOMENT_RATIOS
        for entry in moments(bound, ratio)
    ]
    arrays: dict[str, Any] = {}
    for prefix, entries in (("value", value), ("moment", moment_values)):
        for name in entries[0]._fields:
            column = [getattr(entry, name) for entry in entries]
            arrays[f"{prefix}_{name}"] = np.concatenate(column) if name == "c" else np.array(column)
        arrays[f"{prefix}_degree"] = arrays[f"{prefix}_degree"].astype(np.uint8)
    np.savez_compressed(path, **arrays)
    print(f"{len(value)} and {len(moment_values)} polynomials, {path.stat().st_size} bytes")


def check() -> None:
    """Prove what the table in the package claims."""
    table = load()
    for entry in table.entries:
        if not holds(entry):
            raise ArithmeticError(f"not proved: {entry}")
    print(f"{len(table.value)} and {len(table.moment)} polynomials: proved")


def main(arguments: list[str]) -> None:
    """Run the command."""
    if arguments == ["--check"]:
        check()
    elif len(arguments) == 1:
        write(Path(arguments[0]))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
