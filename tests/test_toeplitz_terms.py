"""Sums of rescaled Toeplitz matrices of the compiled module, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from subquad import _subquad
from subquad.reference.toeplitz import matmul, matmul_grad

NAMES = ("left", "right", "x", "weights")


def problem(sizes: tuple[int, int, int, int], own: bool, dtype: str) -> dict[str, Any]:
    rows, keys, columns, terms = sizes
    rng = np.random.default_rng(0)
    shapes = {
        "weights": (terms if own else 1, rows + keys - 1),
        "left": (terms, rows),
        "right": (terms, keys),
        "x": (keys, columns),
    }
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def gradients(arrays: dict[str, Any], grad: Any, names: Any, workers: int = 1) -> dict[str, Any]:
    to: Any = {
        f"grad_{name}": np.zeros_like(arrays[name]) if name in names else None for name in NAMES
    }
    _subquad.rescaled_toeplitz_grad(**arrays, grad_out=grad, **to, workers=workers)
    return {name: to[f"grad_{name}"] for name in names}


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 5e-5)])
@pytest.mark.parametrize("sizes", [(300, 200, 17, 40), (90, 100, 33, 3), (40, 65, 64, 1)])
def test_equals_the_sum_over_terms(
    sizes: tuple[int, int, int, int], own: bool, dtype: str, tolerance: float
) -> None:
    arrays = problem(sizes, own, dtype)
    grad = np.cos(np.arange(sizes[0] * sizes[2])).reshape(sizes[0], sizes[2]).astype(dtype)
    out = np.ones((sizes[0], sizes[2]), dtype)
    _subquad.rescaled_toeplitz(**arrays, out=out, workers=2)
    wide = {name: array.astype(np.float64) for name, array in arrays.items()}
    expected = np.ones(out.shape)
    of = {name: np.zeros_like(array) for name, array in wide.items()}
    for t in range(sizes[3]):
        weights = wide["weights"][t if own else 0]
        left, right = wide["left"][t, :, np.newaxis], wide["right"][t, :, np.newaxis]
        scaled = right * wide["x"]
        product = matmul(weights, scaled)
        expected += left * product
        grads = matmul_grad(left * grad, weights, scaled)
        of["left"][t] = np.sum(grad * product, axis=1)
        of["right"][t] = np.sum(wide["x"] * grads.x, axis=1)
        of["x"] += right * grads.x
        of["weights"][t if own else 0] += grads.weights
    np.testing.assert_allclose(out, expected, atol=tolerance * np.abs(expected).max())
    for names in (NAMES, ("left",), ("right", "x"), ("weights",)):
        for name, found in gradients(arrays, grad, names).items():
            np.testing.assert_allclose(
                found, of[name], atol=tolerance * np.abs(of[name]).max(), err_msg=name
            )


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
def test_every_number_of_workers_gives_the_same_bits(own: bool) -> None:
    arrays = problem((300, 250, 19, 70), own, "float32")
    grad = arrays["x"].repeat(2, axis=0)[:300]
    results = []
    for workers, order in ((1, "forward"), (3, "reverse"), (2, "shuffled")):
        _subquad.set_task_order(order)
        try:
            out = np.zeros((300, 19), np.float32)
            _subquad.rescaled_toeplitz(**arrays, out=out, workers=workers)
            results.append({"out": out} | gradients(arrays, grad, NAMES, workers))
        finally:
            _subquad.set_task_order("forward")
    for other in results[1:]:
        for name, found in other.items():
            np.testing.assert_array_equal(found, results[0][name], err_msg=name)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"weights": np.ones((1, 8))}, ValueError, r"`weights` must have L \+ S - 1 = 7, got 8"),
        ({"weights": np.ones((2, 7))}, ValueError, "`weights` must have T = 3, got 2"),
        ({"right": np.ones((2, 3))}, ValueError, "`right` must have T = 3, got 2"),
        ({"x": np.ones((4, 2))}, ValueError, "`x` must have S = 3, got 4"),
        ({"out": np.ones((5, 3))}, ValueError, "`out` must have C = 2, got 3"),
        ({"x": np.ones((3, 2), np.float32)}, TypeError, "`x` must have the type"),
        ({"x": np.ones((1, 3, 2))}, ValueError, "`x` must have two axes"),
        ({"left": np.full((3, 5), np.nan)}, ValueError, "`out` must be finite"),
        ({"x": np.full((3, 2), np.inf)}, ValueError, "`out` must be finite"),
    ],
)
def test_refusals(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arrays = problem((5, 3, 2, 3), False, "float64") | {"out": np.zeros((5, 2))}
    with pytest.raises(error, match=message):
        _subquad.rescaled_toeplitz(**(arrays | change), workers=1)


def test_gradients_of_another_shape_are_refused() -> None:
    arrays = problem((5, 3, 2, 3), False, "float64")
    with pytest.raises(ValueError, match="`grad_left` must have number of rows = 3, got 2"):
        _subquad.rescaled_toeplitz_grad(
            **arrays,
            grad_out=np.ones((5, 2)),
            grad_left=np.zeros((2, 5)),
            grad_right=None,
            grad_x=None,
            grad_weights=None,
            workers=1,
        )
