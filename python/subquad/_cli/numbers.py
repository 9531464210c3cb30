"""Numbers of the command line, checked where they are parsed."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

__all__ = ["at_least", "counted", "positive"]


def counted(number: int, noun: str) -> str:
    """Return so many of something."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def positive(text: str) -> float:
    """Return a positive number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def at_least(least: int) -> Callable[[str], int]:
    """Return what parses a whole number that is not too small."""

    def whole(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {least}")
        return value

    return whole
