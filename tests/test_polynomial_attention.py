"""Polynomial attention against its definition: shapes, types, degrees, layouts, and what it leaves alone."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from polynomials import (
    CAUSAL,
    FIXTURE_NAMES,
    NAMES,
    Problem,
    assert_equals_the_definition,
    polynomial_cases,
    polynomial_fixture,
    taylor,
)
from strategies import Case

import subquad
from subquad._cli.load import load

Array = NDArray[Any]


def random_case(*shapes: Any, dtype: Any = np.float64, seed: int = 0, **options: Any) -> Case:
    """Logits of about 1 at most: polynomials are for these."""
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return Case(0.5 * q, k, v, options)


@pytest.mark.parametrize("name", FIXTURE_NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_autograd(name: str, dtype: Any) -> None:
    arrays, coefficients, options = polynomial_fixture(name)
    q, k, v, g = (arrays[n].astype(dtype) for n in ("query", "key", "value", "grad_out"))
    tolerance = 1e-12 if dtype is np.float64 else 1e-5
    out = subquad.polynomial_attention(q, k, v, coefficients, **options)
    np.testing.assert_allclose(out, arrays["out"], atol=tolerance)
    grads = subquad.polynomial_attention_grad(g, q, k, v, coefficients, **options)
    for argument in ("query", "key", "value"):
        expected = arrays[f"grad_{argument}"]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(getattr(grads, argument), expected, atol=tolerance * scale)


@given(polynomial_cases(), st.integers(0, 99))
def test_equals_the_definition(problem: Problem, seed: int) -> None:
    assert_equals_the_definition(*problem, seed)


@given(polynomial_cases(dtypes=("float16", "float32", "float64")), st.integers(0, 99))
def test_equals_the_definition_for_every_type(problem: Problem, seed: int) -> None:
    assert_equals_the_definition(*problem, seed)


@pytest.mark.parametrize("is_causal", CAUSAL)
@pytest.mark.parametrize("degree", range(6))
def test_float64_is_exact_to_12_digits(degree: int, is_causal: Any) -> None:
    # Inputs of everyday size, and a plain tolerance.
    case = random_case((4, 150, 6), (2, 170, 6), (2, 170, 5), is_causal=is_causal, enable_gqa=True)
    c = taylor(degree)
    c[1:] *= 0.3
    exact = subquad.reference.polynomial_attention(*case.arrays, c, **case.options)
    out = subquad.polynomial_attention(*case.arrays, c, **case.options)
    np.testing.assert_allclose(out, exact, rtol=0, atol=1e-12 * np.abs(exact).max())
    g = np.random.default_rng(1).standard_normal(exact.shape)
    grads = subquad.polynomial_attention_grad(g, *case.arrays, c, **case.options)
    expected = subquad.reference.polynomial_attention_grad(g, *case.arrays, c, **case.options)
    for name in NAMES:
        wanted = getattr(expected, name)
        allowed = 1e-12 * max(np.abs(wanted).max(), 1.0)
        np.testing.assert_allclose(getattr(grads, name), wanted, rtol=0, atol=allowed)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("is_causal", [False, True])
def test_every_width(is_causal: bool, dtype: Any) -> None:
    for width in range(1, 71):
        degree, value_width = (3 if width <= 12 else 2), 1 + 7 * width % 37
        shapes = ((33, width), (41, width), (41, value_width))
        case = random_case(*shapes, dtype=dtype, seed=width, is_causal=is_causal)
        assert_equals_the_definition(case, taylor(degree))


@pytest.mark.parametrize("degree", range(6))
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8])
def test_every_degree(width: int, degree: int) -> None:
    c = taylor(degree)
    c[1::2] *= 0.1  # odd powers alone could make a weight negative
    for dtype in (np.float32, np.float64):
        case = random_case((70, width), (90, width), (90, 3), dtype=dtype, is_causal="lower_right")
        assert_equals_the_definition(case, c)


@pytest.mark.parametrize("value_width", [0, 1, 2, 3, 7, 15, 16, 17, 31, 33, 48, 63, 65, 130])
def test_every_kind_of_value_width(value_width: int) -> None:
    for dtype in (np.float32, np.float64):
        case = random_case((2, 20, 9), (2, 300, 9), (2, 300, value_width), dtype=dtype)
        assert_equals_the_definition(case, taylor(2))


@pytest.mark.parametrize("is_causal", CAUSAL)
@pytest.mark.parametrize(
    ("queries", "keys"),
    [
        (0, 0),
        (0, 5),
        (5, 0),
        (1, 1),
        (1, 600),
        (600, 1),
        (127, 129),
        (128, 128),
        (300, 77),
        (500, 513),
    ],
)
def test_lengths_around_blocks(queries: int, keys: int, is_causal: Any) -> None:
    for dtype in (np.float32, np.float64):
        shapes = ((queries, 5), (keys, 5), (keys, 4))
        case = random_case(*shapes, dtype=dtype, is_causal=is_causal)
        assert_equals_the_definition(case, taylor(2))


@pytest.mark.parametrize(
    "shapes",
    [
        ((6, 40, 5), (2, 50, 5), (2, 50, 3)),
        ((1, 40, 5), (3, 50, 5), (3, 50, 3)),
        ((3, 40, 5), (50, 5), (1, 50, 3)),
        ((40, 5), (50, 5), (4, 50, 3)),
        ((2, 3, 40, 5), (3, 50, 5), (2, 1, 50, 3)),
        ((2, 1, 4, 40, 5), (3, 2, 50, 5), (1, 1, 2, 50, 3)),
        ((0, 2, 40, 5), (2, 50, 5), (2, 50, 3)),
    ],
)
def test_heads_groups_and_batches_broadcast(shapes: Any) -> None:
    for is_causal in (False, True):
        case = random_case(*shapes, is_causal=is_causal, enable_gqa=True)
        assert_equals_the_definition(case, taylor(2))


def test_a_query_that_sees_no_key_gives_zeros_and_no_gradient() -> None:
    case = random_case((9, 4), (5, 4), (5, 3), is_causal="lower_right")
    out = subquad.polynomial_attention(*case.arrays, taylor(2), **case.options)
    assert np.all(out[:4] == 0.0)
    assert np.all(out[4:] != 0.0)
    quiet, loud = np.ones((2, 9, 3))
    loud[:4] = 1e6
    first, second = (
        subquad.polynomial_attention_grad(g, *case.arrays, taylor(2), **case.options)
        for g in (quiet, loud)
    )
    assert np.all(first.query[:4] == 0.0)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_coefficients_may_be_a_list_and_get_a_gradient_of_their_own_type() -> None:
    case = random_case((8, 4), (9, 4), (9, 3), dtype=np.float32)
    g = np.ones((8, 3), np.float32)
    grads = subquad.polynomial_attention_grad(g, *case.arrays, [1.0, 1.0, 0.5])
    assert (grads.coefficients.dtype, grads.coefficients.shape) == (np.float64, (3,))
    for dtype in ("float16", "float32", "float64"):
        c = np.array([1.0, 1.0, 0.5], dtype)
        out = subquad.polynomial_attention(*case.arrays, c)
        # They do not decide the type of the result.
        assert out.dtype == np.float32
        assert subquad.polynomial_attention_grad(g, *case.arrays, c).coefficients.dtype == dtype
    strided = np.array([1.0, 9.0, 1.0, 9.0, 0.5])[::2]
    np.testing.assert_array_equal(
        subquad.polynomial_attention(*case.arrays, strided),
        subquad.polynomial_attention(*case.arrays, [1.0, 1.0, 0.5]),
    )


def test_trailing_zeros_of_the_coefficients_change_nothing() -> None:
    case = random_case((30, 4), (40, 4), (40, 3))
    short = subquad.polynomial_attention(*case.arrays, [1.0, 1.0, 0.5])
    long = subquad.polynomial_attention(*case.arrays, [1.0, 1.0, 0.5, 0.0, 0.0])
    np.testing.assert_allclose(long, short, rtol=1e-13)
    # The gradient with respect to a coefficient of 0 is not 0.
    assert_equals_the_definition(case, np.array([1.0, 0.0, 0.5, 0.0]))


def test_one_coefficient_is_the_mean_of_the_values_seen() -> None:
    case = random_case((6, 4), (6, 4), (6, 3))
    out = subquad.polynomial_attention(*case.arrays, [7.0], is_causal=True)
    means = np.cumsum(case.value, axis=0) / np.arange(1, 7)[:, None]
    np.testing.assert_allclose(out, means, rtol=0, atol=1e-14)


def test_wrt_restricts_what_is_computed() -> None:
    case = random_case((2, 30, 4), (2, 40, 4), (2, 40, 3))
    arguments: Any = (np.ones((2, 30, 3)), *case.arrays, taylor(2))
    everything = subquad.polynomial_attention_grad(*arguments)
    for names in (("query",), ("coefficients", "value"), ["key"], ()):
        grads = subquad.polynomial_attention_grad(*arguments, wrt=names)
        for name in NAMES:
            if name in names:
                np.testing.assert_array_equal(getattr(grads, name), getattr(everything, name))
            else:
                assert getattr(grads, name) is None


def test_out_is_filled_and_returned() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        case = random_case((2, 30, 4), (2, 40, 4), (2, 40, 3), dtype=dtype)
        out = np.full((2, 30, 3), np.nan, dtype)
        assert subquad.polynomial_attention(*case.arrays, taylor(2), out=out) is out
        expected = subquad.polynomial_attention(*case.arrays, taylor(2))
        assert expected.dtype == dtype
        np.testing.assert_array_equal(out, expected)


def test_torch_tensors_come_in_and_go_out(torch: ModuleType) -> None:
    case = random_case((2, 30, 4), (2, 40, 4), (2, 40, 3), dtype=np.float32)
    c = taylor(2)
    q, k, v = (torch.from_numpy(x) for x in case.arrays)
    out = subquad.polynomial_attention(q, k, v, torch.from_numpy(c))
    np.testing.assert_array_equal(out.numpy(), subquad.polynomial_attention(*case.arrays, c))
    q, k, v = (x.bfloat16() for x in (q, k, v))
    out = subquad.polynomial_attention(q, k, v, c)
    exact = subquad.reference.polynomial_attention(q, k, v, c)
    assert out.dtype == torch.bfloat16
    np.testing.assert_allclose(out.double().numpy(), exact, rtol=2.0**-8, atol=1e-5)
    g = torch.ones_like(out)
    grads = subquad.polynomial_attention_grad(g, q, k, v, c)
    expected = subquad.reference.polynomial_attention_grad(g, q, k, v, c)
    for name in ("query", "key", "value"):
        grad = getattr(grads, name)
        assert grad.dtype == torch.bfloat16
        wanted = getattr(expected, name)
        np.testing.assert_allclose(grad.double().numpy(), wanted, rtol=2.0**-8, atol=1e-5)
    np.testing.assert_allclose(np.asarray(grads.coefficients), expected.coefficients, rtol=1e-4)


def test_numpy_bfloat16_is_widened_and_given_back() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    case = random_case((2, 30, 4), (2, 40, 4), (2, 40, 3))
    q, k, v = (x.astype(bfloat16) for x in case.arrays)
    out = subquad.polynomial_attention(q, k, v, taylor(2))
    assert out.dtype == bfloat16
    exact = subquad.reference.polynomial_attention(q, k, v, taylor(2))
    np.testing.assert_allclose(out.astype(np.float64), exact, rtol=2.0**-8, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_heads_of_a_real_model(dtype: Any) -> None:
    data = load(None)
    for index in range(data.heads):
        head = data.head(index, dtype)
        # An even polynomial of exp is positive wherever the logits lie.
        case = Case(head.query, head.key, head.value, {"scale": head.scale, "is_causal": True})
        assert_equals_the_definition(case, taylor(2))
