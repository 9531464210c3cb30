"""Gradients: fixtures, definition, central differences, broadcasting, dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import ATTENTION, ROUNDOFF, Case, cases, fixture, sum_by_lag

import subquad

NAMES = ("query", "key", "value", "bias")


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_autograd(name: str, dtype: Any) -> None:
    arrays, options = fixture(name)
    q, k, v, g = (arrays[n].astype(dtype) for n in ("query", "key", "value", "grad_out"))
    grads = subquad.attention_grad(g, q, k, v, **options)
    tolerance = 1e-12 if dtype is np.float64 else 1e-5
    for argument in ("query", "key", "value"):
        expected = arrays[f"grad_{argument}"]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(getattr(grads, argument), expected, atol=tolerance * scale)
    if "bias" in arrays:
        expected = arrays["grad_bias"]
        by_lag = sum_by_lag(grads.bias)
        assert by_lag.shape == expected.shape
        np.testing.assert_allclose(by_lag, expected, atol=tolerance * np.abs(expected).max())


def upstream(case: Case, seed: int) -> Any:
    out = subquad.reference.attention(*case.arrays, **case.options)
    dtype = np.result_type(*case.arrays)
    return np.random.default_rng(seed).standard_normal(out.shape).astype(dtype)


def assert_same_gradients(grads: Any, expected: Any, tolerance: float) -> None:
    for name in NAMES:
        grad, exact = getattr(grads, name), getattr(expected, name)
        assert (grad is None) == (exact is None)
        if exact is not None:
            assert grad.shape == exact.shape
            largest = np.max(np.abs(exact), initial=0.0)
            allowed = tolerance * (1.0 + largest) + ROUNDOFF[grad.dtype.name] * np.abs(exact)
            allowed += np.finfo(grad.dtype).smallest_subnormal
            assert np.all(np.abs(grad.astype(np.float64) - exact) <= allowed)


@given(cases(), st.integers(0, 99))
def test_equals_the_definition(case: Case, seed: int) -> None:
    grad_out = upstream(case, seed)
    grads = subquad.attention_grad(grad_out, *case.arrays, **case.options)
    expected = subquad.reference.attention_grad(grad_out, *case.arrays, **case.options)
    double = np.result_type(*case.arrays) == np.float64
    assert_same_gradients(grads, expected, 1e-11 if double else 3e-5)
    for array, grad in zip(case.arrays, (grads.query, grads.key, grads.value), strict=True):
        assert grad.dtype == array.dtype
    if "bias" in case.options:
        assert grads.bias.dtype == case.options["bias"].dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_length_with_mask_window_and_causal_combined(dtype: Any) -> None:
    rng = np.random.default_rng(17)
    for n in range(1, 301):
        queries, keys = (n, 301 - n) if n % 3 == 0 else (n, n)
        q, g = rng.standard_normal((2, queries, 2)).astype(dtype)
        k, v = rng.standard_normal((2, keys, 2)).astype(dtype)
        options: dict[str, Any] = {
            "is_causal": ("upper_left", "lower_right")[n % 2],
            "window": 1 + (7 * n) % (n + 5),
            "mask": rng.random((queries, keys)) < 0.8,
        }
        grads = subquad.attention_grad(g, q, k, v, **options)
        expected = subquad.reference.attention_grad(g, q, k, v, **options)
        assert_same_gradients(grads, expected, 1e-12 if dtype is np.float64 else 1e-5)


def central_difference(
    arrays: dict[str, Any],
    name: str,
    grad_out: Any,
    options: dict[str, Any],
) -> NDArray[np.float64]:
    step = 1e-5
    grad = np.zeros(arrays[name].shape)
    for index in np.ndindex(*grad.shape):
        ends = []
        for sign in (1.0, -1.0):
            moved = {n: a.copy() for n, a in arrays.items()}
            moved[name][index] += sign * step
            ends.append(np.sum(grad_out * subquad.attention(**moved, **options)))
        grad[index] = (ends[0] - ends[1]) / (2 * step)
    return grad


@pytest.mark.parametrize("bias", [None, (), (6,), (1, 6), (5, 1), (5, 6), (2, 1, 1), (2, 5, 6)])
@pytest.mark.parametrize(
    "options",
    [{}, {"is_causal": True, "window": 3}, {"is_causal": "lower_right", "scale": -0.8}],
)
def test_equals_central_differences(bias: tuple[int, ...] | None, options: Any) -> None:
    rng = np.random.default_rng(18)
    arrays: dict[str, Any] = {
        "query": rng.standard_normal((2, 5, 3)),
        "key": rng.standard_normal((1, 6, 3)),
        "value": rng.standard_normal((6, 2)),
    }
    if bias is not None:
        arrays["bias"] = rng.standard_normal(bias)
    grad_out = rng.standard_normal((2, 5, 2))
    grads = subquad.attention_grad(grad_out, **arrays, **options)
    for name in arrays:
        expected = central_difference(arrays, name, grad_out, options)
        np.testing.assert_allclose(getattr(grads, name), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("lead", [((4,), (2,), (2,)), ((2, 1, 4), (3, 2), (1, 1, 2))])
def test_equals_central_differences_for_groups_and_batches(lead: Any) -> None:
    rng = np.random.default_rng(19)
    shapes = zip(("query", "key", "value"), lead, ((2, 3), (3, 3), (3, 2)), strict=True)
    arrays: dict[str, Any] = {
        name: rng.standard_normal((*batch, *tail)) for name, batch, tail in shapes
    }
    options: dict[str, Any] = {"enable_gqa": True, "mask": rng.random((2, 3)) < 0.8}
    grad_out = rng.standard_normal(subquad.attention(**arrays, **options).shape)
    grads = subquad.attention_grad(grad_out, **arrays, **options)
    for name in arrays:
        expected = central_difference(arrays, name, grad_out, options)
        np.testing.assert_allclose(getattr(grads, name), expected, rtol=1e-7, atol=1e-8)


@given(cases(lengths=(1, 30)), st.integers(0, 99))
def test_a_forward_pass_handed_in_gives_the_same_bits(case: Case, seed: int) -> None:
    grad_out = upstream(case, seed)
    forward = subquad.attention(*case.arrays, **case.options, return_lse=True)
    given_back = subquad.attention_grad(grad_out, *case.arrays, **case.options, forward=forward)
    computed = subquad.attention_grad(grad_out, *case.arrays, **case.options)
    for name in NAMES:
        if getattr(computed, name) is not None:
            np.testing.assert_array_equal(getattr(given_back, name), getattr(computed, name))


def test_the_twin_accepts_a_forward_pass_too() -> None:
    q, k, v, g = np.random.default_rng(20).standard_normal((4, 2, 9, 4))
    forward = subquad.reference.attention(q, k, v, is_causal=True, return_lse=True)
    with_it = subquad.reference.attention_grad(g, q, k, v, is_causal=True, forward=forward)
    without = subquad.reference.attention_grad(g, q, k, v, is_causal=True)
    assert_same_gradients(with_it, without, 1e-13)


def test_wrt_restricts_what_is_computed() -> None:
    q, k, v, g = np.random.default_rng(21).standard_normal((4, 2, 9, 4))
    bias = np.zeros((9, 9))
    everything = subquad.attention_grad(g, q, k, v, bias=bias)
    for names in (("query",), ("bias", "value"), ["key"], ()):
        grads = subquad.attention_grad(g, q, k, v, bias=bias, wrt=names)
        for name in NAMES:
            if name in names:
                np.testing.assert_array_equal(getattr(grads, name), getattr(everything, name))
            else:
                assert getattr(grads, name) is None


def test_a_query_that_sees_no_key_has_and_gives_no_gradient() -> None:
    q, k, v, g = np.random.default_rng(22).standard_normal((4, 12, 4))
    mask = np.ones((12, 12), bool)
    mask[3] = False
    mask[:, 5] = False
    grads = subquad.attention_grad(g, q, k, v, mask=mask, bias=np.zeros((12, 12)))
    assert np.all(grads.query[3] == 0.0)
    assert np.all(grads.key[5] == 0.0)
    assert np.all(grads.value[5] == 0.0)
    assert np.all(grads.bias[~mask] == 0.0)
    assert np.count_nonzero(grads.query) == 44
    louder = g.copy()
    louder[3] *= 1e6
    again = subquad.attention_grad(louder, q, k, v, mask=mask)
    np.testing.assert_array_equal(again.key, grads.key)
    np.testing.assert_array_equal(again.value, grads.value)


def test_hidden_keys_get_no_gradient_through_a_bias_of_minus_infinity() -> None:
    q, k, v, g = np.random.default_rng(23).standard_normal((4, 12, 4))
    bias = np.where(np.eye(12, dtype=bool), -np.inf, 0.0)
    grads = subquad.attention_grad(g, q, k, v, bias=bias)
    expected = subquad.reference.attention_grad(g, q, k, v, bias=bias)
    assert_same_gradients(grads, expected, 1e-13)
    assert np.all(np.diagonal(grads.bias) == 0.0)


def test_the_logits_gradient_sums_to_zero_along_the_keys() -> None:
    q, k, v, g = np.random.default_rng(24).standard_normal((4, 3, 33, 8))
    grads = subquad.attention_grad(g, q, k, v, bias=np.zeros((33, 33)), wrt=("bias",))
    np.testing.assert_allclose(grads.bias.sum(axis=-1), 0.0, atol=1e-13)


def test_integer_arguments_get_gradients_of_the_output_dtype() -> None:
    k = np.arange(12).reshape(4, 3) % 5
    q = np.eye(4, 3, dtype=np.float32)
    v = np.arange(8, dtype=np.int8).reshape(4, 2)
    bias = np.zeros((4, 4), int)
    out = subquad.attention(q, k, v, bias=bias)
    grads = subquad.attention_grad(np.ones_like(out), q, k, v, bias=bias)
    assert out.dtype == np.float64
    assert grads.query.dtype == np.float32
    assert grads.key.dtype == grads.value.dtype == grads.bias.dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_low_precision_gradients_are_rounded_wide_ones(dtype: Any) -> None:
    q, k, v, g = np.random.default_rng(25).standard_normal((4, 2, 40, 8)).astype(dtype)
    out, lse = subquad.attention(q, k, v, return_lse=True)
    assert (out.dtype, lse.dtype) == (dtype, np.float32)
    grads = subquad.attention_grad(g, q, k, v)
    expected = subquad.reference.attention_grad(g, q, k, v)
    assert grads.key.dtype == dtype
    assert_same_gradients(grads, expected, 1e-5)
    from_forward = subquad.attention_grad(g, q, k, v, forward=(out, lse))
    # The output handed in was rounded to float16.
    assert_same_gradients(from_forward, expected, 2e-3 if dtype is np.float16 else 1e-5)


def test_info_counts_both_passes() -> None:
    q, k, v, g = np.random.default_rng(26).standard_normal((4, 2, 40, 8))
    forward = subquad.attention(q, k, v, return_lse=True)
    grads, info = subquad.attention_grad(g, q, k, v, return_info=True)
    _, alone = subquad.attention_grad(g, q, k, v, forward=forward, return_info=True)
    assert grads.query.shape == q.shape
    assert info.stats["flops"] > alone.stats["flops"] > 0
    assert info.error_bound.shape == (2, 40)
    assert alone.error_bound is None
    assert info.grad_bound is None


@pytest.mark.parametrize(
    ("n", "d", "dtype"),
    [
        (2385, 64, "f4"),
        (2460, 64, "f4"),
        (390, 80, "f4"),
        (385, 96, "f4"),
        (590, 80, "f8"),
        (1044, 64, "f4"),
    ],
)
@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_a_last_part_of_another_size_gets_room_enough(
    n: int, d: int, dtype: str, order: str
) -> None:
    g, q, k, v = np.random.default_rng(0).standard_normal((4, n, d)).astype(dtype)
    subquad._subquad.set_task_order(order)
    try:
        grads = subquad.attention_grad(g, q, k, v, workers=1)
    finally:
        subquad._subquad.set_task_order("forward")
    exact = subquad.reference.attention_grad(g, q, k, v)
    tolerance = 1e-5 if dtype == "f4" else 1e-12
    for name in ("query", "key", "value"):
        expected = getattr(exact, name)
        error = np.abs(getattr(grads, name) - expected).max()
        assert error <= tolerance * np.abs(expected).max(), name


def test_few_queries_have_gradients_as_exact_as_many() -> None:
    rng = np.random.default_rng(1)
    g, q = rng.standard_normal((2, 33, 16), np.float32)
    k, v = rng.standard_normal((2, 900, 16), np.float32)
    q, k = 6 * q, 6 * k + 3
    for rows in (32, 33):
        grads = subquad.attention_grad(g[:rows], q[:rows], k, v)
        exact = subquad.reference.attention_grad(g[:rows], q[:rows], k, v)
        error = np.abs(grads.query - exact.query).max() / np.abs(exact.query).max()
        assert error <= 2e-4, rows


def test_the_gradient_of_a_bias_for_all_rows_is_summed_in_two_levels() -> None:
    rng = np.random.default_rng(2)
    g, q = rng.standard_normal((2, 60_000, 4), np.float32)
    k, v = rng.standard_normal((2, 40, 4), np.float32)
    bias = rng.standard_normal(40, np.float32)
    grads = subquad.attention_grad(g, q, k, v, bias=bias, wrt=("bias",))
    wide = (x.astype(np.float64) for x in (g, q, k, v))
    exact = subquad.attention_grad(*wide, bias=bias.astype(np.float64), wrt=("bias",))
    assert grads.bias is not None
    assert exact.bias is not None
    error = np.abs(grads.bias - exact.bias).max() / np.abs(exact.bias).max()
    assert error <= 1e-6
