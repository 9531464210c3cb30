"""Attention with biases of relative positions: the array they stand for, gradients, certificates."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from biases import KINDS, make, rebuilt, sums_by_lag
from hypothesis import given
from hypothesis import strategies as st
from running import task_order
from strategies import fixture

import subquad
from subquad._problem import prepare
from subquad.toeplitz import Bias

VISIBLE: list[dict[str, Any]] = [
    {},
    {"is_causal": True},
    {"is_causal": "lower_right"},
    {"is_causal": True, "window": 17},
    {"is_causal": "lower_right", "window": 40},
]
# Queries and keys: several blocks of each, tails of all sizes, and the kernel for few queries.
SHAPES = [(1, 1), (5, 3), (33, 40), (97, 300), (300, 97), (230, 610), (1, 900), (7, 5000)]


def arrays(queries: int, keys: int, dtype: Any = np.float64, heads: int = 2) -> Any:
    rng = np.random.default_rng(queries + 7 * keys)
    q, g = rng.standard_normal((2, heads, queries, 12)).astype(dtype)
    k = rng.standard_normal((heads, keys, 12)).astype(dtype)
    v = rng.standard_normal((heads, keys, 12)).astype(dtype)
    return g, q, k, v


def same(found: Any, expected: Any, tolerance: float, size: float = 1.0) -> None:
    expected = np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(found), finite)
    top = np.abs(expected[finite]).max(initial=size)
    np.testing.assert_allclose(
        np.where(finite, found, 0.0), np.where(finite, expected, 0.0), rtol=0, atol=tolerance * top
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["bias_lag_shared", "bias_lag_heads_causal", "bias_alibi_causal"])
def test_equals_autograd(name: str, dtype: Any) -> None:
    given_arrays, options = fixture(name)
    q, k, v, g = (given_arrays[n].astype(dtype) for n in ("query", "key", "value", "grad_out"))
    if name == "bias_alibi_causal":
        options["bias"] = Bias.alibi(np.array([0.5, 0.25], dtype))
    else:
        options["bias"] = Bias.learned(given_arrays["bias"].astype(dtype))
    tolerance = 1e-12 if dtype is np.float64 else 1e-5
    same(subquad.attention(q, k, v, **options), given_arrays["out"], tolerance)
    grads = subquad.attention_grad(g, q, k, v, **options)
    for argument in ("query", "key", "value", "bias"):
        if f"grad_{argument}" in given_arrays:
            same(getattr(grads, argument), given_arrays[f"grad_{argument}"], tolerance)
    assert grads.bias.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("kind", "options", "masked"),
    [(kind, options, False) for kind in KINDS for options in VISIBLE[::2]]
    + [("hiding", options, masked) for options in VISIBLE[1::2] for masked in (False, True)],
)
def test_equals_the_array_it_stands_for(
    kind: str, options: dict[str, Any], dtype: Any, masked: bool
) -> None:
    for n, (queries, keys) in enumerate(SHAPES):
        g, q, k, v = arrays(queries, keys, dtype)
        bias = make(kind, queries, keys, (None, 2)[n % 2], dtype, seed=n)
        keywords = dict(options)
        if masked:
            keywords["mask"] = np.random.default_rng(n).random((2, queries, keys)) < 0.7
        dense = {**keywords, "bias": bias.dense(queries, keys)}
        rounding, wide = (2e-5, 1e-4) if dtype is np.float32 else (1e-11, 1e-11)
        if kind in ("alibi", "kerple power") and dtype is np.float32:
            # Logits far below 0 have few digits after the point.
            rounding, wide = (x * max(1.0, keys / 100.0) for x in (rounding, wide))
        keywords["bias"] = bias
        out, lse = subquad.attention(q, k, v, **keywords, return_lse=True)
        for found, expected in zip(
            (out, lse), subquad.attention(q, k, v, **dense, return_lse=True), strict=True
        ):
            same(found, expected, rounding)
        exact = subquad.reference.attention(q, k, v, **dense)
        same(out, exact, rounding)
        same(subquad.reference.attention(q, k, v, **keywords), exact, 1e-12)
        grads = subquad.attention_grad(g, q, k, v, **keywords)
        expected = subquad.reference.attention_grad(g, q, k, v, **keywords)
        against = subquad.reference.attention_grad(g, q, k, v, **dense)
        for name in ("query", "key", "value"):
            same(getattr(grads, name), getattr(against, name), wide)
        # Terms that cancel: far from all keys a slope is multiplied by a large distance.
        by_lag = np.atleast_2d(sums_by_lag(np.abs(against.bias)))
        terms = bias.pullback(by_lag, queries, keys)
        same(grads.bias, expected.bias, wide, max(1.0, np.abs(terms).max()))


@pytest.mark.parametrize("options", VISIBLE)
def test_logits_are_those_with_the_array_bit_for_bit(options: dict[str, Any]) -> None:
    g, q, k, v = arrays(230, 610, np.float32)
    bias = make("learned", 230, 610, 2, np.float32)
    dense = bias.dense(230, 610).astype(np.float32)
    results = [
        subquad.attention(q, k, v, bias=either, **options, return_lse=True)
        for either in (bias, dense)
    ]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    grads = [subquad.attention_grad(g, q, k, v, bias=either, **options) for either in (bias, dense)]
    for name in ("query", "key", "value"):
        np.testing.assert_array_equal(getattr(grads[0], name), getattr(grads[1], name))


@pytest.mark.parametrize(("queries", "keys"), [(40, 60), (60, 40), (3, 60)])
def test_the_sign_of_the_lag_matters(queries: int, keys: int) -> None:
    # The bias singles out the key two positions before the query.
    g, q, k, v = arrays(queries, keys)
    values = np.full(queries + keys - 1, -np.inf)
    values[keys - 1 + 2] = 0.0
    out, lse = subquad.attention(q, k, v, bias=Bias.learned(values), return_lse=True)
    seen = min(queries - 2, keys)
    np.testing.assert_allclose(out[:, 2 : 2 + seen], v[:, :seen], rtol=1e-14)
    assert np.all(out[:, :2] == 0.0)
    assert np.all(np.isneginf(lse[:, :2]))
    # One number that grows with the lag is told from one that falls.
    rising = np.linspace(0.0, 3.0, queries + keys - 1)
    grads = [
        subquad.attention_grad(g, q, k, v, bias=Bias.learned(x)) for x in (rising, rising[::-1])
    ]
    exact = subquad.reference.attention_grad(g, q, k, v, bias=Bias.learned(rising))
    same(grads[0].bias, exact.bias, 1e-12)
    assert np.abs(grads[1].bias - exact.bias).max() > 0.1
    assert np.abs(grads[0].bias[::-1] - exact.bias).max() > 0.1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "hiding"])
@pytest.mark.parametrize("heads", [None, 1, 4])
@pytest.mark.parametrize(
    ("options", "queries", "keys"),
    [
        ({}, 9, 12),
        ({"is_causal": True, "window": 7}, 12, 12),
        ({"is_causal": "lower_right"}, 5, 13),
    ],
)
def test_parameters_have_the_slopes_of_central_differences(
    kind: str, heads: int | None, options: dict[str, Any], queries: int, keys: int
) -> None:
    rng = np.random.default_rng(3)
    g, q = rng.standard_normal((2, 3, 4, queries, 5))
    k, v = rng.standard_normal((2, 3, 2, keys, 5))
    keywords: dict[str, Any] = {"enable_gqa": True, **options}
    bias = make(kind, queries, keys, heads)
    grads = subquad.attention_grad(g, q, k, v, bias=bias, **keywords)
    parameters = bias.parameters
    assert grads.bias.shape == parameters.shape
    for index in np.ndindex(parameters.shape):
        ends = []
        for step in (1e-5, -1e-5):
            moved = parameters.copy()
            moved[index] += step
            out = subquad.attention(q, k, v, bias=rebuilt(kind, moved), **keywords)
            ends.append(np.sum(g * out))
        expected = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(grads.bias[index], expected, rtol=1e-6, atol=1e-7)


def test_groups_and_batches_share_a_bias_in_the_order_of_query_heads() -> None:
    rng = np.random.default_rng(4)
    g, q = rng.standard_normal((2, 2, 3, 6, 50, 8))
    k, v = rng.standard_normal((2, 3, 2, 70, 8))
    bias = make("learned", 50, 70, 6)
    keywords: dict[str, Any] = {"bias": bias, "enable_gqa": True}
    same(
        subquad.attention(q, k, v, **keywords),
        subquad.reference.attention(q, k, v, bias=bias.dense(50, 70), enable_gqa=True),
        1e-12,
    )
    grads = subquad.attention_grad(g, q, k, v, **keywords)
    expected = subquad.reference.attention_grad(g, q, k, v, **keywords)
    for name in ("query", "key", "value", "bias"):
        same(getattr(grads, name), getattr(expected, name), 1e-12)
    by_head = [
        subquad.attention_grad(
            g[:, :, h], q[:, :, h], k[:, h // 3], v[:, h // 3], bias=rebuilt("learned", row)
        ).bias
        for h, row in enumerate(bias.parameters)
    ]
    np.testing.assert_allclose(grads.bias, by_head, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_parameters_keep_their_dtype_and_do_not_promote(dtype: Any) -> None:
    g, q, k, v = arrays(40, 60, dtype)
    for kind in (np.float16, np.float32, np.float64, np.int64):
        bias = Bias.alibi(np.array([1, 2], kind))
        out = subquad.attention(q, k, v, bias=bias)
        grads = subquad.attention_grad(g, q, k, v, bias=bias)
        assert out.dtype == dtype
        assert grads.bias.dtype == (dtype if kind is np.int64 else kind)
        exact = subquad.reference.attention_grad(g, q, k, v, bias=bias)
        half = np.float16 in (dtype, kind)
        np.testing.assert_allclose(grads.bias, exact.bias, rtol=2e-3 if half else 1e-5)


def test_gradients_are_of_the_kind_of_the_parameters(torch: Any) -> None:
    g, q, k, v = arrays(30, 40, np.float32)
    slopes = torch.tensor([0.5, 0.25], dtype=torch.bfloat16)
    grads = subquad.attention_grad(g, q, k, v, bias=Bias.alibi(slopes))
    assert isinstance(grads.query, np.ndarray)
    assert grads.bias.dtype == torch.bfloat16
    tensors = [torch.from_numpy(x) for x in (g, q, k, v)]
    grads = subquad.attention_grad(*tensors, bias=Bias.alibi(np.array([0.5, 0.25])))
    assert isinstance(grads.bias, np.ndarray)
    assert isinstance(grads.query, torch.Tensor)


def test_the_gradient_does_not_depend_on_which_others_are_wanted() -> None:
    g, q, k, v = arrays(230, 610)
    bias = make("learned", 230, 610, 2)
    everything = subquad.attention_grad(g, q, k, v, bias=bias)
    alone = subquad.attention_grad(g, q, k, v, bias=bias, wrt=("bias",))
    np.testing.assert_array_equal(alone.bias, everything.bias)
    assert alone.query is None
    without = subquad.attention_grad(g, q, k, v, bias=bias, wrt=("query",))
    np.testing.assert_array_equal(without.query, everything.query)
    assert without.bias is None
    forward = subquad.attention(q, k, v, bias=bias, return_lse=True)
    resumed = subquad.attention_grad(g, q, k, v, bias=bias, forward=forward)
    np.testing.assert_array_equal(resumed.bias, everything.bias)


def test_no_queries_and_no_keys() -> None:
    q, k = np.zeros((2, 0, 4)), np.zeros((2, 6, 4))
    bias = Bias.learned(np.zeros(5))
    assert subquad.attention(q, k, k, bias=bias).shape == (2, 0, 4)
    grads = subquad.attention_grad(q, q, k, k, bias=bias)
    np.testing.assert_array_equal(grads.bias, np.zeros(5))
    out, lse = subquad.attention(k, q, q, bias=bias, return_lse=True)
    assert np.all(out == 0)
    assert np.all(np.isneginf(lse))
    np.testing.assert_array_equal(subquad.attention_grad(k, k, q, q, bias=bias).bias, np.zeros(5))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_biases_do_not_overflow_and_constants_change_nothing(dtype: Any) -> None:
    g, q, k, v = arrays(60, 80, dtype)
    values = np.random.default_rng(5).standard_normal(139)
    exact = subquad.attention_grad(g, q, k, v, bias=Bias.learned(values))
    for constant in (1e4, -1e4):
        bias = Bias.learned(values + constant)
        grads = subquad.attention_grad(g, q, k, v, bias=bias)
        tolerance = 1e-2 if dtype is np.float32 else 1e-10
        same(grads.bias, exact.bias, tolerance)
        same(grads.query, exact.query, tolerance)


def test_the_last_queries_of_all_positions_take_the_lags_of_theirs() -> None:
    _, q, k, v = arrays(80, 80)
    bias = Bias.alibi([0.5, 0.25])
    whole = subquad.attention(q, k, v, bias=bias, is_causal=True)
    for count in (1, 9, 50):
        last = Bias.learned(bias.lags(80, 80)[:, 80 - count :])
        some = subquad.attention(q[:, -count:], k, v, bias=last, is_causal="lower_right")
        np.testing.assert_allclose(some, whole[:, -count:], rtol=0, atol=1e-13)


def peaked(kind: str, queries: int, keys: int, seed: int, dtype: Any) -> Bias:
    """A bias that is hard on rounding."""
    rng = np.random.default_rng(seed)
    count = queries + keys - 1
    values = {
        "flat": np.zeros(count),
        "peaked": 60.0 * rng.standard_normal(count),
        "offset": 1e4 + rng.standard_normal(count),
        "low": -1e4 + rng.standard_normal(count),
        "both": 1e4 * rng.choice([-1.0, 1.0], count) + rng.standard_normal(count),
        "hiding": np.where(rng.random(count) < 0.5, -np.inf, rng.standard_normal(count)),
        "cliff": np.where(np.arange(count) < count // 2, -3e4, 0.0),
    }
    return Bias.learned(values[kind].astype(dtype))


@given(
    st.sampled_from(["flat", "peaked", "offset", "low", "both", "hiding", "cliff"]),
    st.sampled_from(VISIBLE),
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(0, 99),
    st.booleans(),
    st.sampled_from([0.1, 1.0, 10.0]),
    st.sampled_from([np.float32, np.float64]),
)
def test_certificates_hold(
    kind: str,
    options: dict[str, Any],
    queries: int,
    keys: int,
    seed: int,
    masked: bool,
    size: float,
    dtype: Any,
) -> None:
    _, q, k, v = arrays(queries, keys, dtype)
    bias = peaked(kind, queries, keys, seed, dtype)
    keywords: dict[str, Any] = {"bias": bias, **options}
    if masked:
        keywords["mask"] = np.random.default_rng(seed).random((queries, keys)) < 0.6
    out, info = subquad.attention(size * q, k, v, **keywords, return_info=True)
    exact = subquad.reference.attention(size * q, k, v, **keywords)
    error = np.linalg.norm(out.astype(np.float64) - exact, axis=-1)
    slack = (
        0.0 if dtype is np.float32 else 1e-15 * (1e3 + 3e4 * (kind in ("offset", "low", "both")))
    )
    assert np.all(error <= info.error_bound + slack)
    # Not by far looser than that of the array.
    keywords["bias"] = bias.dense(queries, keys)
    _, dense = subquad.attention(size * q, k, v, **keywords, return_info=True)
    assert np.all(dense.error_bound <= 1.0001 * info.error_bound)
    dot = size * np.linalg.norm(q, axis=-1).max() * np.linalg.norm(k, axis=-1).max() / 12**0.5
    room = 20.0 * (130.0 + 2.0 * dot) * np.finfo(dtype).eps * info.spread[..., np.newaxis]
    assert np.all(info.error_bound <= 2.5 * dense.error_bound + room)


def test_a_row_beyond_the_budget_is_recomputed() -> None:
    _, q, k, v = arrays(90, 120, np.float32)
    bias = Bias.learned(np.where(np.arange(209) % 5 == 0, 3e4, 0.0))
    out, info = subquad.attention(q, k, v, bias=bias, eps=1e-4, return_info=True)
    assert info.stats["rows_recomputed"] == 180
    exact = subquad.reference.attention(q, k, v, bias=bias)
    error = np.linalg.norm(out - exact, axis=-1)
    assert np.all(error <= info.error_bound)
    assert np.all(error <= 1e-4 * info.spread[..., np.newaxis])


@pytest.mark.parametrize("rows", [slice(3, 20), slice(29, 30), np.array([0, 5, 29, 6])])
@pytest.mark.parametrize("is_causal", [False, "lower_right"])
def test_some_rows_of_a_problem_keep_their_lags(rows: Any, is_causal: Any) -> None:
    _, q, k, v = arrays(30, 50, np.float32, heads=4)
    bias = make("hiding", 30, 50, 4)
    problem = prepare(
        q,
        k[:2],
        v[:2],
        mask=None,
        bias=bias,
        is_causal=is_causal,
        window=None,
        scale=None,
        enable_gqa=True,
        workers=1,
        check_finite=True,
    )
    whole = subquad.reference.attention(
        q, k[:2], v[:2], bias=bias, is_causal=is_causal, enable_gqa=True
    )
    for h in range(4):
        out, _, _ = problem.rows((h,), rows).forward()
        np.testing.assert_allclose(out[0], whole[h, rows], rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", ["forward", "reverse", "shuffled"])
def test_results_are_the_same_for_every_number_of_threads(order: str) -> None:
    results = []
    for workers in (1, 2, 5):
        found = []
        with task_order(order if workers > 1 else "forward"):
            for dtype in (np.float32, np.float64):
                rng = np.random.default_rng(6)
                q = rng.standard_normal((4, 2500, 8)).astype(dtype)
                k, v = rng.standard_normal((2, 2, 1300, 8)).astype(dtype)
                for bias in (make("learned", 2500, 1300, None), make("learned", 2500, 1300, 4)):
                    keywords: dict[str, Any] = {
                        "bias": bias,
                        "enable_gqa": True,
                        "is_causal": "lower_right",
                        "window": 900,
                        "workers": workers,
                    }
                    out, info = subquad.attention(q, k, v, **keywords, return_info=True)
                    grads = subquad.attention_grad(q, q, k, v, **keywords)
                    found += [out, info.error_bound, grads.query, grads.key, grads.bias]
        results.append(found)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


MEMORY = """
import resource
import numpy as np, subquad
from subquad.toeplitz import Bias
n = 32768
rng = np.random.default_rng(0)
g, q, k, v = rng.standard_normal((4, n, 8), np.float32)
bias = Bias.learned(rng.standard_normal(2 * n - 1).astype(np.float32))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
few = slice(0, 300)
small = Bias.learned(np.zeros(599))
subquad.attention_grad(g[few], q[few], k[few], v[few], bias=small)
before = peak()
out, info = subquad.attention(q, k, v, bias=bias, return_info=True)
subquad.attention_grad(g, q, k, v, bias=bias)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts kilobytes as Linux does")
def test_no_array_of_queries_by_keys_is_made() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    # An array of queries by keys would have 4 GB, one of bytes 1 GB.
    assert int(done.stdout) < 60_000


