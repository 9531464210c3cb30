"""The twins: same names, same signatures, and right by hand-worked examples."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subquad

# Names of parameters that hold arrays, in any family.
ARRAYS = {"query", "key", "value", "keys", "outs", "x", "dag_weights", "weights", "coefficients"}


def functions_of_arrays() -> list[tuple[str, Callable[..., Any]]]:
    found: list[tuple[str, Callable[..., Any]]] = []
    for name in subquad.__all__:
        thing = getattr(subquad, name)
        if inspect.isfunction(thing) and ARRAYS & inspect.signature(thing).parameters.keys():
            found.append((name, thing))
    return found


def test_the_search_finds_what_it_should() -> None:
    names = {name for name, _ in functions_of_arrays()}
    assert {"attention", "attention_grad", "merge", "plan"} <= names


@pytest.mark.parametrize(("name", "function"), functions_of_arrays())
def test_every_function_of_arrays_has_a_twin_of_the_same_signature(
    name: str, function: Callable[..., Any]
) -> None:
    twin = getattr(subquad.reference, name)
    assert name in subquad.reference.__all__
    assert inspect.signature(twin) == inspect.signature(function)
    assert inspect.getdoc(twin)


def test_two_keys_by_hand() -> None:
    # Weights 3/4 and 1/4: the logits differ by log 3.
    out, lse = subquad.reference.attention(
        [[1.0]], [[np.log(3.0)], [0.0]], [[4.0], [8.0]], scale=1.0, return_lse=True
    )
    np.testing.assert_allclose(out, [[5.0]], rtol=1e-15)
    np.testing.assert_allclose(lse, [np.log(4.0)], rtol=1e-15)


def test_causal_alignments_by_hand() -> None:
    v = np.array([[1.0], [2.0], [4.0]])
    zeros = np.zeros((2, 1)), np.zeros((3, 1)), v
    attend = subquad.reference.attention
    np.testing.assert_allclose(attend(*zeros, is_causal=True)[:, 0], [1.0, 1.5])
    np.testing.assert_allclose(attend(*zeros, is_causal="upper_left")[:, 0], [1.0, 1.5])
    np.testing.assert_allclose(attend(*zeros, is_causal="lower_right")[:, 0], [1.5, 7 / 3])
    np.testing.assert_allclose(attend(*zeros, is_causal="lower_right", window=1)[:, 0], [2.0, 4.0])
    np.testing.assert_allclose(attend(*zeros, is_causal=True, window=2)[:, 0], [1.0, 1.5])
    hidden = np.array([True, False, True])
    np.testing.assert_allclose(attend(*zeros, mask=hidden)[:, 0], [2.5, 2.5])


def test_gradient_by_hand() -> None:
    # out = w v1 + (1 - w) v2 with w = sigmoid(s1 - s2): d out / d s1 = w (1 - w) (v1 - v2).
    q, k, v = np.array([[2.0]]), np.array([[np.log(3.0) / 2], [0.0]]), np.array([[4.0], [8.0]])
    grads = subquad.reference.attention_grad([[1.0]], q, k, v, scale=1.0, bias=np.zeros((1, 2)))
    slope = 0.75 * 0.25 * (4.0 - 8.0)
    np.testing.assert_allclose(grads.bias, [[slope, -slope]], rtol=1e-14)
    np.testing.assert_allclose(grads.query, [[slope * np.log(3.0) / 2]], rtol=1e-14)
    np.testing.assert_allclose(grads.key, [[2 * slope], [-2 * slope]], rtol=1e-14)
    np.testing.assert_allclose(grads.value, [[0.75], [0.25]], rtol=1e-14)


def test_groups_by_hand() -> None:
    q = np.zeros((4, 1, 1))
    v = np.array([1.0, 2.0]).reshape(2, 1, 1)
    out = subquad.reference.attention(q, np.zeros((2, 1, 1)), v, enable_gqa=True)
    np.testing.assert_array_equal(out[:, 0, 0], [1.0, 1.0, 2.0, 2.0])
    grads = subquad.reference.attention_grad(
        np.arange(4.0).reshape(4, 1, 1), q, np.zeros((2, 1, 1)), v, enable_gqa=True
    )
    np.testing.assert_array_equal(grads.value[:, 0, 0], [0.0 + 1.0, 2.0 + 3.0])


def test_the_twin_fills_out_and_reports() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    out = np.empty_like(x)
    returned, info = subquad.reference.attention(x, x, x, out=out, return_info=True)
    assert returned is out
    np.testing.assert_allclose(out, subquad.reference.attention(x, x, x), rtol=1e-6)
    assert (info.method, info.error_bound) == ("reference", None)
    assert "reference" in repr(info)
