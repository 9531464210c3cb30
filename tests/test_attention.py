"""The forward pass: fixtures, definition, tile edges, layouts, hard numbers, memory."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import ATTENTION, Case, assert_close_to_reference, cases, fixture, spread_of

import subquad


@pytest.mark.parametrize("name", ATTENTION)
def test_float64_equals_the_fixture_to_twelve_digits(name: str) -> None:
    arrays, options = fixture(name)
    out = subquad.attention(arrays["query"], arrays["key"], arrays["value"], **options)
    np.testing.assert_allclose(out, arrays["out"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ATTENTION)
def test_float32_equals_the_fixture_within_the_stated_share_of_the_spread(name: str) -> None:
    arrays, options = fixture(name)
    q, k, v = (arrays[n].astype(np.float32) for n in ("query", "key", "value"))
    out = subquad.attention(q, k, v, **options)
    # The inputs were rounded to float32: what they define is the definition on rounded inputs.
    exact, lse = subquad.reference.attention(q, k, v, **options, return_lse=True)
    logit = max(1.0, float(np.abs(lse).max()))
    error = np.linalg.norm(out - exact, axis=-1)
    spread = np.repeat(spread_of(v), q.shape[0] // v.shape[0])[:, np.newaxis]
    assert np.all(error <= max(2e-6, 2.0**-22 * logit) * spread)


@given(cases())
def test_equals_the_definition(case: Case) -> None:
    assert_close_to_reference(subquad.attention(*case.arrays, **case.options), case)


@given(cases(dtypes=("float16", "float32", "float64", "int8", "int32", "bool"), lengths=(0, 12)))
def test_equals_the_definition_for_every_dtype(case: Case) -> None:
    out = subquad.attention(*case.arrays, **case.options)
    expected = np.result_type(*case.arrays)
    assert out.dtype == (expected if expected.kind == "f" else np.float64)
    assert_close_to_reference(out, case)


@given(cases(lengths=(0, 30)))
def test_log_sum_exp_equals_the_definition(case: Case) -> None:
    out, lse = subquad.attention(*case.arrays, **case.options, return_lse=True)
    _, expected = subquad.reference.attention(*case.arrays, **case.options, return_lse=True)
    assert lse.dtype == out.dtype
    tolerance = 1e-12 if out.dtype == np.float64 else 1e-5
    np.testing.assert_allclose(lse, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_length_with_mask_window_and_causal_combined(dtype: Any) -> None:
    rng = np.random.default_rng(7)
    for n in range(1, 301):
        queries, keys = (n, 301 - n) if n % 3 == 0 else (n, n)
        q = rng.standard_normal((queries, 3)).astype(dtype)
        k = rng.standard_normal((keys, 3)).astype(dtype)
        v = rng.standard_normal((keys, 2)).astype(dtype)
        options: dict[str, Any] = {
            "is_causal": ("upper_left", "lower_right")[n % 2],
            "window": 1 + (7 * n) % (n + 5),
            "mask": rng.random((queries, keys)) < 0.8,
        }
        case = Case(q, k, v, options)
        assert_close_to_reference(subquad.attention(q, k, v, **options), case)


@pytest.mark.parametrize("width", [1, 7, 8, 15, 16, 17, 31, 33, 64, 65, 100, 128, 130, 256])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_kind_of_width(width: int, dtype: Any) -> None:
    rng = np.random.default_rng(width)
    q, k = rng.standard_normal((2, 2, 70, width)).astype(dtype)
    v = rng.standard_normal((2, 70, max(1, 257 - width))).astype(dtype)
    for causal in (False, True):
        options: dict[str, Any] = {"is_causal": causal}
        case = Case(q, k, v, options)
        assert_close_to_reference(subquad.attention(q, k, v, **options), case)


@pytest.mark.parametrize("keys", [1, 2, 63, 1000, 5000])
@pytest.mark.parametrize("heads", [(1, 1), (6, 2), (4, 4)])
def test_one_query_equals_the_definition(keys: int, heads: tuple[int, int]) -> None:
    rng = np.random.default_rng(keys)
    q = rng.standard_normal((heads[0], 1, 24), dtype=np.float32)
    k, v = rng.standard_normal((2, heads[1], keys, 24), dtype=np.float32)
    mask = rng.random((1, keys)) < 0.9
    for options in ({}, {"mask": mask}, {"is_causal": "lower_right", "window": 1 + keys // 2}):
        case = Case(q, k, v, {"enable_gqa": True, **options})
        assert_close_to_reference(subquad.attention(*case.arrays, **case.options), case)


@given(cases(lengths=(1, 40)))
def test_layout_does_not_change_a_bit(case: Case) -> None:
    plain: dict[str, Any] = {
        n: np.array(x) if isinstance(x, np.ndarray) else x for n, x in case.options.items()
    }
    expected = subquad.attention(*(np.array(a, order="C") for a in case.arrays), **plain)
    np.testing.assert_array_equal(subquad.attention(*case.arrays, **case.options), expected)


def test_one_buffer_serves_as_query_key_and_value() -> None:
    x = np.random.default_rng(0).standard_normal((2, 30, 3, 4, 8), dtype=np.float32)
    q, k, v = (np.swapaxes(x[:, :, i], 1, 2) for i in range(3))  # (batch, length, head, width)
    assert_close_to_reference(subquad.attention(q, k, v), Case(q, k, v))
    same = np.swapaxes(x[:, :, 0], 1, 2)
    assert_close_to_reference(subquad.attention(same, same, same), Case(same, same, same))


@given(cases(dtypes=("float64",), lengths=(1, 30), layouts=False), st.randoms())
def test_permuting_keys_changes_nothing(case: Case, random: Any) -> None:
    options = {n: x for n, x in case.options.items() if n not in ("is_causal", "window")}
    order = list(range(case.key.shape[-2]))
    random.shuffle(order)
    moved = dict(options)
    for name in ("mask", "bias"):
        if name in options and options[name].ndim and options[name].shape[-1] == len(order):
            moved[name] = options[name][..., order]
    expected = subquad.attention(*case.arrays, **options)
    permuted = case.query, case.key[..., order, :], case.value[..., order, :]
    out = subquad.attention(*permuted, **moved)
    np.testing.assert_allclose(out, expected, rtol=1e-11, atol=1e-11)


@given(cases(dtypes=("float64",), lengths=(1, 30), layouts=False))
def test_shifting_all_keys_by_a_vector_changes_nothing(case: Case) -> None:
    # q.(k + c) adds the same number to every logit of a query.
    shift = np.linspace(-1.0, 1.0, case.key.shape[-1])
    out = subquad.attention(case.query, case.key + shift, case.value, **case.options)
    expected = subquad.attention(*case.arrays, **case.options)
    np.testing.assert_allclose(out, expected, rtol=1e-10, atol=1e-10)


@given(cases(lengths=(1, 30)), st.integers(-20, 20))
def test_powers_of_two_move_through_exactly(case: Case, power: int) -> None:
    factor = case.value.dtype.type(2.0**power)
    expected = subquad.attention(*case.arrays, **case.options)
    out = subquad.attention(case.query, case.key, case.value * factor, **case.options)
    np.testing.assert_array_equal(out, expected * factor)


def test_heads_are_independent() -> None:
    rng = np.random.default_rng(3)
    q, k, v = rng.standard_normal((3, 2, 5, 90, 16), dtype=np.float32)
    whole = subquad.attention(q, k, v, is_causal=True)
    for index in np.ndindex(2, 5):
        alone = subquad.attention(q[index], k[index], v[index], is_causal=True)
        np.testing.assert_array_equal(whole[index], alone)


def test_groups_equal_repeated_heads() -> None:
    rng = np.random.default_rng(4)
    q = rng.standard_normal((6, 50, 8))
    k, v = rng.standard_normal((2, 2, 50, 8))
    grouped = subquad.attention(q, k, v, enable_gqa=True)
    repeated = subquad.attention(q, np.repeat(k, 3, 0), np.repeat(v, 3, 0))
    np.testing.assert_allclose(grouped, repeated, rtol=1e-13, atol=1e-13)


def test_a_window_as_wide_as_everything_is_causal_attention() -> None:
    q, k, v = np.random.default_rng(5).standard_normal((3, 77, 8))
    expected = subquad.attention(q, k, v, is_causal=True)
    for window in (77, 10**30):
        out = subquad.attention(q, k, v, is_causal=True, window=window)
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_query_that_sees_no_key_gives_zeros(dtype: Any) -> None:
    q, k, v = np.random.default_rng(6).standard_normal((3, 20, 4)).astype(dtype)
    bias = np.zeros((20, 20), dtype)
    bias[3] = -np.inf
    mask = np.ones((20, 20), bool)
    mask[7] = False
    out, lse = subquad.attention(q, k, v, mask=mask, bias=bias, return_lse=True)
    hidden = np.isin(np.arange(20), (3, 7))
    assert np.all(out[hidden] == 0.0)
    assert np.all(out[~hidden] != 0.0)
    np.testing.assert_array_equal(np.isneginf(lse), hidden)
    # More queries than keys, aligned at the end: the first ones come before every key.
    out = subquad.attention(q, k[:5], v[:5], is_causal="lower_right")
    assert np.all(out[:15] == 0.0)
    assert np.all(out[15:] != 0.0)


@pytest.mark.parametrize(
    ("query", "key", "value"),
    [
        ((0, 4), (5, 4), (5, 3)),
        ((5, 4), (0, 4), (0, 3)),
        ((5, 0), (6, 0), (6, 3)),
        ((5, 4), (6, 4), (6, 0)),
        ((0, 5, 4), (0, 6, 4), (0, 6, 3)),
        ((0, 2, 5, 4), (0, 2, 6, 4), (2, 6, 3)),
        ((3, 0, 0), (1, 0, 0), (0, 0)),
        ((1, 5, 4), (0, 6, 4), (0, 6, 3)),
    ],
)
def test_empty_axes_have_a_result(
    query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(8)
    q, k, v = (rng.standard_normal(shape) for shape in (query, key, value))
    out, lse = subquad.attention(q, k, v, return_lse=True)
    expected, expected_lse = subquad.reference.attention(q, k, v, return_lse=True)
    assert out.shape == expected.shape
    np.testing.assert_allclose(out, expected, atol=1e-14)
    np.testing.assert_allclose(lse, expected_lse, atol=1e-14)
    grads = subquad.attention_grad(np.ones(out.shape), q, k, v)
    for array, grad in zip((q, k, v), (grads.query, grads.key, grads.value), strict=True):
        assert grad.shape == array.shape


def test_without_coordinates_the_mean_of_the_values_comes_out() -> None:
    v = np.random.default_rng(9).standard_normal((6, 3))
    out = subquad.attention(np.zeros((5, 0)), np.zeros((6, 0)), v)
    np.testing.assert_allclose(out, np.broadcast_to(v.mean(axis=0), (5, 3)), rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits_pick_the_largest(dtype: Any) -> None:
    k = np.array([[1.0], [2.0], [3.0]], dtype)
    v = np.array([[10.0], [20.0], [30.0]], dtype)
    q = np.array([[1e16], [-1e16]], dtype)
    out, lse = subquad.attention(q, k, v, scale=1.0, return_lse=True)
    np.testing.assert_allclose(out, [[30.0], [10.0]], rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(lse, np.array([3e16, -1e16], dtype), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_denormal_numbers_are_numbers(dtype: Any) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    v = np.full((8, 2), 100 * tiny, dtype)
    q = k = np.full((8, 4), tiny, dtype)
    # 100 of the smallest units each: their mean is 100 units, give or take the last one.
    out = subquad.attention(q, k, v)
    assert np.all(np.abs(out.astype(np.float64) / float(tiny) - 100) <= 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_keys_give_the_mean(dtype: Any) -> None:
    rng = np.random.default_rng(10)
    k = np.broadcast_to(rng.standard_normal(16).astype(dtype), (333, 16))
    v = rng.standard_normal((333, 5)).astype(dtype)
    out = subquad.attention(100 * k[:9], k, v)
    mean = v.mean(axis=0, dtype=np.float64)
    tolerance = 1e-13 if dtype is np.float64 else 2e-6
    np.testing.assert_allclose(out, np.broadcast_to(mean, out.shape), atol=tolerance)


@pytest.mark.parametrize("bias_dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_finite_bias_that_swallows_the_logits_gives_the_mean(dtype: Any, bias_dtype: Any) -> None:
    rng = np.random.default_rng(11)
    q, k, v = rng.standard_normal((3, 40, 8)).astype(dtype)
    bias = np.zeros((40, 40), bias_dtype)
    bias[5] = np.finfo(bias_dtype).min
    out = subquad.attention(q, k, v, bias=bias)
    np.testing.assert_allclose(out[5], v.mean(axis=0, dtype=np.float64), atol=2e-6)
    # Some keys swallowed beside some that are not: those hide nothing from the others.
    bias[6, :39] = np.finfo(bias_dtype).min
    out = subquad.attention(q, k, v, bias=bias)
    np.testing.assert_array_equal(out[6], v[39])


def test_numbers_that_no_query_sees_do_not_matter_when_the_check_is_off() -> None:
    q, k, v = np.random.default_rng(12).standard_normal((3, 50, 8))
    expected = subquad.attention(q[:10], k[:10], v[:10], is_causal=True)
    out = subquad.attention(q[:10], k, v, is_causal=True, check_finite=False)
    np.testing.assert_allclose(out, expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("lead", [(), (2, 3)])
def test_out_receives_the_result_and_is_returned(dtype: Any, lead: tuple[int, ...]) -> None:
    q, k, v = np.random.default_rng(13).standard_normal((3, *lead, 10, 4)).astype(dtype)
    out = np.full((*lead, 10, 4), np.nan, dtype)
    returned, lse = subquad.attention(q, k, v, out=out, return_lse=True)
    assert returned is out
    assert lse.shape == (*lead, 10)
    np.testing.assert_array_equal(out, subquad.attention(q, k, v))


def test_sequences_are_arrays() -> None:
    out = subquad.attention([[1, 0]], [[1, 0], [0, 1]], [[1.0], [3.0]], scale=1)
    weight = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(out, [[weight + 3 * (1 - weight)]], rtol=1e-14)


MEMORY = """
import resource, sys
import numpy as np, subquad
n = 12288
x = np.random.default_rng(0).standard_normal((n, 4), dtype=np.float32)
subquad.attention_grad(x[:64], x[:64], x[:64], x[:64], workers=2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
out, lse = subquad.attention(x, x, x, return_lse=True, workers=2)
subquad.attention_grad(x, x, x, x, forward=(out, lse), workers=2)
unit = 1 if sys.platform == "darwin" else 1024
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is not on Windows")
def test_no_array_of_queries_by_keys_is_made() -> None:
    child = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=120
    )
    # One such array would take 604 MB in float32; a sixteenth of it is room for everything else.
    assert int(child.stdout) < 604_000_000 // 16
