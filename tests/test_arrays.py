"""What counts as an array, which copies are made, and what comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import bfloat16_bits

import subquad
from subquad._arrays import stored, take, wide
from subquad._layout import laid_out

F32 = np.dtype(np.float32)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_are_read_in_place_whatever_their_outer_strides(dtype: str) -> None:
    memory = np.zeros((4, 6, 3, 8), dtype)
    for view in (
        memory,
        memory[::-1, ::2, 1],
        np.swapaxes(memory, 0, 2),
        np.broadcast_to(memory[:1], (7, 6, 3, 8)),
        memory[..., 2:5],
        memory[..., :1],
    ):
        assert laid_out(take("x", view), F32) is view


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(4, 6)[:, ::2],
        np.arange(24.0).reshape(4, 6)[:, ::-1],
        np.asfortranarray(np.arange(24.0).reshape(4, 6)),
        np.arange(24.0).reshape(4, 6).astype(">f8"),
        np.arange(24.0).reshape(4, 6).astype(">f2"),
        np.broadcast_to(np.arange(4.0)[:, None], (4, 6)),
        np.frombuffer(b"\0" + np.arange(24.0).tobytes(), np.uint8)[1:].view(float).reshape(4, 6),
        np.array([(1.0, 2), (3.0, 4)], dtype="f8,i2")["f0"][:, np.newaxis],
        np.arange(24).reshape(4, 6),
        np.arange(24).reshape(4, 6).astype(np.uint16),
        np.eye(4, 6, dtype=bool),
    ],
)
def test_everything_else_is_converted_to_the_same_numbers(array: Any) -> None:
    read = laid_out(take("x", array), F32)
    np.testing.assert_array_equal(read, array.astype(np.float64))
    assert read.dtype.isnative
    assert read.dtype.kind == "f"
    assert read.flags.aligned
    assert read.shape[-1] == 1 or read.strides[-1] == read.itemsize
    assert all(stride % read.itemsize == 0 for stride in read.strides)


def test_a_conversion_does_not_repeat_expanded_heads() -> None:
    heads = np.broadcast_to(np.arange(12).reshape(3, 4), (1000, 3, 4))
    read = laid_out(take("x", heads), F32)
    assert read.shape == heads.shape
    assert read.strides[0] == 0


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (("float32", "float32", "float32"), "float32"),
        (("float32", "float64", "float32"), "float64"),
        (("float16", "float16", "float16"), "float16"),
        (("float16", "float32", "float16"), "float32"),
        (("int64", "int64", "int64"), "float64"),
        (("int8", "bool", "uint8"), "float64"),
        (("int8", "int8", "float16"), "float16"),
        (("int16", "int16", "float16"), "float32"),
        (("int32", "float32", "float32"), "float64"),
        (("bool", "float32", "float32"), "float32"),
        ((">f4", ">f4", "<f4"), "float32"),
    ],
)
def test_the_result_has_the_common_dtype(dtypes: tuple[str, ...], expected: str) -> None:
    q, k, v = (np.ones((3, 2)).astype(dtype) for dtype in dtypes)
    for bias in (None, np.zeros((3, 3), np.float64)):
        assert subquad.attention(q, k, v, bias=bias).dtype == expected


def test_subclasses_come_in_and_plain_arrays_go_out(tmp_path: Any) -> None:
    x = np.random.default_rng(0).standard_normal((6, 4))
    expected = subquad.attention(x, x, x)
    mapped = np.memmap(tmp_path / "x", dtype=x.dtype, mode="w+", shape=x.shape)
    mapped[:] = x
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix(x)
    for array in (mapped, matrix, x.tolist(), tuple(map(tuple, x))):
        out = subquad.attention(array, array, array)
        assert type(out) is np.ndarray
        np.testing.assert_array_equal(out, expected)


def test_a_mapped_file_can_receive_the_result(tmp_path: Any) -> None:
    x = np.random.default_rng(1).standard_normal((6, 4))
    out = np.memmap(tmp_path / "out", dtype=x.dtype, mode="w+", shape=x.shape)
    assert subquad.attention(x, x, x, out=out) is out
    np.testing.assert_array_equal(out, subquad.attention(x, x, x))


@given(st.integers(0, 2**32 - 1))
def test_bfloat16_rounds_to_nearest_even(bits: int) -> None:
    number = np.array([bits], np.uint32).view(np.float32)
    got = wide(stored(number, "bfloat16"), "bfloat16")[0]
    if np.isnan(number[0]):
        assert np.isnan(got)
        return
    # The neighbours of a number are its 16 leading bits, and those plus one.
    below = np.array([bits & 0xFFFF0000], np.uint32).view(np.float32)[0]
    above = np.array([(bits & 0xFFFF0000) + 0x10000 & 0xFFFFFFFF], np.uint32).view(np.float32)[0]
    exact = float(number[0])
    if np.isfinite(above) and np.isfinite(below):
        gaps = abs(exact - float(below)), abs(exact - float(above))
        even_below = (bits >> 16) % 2 == 0
        nearest = below if gaps[0] < gaps[1] or (gaps[0] == gaps[1] and even_below) else above
        assert got == nearest
    else:
        assert got in (below, above) or np.isinf(got)


@given(st.integers(0, 2**16 - 1))
def test_bfloat16_survives_the_way_there_and_back(bits: int) -> None:
    before = np.array([bits], np.uint16)
    number = wide(before, "bfloat16")
    if not np.isnan(number[0]):
        np.testing.assert_array_equal(stored(number, "bfloat16"), before)
        if np.isfinite(number[0]):
            np.testing.assert_array_equal(bfloat16_bits(number), before)


def test_a_mask_may_hold_any_nonzero_byte() -> None:
    q, k, v = np.random.default_rng(2).standard_normal((3, 6, 4))
    odd = (3 * np.eye(6, dtype=np.uint8)).view(bool)
    out = subquad.attention(q, k, v, mask=odd)
    np.testing.assert_array_equal(out, subquad.attention(q, k, v, mask=np.eye(6, dtype=bool)))


def test_a_scalar_mask_or_bias_broadcasts() -> None:
    q, k, v = np.random.default_rng(3).standard_normal((3, 6, 4))
    expected = subquad.attention(q, k, v)
    np.testing.assert_array_equal(subquad.attention(q, k, v, mask=True), expected)
    np.testing.assert_allclose(subquad.attention(q, k, v, bias=1.5), expected, rtol=1e-13)
    assert np.all(subquad.attention(q, k, v, mask=False) == 0.0)
