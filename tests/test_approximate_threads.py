"""Threads of softmax attention by polynomials: one result for every number of them and order of tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from approximations import Array, cast, problem
from running import assert_same_bits, task_order

import subquad

pytestmark = pytest.mark.usefixtures("thread_state")


def everything(workers: int | None) -> list[Array]:
    """Rows, bounds and gradients, of every way that rows are computed in."""
    results: list[Array] = []

    def run(arrays: Any, **options: Any) -> None:
        settings: dict[str, Any] = {
            "eps": 2e-2,
            "method": "polynomial",
            "rng": 3,
            "workers": workers,
            "return_info": True,
            **options,
        }
        out, lse, info = subquad.attention(*arrays, return_lse=True, **settings)
        assert info.method == "polynomial", info.reason
        g = np.cos(out).astype(out.dtype)
        grads, _ = subquad.attention_grad(g, *arrays, **settings)
        results.extend([out, lse, info.error_bound, grads.query, grads.key, grads.value])

    for dtype in ("float32", "float64"):
        long = problem(sizes=(1500, 1600, 6, 5))
        long[0][::150] *= 40  # exact rows
        long[1][7] *= 40  # keys apart
        q = problem(4, sizes=(300, 320, 4, 3))[0]
        _, k, v = problem(2, sizes=(300, 320, 4, 3), seed=1)
        for is_causal in (False, True, "lower_right"):
            run(cast((q, k, v), dtype), is_causal=is_causal, enable_gqa=True)
            run(cast((q, k, v), dtype), is_causal=is_causal, enable_gqa=True, centres=9)
        run(cast(long, dtype))
        run(cast(long, dtype), certificate="statistical", eps=0.1)
        run(cast(problem(sizes=(1500, 1600, 6, 5)), dtype), is_causal=True)
    return results


@pytest.fixture(scope="module")
def expected() -> list[Array]:
    return everything(workers=1)


@pytest.mark.parametrize("workers", [2, 5])
def test_the_number_of_threads_does_not_change_a_bit(workers: int, expected: list[Array]) -> None:
    assert_same_bits(everything(workers), expected)


@pytest.mark.parametrize(("order", "workers"), [("reverse", 1), ("shuffled", 2)])
def test_the_order_of_tasks_does_not_change_a_bit(
    order: str, workers: int, expected: list[Array]
) -> None:
    with task_order(order):
        assert_same_bits(everything(workers), expected)
