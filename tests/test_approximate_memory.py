"""Memory of softmax attention by polynomials: arrays of tokens, never of queries by keys."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from approximations import Array

import subquad

TOKENS, WIDTH = 20_000, 16
# One array of tokens by coordinates.
ONE = TOKENS * WIDTH * 4


@pytest.fixture(scope="module")
def arrays() -> list[Array]:
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, TOKENS, WIDTH), np.float32)
    return [0.02 * q, k, v]


def peak(call: Any) -> tuple[int, Any]:
    """Bytes that numpy held at a time, besides what it held before."""
    tracemalloc.start()
    try:
        result = call()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("certificate", ["deterministic", "statistical", "none"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_forward_holds_some_arrays_of_tokens(
    arrays: list[Array], certificate: str, is_causal: bool
) -> None:
    options: dict[str, Any] = {"is_causal": is_causal, "rng": 0, "certificate": certificate}
    held, (_, info) = peak(
        lambda: subquad.attention(
            *arrays, eps=0.1, method="polynomial", return_info=True, **options
        )
    )
    assert info.method == "polynomial"
    assert info.stats["rows_recomputed"] < TOKENS / 10
    # An array of queries by keys would be 1250 of them.
    assert held <= (80 if certificate == "statistical" else 20) * ONE


@pytest.mark.parametrize("is_causal", [False, True])
def test_backward_holds_some_arrays_of_tokens(arrays: list[Array], is_causal: bool) -> None:
    g = arrays[2]
    held, grads = peak(
        lambda: subquad.attention_grad(
            g, *arrays, eps=0.1, method="polynomial", is_causal=is_causal
        )
    )
    assert grads.query.shape == (TOKENS, WIDTH)
    assert held <= 30 * ONE


def test_plans_hold_some_arrays_of_tokens(arrays: list[Array]) -> None:
    held, plan = peak(lambda: subquad.plan(*arrays, eps=0.1, method="polynomial"))
    assert plan.method == "polynomial"
    assert held <= 20 * ONE