def test_heads_and_lags_that_do_not_fit_are_refused() -> None:
    g, q, k, v = arrays(5, 7, heads=4)
    for call in (
        lambda bias: subquad.attention(q, k, v, bias=bias),
        lambda bias: subquad.attention_grad(g, q, k, v, bias=bias),
        lambda bias: subquad.plan(q, k, v, bias=bias),
        lambda bias: subquad.reference.attention(q, k, v, bias=bias),
    ):
        with pytest.raises(ValueError, match=r"`bias` has parameters for 3 heads.*H = 4.*alibi"):
            call(Bias.alibi(np.ones(3)))
        with pytest.raises(
            ValueError, match=r"`bias` must have L \+ S - 1 = 11 .*L = 5 .*S = 7 .*got 12"
        ):
            call(Bias.learned(np.zeros((4, 12))))


def test_plans_name_the_bias_and_fit_it_alone() -> None:
    _, q, k, v = arrays(20, 20)
    bias = Bias.alibi(np.ones(2))
    plan = subquad.plan(q, k, v, bias=bias)
    assert "bias Bias(alibi, parameters float64 (2,))" in repr(plan)
    np.testing.assert_array_equal(
        subquad.attention(q, k, v, bias=bias, plan=plan), subquad.attention(q, k, v, bias=bias)
    )
    for other in (Bias.alibi(1.0), np.zeros(20), None):
        with pytest.raises(ValueError, match="`plan` was made for bias = Bias"):
            subquad.attention(q, k, v, bias=other, plan=plan)


def test_polynomials_do_not_take_a_bias_with_a_window() -> None:
    _, q, k, v = arrays(300, 300, np.float32)
    options: dict[str, Any] = {"bias": Bias.alibi(np.ones(2)), "is_causal": True, "window": 9}
    options |= {"eps": 0.1, "method": "polynomial"}
    plan = subquad.plan(0.01 * q, k, v, **options)
    assert plan.method == "exact"
    assert "`window` is given" in plan.reason
    with pytest.raises(subquad.CertificateError, match="`window` is given"):
        subquad.attention(q, k, v, fallback="raise", **options)
