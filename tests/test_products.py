"""Products of matrices with the threads of a call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from subquad import _subquad
from subquad._products import product


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("n", "k", "m"), [(3000, 17, 5), (1, 1, 1), (5, 0, 3), (0, 4, 2), (2, 3, 0)]
)
def test_products_of_small_integers_are_exact(n: int, k: int, m: int, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-9, 9, shape).astype(dtype) for shape in ((n, k), (k, m)))
    for left, right in ((a, b), (np.asfortranarray(a), b), (a, np.ascontiguousarray(b.T).T)):
        for workers in (1, 2):
            found = product(left, right, workers)
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, a @ b)


def test_every_number_of_workers_gives_the_same_bits() -> None:
    a, b = np.random.default_rng(1).standard_normal((2, 5000, 40))
    one = product(a, b[:40], 1)
    np.testing.assert_array_equal(one, product(a, b[:40], 3))
    np.testing.assert_allclose(one, a @ b[:40], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"a": np.zeros((4, 2))}, ValueError),
        ({"out": np.zeros((3, 5))}, ValueError),
        ({"b": np.zeros((3, 5), np.float32)}, TypeError),
        ({"out": np.zeros((4, 5), np.float32)}, TypeError),
        ({"a": np.zeros((4, 3), np.int64)}, TypeError),
        ({"b": np.zeros(3)}, ValueError),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], error: Any) -> None:
    arrays = {"a": np.zeros((4, 3)), "b": np.zeros((3, 5)), "out": np.zeros((4, 5))}
    with pytest.raises(error, match="`"):
        _subquad.matrix_product(**(arrays | change), workers=1)
