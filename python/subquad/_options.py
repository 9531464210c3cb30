"""The keywords that are not arrays, checked."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

__all__ = [
    "CERTIFICATES",
    "FALLBACKS",
    "METHODS",
    "check_budget",
    "check_choice",
    "check_real",
    "check_rng",
    "check_scale",
    "check_visibility",
]

METHODS = ("auto", "exact", "polynomial")
CERTIFICATES = ("deterministic", "statistical", "none")
FALLBACKS = ("exact", "raise", "warn")

# What `float` would take, but nobody means. Named, because making such a union takes a microsecond.
_NOT_REAL = str | bytes | bool | np.bool_ | complex


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"`{name}` must be one of {listed}, got {value!r}")
    return value


def check_scale(scale: Any, width: int) -> float:
    """Return the factor of the logits; None means 1 / sqrt(E)."""
    if scale is None:
        # Without coordinates every product is 0 and any factor will do.
        return 1.0 / math.sqrt(width) if width else 1.0
    factor = check_real("scale", scale)
    if factor == 0.0 or not math.isfinite(factor):
        raise ValueError(f"`scale` must be finite and not 0, got {factor}")
    return factor


def check_budget(eps: Any) -> float | None:
    """Return the error budget; None where none was given."""
    if eps is None:
        return None
    budget = check_real("eps", eps)
    if not (math.isfinite(budget) and budget > 0.0):
        raise ValueError(f"`eps` must be positive and finite, got {budget}")
    return budget


def check_visibility(
    is_causal: Any, window: Any, queries: int, keys: int
) -> tuple[int | None, int | None]:
    """Return `(shift, window)`: query i sees key j iff i + shift - window < j <= i + shift."""
    if isinstance(is_causal, bool | np.bool_):
        shift = 0 if is_causal else None
    elif isinstance(is_causal, str) and is_causal in ("upper_left", "lower_right"):
        shift = 0 if is_causal == "upper_left" else keys - queries
    else:
        raise ValueError(
            f'`is_causal` must be True, False, "upper_left" or "lower_right", got {is_causal!r}'
        )
    if window is None:
        return shift, None
    if isinstance(window, bool | np.bool_):
        raise TypeError(f"`window` must be an integer, got {window!r}")
    try:
        width = operator.index(window)
    except TypeError:
        raise TypeError(
            f"`window` must be an integer, got {window!r} of type {type(window).__name__}"
        ) from None
    if width < 1:
        raise ValueError(f"`window` must be at least 1, got {width}")
    if shift is None:
        raise ValueError(
            f"`window` counts keys back from the query's own position and needs `is_causal`, got "
            f"window={width} with is_causal=False"
        )
    # Wider than everything is the same as everything, and fits a machine word.
    return shift, min(width, queries + keys)


def check_rng(rng: Any) -> None:
    """Refuse what `numpy.random.default_rng` refuses."""
    if rng is None:
        return
    try:
        np.random.default_rng(rng)
    except (TypeError, ValueError) as err:
        raise type(err)(f"`rng` must be as in numpy.random.default_rng: {err}") from err


def check_real(name: str, value: Any) -> float:
    """Return a number as float64."""
    if isinstance(value, _NOT_REAL):
        raise TypeError(f"`{name}` must be a real number, got {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as err:
        raise TypeError(f"`{name}` must be a real number, got {value!r}") from err
