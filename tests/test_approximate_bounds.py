"""Softmax attention by polynomials: bounds that hold, on numbers chosen to break them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from approximations import OF_THE_DEFINITION, Arrays, assert_certified, attend, cast, problem
from hypothesis import given
from hypothesis import strategies as st
from strategies import Case, cases

import subquad

SIZES = (240, 260, 4, 3)


def hostile(name: str, seed: int = 0) -> Arrays:
    """Inputs that take some part of the method to its limit."""
    q, k, v = problem(2, sizes=SIZES, seed=seed)
    rng = np.random.default_rng(seed + 100)
    if name == "offset by 2":
        q, k, v = q + 2, k + 2, v + 3
    elif name == "offset by 100":
        q, k, v = q + 100, k + 100, v + 100
    elif name == "values offset by 1e5":
        v += 1e5
    elif name == "peaked rows":
        q[:, ::17] *= 100
    elif name == "outlier query":
        q[:, 7] *= 300
    elif name == "outlier key":
        k[:, 11] *= 60
    elif name == "outlier value":
        v[:, 5] *= 1e4
    elif name == "tiny":
        q, k = 1e-20 * q, 1e-20 * k
    elif name == "zero queries":
        q = np.zeros_like(q)
    elif name == "denormal values":
        v *= 1e-42
    elif name == "huge values":
        v *= 1e30
    elif name == "duplicates":
        k, v = (np.repeat(a[:, :4], 65, axis=1) for a in (k, v))
    elif name == "equal values":
        v[...] = 0.7
    elif name == "queries of another size":
        q, k = 1e4 * q, 1e-4 * k
    elif name == "one long direction":
        q[..., 0], k[..., 0] = 1e-3 * q[..., 0], 30 * k[..., 0]
    elif name == "two clusters":
        k += np.where(rng.random((2, SIZES[1], 1)) < 0.5, 6, -6)
    elif name == "masses far apart":
        q, k = q + 5, 3 * k
    return q, k, v


NAMES = (
    "random",
    "offset by 2",
    "offset by 100",
    "values offset by 1e5",
    "peaked rows",
    "outlier query",
    "outlier key",
    "outlier value",
    "tiny",
    "zero queries",
    "denormal values",
    "huge values",
    "duplicates",
    "equal values",
    "queries of another size",
    "one long direction",
    "two clusters",
    "masses far apart",
)
CAUSAL: tuple[Any, ...] = (False, "upper_left", "lower_right")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("is_causal", CAUSAL)
@pytest.mark.parametrize("name", NAMES)
def test_the_bound_holds(name: str, is_causal: Any, dtype: str) -> None:
    arrays = cast(hostile(name), dtype)
    methods = set()
    for eps in (1e-1, 1e-3):
        answer = attend(arrays, eps, is_causal=is_causal)
        assert_certified(arrays, answer, eps)
        methods.add(answer.info.method)
    left = (name == "outlier key" and is_causal) or (
        name == "denormal values" and dtype == "float32"
    )
    assert left or "polynomial" in methods


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_rounding_alone_sends_few_rows_to_all_keys(is_causal: bool, dtype: str) -> None:
    q, k, v = problem(sizes=(300, 300, 2, 3))
    arrays = cast((q, k, np.full_like(v, 1.1)), dtype)
    answer = attend(arrays, 0.1, is_causal=is_causal)
    assert answer.info.method == "polynomial"
    assert answer.info.stats["rows_recomputed"] <= 9
    assert_certified(arrays, answer, 0.1)


@pytest.mark.parametrize("is_causal", [True, "upper_left", "lower_right"])
@pytest.mark.parametrize(("queries", "keys"), [(150, 400), (400, 150), (1, 300), (300, 1)])
def test_the_bound_holds_for_other_lengths(queries: int, keys: int, is_causal: Any) -> None:
    arrays = problem(2, sizes=(queries, keys, 3, 2), size=0.2)
    for eps in (1e-1, 1e-2):
        answer = attend(arrays, eps, is_causal=is_causal)
        assert_certified(arrays, answer, eps)
        if is_causal == "lower_right" and queries > keys:
            hidden = slice(0, queries - keys)
            assert not answer.out[:, hidden].any()
            assert np.isneginf(answer.lse[:, hidden]).all()
            if answer.info.method == "polynomial":
                assert answer.info.error_bound is not None
                assert not answer.info.error_bound[:, hidden].any()
                assert answer.info.stats["rows_recomputed"] <= 2 * 2 * keys


@pytest.mark.parametrize("scale", [None, 0.3, -0.7, 1e-30, 40.0])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_bound_holds_for_every_type_and_scale(dtype: str, scale: float | None) -> None:
    q, k, v = problem(2, sizes=SIZES)
    arrays = cast((q * (0.01 if scale == 40.0 else 1.0), k + 1, v), dtype)
    for is_causal in (False, True):
        answer = attend(arrays, 0.02, scale=scale, is_causal=is_causal)
        assert answer.out.dtype == dtype
        assert answer.info.method == "polynomial"
        assert_certified(arrays, answer, 0.02, scale)


def test_the_bound_holds_for_bfloat16(torch: ModuleType) -> None:
    arrays = tuple(torch.from_numpy(a).bfloat16() for a in problem(2, sizes=SIZES))
    for is_causal in (False, True):
        answer = attend(arrays, 0.05, is_causal=is_causal)
        assert answer.out.dtype == torch.bfloat16
        assert answer.info.method == "polynomial"
        assert_certified(arrays, answer, 0.05)


@pytest.mark.parametrize(
    ("query", "key", "value"),
    [
        ((4,), (2,), (2,)),  # groups of heads
        ((2, 6), (2, 3), (1, 3)),
        ((3, 1), (2,), (1,)),  # batches and heads that broadcast
        ((), (3,), (2, 1)),
    ],
)
def test_the_bound_holds_where_heads_are_shared(query: Any, key: Any, value: Any) -> None:
    rng = np.random.default_rng(1)
    # Every head has logits of its own size, so that heads get degrees of their own, or none.
    q = rng.standard_normal((*query, 150, 3)) * np.geomspace(0.01, 3, int(np.prod(query))).reshape(
        (*query, 1, 1)
    )
    k, v = rng.standard_normal((*key, 160, 3)), rng.standard_normal((*value, 160, 2))
    groups = max(query[-1:], default=1) > max(key[-1:], default=1) > 1
    for is_causal in (False, True):
        answer = attend((q, k, v), 0.02, is_causal=is_causal, enable_gqa=groups)
        assert answer.info.method == "polynomial"
        assert_certified((q, k, v), answer, 0.02)


CENTRES: dict[str, Any] = {
    "none": None,
    "auto": "auto",
    "first": 1,
    "some": 30,
    "more than there are": 10**9,
    "given": (np.full(4, 1.9), np.full(4, 2.1)),
    "given per head": (np.full((2, 4), 2.0), np.full((1, 4), 2.0)),
    "far": (np.full(4, -3.0), np.full(4, 7.0)),
    "very far": (np.full(4, 1e6), np.full(4, -1e6)),
    "beyond": (np.full(4, 1e30), np.full(4, 1e30)),
    "a list of lists": [[2.0] * 4, [2.0] * 4],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("is_causal", CAUSAL)
@pytest.mark.parametrize("name", CENTRES)
def test_the_bound_holds_around_every_centre(name: str, is_causal: Any, dtype: str) -> None:
    arrays = cast(hostile("offset by 2"), dtype)
    answer = attend(arrays, 0.02, is_causal=is_causal, centres=CENTRES[name])
    assert_certified(arrays, answer, 0.02)
    if name in ("auto", "some", "given", "given per head", "a list of lists"):
        assert answer.info.method == "polynomial"
    if name in ("none", "far", "very far", "beyond"):
        assert answer.info.method == "exact"


def test_long_keys_are_taken_out_of_the_sums() -> None:
    arrays = hostile("outlier key")
    answer = attend(arrays, 0.02)
    assert [head.exact_keys for head in answer.info.plan.heads] == [16, 16]
    assert_certified(arrays, answer, 0.02)


def test_rows_of_long_queries_are_computed_from_all_keys() -> None:
    arrays = hostile("peaked rows")
    answer = attend(arrays, 0.02)
    assert all(head.exact_rows >= len(range(0, 240, 17)) // 2 for head in answer.info.plan.heads)
    assert answer.info.stats["rows_recomputed"] >= 15
    plain = subquad.attention(*arrays)
    np.testing.assert_allclose(answer.out[:, ::17], plain[:, ::17], rtol=0.05, atol=0.02)
    assert_certified(arrays, answer, 0.02)


@given(
    cases(dtypes=("float16", "float32", "float64"), lengths=(0, 60)),
    st.sampled_from([3e-1, 1e-1, 1e-3]),
    st.sampled_from([1e-3, 0.05, 0.3]),
    st.sampled_from([None, "auto", 1, 7]),
)
def test_the_bound_holds_for_every_kind_of_call(
    case: Case, eps: float, size: float, centres: Any
) -> None:
    q, k, v = case.arrays
    arrays = ((size * q.astype(np.float64)).astype(q.dtype), k, v)
    options = {name: case.options[name] for name in OF_THE_DEFINITION if name in case.options}
    answer = attend(arrays, eps, centres=centres, **options)
    if answer.info.plan.heads:
        assert_certified(arrays, answer, eps, options.get("scale"))
    else:
        np.testing.assert_array_equal(answer.out, subquad.attention(*arrays, **options))
