"""Attention by relative positions: the same bits for every number of threads and order of tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from relatives import NAMES, relative

import subquad
from subquad import _subquad


@pytest.mark.parametrize("polynomial", [{}, {"coefficients": [1.0, 1.0, 0.5]}])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_do_not_depend_on_threads(polynomial: dict[str, Any], dtype: str) -> None:
    case = relative(500, 900, heads=(2,), dtype=dtype, scale=0.2, size=0.5, is_causal=True)
    options = {**case.options, **polynomial}
    upstream = np.random.default_rng(0).standard_normal((2, 500, 2)).astype(dtype)
    first: list[Any] = []
    for workers, order in [(1, "forward"), (2, "forward"), (5, "reverse"), (3, "shuffled")]:
        _subquad.set_task_order(order)
        try:
            out = subquad.toeplitz_attention(*case.arrays, **options, workers=workers)
            grads = subquad.toeplitz_attention_grad(
                upstream, *case.arrays, **options, workers=workers
            )
        finally:
            _subquad.set_task_order("forward")
        found = [out, *(getattr(grads, name) for name in NAMES)]
        first = first or found
        for one, other in zip(first, found, strict=True):
            assert np.array_equal(one, other)
