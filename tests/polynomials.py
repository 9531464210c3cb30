"""Problems of polynomial attention for the tests, and how far rounding may move their answers."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.polynomial.polynomial import polyder, polymul, polyval
from numpy.typing import NDArray
from strategies import FIXTURES, ROUNDOFF, Case, cases, max_logit

import subquad
from subquad._problem import prepare
from subquad.reference._heads import (
    Floats,
    numbers,
    of_query_heads,
    sum_to,
    transpose,
    visible_keys,
)

Array = NDArray[Any]
Draw = Any
Problem = tuple[Case, NDArray[np.float64]]

NAMES = ("query", "key", "value", "coefficients")
FIXTURE_NAMES = ("polynomial_deg2", "polynomial_deg4_causal")
CAUSAL: tuple[Any, ...] = (False, True, "upper_left", "lower_right")


def taylor(degree: int) -> NDArray[np.float64]:
    """Coefficients of exp."""
    return 1.0 / np.cumprod([1.0, *range(1, degree + 1)])


def polynomial_fixture(name: str) -> tuple[dict[str, Array], list[float], dict[str, Any]]:
    """Arrays of a fixture, coefficients, and options as keywords of `polynomial_attention`."""
    with np.load(FIXTURES / f"{name}.npz", allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files if key != "options"}
        options = json.loads(str(archive["options"]))
    return arrays, options.pop("coefficients"), options


@st.composite
def polynomial_cases(draw: Draw, /, degrees: tuple[int, int] = (0, 5), **choices: Any) -> Problem:
    """Draw a problem, and a polynomial that is positive on all its logits."""
    case: Case = draw(cases(**choices))
    kept = ("is_causal", "scale", "enable_gqa")
    options = {name: case.options[name] for name in kept if name in case.options}
    case = Case(*case.arrays, options)
    degree = draw(st.integers(*degrees))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # The largest logit there can be; 1 where there is none.
    largest = max_logit(case) or 1.0
    if degree % 2 == 0 and draw(st.booleans()):
        # A square: positive everywhere, and its highest power counts.
        powers = np.arange(degree // 2 + 1)
        root = rng.standard_normal(powers.size) / max(1.0, largest) ** powers
        c = np.array(polymul(root, root))
        c[0] += 0.1
    else:
        c = rng.uniform(-0.9, 0.9, degree + 1) / (max(degree, 1) * largest ** np.arange(degree + 1))
        c[0] = 1.0
    return case, draw(st.sampled_from([1.0, 0.01, 30.0])) * c


def sizes(case: Case, coefficients: Any, grad_out: Any) -> dict[str, float]:
    """Return how large value and gradients would be if nothing cancelled.

    The rounding error of a sum is some units of roundoff of the sum of absolute values, whatever its
    order, and a quotient adds the relative error of what divides. A power of a logit is as exact as
    that of a sum of positive products: features do not cancel before they are summed.
    """
    problem = prepare(
        *case.arrays,
        mask=None,
        bias=None,
        window=None,
        workers=None,
        check_finite=False,
        **({"is_causal": False, "scale": None, "enable_gqa": False} | case.options),
    )
    q = numbers(problem.operands["query"])
    k, v = (of_query_heads(problem, name) for name in ("key", "value"))
    c, visible, scale = np.asarray(coefficients, np.float64), visible_keys(problem), problem.scale
    total = np.where(visible, polyval(scale * (q @ transpose(k)), c), 0.0)
    total = total.sum(axis=-1, keepdims=True)
    total = np.where(visible.any(axis=-1, keepdims=True), total, 1.0)

    q, k, v, c, scale = np.abs(q), np.abs(k), np.abs(v), np.abs(c), abs(scale)
    logits = scale * (q @ transpose(k))
    shares = np.where(visible, polyval(logits, c), 0.0) / total
    # Relative to its own size, the sum that divides is off by so many units of roundoff.
    condition: Floats = np.maximum(shares.sum(axis=-1, keepdims=True), 1.0)
    g = np.abs(np.asarray(grad_out).astype(np.float64))
    inner = np.sum(g * (shares @ v), axis=-1, keepdims=True)
    d_weights = np.where(visible, condition * (g @ transpose(v) + inner) / total, 0.0)
    d_logits: Floats = d_weights * polyval(logits, polyder(c))
    full = {
        "query": scale * (d_logits @ k),
        "key": scale * (transpose(d_logits) @ q),
        "value": transpose(shares) @ (condition * g),
    }
    summed = {name: sum_to(full[name], problem.operands[name].shape) for name in full}
    summed["out"] = condition * (shares @ v)
    summed["coefficients"] = np.array([np.sum(d_weights * logits**t) for t in range(c.size)])
    return {name: float(np.max(x, initial=0.0)) for name, x in summed.items()}


def units_of_roundoff(width: int, degree: int) -> float:
    """Return how many units sums of some hundred rows, in blocks, and of all features stay within."""
    return 60.0 + 2.0 * math.sqrt(math.comb(width + degree, degree))


def assert_close(found: Array, exact: Array, error: float, name: str) -> None:
    """Compare with the definition: an error of the sums, and that of storing the result."""
    assert found.shape == exact.shape, name
    assert np.isfinite(found).all(), name
    allowed = error + ROUNDOFF[found.dtype.name] * np.abs(exact)
    allowed = allowed + float(np.finfo(found.dtype).smallest_subnormal)
    assert np.all(np.abs(found.astype(np.float64) - exact) <= allowed), name


def assert_equals_the_definition(case: Case, coefficients: Any, seed: int = 0) -> None:
    """Compare value and gradients of the library with the twin."""
    exact = subquad.reference.polynomial_attention(*case.arrays, coefficients, **case.options)
    out = subquad.polynomial_attention(*case.arrays, coefficients, **case.options)
    g = np.random.default_rng(seed).standard_normal(exact.shape).astype(out.dtype)
    unit = ROUNDOFF["float64" if out.dtype == np.float64 else "float32"]
    unit *= units_of_roundoff(case.query.shape[-1], len(coefficients) - 1)
    error = {name: unit * size for name, size in sizes(case, coefficients, g).items()}
    assert_close(out, exact, error["out"], "out")
    arguments = (g, *case.arrays, coefficients)
    grads = subquad.polynomial_attention_grad(*arguments, **case.options)
    expected = subquad.reference.polynomial_attention_grad(*arguments, **case.options)
    for name, array in zip(NAMES, (*case.arrays, np.asarray(coefficients)), strict=True):
        grad = getattr(grads, name)
        assert grad.dtype == array.dtype
        assert_close(grad, getattr(expected, name), error[name], name)
    assert grads.bias is None
