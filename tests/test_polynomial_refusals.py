"""Every documented refusal of polynomial attention and its features."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial.polynomial import polyval
from polynomials import taylor

import subquad

Q = 0.5 * np.random.default_rng(0).standard_normal((2, 5, 4))
K = np.random.default_rng(1).standard_normal((2, 6, 4))
V = np.random.default_rng(2).standard_normal((2, 6, 3))
G = np.ones((2, 5, 3))
C = [1.0, 1.0, 0.5]


def calls(arguments: dict[str, Any]) -> list[Callable[[], Any]]:
    """The functions and their twins, with good arguments where none are given."""
    both = {"query": Q, "key": K, "value": V, "coefficients": C, **arguments}
    g = np.ones((*np.shape(both["query"])[:-1], np.shape(both["value"])[-1]))
    found: list[Callable[[], Any]] = []
    for namespace in (subquad, subquad.reference):
        if not {"wrt", "grad_out"} & arguments.keys():
            found.append(partial(namespace.polynomial_attention, **both))
        if "out" not in arguments:
            found.append(partial(namespace.polynomial_attention_grad, **{"grad_out": g, **both}))
    return found


def changed(array: Any, index: tuple[int, ...], number: float) -> Any:
    copy = np.array(array)
    copy[index] = number
    return copy


VALUE_ERRORS: list[tuple[dict[str, Any], str]] = [
    # coefficients
    ({"coefficients": []}, r"`coefficients` must have shape \(degree \+ 1,\).*got \(0,\)"),
    ({"coefficients": 1.0}, r"`coefficients`.*got \(\)"),
    ({"coefficients": [[1.0, 1.0]]}, r"`coefficients`.*got \(1, 2\)"),
    ({"coefficients": [1.0, np.nan]}, r"`coefficients` must be finite, got nan at index \(1,\)"),
    ({"coefficients": [-np.inf]}, r"`coefficients`.*-inf at index \(0,\)"),
    # shapes
    ({"query": Q[0, 0]}, r"`query` must have shape \(\.\.\., L, E\), got \(4,\)"),
    ({"key": K[..., :3]}, r"`key`.*E = 4.*got \(2, 6, 3\)"),
    ({"value": V[:, :5]}, r"`value`.*S = 6.*got \(2, 5, 3\)"),
    ({"query": np.zeros((4, 5, 4))}, r"H = 4.*enable_gqa=True"),
    ({"query": np.zeros((3, 5, 4)), "enable_gqa": True}, r"H = 3.*H % Hkv == 0"),
    # options
    ({"scale": 0.0}, "`scale` must be finite and not 0"),
    ({"scale": np.nan}, "`scale`.*nan"),
    ({"is_causal": "left"}, "`is_causal`.*'left'"),
    ({"is_causal": None}, "`is_causal`.*None"),
    ({"wrt": ("bias",)}, '`wrt`.*"query", "key", "value", "coefficients".*\'bias\''),
    ({"grad_out": G[0]}, r"`grad_out`.*\(2, 5, 3\), got \(5, 3\)"),
    ({"grad_out": changed(G, (1, 0, 2), np.nan)}, r"`grad_out`.*nan at index \(1, 0, 2\)"),
    ({"out": np.empty((5, 3))}, r"`out`.*\(2, 5, 3\), got \(5, 3\)"),
]

TYPE_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"coefficients": [1.0, 1.0j]}, "`coefficients` must hold real numbers.*complex128"),
    ({"coefficients": None}, "`coefficients`.*object"),
    ({"coefficients": ["1"]}, "`coefficients`.*str"),
    ({"query": Q.astype(complex)}, "`query`.*complex128"),
    ({"key": K.astype(object)}, "`key`.*object"),
    ({"scale": "1"}, "`scale` must be a real number"),
    ({"wrt": "query"}, "`wrt`.*string 'query'"),
    ({"grad_out": G.astype(complex)}, "`grad_out`.*complex128"),
    ({"out": np.empty((2, 5, 3), np.float32)}, "`out`.*float64, got float32"),
]


@pytest.mark.parametrize(("arguments", "message"), VALUE_ERRORS)
def test_value_errors(arguments: dict[str, Any], message: str) -> None:
    for call in calls(arguments):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(("arguments", "message"), TYPE_ERRORS)
def test_type_errors(arguments: dict[str, Any], message: str) -> None:
    for call in calls(arguments):
        with pytest.raises(TypeError, match=message):
            call()


@pytest.mark.parametrize("keyword", ["window", "mask", "bias", "eps", "method"])
def test_keywords_of_softmax_attention_are_not_taken(keyword: str) -> None:
    for call in calls({keyword: None}):
        with pytest.raises(TypeError, match=keyword):
            call()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "index"), [("query", (1, 2, 3)), ("key", (0, 4, 1)), ("value", (1, 3, 2))]
)
def test_an_input_that_is_not_finite_is_named_with_its_index(
    name: str, index: tuple[int, ...], number: float, dtype: Any
) -> None:
    arrays: dict[str, Any] = {"query": Q, "key": K, "value": V}
    arrays = {n: x.astype(dtype) for n, x in arrays.items()}
    arrays[name] = changed(arrays[name], index, number)
    message = rf"`{name}` must be finite, got {number} at index \({', '.join(map(str, index))}\)"
    for call in calls(arrays):
        with pytest.raises(ValueError, match=message):
            call()


def test_the_check_can_be_turned_off_safely() -> None:
    for number in (np.nan, np.inf):
        for name, array in (("query", Q), ("key", K), ("value", V)):
            arguments = {name: changed(array, (1, 1, 1), number), "check_finite": False}
            for call in calls(arguments):
                # What comes out is not defined; a sum that is no number may also be refused.
                with np.errstate(all="ignore"):
                    try:
                        call()
                    except ValueError as refusal:
                        assert "sum to" in str(refusal)  # noqa: PT017


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e25), (np.float64, 1e200)])
def test_a_weight_out_of_range_says_so(dtype: Any, size: float) -> None:
    q, k = (size * np.ones((3, 4), dtype) for _ in range(2))
    v = np.ones((3, 2), dtype)
    message = f"exceeds the range of {np.dtype(dtype).name}"
    with pytest.raises(ValueError, match=message):
        subquad.polynomial_attention(q, k, v, [1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match=message):
        subquad.polynomial_attention_grad(v, q, k, v, [1.0, 0.0, 1.0])


# One row of each head whose weights sum to 0 or less, the first of them at the index named.
ZERO = [0.0, 1.0]


def with_bad_rows(shape: tuple[int, ...], bad: list[tuple[int, ...]], logit: float) -> Any:
    q = np.ones((*shape, 1))
    for index in bad:
        q[index] = logit
    return q


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("logit", [0.0, -1.0])
@pytest.mark.parametrize(
    ("shape", "bad", "first"),
    [
        ((5,), [(3,)], r"\(3,\)"),
        ((2, 5), [(1, 4), (1, 2)], r"\(1, 2\)"),
        ((2, 3, 300), [(1, 2, 7), (1, 1, 299)], r"\(1, 1, 299\)"),
        ((2, 2, 70), [(0, 0, 0), (1, 1, 69)], r"\(0, 0, 0\)"),
    ],
)
def test_the_first_row_that_may_not_be_divided_is_named(
    shape: tuple[int, ...], bad: Any, first: str, logit: float, dtype: Any
) -> None:
    q = with_bad_rows(shape, bad, logit).astype(dtype)
    k, v = np.ones((2, 40, 1), dtype)
    for is_causal in (False, True):
        arguments = {"query": q, "key": k, "value": v, "coefficients": ZERO}
        for call in calls(arguments | {"scale": 1.0, "is_causal": is_causal}):
            with pytest.raises(ValueError, match=rf"{first}.*sum"):
                call()
    # In one call, whatever the number of threads.
    for workers in (1, 2, 5):
        with pytest.raises(ValueError, match=rf"{first}.*sum"):
            subquad.polynomial_attention(q, k, v, ZERO, scale=1.0, workers=workers)


@pytest.mark.parametrize("coefficients", [[-1.0], [0.0], [-1.0, -1.0, -0.5]])
def test_polynomials_that_are_never_positive_are_refused(coefficients: Any) -> None:
    for call in calls({"coefficients": coefficients}):
        with pytest.raises(ValueError, match=r"\(0, 0\).*sum"):
            call()
    # Without a key nothing is divided.
    out = subquad.polynomial_attention(Q, K[:, :0], V[:, :0], coefficients)
    np.testing.assert_array_equal(out, np.zeros((2, 5, 3)))


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from([1, 3]),
    st.booleans(),
)
def test_a_row_is_refused_or_right(seed: int, dtype: str, degree: int, is_causal: bool) -> None:
    rng = np.random.default_rng(seed)
    # Odd powers of large logits: sums of any sign, some of them next to 0.
    q, k, v = ((2.0 * rng.standard_normal((12, 3))).astype(dtype) for _ in range(3))
    c = taylor(degree)
    try:
        out = subquad.polynomial_attention(q, k, v, c, scale=1.0, is_causal=is_causal)
    except ValueError as refusal:
        assert "sum" in str(refusal)  # noqa: PT017
        refused = True
    else:
        refused = False
    logits = q.astype(np.float64) @ k.T.astype(np.float64)
    weights = polyval(logits, c) * (np.tri(12) if is_causal else 1.0)
    total = weights.sum(axis=1)
    bounds = np.abs(q).astype(np.float64) @ np.abs(k).T.astype(np.float64)
    size = (polyval(bounds, c) * (np.tri(12) if is_causal else 1.0)).sum(axis=1)
    unit = np.finfo(dtype).eps
    if np.any(total <= 0):
        assert refused
    elif np.all(total > 1e3 * unit * size):
        # A bound that refuses rows as good as these would be of no use.
        assert not refused
    if not refused:
        exact = weights @ v / total[:, None]
        error = np.abs(out - exact).max(axis=1)
        assert np.all(error <= 100 * unit * (size / total) ** 2 * np.abs(v).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("is_causal", [False, "lower_right"])
def test_a_sum_is_not_taken_for_positive_when_it_may_be_rounding(
    is_causal: bool | str, dtype: Any
) -> None:
    query, value = np.ones((1, 1), dtype), np.ones((200, 1), dtype)
    negative = 0
    for seed in range(60):
        key = (0.1 * np.random.default_rng(seed).standard_normal((200, 1))).astype(dtype)
        # The weights 1 + key sum to the rounding error of the last key, of either sign.
        key[-1] = -200.0 - math.fsum(key[:-1, 0])
        total = math.fsum([200.0, *key[:, 0]])
        negative += total <= 0
        for function in (subquad.polynomial_attention, subquad.reference.polynomial_attention):
            try:
                function(query, key, value, [1.0, 1.0], scale=1.0, is_causal=is_causal)
            except ValueError as refusal:
                assert "sum" in str(refusal)  # noqa: PT017
            else:
                assert total > 0
    assert negative >= 10


def test_more_features_than_memory_are_refused_with_their_bytes() -> None:
    q, k, v = np.ones((3, 2, 128), np.float32)
    for degree in (12, 40, 300):
        c = np.ones(degree + 1)
        with pytest.raises((ValueError, MemoryError), match=r"[0-9] ?(?:bytes|[KMGTPE]i?B)"):
            subquad.polynomial_attention(q, k, v, c)
        with pytest.raises((ValueError, MemoryError), match=r"[0-9] ?(?:bytes|[KMGTPE]i?B)"):
            subquad.polynomial_attention_grad(v, q, k, v, c)
        with pytest.raises((ValueError, MemoryError), match=r"[0-9] ?(?:bytes|[KMGTPE]i?B)"):
            subquad.polynomial.features(q, degree)
