"""What attention by relative positions refuses, and how it says so."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from relatives import relative

import subquad
from subquad import reference

NAMESPACES = (subquad, reference)


def refuse(
    module: ModuleType, match: str, error: type[Exception] = ValueError, **changed: Any
) -> None:
    case = relative(6, 5, width=3, entries=2)
    arrays = dict(zip(("query", "key", "value", "weights"), case.arrays, strict=True))
    options = {**arrays, **case.options, **changed}
    with pytest.raises(error, match=match):
        module.toeplitz_attention(**options)
    with pytest.raises(error, match=match):
        module.toeplitz_attention_grad(np.ones((6, 2)), **options)


@pytest.mark.parametrize("module", NAMESPACES)
@pytest.mark.parametrize(
    ("support", "match", "error"),
    [
        (
            [(0, 0), (3, 1)],
            r"`support` must hold indices from 0 to E - 1 = 2, got 3 at index \(1, 0\)",
            ValueError,
        ),
        ([(0, -1), (1, 1)], r"got -1 at index \(0, 1\)", ValueError),
        (
            [(0, 1), (0, 1)],
            r"`support` must name every entry once, got \(0, 1\) at 0 and 1",
            ValueError,
        ),
        ([0, 1], r"`support` must have shape \(t, 2\), got \(2,\)", ValueError),
        ([(0, 1, 2)], r"`support` must have shape \(t, 2\), got \(1, 3\)", ValueError),
        ([(0.0, 1.0), (1.0, 1.0)], "`support` must hold integers, got dtype float64", TypeError),
        ([(0, 0), (0, 1), (1, 1)], r"with t = 3 rows of `support`, got \(2, 10\)", ValueError),
    ],
)
def test_a_support(module: ModuleType, support: Any, match: str, error: type[Exception]) -> None:
    refuse(module, match, error, support=support)


@pytest.mark.parametrize("module", NAMESPACES)
@pytest.mark.parametrize(
    ("shape", "match"),
    [
        (
            (2, 11),
            r"each of the L \+ S - 1 = 10 lags .* with L = 6 queries and S = 5 keys, got \(2, 11\)",
        ),
        ((10,), r"`weights` must have shape \(t, L \+ S - 1\), got \(10,\)"),
        (
            (2, 2, 10),
            r"`weights` must broadcast to \(..., H, t, L \+ S - 1\) = \(2, 10\), got \(2, 2, 10\)",
        ),
    ],
)
def test_weights(module: ModuleType, shape: tuple[int, ...], match: str) -> None:
    refuse(module, match, weights=np.ones(shape))


@pytest.mark.parametrize("module", NAMESPACES)
@pytest.mark.parametrize(
    "options",
    [
        {"degree": 2, "eps": 0.1},
        {"degree": 2, "coefficients": [1.0]},
        {"eps": 0.1, "coefficients": [1.0]},
    ],
)
def test_two_polynomials(module: ModuleType, options: dict[str, Any]) -> None:
    names = "` and `".join(name for name in ("degree", "coefficients", "eps") if name in options)
    refuse(module, f"at most one of .* may be given, got `{names}`", **options)


@pytest.mark.parametrize("module", NAMESPACES)
@pytest.mark.parametrize(
    ("options", "match", "error"),
    [
        ({"degree": 0}, "`degree` must be at least 1, got 0", ValueError),
        ({"degree": 1.5}, "`degree` must be an integer", TypeError),
        ({"degree": 60}, "`degree` must be from", ValueError),
        ({"degree": 2, "scale": 1e3}, "`degree` needs logits bounded by 16, got", ValueError),
        ({"eps": -1.0}, "`eps` must be positive", ValueError),
        ({"coefficients": []}, "`coefficients` must have shape", ValueError),
        ({"coefficients": [np.inf]}, "`coefficients` must be finite", ValueError),
    ],
)
def test_a_polynomial(
    module: ModuleType, options: dict[str, Any], match: str, error: type[Exception]
) -> None:
    refuse(module, match, error, **options)


@pytest.mark.parametrize("module", NAMESPACES)
@pytest.mark.parametrize("name", ["query", "key", "value", "weights"])
def test_what_is_not_finite(module: ModuleType, name: str) -> None:
    case = relative(6, 5, width=3, entries=2)
    names = ("query", "key", "value", "weights")
    array = case.arrays[names.index(name)].copy()
    array[1, 1] = np.nan
    changed: dict[str, Any] = {name: array}
    refuse(module, rf"`{name}` must be finite, got nan at index \(1, 1\)", **changed)


@pytest.mark.parametrize("module", NAMESPACES)
@pytest.mark.parametrize("heads", [(), (2,)])
def test_a_row_whose_weights_have_no_positive_sum(
    module: ModuleType, heads: tuple[int, ...]
) -> None:
    case = relative(6, 5, heads=heads)
    query = case.arrays[0].copy()
    # Every logit of the first row is 0: the sum of its weights is c_0 S.
    query[..., 2, :] = 0.0
    index = r"\(0, 2\)" if heads else r"\(2,\)"
    options = {**case.options, "coefficients": [0.0, 0.0, 1.0]}
    with pytest.raises(ValueError, match=f"query at index {index} sum to 0, .*`coefficients`"):
        module.toeplitz_attention(query, *case.arrays[1:], **options)


def test_a_gradient_of_the_wrong_shape() -> None:
    case = relative(6, 5)
    with pytest.raises(ValueError, match=r"`grad_out` must have shape \(..., L, Ev\) = \(6, 2\)"):
        subquad.toeplitz_attention_grad(np.ones((5, 2)), *case.arrays, **case.options)
    with pytest.raises(ValueError, match="`wrt` must name arguments that were given"):
        subquad.toeplitz_attention_grad(
            np.ones((6, 2)), *case.arrays, **case.options, wrt=("coefficients",)
        )


def test_a_logit_out_of_range() -> None:
    case = relative(6, 5, dtype="float32")
    arrays = [1e25 * case.arrays[0], 1e25 * case.arrays[1], *case.arrays[2:]]
    typed = [x.astype(np.float32) for x in arrays]
    with pytest.raises(ValueError, match="exceeds the range of float32"):
        subquad.toeplitz_attention(*typed, **case.options)
