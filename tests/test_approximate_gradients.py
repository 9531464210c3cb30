"""Gradients through polynomials: of what was computed, and close to those of exact attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from approximations import Array, cast, problem

import subquad

NAMES = ("query", "key", "value")
CENTRES = (np.array([0.1, -0.2]), np.array([0.3, 0.1]))
Options = dict[str, Any]


def upstream(arrays: Any, seed: int = 9, **options: Any) -> Array:
    shape = subquad.plan(*arrays, **options).workload.out
    return np.random.default_rng(seed).standard_normal(shape).astype(arrays[0].dtype)


def central_differences(arrays: Any, g: Array, name: str, **options: Any) -> Array:
    """Differentiate by some of the numbers of an argument; NaN for the others."""
    step, grad = 1e-5, np.full(arrays[NAMES.index(name)].shape, np.nan)
    some = np.random.default_rng(4).permutation(grad.size)[:24]
    for index in zip(*np.unravel_index(some, grad.shape), strict=True):
        ends = []
        for sign in (1.0, -1.0):
            moved = [a.copy() for a in arrays]
            moved[NAMES.index(name)][index] += sign * step
            ends.append(np.sum(g * subquad.attention(*moved, **options)))
        grad[index] = (ends[0] - ends[1]) / (2 * step)
    return grad


def derivative_plan(arrays: Any, g: Array, eps: float, **options: Any) -> subquad.Plan:
    """The plan of a call that asks for a gradient."""
    _, info = subquad.attention_grad(
        g, *arrays, eps=eps, method="polynomial", return_info=True, **options
    )
    assert info.method == "polynomial", info.reason
    plan: subquad.Plan = info.plan
    return plan


SHAPES: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], Options]] = [
    ((24, 2), (30, 2), (30, 2), {}),
    ((24, 2), (30, 2), (30, 2), {"is_causal": True}),
    ((30, 2), (24, 2), (24, 2), {"is_causal": "lower_right"}),
    ((24, 2), (30, 2), (30, 2), {"is_causal": "lower_right", "scale": -0.6}),
    ((4, 12, 2), (2, 14, 2), (2, 14, 1), {"enable_gqa": True}),
    ((4, 18, 2), (2, 18, 2), (2, 18, 1), {"enable_gqa": True, "is_causal": True}),
    ((2, 1, 12, 2), (2, 16, 2), (1, 16, 1), {}),
]


@pytest.mark.parametrize("derivative", [False, True])
@pytest.mark.parametrize(("query", "key", "value", "options"), SHAPES)
def test_equals_central_differences_of_what_is_computed(
    query: Any, key: Any, value: Any, options: Options, derivative: bool
) -> None:
    rng = np.random.default_rng(2)
    arrays = [0.1 * rng.standard_normal(query), *map(rng.standard_normal, (key, value))]
    options = {**options, "centres": CENTRES}
    settings: Options = {"eps": 0.1, "method": "polynomial"}
    plan = subquad.plan(*arrays, **settings | options)
    g = upstream(arrays, **settings | options)
    if derivative:
        plan = derivative_plan(arrays, g, 0.3, **options)
    assert plan.derivative == derivative
    assert plan.method == "polynomial"
    grads = subquad.attention_grad(g, *arrays, plan=plan, **options)
    exact = subquad.attention_grad(g, *arrays, **{n: options[n] for n in options if n != "centres"})
    for name, array in zip(NAMES, arrays, strict=True):
        found = getattr(grads, name)
        assert found.shape == array.shape
        expected = central_differences(arrays, g, name, plan=plan, **options)
        some = np.isfinite(expected)
        np.testing.assert_allclose(found[some], expected[some], rtol=1e-6, atol=3e-7)
    # It is another function that is differentiated.
    assert np.abs(grads.query - exact.query).max() > 1e-5


@pytest.mark.parametrize("long", ["query", "key"])
def test_equals_central_differences_through_exact_rows_and_keys_apart(long: str) -> None:
    arrays = problem(sizes=(240, 260, 4, 3))
    if long == "query":
        arrays[0][::9] *= 80
    else:
        arrays[1][11] *= 60
    options: Options = {"centres": tuple(np.pad(c, 1) for c in CENTRES)}
    plan = subquad.plan(*arrays, eps=0.05, method="polynomial", **options)
    (head,) = plan.heads
    assert head.exact_rows >= 20 if long == "query" else head.exact_keys == 16
    g = upstream(arrays, eps=0.05, method="polynomial")
    grads = subquad.attention_grad(g, *arrays, plan=plan, **options)
    rng = np.random.default_rng(0)
    for name in NAMES:
        # Along some directions, as there are many numbers; one of them is that of the long token.
        for _ in range(6):
            turn = [np.zeros_like(a) for a in arrays]
            one = turn[NAMES.index(name)]
            one[:] = rng.standard_normal(one.shape) / np.sqrt(one.size)
            one[9 if name == "query" else 11] = rng.standard_normal(one.shape[1])
            ends = [
                np.sum(
                    g
                    * subquad.attention(
                        *(a + step * t for a, t in zip(arrays, turn, strict=True)),
                        plan=plan,
                        **options,
                    )
                )
                for step in (1e-5, -1e-5)
            ]
            expected = (ends[0] - ends[1]) / 2e-5
            assert np.sum(one * getattr(grads, name)) == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("eps", [1e-1, 1e-2, 1e-3])
def test_is_close_to_the_gradient_of_exact_attention(eps: float, is_causal: bool) -> None:
    arrays = problem(2, sizes=(250, 260, 3, 2))
    arrays[1][:] += 1
    g = upstream(arrays, is_causal=is_causal)
    options: Options = {"is_causal": is_causal}
    plan = derivative_plan(arrays, g, eps, **options)
    grads = subquad.attention_grad(g, *arrays, plan=plan, **options)
    exact = subquad.reference.attention_grad(g, *arrays, **options)
    for name in NAMES:
        one, other = getattr(grads, name), getattr(exact, name)
        assert np.linalg.norm(one - other) <= 2 * eps * np.linalg.norm(other), name


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_narrow_types_are_close_to_float64(dtype: str, is_causal: bool) -> None:
    narrow = cast(problem(2, sizes=(250, 260, 3, 2)), dtype)
    options: Options = {
        "is_causal": is_causal,
        "centres": None,
        "eps": 1e-2,
        "method": "polynomial",
    }
    g = upstream(narrow, is_causal=is_causal)
    grads = subquad.attention_grad(g, *narrow, **options)
    wide = subquad.attention_grad(
        g.astype(np.float64), *(a.astype(np.float64) for a in narrow), **options
    )
    unit = 2.0**-10 if dtype == "float16" else 1e-5
    for name, array in zip(NAMES, narrow, strict=True):
        one, other = getattr(grads, name), getattr(wide, name)
        assert one.dtype == array.dtype
        assert np.linalg.norm(one.astype(np.float64) - other) <= unit * np.linalg.norm(other), name


def test_only_what_is_asked_for_is_returned() -> None:
    arrays = problem(2, sizes=(100, 110, 3, 2))
    options: Options = {"eps": 1e-1, "method": "polynomial"}
    g = upstream(arrays)
    whole = subquad.attention_grad(g, *arrays, **options)
    assert whole.bias is whole.coefficients is None
    some: list[tuple[str, ...]] = [("query",), ("key",), ("value",), ("key", "value"), ()]
    for wrt in some:
        grads = subquad.attention_grad(g, *arrays, wrt=wrt, **options)
        for name in NAMES:
            if name in wrt:
                np.testing.assert_array_equal(getattr(grads, name), getattr(whole, name))
            else:
                assert getattr(grads, name) is None


def test_a_forward_pass_is_accepted_and_checked() -> None:
    arrays = problem(2, sizes=(100, 110, 3, 2))
    options: Options = {"eps": 1e-1, "method": "polynomial"}
    g = upstream(arrays)
    forward = subquad.attention(*arrays, return_lse=True, **options)
    grads = subquad.attention_grad(g, *arrays, **options)
    again = subquad.attention_grad(g, *arrays, forward=forward, **options)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(grads, name), getattr(again, name))
    with pytest.raises(ValueError, match=r"`forward\[0\]`"):
        subquad.attention_grad(g, *arrays, forward=(forward[0][:1], forward[1]), **options)


@pytest.mark.parametrize("certificate", ["statistical", "none"])
def test_gradients_without_bounds(certificate: str) -> None:
    arrays = problem(2, sizes=(400, 410, 3, 2))
    g = upstream(arrays)
    for is_causal in (False, True):
        grads, info = subquad.attention_grad(
            g,
            *arrays,
            eps=0.05,
            method="polynomial",
            certificate=certificate,
            rng=0,
            is_causal=is_causal,
            return_info=True,
        )
        assert info.method == "polynomial"
        exact = subquad.reference.attention_grad(g, *arrays, is_causal=is_causal)
        for name in NAMES:
            one, other = getattr(grads, name), getattr(exact, name)
            assert np.linalg.norm(one - other) <= 0.25 * np.linalg.norm(other), name
