"""Frequencies of rotary positions, and how they are stretched for contexts longer than those of training."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._options import check_real

__all__ = ["Spectrum", "check_rotary_dim", "check_theta", "frequencies", "spectrum", "take_scaling"]

Frequencies = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spectrum:
    """What turns a row."""

    frequencies: Frequencies
    factor: float
    """What turned coordinates are multiplied with."""


def frequencies(
    rotary_dim: int, *, theta: float = 1e4, scaling: Mapping[str, Any] | None = None
) -> Frequencies:
    """Angles by which the pairs of a row are turned from one position to the next.

    Parameters
    ----------
    rotary_dim : int
        Coordinates that are turned: even, at least 2.
    theta : float
        Base: pair i has the frequency ``theta ** (-2 i / rotary_dim)``.
    scaling : mapping, optional
        As Hugging Face's ``rope_scaling`` or ``rope_parameters``. "type" or "rope_type" is one of

        - "default": nothing.
        - "linear": all frequencies are divided by "factor".
        - "ntk": the base is ``theta * factor ** (d / (d - 2))``, d the `rotary_dim`; the highest frequency
          stays, the lowest is divided by "factor".
        - "yarn": between these, pair by pair [1]_: what turns more than "beta_fast" times (32 if not given)
          within "original_max_position_embeddings" positions stays, what turns less than "beta_slow" times (1)
          is divided by "factor", with a ramp between; "truncate" (True) rounds its ends to whole pairs. Turned
          coordinates are multiplied with "attention_factor", ``0.1 * log(factor) + 1`` if not given, or if
          both "mscale" and "mscale_all_dim" are and are not 0, the ratio of ``0.1 * m * log(factor) + 1`` for
          these.

        A "rope_theta" must be `theta`.

    Returns
    -------
    ndarray of float64, shape (rotary_dim // 2,)

    Raises
    ------
    ValueError
        If an argument is not as above, or `scaling` has an unknown key.
    TypeError
        If a number is none.

    See Also
    --------
    rotate : Takes these times the positions as angles.

    References
    ----------
    .. [1] B. Peng, J. Quesnelle, H. Fan and E. Shippole, "YaRN: efficient context window extension of large
       language models", arXiv:2309.00071.

    Examples
    --------
    >>> import subquad
    >>> subquad.rope.frequencies(4)
    array([1.  , 0.01])
    >>> subquad.rope.frequencies(4, scaling={"type": "linear", "factor": 4.0})
    array([0.25  , 0.0025])
    """
    return spectrum(check_rotary_dim(rotary_dim), theta, scaling).frequencies


def spectrum(rotary_dim: int, theta: Any, scaling: Any) -> Spectrum:
    """Return frequencies and factor for a checked dimension."""
    base = check_theta(theta)
    kind, numbers = take_scaling(scaling, base)
    try:
        with np.errstate(over="ignore", under="ignore"):
            found = _KINDS[kind].make(rotary_dim, base, numbers)
        if np.isfinite(found.frequencies).all() and math.isfinite(found.factor):
            return found
    except OverflowError:
        pass
    raise ValueError(f"`theta` = {theta!r} and `scaling` = {scaling!r} exceed float64")


def check_rotary_dim(rotary_dim: Any, width: int | None = None) -> int:
    """Return the number of coordinates that are turned; None means all `width`."""
    if rotary_dim is None and width is not None:
        dim, asked = width, f"None, with E = {width}"
    else:
        try:
            if isinstance(rotary_dim, bool):
                raise TypeError
            dim = operator.index(rotary_dim)
        except TypeError:
            raise TypeError(
                f"`rotary_dim` must be an integer, got {rotary_dim!r} of type "
                f"{type(rotary_dim).__name__}"
            ) from None
        asked = str(dim)
    limit = "" if width is None else f" and at most E = {width}"
    if dim < 2 or dim % 2 or (width is not None and dim > width):
        raise ValueError(f"`rotary_dim` must be even, at least 2{limit}, got {asked}")
    return dim


def check_theta(theta: Any) -> float:
    """Return the base of the frequencies."""
    base = check_real("theta", theta)
    if not (math.isfinite(base) and base > 0.0):
        raise ValueError(f"`theta` must be positive and finite, got {base}")
    return base


def take_scaling(scaling: Any, theta: float) -> tuple[str, dict[str, Any]]:
    """Return which way, and its numbers, checked."""
    if scaling is None:
        return "default", {}
    if not isinstance(scaling, Mapping):
        raise TypeError(f"`scaling` must be a mapping or None, got {type(scaling).__name__}")
    given = dict(scaling)
    kinds = [given.pop(name) for name in ("type", "rope_type") if name in given]
    kind = kinds[0] if kinds and kinds[0] == kinds[-1] else None
    listed = ", ".join(f'"{kind}"' for kind in _KINDS)
    if not isinstance(kind, str) or kind not in _KINDS:
        found = " and ".join(repr(kind) for kind in kinds) or "none"
        raise ValueError(f'`scaling` must have one "type" of {listed}, got {found}')
    if "rope_theta" in given and check_real("rope_theta", base := given.pop("rope_theta")) != theta:
        raise ValueError(f'`theta` = {theta} and "rope_theta" = {base} of `scaling` differ')
    known = _KINDS[kind].keys
    for name in given:
        if name not in known:
            listed = ", ".join(f'"{one}"' for one in ("type", *known, "rope_theta"))
            raise ValueError(f'`scaling` of type "{kind}" has the keys {listed}, got {name!r}')
    numbers = {name: _checked(name, value) for name, value in given.items() if value is not None}
    for name in _KINDS[kind].needed:
        if name not in numbers:
            raise ValueError(f'`scaling` of type "{kind}" must have "{name}"')
    return kind, numbers


def _checked(name: str, value: Any) -> Any:
    if name == "truncate":
        if not isinstance(value, bool):
            raise TypeError(f'"truncate" of `scaling` must be True or False, got {value!r}')
        return value
    number = check_real(f"scaling[{name!r}]", value)
    if name in ("factor", "original_max_position_embeddings"):
        rule, good = "at least 1", number >= 1.0
    elif name in ("mscale", "mscale_all_dim"):
        rule, good = "at least 0", number >= 0.0
    else:
        rule, good = "positive", number > 0.0
    if not (good and math.isfinite(number)):
        raise ValueError(f"`scaling[{name!r}]` must be {rule} and finite, got {number}")
    return number


def _default(dim: int, theta: float, numbers: dict[str, Any]) -> Spectrum:
    return Spectrum(theta ** (-np.arange(0, dim, 2) / dim), 1.0)


def _linear(dim: int, theta: float, numbers: dict[str, Any]) -> Spectrum:
    return Spectrum(_default(dim, theta, {}).frequencies / numbers["factor"], 1.0)


def _ntk(dim: int, theta: float, numbers: dict[str, Any]) -> Spectrum:
    # A single pair has the frequency 1, whatever the base.
    stretched = theta * numbers["factor"] ** (dim / (dim - 2)) if dim > 2 else theta
    return _default(dim, stretched, {})


def _yarn(dim: int, theta: float, numbers: dict[str, Any]) -> Spectrum:
    if theta <= 1.0:
        raise ValueError(f'`theta` must exceed 1 with `scaling` of type "yarn", got {theta}')
    factor, trained = numbers["factor"], numbers["original_max_position_embeddings"]

    def pair_that_turns(times: float) -> float:
        return dim * math.log(trained / (times * 2.0 * math.pi)) / (2.0 * math.log(theta))

    first = pair_that_turns(numbers.get("beta_fast", 32.0))
    last = pair_that_turns(numbers.get("beta_slow", 1.0))
    if numbers.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, dim - 1)
    # As in transformers, where a ramp without length gets one.
    length = last - first if last != first else 0.001
    ramp = np.clip((np.arange(dim // 2) - first) / length, 0.0, 1.0)
    plain = _default(dim, theta, {}).frequencies
    found = plain / factor * ramp + plain * (1.0 - ramp)
    return Spectrum(found, _attention_factor(numbers))


def _attention_factor(numbers: dict[str, Any]) -> float:
    if "attention_factor" in numbers:
        return float(numbers["attention_factor"])
    log = math.log(numbers["factor"])
    first, second = (float(numbers.get(name, 0.0)) for name in ("mscale", "mscale_all_dim"))
    if first and second:
        return (0.1 * first * log + 1.0) / (0.1 * second * log + 1.0)
    return 0.1 * log + 1.0


@dataclass(frozen=True, slots=True)
class _Kind:
    make: Callable[[int, float, dict[str, Any]], Spectrum]
    needed: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        return (*self.needed, *self.others)


_KINDS = {
    "default": _Kind(_default),
    "linear": _Kind(_linear, ("factor",)),
    "ntk": _Kind(_ntk, ("factor",)),
    "yarn": _Kind(
        _yarn,
        ("factor", "original_max_position_embeddings"),
        (
            "beta_fast",
            "beta_slow",
            "attention_factor",
            "mscale",
            "mscale_all_dim",
            "truncate",
        ),
    ),
}
