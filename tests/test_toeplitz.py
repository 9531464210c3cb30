"""Products with Toeplitz matrices: the explicit matrix, the sign of lags, transposes, gradients, threads."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from exchange import Exchanged
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import subquad
from subquad import _subquad, reference

Array = NDArray[Any]
NAMESPACES = (subquad.toeplitz, reference.toeplitz)
matmul, matmul_grad = subquad.toeplitz.matmul, subquad.toeplitz.matmul_grad
twin, twin_grad = reference.toeplitz.matmul, reference.toeplitz.matmul_grad

# Around the lengths of transforms, where a circle too short would wrap around.
LENGTHS = [1, 2, 3, 5, 7, 31, 63, 64, 65, 97, 127, 128, 129, 255, 256, 257, 641, 1023, 1024, 1025]


def problem(rows: int, keys: int, columns: int, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal(rows + keys - 1), rng.standard_normal((keys, columns))


def relative(found: Any, exact: Array) -> float:
    size = float(np.max(np.abs(exact), initial=0.0))
    return float(np.max(np.abs(found - exact), initial=0.0)) / (size or 1.0)


@pytest.mark.parametrize("columns", [1, 2, 3, 17, 64, 65])
@pytest.mark.parametrize("length", LENGTHS)
def test_equals_the_explicit_matrix(length: int, columns: int) -> None:
    for rows, keys in (
        (length, length),
        (length, 2 * length + 1),
        (length + 3, max(1, length // 3)),
    ):
        weights, x = problem(rows, keys, columns)
        found = matmul(weights, x)
        assert found.shape == (rows, columns)
        assert relative(found, twin(weights, x)) < 1e-13
        y = np.cos(np.arange(rows * columns)).reshape(rows, columns)
        back = matmul(weights, y, transpose=True)
        assert back.shape == (keys, columns)
        assert relative(back, twin(weights, y, transpose=True)) < 1e-13
        # <y, T x> = <T^t y, x>
        assert np.sum(y * found) == pytest.approx(np.sum(back * x), rel=1e-9, abs=1e-9 * found.size)


@pytest.mark.parametrize("length", [1, 2, 3, 200, 1000])
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_lag_is_the_row_less_the_column(namespace: Any, length: int) -> None:
    rows, keys = length + 2, length
    x = np.arange(1.0, keys + 1)
    for lag in {1 - keys, -1 if keys > 1 else 0, 0, 1, rows - 1}:
        weights = np.zeros(rows + keys - 1)
        weights[lag + keys - 1] = 1.0
        out = namespace.matmul(weights, x)
        i = np.arange(rows)
        inside = (i - lag >= 0) & (i - lag < keys)
        expected = np.where(inside, x[np.clip(i - lag, 0, keys - 1)], 0.0)
        np.testing.assert_allclose(out, expected, atol=1e-11 * keys)
        y = np.arange(1.0, rows + 1)
        j = np.arange(keys)
        inside = (j + lag >= 0) & (j + lag < rows)
        expected = np.where(inside, y[np.clip(j + lag, 0, rows - 1)], 0.0)
        back = namespace.matmul(weights, y, transpose=True)
        np.testing.assert_allclose(back, expected, atol=1e-11 * keys)


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(0, 40),
    st.sampled_from([(), (1,), (3,), (2, 1)]),
    st.sampled_from([(), (1,), (3,), (2, 3)]),
    st.booleans(),
    st.sampled_from(["float32", "float64"]),
)
def test_equals_the_definition(
    rows: int,
    keys: int,
    columns: int,
    lead_weights: tuple[int, ...],
    lead: tuple[int, ...],
    transpose: bool,
    dtype: str,
) -> None:
    rng = np.random.default_rng(rows)
    weights = rng.standard_normal((*lead_weights, rows + keys - 1)).astype(dtype)
    x = rng.standard_normal((*lead, rows if transpose else keys, columns)).astype(dtype)
    expected = twin(weights, x, transpose=transpose)
    found = matmul(weights, x, transpose=transpose)
    assert (found.shape, found.dtype) == (expected.shape, np.dtype(dtype))
    tolerance = 1e-13 if dtype == "float64" else 3e-5
    assert relative(found, expected) < tolerance
    grad = rng.standard_normal(expected.shape).astype(dtype)
    ours = matmul_grad(grad, weights, x, transpose=transpose)
    theirs = twin_grad(grad, weights, x, transpose=transpose)
    for name, argument in (("weights", weights), ("x", x)):
        gradient = getattr(ours, name)
        assert (gradient.shape, gradient.dtype) == (argument.shape, argument.dtype)
        assert relative(gradient, getattr(theirs, name)) < tolerance
    assert ours.query is None


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("transpose", [False, True])
def test_gradients_equal_central_differences(namespace: Any, transpose: bool) -> None:
    rng = np.random.default_rng(3)
    weights, x = rng.standard_normal((2, 11)), rng.standard_normal((3, 1, 7, 2))
    grad = rng.standard_normal((3, 2, 5, 2))
    found = namespace.matmul_grad(grad, weights, x, transpose=transpose)
    arguments = {"weights": weights, "x": x}
    for name, argument in arguments.items():
        gradient = np.zeros(argument.shape)
        for index in np.ndindex(*argument.shape):
            step = np.zeros(argument.shape)
            step[index] = 1e-4
            losses = [
                np.sum(
                    grad
                    * namespace.matmul(
                        **(arguments | {name: argument + sign * step}), transpose=transpose
                    )
                )
                for sign in (1, -1)
            ]
            gradient[index] = (losses[0] - losses[1]) / 2e-4
        np.testing.assert_allclose(getattr(found, name), gradient, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_vector_is_a_column(namespace: Any) -> None:
    weights, x = problem(40, 30, 1)
    stack = np.stack([weights, 2 * weights])
    out = namespace.matmul(stack, x[:, 0])
    assert out.shape == (2, 40)
    np.testing.assert_allclose(out, namespace.matmul(stack, x)[..., 0], atol=1e-12)
    grads = namespace.matmul_grad(out, stack, x[:, 0])
    assert (grads.weights.shape, grads.x.shape) == ((2, 69), (30,))
    expected = namespace.matmul_grad(out[..., np.newaxis], stack, x)
    np.testing.assert_allclose(grads.x, expected.x[:, 0], rtol=1e-9)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_empty_axes(namespace: Any) -> None:
    assert namespace.matmul(np.zeros(4), np.zeros((5, 0))[:0]).shape == (5, 0)
    assert namespace.matmul(np.zeros((0, 7)), np.zeros((4, 2))).shape == (0, 4, 2)
    out = namespace.matmul(np.ones(3), np.zeros((0, 2)))
    assert out.shape == (4, 2)
    np.testing.assert_array_equal(out, 0.0)
    grads = namespace.matmul_grad(out, np.ones(3), np.zeros((0, 2)))
    np.testing.assert_array_equal(grads.weights, 0.0)


@pytest.mark.parametrize("size", [(40, 50), (700, 650)])
def test_every_number_of_workers_gives_the_same_bits(size: tuple[int, int]) -> None:
    rows, keys = size
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        weights = rng.standard_normal((3, rows + keys - 1)).astype(dtype)
        x = rng.standard_normal((4, 3, keys, 37)).astype(dtype)
        one = matmul(weights, x, workers=1)
        grads = matmul_grad(one, weights, x, workers=1)
        for order in ("reverse", "shuffled"):
            _subquad.set_task_order(order)
            try:
                np.testing.assert_array_equal(matmul(weights, x, workers=3), one)
                others = matmul_grad(one, weights, x, workers=3)
            finally:
                _subquad.set_task_order("forward")
            np.testing.assert_array_equal(others.weights, grads.weights)
            np.testing.assert_array_equal(others.x, grads.x)


def test_layouts_change_nothing_but_rounding() -> None:
    weights, x = problem(400, 333, 21)
    exact = matmul(weights, x)
    for layout in (np.asfortranarray(x), x[::-1][::-1], np.ascontiguousarray(x[:, ::-1])[:, ::-1]):
        np.testing.assert_allclose(matmul(weights, layout), exact, atol=1e-12)
    wide = np.zeros((333, 64))
    wide[:, 5:26] = x
    np.testing.assert_allclose(matmul(weights[::-1][::-1], wide[:, 5:26]), exact, atol=1e-12)
    np.testing.assert_allclose(matmul(weights, x.astype(">f8")), exact, atol=1e-12)


def test_types_and_kinds(torch: ModuleType) -> None:
    weights, x = problem(300, 200, 3)
    exact = matmul(weights, x)
    tensors = [torch.from_numpy(a) for a in (weights, x)]
    found = matmul(*tensors)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_array_equal(found.numpy(), exact)
    half = matmul(*(a.bfloat16() for a in tensors))
    assert half.dtype is torch.bfloat16
    assert relative(half.float().numpy(), exact) < 0.02
    assert isinstance(matmul_grad(found, *tensors).weights, torch.Tensor)
    np.testing.assert_array_equal(matmul(weights, Exchanged(x)).array, exact)
    assert matmul(weights.astype(np.float16), x.astype(np.float16)).dtype == np.float16
    assert matmul(weights.astype(np.float32), x.astype(np.float16)).dtype == np.float32
    assert matmul([1, 2, 3], [4, 5]).dtype == np.float64
    np.testing.assert_allclose(matmul([1, 2, 3], [4, 5]), [13, 22])


SMALL: Any = {"weights": np.ones(5), "x": np.ones((3, 2))}
LARGE: Any = {"weights": np.ones(1200), "x": np.ones((500, 2))}


def bad(problem: Any, name: str, value: float) -> Any:
    array = problem[name].copy()
    array.flat[-1] = value
    return {**problem, name: array}


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({**SMALL, "weights": np.ones(2)}, ValueError, r"`weights`.*L \+ S - 1.*S = 3.*\(2,\)"),
        ({**SMALL, "weights": 1.0}, ValueError, "`weights` must have shape"),
        ({**SMALL, "x": 1.0}, ValueError, "`x` must have shape"),
        ({**SMALL, "weights": np.ones(2), "transpose": True}, ValueError, "at least L = 3"),
        ({**SMALL, "weights": np.ones((2, 5)), "x": np.ones((3, 3, 1))}, ValueError, "broadcast"),
        ({**SMALL, "transpose": 1}, TypeError, "`transpose` must be True or False"),
        ({**SMALL, "workers": 0}, ValueError, "`workers`"),
        ({**SMALL, "x": 1j * np.ones((3, 2))}, TypeError, "`x` must hold real numbers"),
        (bad(SMALL, "x", np.nan), ValueError, r"`x` must be finite, got nan at index \(2, 1\)"),
        (bad(LARGE, "x", np.inf), ValueError, r"`x` must be finite, got inf at index \(499, 1\)"),
        (bad(SMALL, "weights", np.nan), ValueError, r"`weights` must be finite.*\(4,\)"),
        (bad(LARGE, "weights", -np.inf), ValueError, r"`weights` must be finite.*\(1199,\)"),
    ],
)
def test_refusals(namespace: Any, arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        namespace.matmul(**arguments)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_gradient_of_another_shape_is_refused(namespace: Any) -> None:
    with pytest.raises(ValueError, match=r"`grad_out`.*\(3, 2\), got \(2, 3\)"):
        namespace.matmul_grad(np.ones((2, 3)), **SMALL)
    with pytest.raises(ValueError, match=r"`grad_out` must be finite"):
        namespace.matmul_grad(np.full((3, 2), np.nan), **SMALL)


def test_numbers_that_overflow_are_refused() -> None:
    with pytest.raises(ValueError, match="exceeds the range of float32"):
        matmul(np.full(1200, 1e25, np.float32), np.full((500, 2), 1e20, np.float32))
