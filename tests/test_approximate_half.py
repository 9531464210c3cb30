"""Products in bf16 within the budget: where they are taken, and that bounds hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from approximations import assert_certified, attend, cast, problem
from numpy.typing import NDArray

import subquad
from subquad import _subquad

pytestmark = pytest.mark.skipif(not _subquad.bf16, reason="the machine has no products in bf16")

SIZES, EPS = (700, 800, 24, 16), 2e-3


def flat(seed: int, offset: float = 0.0) -> Any:
    q, k, v = problem(2, sizes=SIZES, size=0.05, seed=seed)
    return cast((q + offset, k + offset, 5 * v + 3), "float32")


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_bounds_hold_and_say_that_more_was_rounded(seed: int, offset: float) -> None:
    arrays = flat(seed, offset)
    answer = attend(arrays, EPS)
    heads = answer.info.plan.heads
    assert any(head.half for head in heads)
    assert_certified(arrays, answer, EPS)
    # Rounding shows, and less of it in float64 arrays, whose products stay what they are.
    exact = attend(cast(arrays, "float64"), EPS)
    assert not any(head.half for head in exact.info.plan.heads)
    off = np.linalg.norm(answer.out - exact.out, axis=-1)
    spread = answer.info.spread
    assert spread is not None
    assert 1e-6 < off.max() < EPS * spread.max()


def test_a_small_budget_leaves_no_room() -> None:
    q, k, v = flat(0)
    info = attend((0.5 * q, k, v), 3e-4).info
    assert info.method == "polynomial"
    assert not any(head.half for head in info.plan.heads)


@pytest.mark.parametrize("options", [{"is_causal": True}, {"certificate": "statistical", "rng": 0}])
def test_some_calls_never_take_them(options: dict[str, Any]) -> None:
    info = attend(flat(0), 4 * EPS, **options).info
    assert info.method == "polynomial"
    assert not any(head.half for head in info.plan.heads)


def test_gradients_never_take_them() -> None:
    arrays = flat(1)
    plan = subquad.plan(*arrays, eps=EPS, method="polynomial")
    assert any(head.half for head in plan.heads)
    g: NDArray[Any] = np.ones((2, SIZES[0], SIZES[3]), np.float32)
    for given in (plan, None):
        eps = None if given else EPS
        grads, info = subquad.attention_grad(
            g, *arrays, plan=given, eps=eps, method="polynomial", return_info=True
        )
        double = subquad.attention_grad(
            g.astype("f8"), *cast(arrays, "float64"), eps=EPS, method="polynomial"
        )
        assert grads.value.shape == double.value.shape
        if given is None:
            assert not any(head.half for head in info.plan.heads)
            np.testing.assert_allclose(grads.value, double.value, rtol=1e-3, atol=1e-3)
