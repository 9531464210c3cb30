"""Bounds of gradients through polynomials, against the definition in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from approximations import Array, Arrays, cast, problem, wide

import subquad

NAMES = ("query", "key", "value")
Options = dict[str, Any]


def ratios(g: Array, arrays: Arrays, eps: float = 0.3, **options: Any) -> dict[str, Array]:
    """Return errors of the rows of gradients over their bounds, all of which must be finite."""
    settings: Options = {"eps": eps, "method": "polynomial", "return_info": True, **options}
    grads, info = subquad.attention_grad(g, *arrays, **settings)
    assert info.method == "polynomial", info.reason
    assert info.grad_bound is not None
    exact = subquad.reference.attention_grad(wide(g), *map(wide, arrays), **options)
    found = {}
    for name in NAMES:
        error = np.linalg.norm(wide(getattr(grads, name)) - getattr(exact, name), axis=-1)
        bound = getattr(info.grad_bound, name)
        assert bound.shape == error.shape
        assert np.isfinite(bound).all(), name
        found[name] = np.divide(error, bound, out=np.zeros_like(error), where=error > 0.0)
    return found


def upstream(arrays: Arrays, seed: int = 9) -> Array:
    shape = (*arrays[0].shape[:-1], arrays[2].shape[-1])
    return np.random.default_rng(seed).standard_normal(shape).astype(arrays[0].dtype)


OPTIONS: list[Options] = [
    {},
    {"is_causal": True},
    {"is_causal": "lower_right", "scale": -1.3},
    {"enable_gqa": True},
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", OPTIONS)
def test_no_gradient_is_beyond_its_bound(options: Options, dtype: str) -> None:
    q, k, v = problem(4, sizes=(150, 200, 2, 3))
    few = 2 if "enable_gqa" in options else 4
    arrays = cast((q + 1.0, k[:few] + 2.0, v[:few] + 100.0), dtype)
    for name, ratio in ratios(upstream(arrays), arrays, **options).items():
        assert ratio.max() <= 1.0, name


@pytest.mark.parametrize("is_causal", [False, True])
def test_rows_by_all_keys_know_of_values_far_from_zero(is_causal: bool) -> None:
    q, k, v = problem(sizes=(300, 300, 2, 3))
    q[:5] *= 300.0
    arrays = cast((q, k, v + 1e6), "float32")
    for name, ratio in ratios(upstream(arrays), arrays, scale=1.0, is_causal=is_causal).items():
        assert ratio.max() <= 1.0, name


@pytest.mark.parametrize("long", [1.0, 300.0])
@pytest.mark.parametrize("power", [-45, -43, -40])
def test_what_underflows_is_in_the_bound(power: int, long: float) -> None:
    q, k, v = problem(sizes=(200, 150, 2, 3))
    q[:5] *= long
    arrays = cast((q, k, v), "float32")
    g = (upstream(cast((q, k, v), "float64")) * 10.0**power).astype("float32")
    for name, ratio in ratios(g, arrays).items():
        assert ratio.max() <= 1.0, name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_queries_that_see_nothing_leave_bounds_alone(dtype: str) -> None:
    arrays = cast(problem(sizes=(300, 200, 2, 3)), dtype)
    g = upstream(arrays)
    for name, ratio in ratios(g, arrays, is_causal="lower_right").items():
        assert ratio.max() <= 1.0, name
    g[::2] = 0.0
    for name, ratio in ratios(g, arrays, is_causal="lower_right").items():
        assert ratio.max() <= 1.0, name


def test_there_is_no_bound_where_slopes_have_none() -> None:
    arrays = problem(sizes=(200, 200, 2, 2))
    plan = subquad.plan(*arrays, eps=0.3, method="polynomial")
    assert plan.method == "polynomial"
    assert not plan.derivative
    _, info = subquad.attention_grad(upstream(arrays), *arrays, plan=plan, return_info=True)
    assert info.grad_bound is None
