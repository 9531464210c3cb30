"""Softmax attention by polynomials: what changes of the arguments must not change, and how far."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from approximations import Answer, Array, Arrays, attend, cast, problem

import subquad

SIZES = (220, 240, 3, 2)
CAUSAL: tuple[Any, ...] = (False, "upper_left", "lower_right")
EPS = 1e-2


def near(one: Answer, other: Answer, difference: Array | None = None) -> bool:
    """Whether rows are as far apart as both bounds allow, besides rounding of the arguments."""
    a, b = one.info.error_bound, other.info.error_bound
    assert a is not None
    assert b is not None
    off = one.out - other.out if difference is None else difference
    scale = np.abs(one.out).max() * (2.0**-17 if one.out.dtype == np.float32 else 2.0**-44)
    return bool(np.all(np.linalg.norm(off, axis=-1) <= a + b + scale))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_order_of_keys_does_not_matter(dtype: str) -> None:
    q, k, v = arrays = cast(problem(2, sizes=SIZES), dtype)
    order = np.random.default_rng(1).permutation(SIZES[1])
    one, other = attend(arrays, EPS), attend((q, k[:, order], v[:, order]), EPS)
    assert one.info.method == other.info.method == "polynomial"
    assert near(one, other)
    rounding = 1e-5 if dtype == "float32" else 1e-10
    assert np.median(np.abs(one.out - other.out)) <= rounding


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_order_of_queries_does_not_matter(dtype: str) -> None:
    q, k, v = arrays = cast(problem(2, sizes=SIZES), dtype)
    order = np.random.default_rng(1).permutation(SIZES[0])
    one, other = attend(arrays, EPS), attend((q[:, order], k, v), EPS)
    np.testing.assert_allclose(one.out[:, order], other.out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_causal", CAUSAL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_vector_added_to_all_keys_does_not_matter(dtype: str, is_causal: Any) -> None:
    q, k, v = arrays = cast(problem(2, sizes=SIZES), dtype)
    shift = np.array([2.0, -1.0, 0.5], dtype)
    one = attend(arrays, EPS, is_causal=is_causal)
    other = attend((q, k + shift, v), EPS, is_causal=is_causal)
    assert one.info.method == other.info.method == "polynomial"
    assert near(one, other)


@pytest.mark.parametrize("is_causal", CAUSAL)
def test_a_vector_added_to_all_values_is_added_to_the_result(is_causal: Any) -> None:
    q, k, v = problem(2, sizes=SIZES)
    one = attend((q, k, v), EPS, is_causal=is_causal)
    other = attend((q, k, v + 64), EPS, is_causal=is_causal)
    assert near(one, other, one.out + 64 - other.out)
    assert one.info.plan.heads[0].degrees == other.info.plan.heads[0].degrees
    # The same polynomials for the same rows.
    np.testing.assert_allclose(one.out + 64, other.out, atol=1e-11)


@pytest.mark.parametrize("is_causal", CAUSAL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_power_of_two_may_move_between_queries_and_scale(dtype: str, is_causal: Any) -> None:
    q, k, v = cast(problem(2, sizes=SIZES), dtype)
    one, other, third = (
        attend((q * x, k * y, v), EPS, scale=0.5 / (x * y), is_causal=is_causal)
        for x, y in ((1, 1), (4, 1), (1, 0.25))
    )
    assert one.info.method == "polynomial"
    np.testing.assert_array_equal(one.out, other.out)
    np.testing.assert_array_equal(one.out, third.out)
    np.testing.assert_array_equal(one.lse, other.lse)


@pytest.mark.parametrize("is_causal", CAUSAL)
def test_opposite_signs_of_queries_and_scale_cancel(is_causal: Any) -> None:
    q, k, v = problem(2, sizes=SIZES)
    one = attend((q, k, v), EPS, scale=0.5, is_causal=is_causal)
    other = attend((-q, k, v), EPS, scale=-0.5, is_causal=is_causal)
    np.testing.assert_allclose(one.out, other.out, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("is_causal", CAUSAL)
def test_a_batch_is_its_heads_one_by_one(is_causal: Any) -> None:
    arrays = problem(2, 3, sizes=SIZES)
    arrays[0][:] *= np.geomspace(0.1, 20, 6).reshape(2, 3, 1, 1)
    whole = attend(arrays, EPS, is_causal=is_causal)
    kinds = {head.method for head in whole.info.plan.heads}
    assert kinds == {"polynomial", "exact"}
    for index in np.ndindex(2, 3):
        q, k, v = (a[index] for a in arrays)
        one = attend((q, k, v), EPS, is_causal=is_causal)
        np.testing.assert_array_equal(whole.out[index], one.out)
        np.testing.assert_array_equal(whole.lse[index], one.lse)
        assert whole.info.error_bound is not None
        np.testing.assert_array_equal(whole.info.error_bound[index], one.info.error_bound)


def test_layouts_do_not_matter() -> None:
    arrays = problem(2, sizes=SIZES)
    one = attend(arrays, EPS)
    q, k, v = (np.swapaxes(np.ascontiguousarray(np.swapaxes(a, 0, 1)), 0, 1) for a in arrays)
    other = attend((q, k[:, ::-1][:, ::-1], np.asfortranarray(v)), EPS)
    np.testing.assert_array_equal(one.out, other.out)


def changed(arrays: Arrays, start: int, seed: int = 5) -> Arrays:
    """Other tokens from a position on, of the same kind."""
    others = problem(sizes=(300, 300, 3, 2), seed=seed)
    q, k, v = (a.copy() for a in arrays)
    for array, other in zip((q, k, v), others, strict=True):
        array[start:] = other[start:]
    return q, k, v


@pytest.mark.parametrize("centres", [1, 40, None])
def test_earlier_rows_depend_on_later_tokens_through_rounding_alone(centres: Any) -> None:
    arrays = problem(sizes=(300, 300, 3, 2))
    options: dict[str, Any] = {"is_causal": True, "centres": centres}
    plan = subquad.plan(*arrays, eps=EPS, method="polynomial", **options)
    assert plan.method == "polynomial"

    def run(tokens: Arrays) -> Any:
        return subquad.attention(*tokens, plan=plan, return_info=True, **options)

    out, info = run(arrays)
    for seed in range(5, 9):
        other, other_info = run(changed(arrays, 200, seed))
        # The plan says which polynomial, and what a row sees whether it is for that row. So rows are the
        # same sums over the same keys, less another mean of values.
        assert np.abs(out[:200] - other[:200]).max() <= 1e-13
        off = np.linalg.norm(out[:200] - other[:200], axis=1)
        assert np.all(off <= info.error_bound[:200] + other_info.error_bound[:200])
    # Means of all tokens depend on later ones, and all rows with them.
    if centres == 40:
        options["centres"] = "auto"
        plan = subquad.plan(*(a + 1 for a in arrays), eps=EPS, method="polynomial", **options)
        out, info = run((arrays[0] + 1, arrays[1] + 1, arrays[2]))
        q, k, v = changed(arrays, 200)
        other, other_info = run((q + 1, k + 1, v))
        off = np.linalg.norm(out[:200] - other[:200], axis=1)
        assert np.median(off) > 1e-12
        assert np.all(off <= info.error_bound[:200] + other_info.error_bound[:200])
