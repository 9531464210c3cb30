"""Attention with a matrix for every relative position: fixtures, the definition, and its special cases."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from exchange import Exchanged
from hypothesis import given
from hypothesis import strategies as st
from relatives import NAMES, Array, Relative, relative, relatives
from strategies import FIXTURES

import subquad
from subquad import reference

NAMESPACES = (subquad, reference)
# What a call may ask for, and whether only the polynomial case.
TAYLOR = [1.0, 1.0, 0.5]
POLYNOMIALS: list[dict[str, Any]] = [{}, {"coefficients": TAYLOR}, {"coefficients": [2.0, 0.1]}]


def close(found: Any, exact: Any, tolerance: float = 1e-11) -> None:
    assert found.shape == exact.shape
    size = max(float(np.max(np.abs(exact), initial=0.0)), 1.0)
    assert float(np.max(np.abs(found - exact), initial=0.0)) <= tolerance * size


def fixture(name: str) -> tuple[dict[str, Array], dict[str, Any]]:
    with np.load(FIXTURES / f"{name}.npz", allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    options = json.loads(str(arrays.pop("options")))
    options.pop("note", None)
    return arrays, {**options, "support": arrays.pop("support")}


@pytest.mark.parametrize("module", NAMESPACES)
@pytest.mark.parametrize("name", ["toeplitz_general", "toeplitz_general_taylor2"])
def test_equals_the_fixture(module: ModuleType, name: str) -> None:
    arrays, options = fixture(name)
    inputs = [arrays[argument] for argument in NAMES]
    close(module.toeplitz_attention(*inputs, **options), arrays["out"], 1e-13)
    grads = module.toeplitz_attention_grad(arrays["grad_out"], *inputs, **options)
    for argument in NAMES:
        close(getattr(grads, argument), arrays[f"grad_{argument}"], 1e-12)


@pytest.mark.parametrize("polynomial", POLYNOMIALS)
@given(relatives(), st.integers(0, 9))
def test_equals_the_definition(polynomial: dict[str, Any], case: Relative, seed: int) -> None:
    options = {**case.options, **polynomial}
    try:
        expected = reference.toeplitz_attention(*case.arrays, **options)
    except ValueError as err:
        # The sums of weights of a row are not positive: refused by both.
        if "sum to" not in str(err):
            raise
        with pytest.raises(ValueError, match="sum to"):
            subquad.toeplitz_attention(*case.arrays, **options)
        return
    close(subquad.toeplitz_attention(*case.arrays, **options), expected, 1e-9)
    upstream = np.random.default_rng(seed).standard_normal(expected.shape)
    found = subquad.toeplitz_attention_grad(upstream, *case.arrays, **options)
    exact = reference.toeplitz_attention_grad(upstream, *case.arrays, **options)
    for name in (*NAMES, *(["coefficients"] if polynomial else [])):
        close(getattr(found, name), getattr(exact, name), 1e-8)


@pytest.mark.parametrize("polynomial", POLYNOMIALS)
@pytest.mark.parametrize("is_causal", [False, True, "lower_right"])
@pytest.mark.parametrize(("queries", "keys"), [(40, 40), (25, 70), (70, 25), (1, 30), (30, 1)])
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"heads": (4,), "kv_heads": (2,), "weight_heads": (4,), "enable_gqa": True},
        {"heads": (2, 3), "kv_heads": (1, 3), "enable_gqa": True},
    ],
)
def test_value_and_gradients_to_rounding(
    polynomial: dict[str, Any],
    is_causal: bool | str,
    queries: int,
    keys: int,
    shape: dict[str, Any],
) -> None:
    case = relative(queries, keys, size=0.5, is_causal=is_causal, scale=0.2, **shape)
    options = {**case.options, **polynomial}
    expected = reference.toeplitz_attention(*case.arrays, **options)
    close(subquad.toeplitz_attention(*case.arrays, **options), expected)
    upstream = np.random.default_rng(1).standard_normal(expected.shape)
    found = subquad.toeplitz_attention_grad(upstream, *case.arrays, **options)
    exact = reference.toeplitz_attention_grad(upstream, *case.arrays, **options)
    for name in (*NAMES, *(["coefficients"] if polynomial else [])):
        close(getattr(found, name), getattr(exact, name))


@pytest.mark.parametrize("polynomial", POLYNOMIALS)
def test_single_precision_is_close(polynomial: dict[str, Any]) -> None:
    case = relative(300, 260, dtype="float32", size=0.5, scale=0.2)
    options = {**case.options, **polynomial}
    out = subquad.toeplitz_attention(*case.arrays, **options)
    assert out.dtype == np.float32
    close(out, reference.toeplitz_attention(*case.arrays, **options), 2e-5)
    upstream = np.random.default_rng(1).standard_normal(out.shape).astype(np.float32)
    found = subquad.toeplitz_attention_grad(upstream, *case.arrays, **options)
    exact = reference.toeplitz_attention_grad(upstream, *case.arrays, **options)
    for name in NAMES:
        assert getattr(found, name).dtype == np.float32
        close(getattr(found, name), getattr(exact, name), 2e-5)


@pytest.mark.parametrize("module", NAMESPACES)
@pytest.mark.parametrize("polynomial", [{}, {"coefficients": [1.0, 1.0]}])
def test_lags_are_query_minus_key(module: ModuleType, polynomial: dict[str, Any]) -> None:
    # One lag alone has a weight: the query at 5 prefers the key at 5 - 2.
    query = key = np.full((8, 1), 1.0)
    weights = np.zeros((1, 15))
    weights[0, 2 + 7] = 1.0
    out = module.toeplitz_attention(
        query, key, np.eye(8), weights, support=[(0, 0)], scale=1.0, **polynomial
    )
    assert out[5].argmax() == 3
    assert out[1].max() - out[1].min() < 1e-12


@pytest.mark.parametrize("polynomial", [{}, {"coefficients": TAYLOR}])
@pytest.mark.parametrize("is_causal", [False, True])
def test_rotary_positions_are_a_special_case(polynomial: dict[str, Any], is_causal: bool) -> None:
    rng = np.random.default_rng(0)
    length, pairs = 33, 2
    query, key, value, upstream = rng.standard_normal((4, length, 2 * pairs))
    query *= 0.5
    angles = 100.0 ** (-np.arange(pairs) / pairs)
    lags = np.arange(-(length - 1), length)
    support, rows = [], []
    for n, angle in enumerate(angles):
        cosine, sine = np.cos(lags * angle), np.sin(lags * angle)
        x, y = 2 * n, 2 * n + 1
        # (R_i q).(R_j k) = q R_{j-i} k.
        support += [(x, x), (x, y), (y, x), (y, y)]
        rows += [cosine, sine, -sine, cosine]

    def rotate(array: Array, sign: float = 1.0) -> Array:
        turn = np.arange(length)[:, np.newaxis] * angles * sign
        x, y = array[:, 0::2], array[:, 1::2]
        out = np.empty_like(array)
        out[:, 0::2], out[:, 1::2] = (
            x * np.cos(turn) - y * np.sin(turn),
            x * np.sin(turn) + y * np.cos(turn),
        )
        return out

    options = {"support": support, "is_causal": is_causal, **polynomial}
    found = subquad.toeplitz_attention(query, key, value, np.stack(rows), **options)
    slopes = subquad.toeplitz_attention_grad(upstream, query, key, value, np.stack(rows), **options)
    arrays = (rotate(query), rotate(key), value)
    if polynomial:
        expected = subquad.polynomial_attention(*arrays, TAYLOR, is_causal=is_causal)
        grads = subquad.polynomial_attention_grad(upstream, *arrays, TAYLOR, is_causal=is_causal)
    else:
        expected = subquad.attention(*arrays, is_causal=is_causal)
        grads = subquad.attention_grad(upstream, *arrays, is_causal=is_causal)
    close(found, expected)
    close(slopes.query, rotate(grads.query, -1.0))
    close(slopes.key, rotate(grads.key, -1.0))
    close(slopes.value, grads.value)


def test_a_full_support_of_the_identity_is_attention() -> None:
    rng = np.random.default_rng(0)
    query, key, value = rng.standard_normal((3, 2, 50, 3))
    weights = np.ones((3, 99))
    out = subquad.toeplitz_attention(query, key, value, weights, support=[(0, 0), (1, 1), (2, 2)])
    close(out, subquad.attention(query, key, value))


@pytest.mark.parametrize("polynomial", POLYNOMIALS)
def test_gradients_are_differences(polynomial: dict[str, Any]) -> None:
    case = relative(11, 9, size=0.5, scale=0.3, is_causal=True)
    options = {**case.options, **polynomial}
    upstream = np.random.default_rng(3).standard_normal((11, 2))
    grads = subquad.toeplitz_attention_grad(upstream, *case.arrays, **options)
    step = 1e-5
    for number, name in enumerate(NAMES):
        array = case.arrays[number]
        for index in np.ndindex(array.shape):
            ends = []
            for sign in (1.0, -1.0):
                moved = [x.copy() for x in case.arrays]
                moved[number][index] += sign * step
                ends.append(float((subquad.toeplitz_attention(*moved, **options) * upstream).sum()))
            assert abs((ends[0] - ends[1]) / (2 * step) - getattr(grads, name)[index]) < 1e-7


@pytest.mark.parametrize("degree", [2, 3])
def test_a_degree_is_a_polynomial_close_to_exp(degree: int) -> None:
    case = relative(60, 50, size=0.4, scale=0.2)
    exact = reference.toeplitz_attention(*case.arrays, **case.options)
    out, info = subquad.toeplitz_attention(
        *case.arrays, **case.options, degree=degree, return_info=True
    )
    assert info.method == "polynomial"
    assert info.stats["degree"] == degree
    assert info.stats["rank"] == subquad.theory.polynomial.term_count(4, degree)
    close(out, reference.toeplitz_attention(*case.arrays, **case.options, degree=degree))
    assert (np.linalg.norm(out - exact, axis=-1) <= info.error_bound).all()
    upstream = np.random.default_rng(3).standard_normal(out.shape)
    found = subquad.toeplitz_attention_grad(upstream, *case.arrays, **case.options, degree=degree)
    # The polynomial that it takes, as coefficients.
    _, info = subquad.toeplitz_attention_grad(
        upstream, *case.arrays, **case.options, degree=degree, return_info=True
    )
    (c,) = info.plan.heads[0].coefficients
    expected = reference.toeplitz_attention_grad(
        upstream, *case.arrays, **case.options, coefficients=c
    )
    for name in NAMES:
        close(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("polynomial", POLYNOMIALS)
@pytest.mark.parametrize("asked", [*NAMES, "coefficients"])
def test_gradients_only_of_what_is_asked_for(polynomial: dict[str, Any], asked: str) -> None:
    case = relative(12, 12, size=0.5)
    options, upstream = {**case.options, **polynomial}, np.ones((12, 2))
    if asked == "coefficients" and not polynomial:
        with pytest.raises(ValueError, match="`wrt` must name arguments that were given"):
            subquad.toeplitz_attention_grad(upstream, *case.arrays, **options, wrt=(asked,))
        return
    grads = subquad.toeplitz_attention_grad(upstream, *case.arrays, **options, wrt=(asked,))
    every = subquad.toeplitz_attention_grad(upstream, *case.arrays, **options)
    for name in (*NAMES, "coefficients"):
        if name == asked:
            assert np.array_equal(getattr(grads, name), getattr(every, name))
        else:
            assert getattr(grads, name) is None


def test_other_libraries() -> None:
    case = relative(12, 10, dtype="float32")
    query, key, value, weights = case.arrays
    out = subquad.toeplitz_attention(Exchanged(query), key, value, weights, **case.options)
    assert isinstance(out, Exchanged)


def test_integers_and_half_precision() -> None:
    case = relative(12, 10)
    rounded = [np.round(x).astype(np.int64) for x in case.arrays]
    out = subquad.toeplitz_attention(*rounded, **case.options)
    assert out.dtype == np.float64
    close(out, reference.toeplitz_attention(*rounded, **case.options))
    half = [x.astype(np.float16) for x in case.arrays]
    out = subquad.toeplitz_attention(*half, **case.options)
    assert out.dtype == np.float16
    close(out, reference.toeplitz_attention(*half, **case.options), 2e-3)
