"""Softmax attention by polynomials in float64 against sixty digits: rounding is in the bounds too."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from approximations import Arrays, cast, problem
from test_certificates import exact_attention

import subquad

# For (L, S, E, Ev): degrees up to 3 are cheaper than all keys.
SIZES = (26, 30, 2, 2)
CAUSAL: tuple[Any, ...] = (False, "upper_left", "lower_right")


def small(name: str, seed: int) -> Arrays:
    """Logits so small that a polynomial is nearly exact: what is off is rounding."""
    q, k, v = problem(sizes=SIZES, size=1e-3, seed=seed)
    if name == "offset values":
        v += 1e6
    elif name == "offset tokens":
        q, k = q + 30, k + 20
    elif name == "masses far apart":
        q, k = q + 3, k * 2
    elif name == "no logits":
        q = np.zeros_like(q)
    elif name == "duplicates":
        k, v = (np.repeat(a[:3], 10, axis=0) for a in (k, v))
    elif name == "huge values":
        v *= 1e200
    elif name == "cancelling values":
        v = np.where(np.arange(SIZES[1])[:, None] % 2 == 0, 1e8, -1e8) + v
    elif name == "one long key":
        k[4] *= 1e3
    return q, k, v


NAMES = (
    "random",
    "offset values",
    "offset tokens",
    "masses far apart",
    "no logits",
    "duplicates",
    "huge values",
    "cancelling values",
    "one long key",
)


def hidden(is_causal: Any, queries: int, keys: int) -> Any:
    """A bias that hides what positions hide."""
    if is_causal is False:
        return np.zeros((queries, keys))
    shift = keys - queries if is_causal == "lower_right" else 0
    return np.where(np.tri(queries, keys, shift, bool), 0.0, -np.inf)


def assert_within(out: Any, bound: Any, exact: list[list[Decimal]]) -> None:
    with localcontext() as context:
        context.prec = 60
        for row, exact_row, most in zip(out, exact, bound, strict=True):
            error = sum((Decimal(float(x)) - y) ** 2 for x, y in zip(row, exact_row, strict=True))
            assert Decimal(error).sqrt() <= Decimal(float(most))


@pytest.mark.parametrize("is_causal", CAUSAL)
@pytest.mark.parametrize("name", NAMES)
def test_the_bound_holds_to_the_last_digit(name: str, is_causal: Any) -> None:
    polynomials = 0
    for dtype in ("float64", "float32"):
        arrays = small(name, len(name))
        if dtype == "float32" and name == "huge values":
            continue
        q, k, v = arrays = cast(arrays, dtype)
        bias = hidden(is_causal, len(q), len(k))
        exact = exact_attention(q, k, v, 0.375, bias)
        for eps in (1e-2, 1e-7, 1e-11):
            out, info = subquad.attention(
                *arrays,
                eps=eps,
                method="polynomial",
                scale=0.375,
                is_causal=is_causal,
                return_info=True,
            )
            polynomials += info.method == "polynomial"
            assert_within(out, info.error_bound, exact)
    assert polynomials or name == "huge values" or (name == "one long key" and is_causal)


def test_a_bound_far_below_single_precision() -> None:
    arrays = problem(sizes=(60, 60, 2, 2), size=1e-3)
    out, info = subquad.attention(*arrays, eps=1e-9, method="polynomial", return_info=True)
    assert info.method == "polynomial"
    exact = exact_attention(*arrays, 2.0**-0.5, np.zeros((60, 60)))
    assert_within(out, info.error_bound, exact)
    assert info.error_bound.max() <= 1e-9 * info.spread
