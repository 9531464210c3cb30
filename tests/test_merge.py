"""Putting attention over parts of the keys together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Case, cases

import subquad


@given(cases(lengths=(1, 30), layouts=False), st.data())
def test_parts_of_the_keys_merge_into_the_whole(case: Case, data: Any) -> None:
    options = {n: x for n, x in case.options.items() if n not in ("is_causal", "window")}
    keys = case.key.shape[-2]
    owner = np.array(data.draw(st.lists(st.integers(0, 3), min_size=keys, max_size=keys)))
    outs, lses = [], []
    for part in range(4):
        (chosen,) = np.nonzero(owner == part)
        some = dict(options)
        for name in ("mask", "bias"):
            if name in options and options[name].ndim and options[name].shape[-1] == keys > 1:
                some[name] = options[name][..., chosen]
            elif name in options and options[name].ndim:
                some[name] = options[name][..., : 1 if keys > 1 else chosen.size]
        arrays = case.query, case.key[..., chosen, :], case.value[..., chosen, :]
        out, lse = subquad.attention(*arrays, **some, return_lse=True)
        outs.append(out)
        lses.append(lse)
    out, lse = subquad.merge(outs, lses)
    whole, whole_lse = subquad.attention(*case.arrays, **options, return_lse=True)
    tolerance = 1e-12 if whole.dtype == np.float64 else 1e-5
    assert (out.dtype, lse.dtype) == (whole.dtype, whole_lse.dtype)
    np.testing.assert_allclose(out, whole, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(lse, whole_lse, rtol=tolerance, atol=tolerance)

    twin_out, twin_lse = subquad.reference.merge(outs, lses)
    np.testing.assert_allclose(out, twin_out, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(lse, twin_lse, rtol=tolerance, atol=tolerance)


def test_one_part_comes_back_as_it_is() -> None:
    q, k, v = np.random.default_rng(0).standard_normal((3, 2, 9, 4), dtype=np.float32)
    out, lse = subquad.attention(q, k, v, return_lse=True)
    merged, merged_lse = subquad.merge([out], [lse])
    np.testing.assert_array_equal(merged, out)
    np.testing.assert_array_equal(merged_lse, lse)


def test_parts_that_saw_nothing_count_for_nothing() -> None:
    q, k, v = np.random.default_rng(1).standard_normal((3, 9, 4))
    out, lse = subquad.attention(q, k, v, return_lse=True)
    nothing = np.zeros_like(out), np.full_like(lse, -np.inf)
    merged, merged_lse = subquad.merge([nothing[0], out], [nothing[1], lse])
    np.testing.assert_array_equal(merged, out)
    np.testing.assert_array_equal(merged_lse, lse)
    merged, merged_lse = subquad.merge([nothing[0]] * 2, [nothing[1]] * 2)
    assert np.all(merged == 0.0)
    assert np.all(np.isneginf(merged_lse))


def test_far_apart_weights_do_not_overflow() -> None:
    outs = np.array([[[1.0]], [[2.0]]])
    out, lse = subquad.merge(outs, np.array([[1e300], [-1e300]]))
    assert out.item() == 1.0
    assert lse.item() == 1e300


def test_parts_may_be_iterators_and_half_precision() -> None:
    outs = np.array([[[1.0]], [[3.0]]], np.float16)
    out, lse = subquad.merge(iter(outs), iter(np.zeros((2, 1), np.float16)))
    assert (out.dtype, out.item()) == (np.float16, 2.0)
    assert lse.dtype == np.float32
    np.testing.assert_allclose(lse, np.log(2.0), rtol=1e-7)


@pytest.mark.parametrize(
    ("outs", "lses", "message"),
    [
        ([], [], "at least one part.*0 and 0"),
        ([np.zeros((3, 2))], [], "1 and 0"),
        ([np.zeros(3)], [np.zeros(())], r"`outs\[0\]`.*\(\.\.\., L, Ev\).*\(3,\)"),
        (
            [np.zeros((3, 2)), np.zeros((3, 1))],
            [np.zeros(3)] * 2,
            r"`outs\[1\]`.*\(3, 2\).*\(3, 1\)",
        ),
        ([np.zeros((3, 2))], [np.zeros((3, 2))], r"`lses\[0\]`.*\(3,\).*\(3, 2\)"),
        (
            [np.full((3, 2), np.nan)],
            [np.zeros(3)],
            r"`outs\[0\]` must be finite, got nan.*\(0, 0\)",
        ),
        ([np.zeros((3, 2))], [np.array([0, np.inf, 0])], r"`lses\[0\]`.*-inf, got inf.*\(1,\)"),
    ],
)
def test_refuses(outs: Any, lses: Any, message: str) -> None:
    for merge in (subquad.merge, subquad.reference.merge):
        with pytest.raises(ValueError, match=message):
            merge(outs, lses)


def test_refuses_what_is_not_numbers() -> None:
    with pytest.raises(TypeError, match=r"`outs\[0\]`.*complex128"):
        subquad.merge([np.zeros((3, 2), complex)], [np.zeros(3)])
