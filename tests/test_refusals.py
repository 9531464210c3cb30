"""Every documented refusal: which exception, which argument it names, what it says came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subquad

Q = np.random.default_rng(0).standard_normal((2, 5, 4))
K = np.random.default_rng(1).standard_normal((2, 6, 4))
V = np.random.default_rng(2).standard_normal((2, 6, 3))
G = np.ones((2, 5, 3))


def changed(array: Any, index: tuple[int, ...], number: float) -> Any:
    copy = np.array(array)
    copy[index] = number
    return copy


def read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


def calls(arguments: dict[str, Any]) -> list[Callable[[], Any]]:
    """Each function that takes these keywords, with good arrays where none are given."""
    arrays = {"query": Q, "key": K, "value": V}
    both = {**arrays, **arguments}
    found = [lambda: subquad.attention(**both), lambda: subquad.reference.attention(**both)]
    if not {"out", "return_lse"} & arguments.keys():
        found += [
            lambda: subquad.attention_grad(G, **both),
            lambda: subquad.reference.attention_grad(G, **both),
        ]
        if "plan" not in arguments:
            found += [lambda: subquad.plan(**both), lambda: subquad.reference.plan(**both)]
    return found


VALUE_ERRORS: list[tuple[dict[str, Any], str]] = [
    # shapes
    ({"query": Q[0, 0]}, r"`query` must have shape \(\.\.\., L, E\), got \(4,\)"),
    ({"key": K[0, 0]}, r"`key` must have shape \(\.\.\., S, E\), got \(4,\)"),
    ({"value": V[0, 0]}, r"`value` must have shape \(\.\.\., S, Ev\), got \(3,\)"),
    ({"key": K[..., :3]}, r"`key`.*E = 4.*\(2, 5, 4\).*got \(2, 6, 3\)"),
    ({"value": V[:, :5]}, r"`value`.*S = 6.*\(2, 6, 4\).*got \(2, 5, 3\)"),
    ({"query": np.zeros((3, 5, 4))}, r"H = 3 heads.*Hkv = 2.*H == Hkv.*\(3, 5, 4\).*\(2, 6, 4\)"),
    ({"query": np.zeros((4, 5, 4))}, r"H = 4.*enable_gqa=True"),
    ({"query": np.zeros((3, 5, 4)), "enable_gqa": True}, r"H = 3.*H % Hkv == 0"),
    ({"value": np.zeros((3, 6, 3))}, r"leading axes that broadcast.*\(2, 6, 4\) and \(3, 6, 3\)"),
    ({"query": np.zeros((3, 2, 5, 4)), "key": np.zeros((2, 2, 6, 4))}, r"leading axes.*\(3, 2, 5"),
    ({"query": [[1.0, 2.0], [3.0]]}, "`query` cannot be made into an array"),
    # masks and biases
    ({"mask": np.ones((6, 5), bool)}, r"`mask`.*\(\.\.\., L, S\) = \(2, 5, 6\), got \(6, 5\)"),
    ({"mask": np.ones((1, 2, 5, 6), bool)}, r"`mask`.*\(2, 5, 6\), got \(1, 2, 5, 6\)"),
    ({"bias": np.zeros((3, 5, 6))}, r"`bias`.*\(2, 5, 6\), got \(3, 5, 6\)"),
    # options
    ({"scale": 0.0}, "`scale` must be finite and not 0, got 0.0"),
    ({"scale": np.nan}, "`scale`.*nan"),
    ({"scale": -np.inf}, "`scale`.*-inf"),
    ({"is_causal": "left"}, '`is_causal`.*"upper_left".*"lower_right".*\'left\''),
    ({"is_causal": 1}, "`is_causal`.*got 1"),
    ({"is_causal": None}, "`is_causal`.*got None"),
    ({"window": 3}, "`window`.*needs `is_causal`.*window=3"),
    ({"window": 0, "is_causal": True}, "`window` must be at least 1, got 0"),
    ({"window": -2, "is_causal": True}, "`window`.*-2"),
    ({"eps": 0.0}, "`eps` must be positive and finite, got 0.0"),
    ({"eps": -1e-3}, "`eps`.*-0.001"),
    ({"eps": np.inf}, "`eps`.*inf"),
    ({"eps": np.nan}, "`eps`.*nan"),
    (
        {"method": "halfspace"},
        '`method` must be one of "auto", "exact", "polynomial", got \'halfspace\'',
    ),
    ({"method": 3}, "`method`.*got 3"),
    ({"certificate": "sampled"}, '`certificate`.*"statistical", "none", got \'sampled\''),
    ({"method": "polynomial"}, '`eps` or `plan` must be given with method="polynomial"'),
    ({"centres": "mean"}, '`centres` must be "auto", None,'),
    ({"centres": 0}, "`centres` must be at least 1, got 0"),
    ({"centres": (np.zeros(3),)}, "`centres` must be two arrays .*, got 1"),
    ({"fallback": "ignore"}, '`fallback`.*"exact", "raise", "warn", got \'ignore\''),
    ({"rng": -1}, "`rng` must be as in numpy.random.default_rng"),
    ({"workers": 0}, "`workers`.*got 0"),
    ({"workers": -10_000}, "`workers`.*got -10000"),
]


@pytest.mark.parametrize(("arguments", "message"), VALUE_ERRORS)
def test_value_errors(arguments: dict[str, Any], message: str) -> None:
    for call in calls(arguments):
        with pytest.raises(ValueError, match=message):
            call()


TYPE_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"query": Q.astype(complex)}, "`query` must hold real numbers.*complex128"),
    ({"key": K.astype(object)}, "`key`.*object"),
    ({"value": V.astype(str)}, "`value`.*str"),
    ({"value": V.astype("timedelta64[s]")}, "`value`.*timedelta64"),
    ({"query": np.ma.masked_array(Q)}, "`query` is a masked array.*`mask`"),
    ({"query": None}, "`query`.*object"),
    ({"mask": np.zeros((5, 6))}, "`mask` must be boolean.*float64.*`bias`"),
    ({"mask": np.zeros((5, 6), np.uint8)}, "`mask`.*uint8.*`bias`"),
    ({"bias": np.zeros((5, 6), bool)}, "`bias`.*bool.*`mask`"),
    ({"bias": np.zeros((5, 6), complex)}, "`bias`.*complex128"),
    ({"window": 2.0, "is_causal": True}, "`window` must be an integer, got 2.0 of type float"),
    ({"window": True, "is_causal": True}, "`window` must be an integer, got True"),
    ({"scale": "1"}, "`scale` must be a real number, got '1'"),
    ({"scale": 1j}, "`scale`.*1j"),
    ({"eps": "small"}, "`eps` must be a real number"),
    ({"rng": "seed"}, "`rng`"),
    ({"workers": 1.5}, "`workers` must be an integer, got 1.5 of type float"),
    ({"workers": True}, "`workers` must be an integer, got True"),
]


@pytest.mark.parametrize(("arguments", "message"), TYPE_ERRORS)
def test_type_errors(arguments: dict[str, Any], message: str) -> None:
    for call in calls(arguments):
        with pytest.raises(TypeError, match=message):
            call()


def test_extended_precision_is_refused_rather_than_rounded() -> None:
    if np.dtype(np.longdouble).itemsize <= 8:
        pytest.skip("long double is float64 on this platform")
    with pytest.raises(TypeError, match=r"`key`.*64 bits"):
        subquad.attention(Q, K.astype(np.longdouble), V)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("name", "index"), [("query", (1, 2, 3)), ("key", (0, 4, 1)), ("value", (1, 3, 2))]
)
def test_an_input_that_is_not_finite_is_named_with_its_index(
    name: str, index: tuple[int, ...], number: float, dtype: Any
) -> None:
    arrays: dict[str, Any] = {
        "query": Q.astype(dtype),
        "key": K.astype(dtype),
        "value": V.astype(dtype),
    }
    arrays[name] = changed(arrays[name], index, number)
    message = rf"`{name}` must be finite, got {number} at index \({', '.join(map(str, index))}\)"
    for function in (subquad.attention, subquad.reference.attention):
        with pytest.raises(ValueError, match=message):
            function(**arrays)
    for gradient in (subquad.attention_grad, subquad.reference.attention_grad):
        with pytest.raises(ValueError, match=message):
            gradient(G.astype(dtype), **arrays)


def test_the_first_of_several_is_named_by_its_index_in_the_array_as_given() -> None:
    key = np.array(K[0])
    key[2:4, 1] = np.nan
    flipped = key[::-1]  # row 2 of the view is row 3 of the memory
    with pytest.raises(ValueError, match=r"`key` must be finite, got nan at index \(2, 1\)"):
        subquad.attention(Q, flipped, V[0])


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_bias_of_nan_or_plus_infinity_is_refused(number: float) -> None:
    bias = changed(np.zeros((5, 6), np.float32), (3, 2), number)
    for function in (subquad.attention, subquad.reference.attention):
        with pytest.raises(ValueError, match=rf"`bias`.*finite or -inf, got {number}.*\(3, 2\)"):
            function(Q, K, V, bias=bias)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_an_upstream_gradient_that_is_not_finite_is_refused(number: float) -> None:
    for function in (subquad.attention_grad, subquad.reference.attention_grad):
        with pytest.raises(ValueError, match=rf"`grad_out`.*{number} at index \(1, 0, 2\)"):
            function(changed(G, (1, 0, 2), number), Q, K, V)


def test_a_forward_pass_that_is_not_finite_is_refused() -> None:
    out, lse = subquad.attention(Q, K, V, return_lse=True)
    with pytest.raises(ValueError, match=r"`forward\[0\]`.*nan at index \(0, 1, 2\)"):
        subquad.attention_grad(G, Q, K, V, forward=(changed(out, (0, 1, 2), np.nan), lse))
    with pytest.raises(ValueError, match=r"`forward\[1\]`.*nan at index \(0, 1\)"):
        subquad.attention_grad(G, Q, K, V, forward=(out, changed(lse, (0, 1), np.nan)))


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e25), (np.float64, 1e200)])
def test_a_logit_out_of_range_says_so(dtype: Any, size: float) -> None:
    q, k = (size * np.ones((3, 4), dtype) for _ in range(2))
    v = np.ones((3, 2), dtype)
    message = f"a logit.*exceeds the range of {np.dtype(dtype).name}"
    with pytest.raises(ValueError, match=message) as caught:
        subquad.attention(q, k, v)
    assert ("float64 arrays" in str(caught.value)) == (dtype is np.float32)
    with pytest.raises(ValueError, match=message):
        subquad.attention(-q, k, v)
    with pytest.raises(ValueError, match=message):
        subquad.attention_grad(v, q, k, v)


def test_the_check_can_be_turned_off_safely() -> None:
    for number in (np.nan, np.inf):
        query, value = changed(Q, (0, 1, 1), number), changed(V, (1, 0, 0), number)
        bias = changed(np.zeros((5, 6)), (2, 2), number)
        out = subquad.attention(query, K, value, bias=bias, check_finite=False)
        assert out.shape == (2, 5, 3)
        grads = subquad.attention_grad(G, query, K, value, bias=bias, check_finite=False)
        assert grads.bias.shape == (5, 6)


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ([[0.0] * 3] * 5, TypeError, "`out` must be a numpy array.*list"),
        (np.empty((2, 5, 3), np.float32), TypeError, "`out`.*float64, got float32"),
        (np.empty((2, 5, 3), ">f8"), TypeError, "`out`.*float64, got >f8"),
        (np.empty((5, 3)), ValueError, r"`out`.*\(\.\.\., L, Ev\) = \(2, 5, 3\), got \(5, 3\)"),
        (read_only(np.empty((2, 5, 3))), ValueError, "`out` must be writeable"),
        (np.empty((2, 3, 5)).swapaxes(1, 2), ValueError, "`out` must be C-contiguous"),
        (np.empty((2, 5, 6))[..., ::2], ValueError, "`out` must be C-contiguous"),
        (np.empty(241, np.int8)[1:].view(float).reshape(2, 5, 3), ValueError, "`out`.*aligned"),
    ],
)
def test_a_bad_out_is_refused(out: Any, error: type[Exception], message: str) -> None:
    for function in (subquad.attention, subquad.reference.attention):
        with pytest.raises(error, match=message):
            function(Q, K, V, out=out)


def test_an_out_that_overlaps_an_input_is_refused() -> None:
    memory = np.zeros(400)
    query = memory[:40].reshape(2, 5, 4)
    mask = memory.view(bool)[800:860].reshape(2, 5, 6)
    for out, name in ((memory[10:40], "query"), (memory[85:115], "mask")):
        with pytest.raises(ValueError, match=f"`out` must not overlap an input.*`{name}`"):
            subquad.attention(query, K, V, mask=mask, out=out.reshape(2, 5, 3))
    # Rows between those of an input are memory of their own.
    rows = np.zeros((3, 30))
    rows[0], rows[2] = 1.0, 2.0
    value = rows[::2].reshape(2, 30)[:, :3]
    out = rows[1, :3].reshape(1, 3)
    assert subquad.attention(Q[0, :1], K[0, :2], value, out=out) is out
    assert np.all((out >= 1.0) & (out <= 2.0))


@pytest.mark.parametrize(
    ("forward", "error", "message"),
    [
        (np.zeros((2, 5, 3)), TypeError, r"`forward` must be \(out, lse\).*ndarray"),
        ((np.zeros((2, 5, 3)),), TypeError, "`forward`.*tuple"),
        ((np.zeros((2, 5, 4)), np.zeros((2, 5))), ValueError, r"`forward\[0\]`.*\(2, 5, 3\).*5, 4"),
        (
            (np.zeros((2, 5, 3)), np.zeros((2, 6))),
            ValueError,
            r"`forward\[1\]`.*\(2, 5\).*\(2, 6\)",
        ),
        ((np.zeros((2, 5, 3), "f4"), np.zeros((2, 5))), TypeError, r"`forward\[0\]`.*float32"),
        ((np.zeros((2, 5, 3)), np.zeros((2, 5), "f4")), TypeError, r"`forward\[1\]`.*float32"),
    ],
)
def test_a_bad_forward_is_refused(forward: Any, error: type[Exception], message: str) -> None:
    for function in (subquad.attention_grad, subquad.reference.attention_grad):
        with pytest.raises(error, match=message):
            function(G, Q, K, V, forward=forward)


def test_a_bad_upstream_gradient_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`grad_out`.*\(2, 5, 3\), got \(5, 3\)"):
        subquad.attention_grad(G[0], Q, K, V)
    with pytest.raises(TypeError, match=r"`grad_out`.*complex64"):
        subquad.attention_grad(G.astype(np.complex64), Q, K, V)


@pytest.mark.parametrize(
    ("wrt", "error", "message"),
    [
        (("query", "queries"), ValueError, '`wrt`.*"query", "key", "value".*\'queries\''),
        (("bias",), ValueError, "`wrt` must name arguments that were given.*'bias'"),
        (("mask",), ValueError, "`wrt`.*'mask'"),
        ("query", TypeError, "`wrt`.*string 'query'"),
    ],
)
def test_a_bad_wrt_is_refused(wrt: Any, error: type[Exception], message: str) -> None:
    for function in (subquad.attention_grad, subquad.reference.attention_grad):
        with pytest.raises(error, match=message):
            function(G, Q, K, V, wrt=wrt)


def test_keywords_that_do_not_exist_are_refused() -> None:
    with pytest.raises(TypeError, match="dropout_p"):
        subquad.attention(Q, K, V, dropout_p=0.1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional"):
        subquad.attention(Q, K, V, None)  # type: ignore[call-arg]


@pytest.mark.parametrize("queries", [8, 40])
def test_a_logit_beyond_the_range_is_refused_and_not_taken_for_a_hidden_key(queries: int) -> None:
    q = np.full((queries, 2), 1e20, np.float32)
    k = np.zeros((70, 2), np.float32)
    k[0] = [-1e19, 1e19]
    v = np.ones((70, 3), np.float32)
    with pytest.raises(ValueError, match="exceeds the range of float32"):
        subquad.attention(q, k, v, scale=1.0)


def test_nan_in_a_bias_that_hides_all_other_keys_of_a_block_is_found() -> None:
    q, k, v = np.random.default_rng(0).standard_normal((3, 600, 8), np.float32)
    bias = np.zeros((40, 600), np.float32)
    bias[:, 192:384] = -np.inf
    bias[3, 200] = np.nan
    with pytest.raises(
        ValueError, match=r"`bias` must be finite or -inf, got nan at index \(3, 200\)"
    ):
        subquad.attention(q[:40], k, v, bias=bias)


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_a_log_sum_exp_that_cannot_be_is_refused(number: float) -> None:
    q, k, v = np.random.default_rng(0).standard_normal((3, 50, 8), np.float32)
    out, lse = subquad.attention(q, k, v, return_lse=True)
    lse[7] = number
    with pytest.raises(ValueError, match=r"forward|exceeds the range"):
        subquad.attention_grad(q, q, k, v, forward=(out, lse))
