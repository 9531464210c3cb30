"""The gradient of the attention loss: fixture, definition, differences, and what is refused."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from exchange import Exchanged
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import FIXTURES

import subquad
from subquad import reference

Array = NDArray[Any]
NAMES = ("A1", "X", "A2", "A3", "Y", "E")
NAMESPACES = (subquad.polynomial, reference.polynomial)
# No two sizes are equal, so that no product fits in another orientation.
SHAPES = ((8, 2), (2, 3), (70, 3), (70, 4), (4, 5), (8, 5))

grad_of = subquad.polynomial.attention_loss_grad
twin_of = reference.polynomial.attention_loss_grad


def problem(shapes: Any = SHAPES, seed: int = 0, dtype: str = "float64") -> list[Array]:
    rng = np.random.default_rng(seed)
    return [(0.5 * rng.standard_normal(shape)).astype(dtype) for shape in shapes]


def relative(found: Any, exact: Array) -> float:
    size = float(np.max(np.abs(exact), initial=0.0))
    return float(np.max(np.abs(found - exact), initial=0.0)) / (size or 1.0)


def longest(rows: Array) -> float:
    return float(np.linalg.norm(rows, axis=1).max())


@pytest.mark.parametrize(("dtype", "error"), [("float64", 1e-13), ("float32", 1e-5)])
def test_equals_the_fixture(dtype: str, error: float) -> None:
    with np.load(FIXTURES / "attention_loss.npz", allow_pickle=False) as archive:
        arrays = [archive[name].astype(dtype) for name in NAMES]
        expected = archive["grad_X"]
    grad = grad_of(*arrays)
    assert (grad.shape, grad.dtype) == (expected.shape, np.dtype(dtype))
    assert relative(grad, expected) < error


@given(
    st.tuples(*(st.integers(0, 9) for _ in range(6))),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from([None, 0.3, -1.0]),
    st.sampled_from(
        [
            {},
            {"method": "polynomial", "degree": 5},
            {"method": "polynomial", "degree": 8},
        ]
    ),
    st.integers(0, 99),
)
def test_equals_the_definition(
    sizes: tuple[int, ...], dtype: str, scale: float | None, options: dict[str, Any], seed: int
) -> None:
    n, m, d, k, width, v = sizes
    shapes = ((n, d), (d, k), (m, k), (m, width), (width, v), (n, v))
    arrays = problem(shapes, seed, dtype)
    # The bound on the logits may differ by rounding, and the polynomial with it.
    tolerance = 1e-4 if dtype == "float32" else 1e-11
    try:
        expected = twin_of(*arrays, scale=scale, **options)
    except ValueError as err:
        if "`degree` must be from" not in str(err):
            raise
        return
    found = grad_of(*arrays, scale=scale, **options)
    assert (found.shape, found.dtype) == ((d, k), np.dtype(dtype))
    size = max(float(np.abs(np.concatenate([x.ravel() for x in arrays])).max(initial=0.0)), 1.0)
    np.testing.assert_allclose(found, expected, atol=tolerance * size**4, rtol=tolerance)


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("eps", [0.5, 0.05, 2e-3])
def test_the_polynomial_gradient_equals_central_differences(namespace: Any, eps: float) -> None:
    a1, x, a2, a3, y, e = problem()
    # Held fixed: the mean of the keys, and the polynomial for these logits.
    a2 = a2 + np.array([1.0, -2.0, 0.5])
    key = a2 - a2.mean(axis=0)
    assert longest(key) < 0.95 * longest(a2)
    c, _ = subquad.polynomial.coefficients(longest(a1 @ x) * longest(key) / 3, eps, derivative=True)

    def loss(x: Array) -> float:
        out = reference.polynomial_attention(a1 @ x, key, a3 @ y, c, scale=1 / 3)
        return 0.5 * float(np.sum((out - e) ** 2))

    expected = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        step = np.zeros(x.shape)
        step[index] = 1e-5
        expected[index] = (loss(x + step) - loss(x - step)) / 2e-5
    for options in ({"degree": len(c) - 1}, {"eps": eps}):
        grad = namespace.attention_loss_grad(a1, x, a2, a3, y, e, method="polynomial", **options)
        np.testing.assert_allclose(grad, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_smaller_budget_gives_a_better_gradient(dtype: str) -> None:
    arrays = problem(((500, 3), (3, 3), (600, 3), (600, 3), (3, 3), (500, 3)), 1, dtype)
    exact = twin_of(*arrays)
    errors = [
        relative(grad_of(*arrays, method="polynomial", eps=eps), exact)
        for eps in (1e-1, 1e-2, 1e-3, 1e-4)
    ]
    # What stands in for the relative error of the weights, some times over, plus rounding.
    assert all(error < 3 * eps for error, eps in zip(errors, (1e-1, 1e-2, 1e-3, 1e-4), strict=True))
    assert errors[-1] < errors[0] / 10


@pytest.mark.parametrize("options", [{}, {"method": "polynomial", "degree": 6}])
def test_a_common_shift_of_the_keys_changes_nothing(options: dict[str, Any]) -> None:
    a1, x, a2, a3, y, e = problem()
    # Softmax ignores it, so the gradient is the same: the shift is no direction that X can use.
    near, far = (grad_of(a1, x, a2 + shift, a3, y, e, **options) for shift in (0.0, 0.5))
    np.testing.assert_allclose(far, near, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"method": "polynomial", "degree": 5}])
def test_the_order_of_tokens_does_not_matter(options: dict[str, Any]) -> None:
    a1, x, a2, a3, y, e = problem()
    rng = np.random.default_rng(0)
    rows, keys = rng.permutation(len(a1)), rng.permutation(len(a2))
    one = grad_of(a1, x, a2, a3, y, e, **options)
    other = grad_of(a1[rows], x, a2[keys], a3[keys], y, e[rows], **options)
    np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("options", [{}, {"method": "polynomial", "degree": 5}])
def test_parts_of_the_queries_add_up(options: dict[str, Any]) -> None:
    a1, x, a2, a3, y, e = problem()
    # One longest query in both parts, so that they have one polynomial.
    a1[[0, -1]], a1[1:-1] = 2.0, 0.5 * a1[1:-1]
    whole = grad_of(a1, x, a2, a3, y, e, **options)
    parts = [grad_of(a1[s], x, a2, a3, y, e[s], **options) for s in (slice(3), slice(3, None))]
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"eps": 0.1}, {"degree": 2}])
@pytest.mark.parametrize("empty", ["n", "m", "d", "k", "l", "v"])
def test_empty_axes(empty: str, options: dict[str, Any]) -> None:
    axes = ("nd", "dk", "mk", "ml", "lv", "nv")
    sizes = dict(zip("ndmklv", (30, 2, 40, 3, 4, 5), strict=True)) | {empty: 0}
    arrays = problem([tuple(sizes[symbol] for symbol in pair) for pair in axes])
    arrays[1] *= 0.1
    options = {"method": "polynomial", **options} if options else {}
    for namespace in NAMESPACES:
        grad = namespace.attention_loss_grad(*arrays, **options)
        assert grad.shape == (sizes["d"], sizes["k"])
        if empty in "nmv":
            np.testing.assert_array_equal(grad, 0.0)


def test_types_and_kinds(torch: ModuleType) -> None:
    arrays = problem()
    exact = grad_of(*arrays)
    tensors = [torch.from_numpy(x) for x in arrays]
    grad = grad_of(*tensors)
    assert isinstance(grad, torch.Tensor)
    np.testing.assert_array_equal(grad.numpy(), exact)
    assert grad_of(*(x.bfloat16() for x in tensors)).dtype is torch.bfloat16
    exchanged: Any = [Exchanged(x) for x in arrays]
    np.testing.assert_array_equal(grad_of(*exchanged).array, exact)
    # The dtype is that of X; computed in that of all together.
    arrays[1] = arrays[1].astype(np.float32)
    assert grad_of(*arrays).dtype == np.float32
    assert grad_of(*(x.astype(np.float16) for x in arrays)).dtype == np.float16
    assert grad_of(*(np.sign(x).astype(int) for x in arrays)).dtype == np.float64
    layouts = [np.asfortranarray(arrays[0]), *arrays[1:5], arrays[5].tolist()]
    np.testing.assert_array_equal(grad_of(*layouts), grad_of(*arrays))


def test_threads_change_nothing() -> None:
    arrays = problem(((300, 4), (4, 4), (400, 4), (400, 4), (4, 4), (300, 4)))
    options: list[Any] = [{}, {"method": "polynomial", "degree": 5}]
    for keywords in options:
        with subquad.thread_limit(1):
            one = grad_of(*arrays, **keywords)
        with subquad.thread_limit(2):
            np.testing.assert_array_equal(grad_of(*arrays, **keywords), one)


SMALL: Any = [np.full((2, 2), 0.5)] * 6
POLYNOMIAL: Any = {"method": "polynomial"}


def changed(**arrays: Any) -> list[Any]:
    return [arrays.get(name, array) for name, array in zip(NAMES, SMALL, strict=True)]


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        (changed(E=np.ones((3, 2))), {}, ValueError, r"`E`.*\(n, v\) with n = 2.*\(3, 2\)"),
        (changed(X=np.ones((3, 2))), {}, ValueError, r"`X`.*\(d, k\) with d = 2"),
        (changed(A3=np.ones((3, 2))), {}, ValueError, r"`A3`.*\(m, l\) with m = 2"),
        (changed(Y=np.ones(2)), {}, ValueError, r"`Y` must have shape \(l, v\), got \(2,\)"),
        (changed(A2=[[1.0, np.inf]] * 2), {}, ValueError, r"`A2`.*inf at index \(0, 1\)"),
        (changed(A1=1j * np.ones((2, 2))), {}, TypeError, "`A1` must hold real numbers"),
        (changed(A1=np.full((2, 2), 1e308)), {"scale": 9.0}, ValueError, "exceeds the range"),
        (SMALL, {"scale": 0.0}, ValueError, "`scale` must be finite and not 0"),
        (SMALL, {"method": "fast"}, ValueError, '`method`.*"exact", "polynomial", got \'fast\''),
        (SMALL, {"eps": 0.1}, ValueError, '`eps` is for method="polynomial", got 0.1'),
        (SMALL, {"degree": 2}, ValueError, '`degree` is for method="polynomial", got 2'),
        (SMALL, POLYNOMIAL, ValueError, "one of `eps` and `degree` is needed"),
        (SMALL, {**POLYNOMIAL, "eps": 0.1, "degree": 2}, ValueError, "eps=0.1, degree=2"),
        (SMALL, {**POLYNOMIAL, "eps": -1.0}, ValueError, "`eps` must be positive"),
        (SMALL, {**POLYNOMIAL, "degree": 1.5}, TypeError, "`degree` must be an integer"),
        (SMALL, {**POLYNOMIAL, "degree": 25}, ValueError, "`degree` must be from 1 to 24"),
        (
            SMALL,
            {**POLYNOMIAL, "eps": 1e-3},
            ValueError,
            'takes degree . and .* features, more than there are keys, 2: method="exact"',
        ),
        (
            changed(A1=6.0 * np.eye(2), X=np.eye(2), A2=[[4.0, 0.0], [-4.0, 0.0]]),
            {**POLYNOMIAL, "eps": 1e-9},
            ValueError,
            "`eps` must be reached.*got 1e-09.*bounded by 12.*has an error of",
        ),
        (
            changed(A1=9.0 * np.eye(2), X=np.eye(2), A2=[[9.0, 0.0], [-9.0, 0.0]]),
            {**POLYNOMIAL, "degree": 9},
            ValueError,
            "bounded by 16 for a polynomial.*= 40.5",
        ),
    ],
)
def test_refusals(
    namespace: Any, arrays: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        namespace.attention_loss_grad(*arrays, **options)


# A general matrix for every lag: n + m - 1 of them.
SUPPORT = [(0, 0), (1, 2), (2, 1), (2, 2)]


def by_position(seed: int = 0, dtype: str = "float64") -> tuple[list[Array], dict[str, Any]]:
    arrays = problem(SHAPES, seed, dtype)
    weights = np.random.default_rng(seed + 1).standard_normal((4, 8 + 70 - 1)).astype(dtype)
    return arrays, {"rope_weights": weights, "support": SUPPORT}


@pytest.mark.parametrize("options", [{}, {"method": "polynomial", "degree": 4}])
@pytest.mark.parametrize(("dtype", "error"), [("float64", 1e-12), ("float32", 1e-4)])
def test_positions_equal_the_definition(options: dict[str, Any], dtype: str, error: float) -> None:
    arrays, positions = by_position(dtype=dtype)
    options = {**positions, **options}
    found = grad_of(*arrays, **options)
    assert found.dtype == dtype
    assert relative(found, twin_of(*arrays, **options)) < error


def test_positions_are_differences() -> None:
    arrays, positions = by_position()
    A1, X, A2, A3, Y, E = arrays
    lags = np.arange(8)[:, np.newaxis] - np.arange(70) + 69

    def loss(x: Array) -> float:
        logits = np.zeros((8, 70))
        for row, (a, b) in zip(positions["rope_weights"], SUPPORT, strict=True):
            logits += (A1 @ x)[:, a, np.newaxis] * row[lags] * A2[:, b]
        powers = np.exp(logits / 3)
        out = powers / powers.sum(axis=1, keepdims=True) @ A3 @ Y
        return 0.5 * float(((out - E) ** 2).sum())

    grad = grad_of(*arrays, **positions)
    for index in np.ndindex(X.shape):
        ends = []
        for step in (1e-5, -1e-5):
            moved = X.copy()
            moved[index] += step
            ends.append(loss(moved))
        assert abs((ends[0] - ends[1]) / 2e-5 - grad[index]) < 1e-8


def test_positions_of_ones_are_none() -> None:
    arrays, _ = by_position()
    ones: dict[str, Any] = {"rope_weights": np.ones((3, 77)), "support": [(0, 0), (1, 1), (2, 2)]}
    assert relative(grad_of(*arrays, **ones), grad_of(*arrays)) < 1e-12


def test_positions_reach_a_budget() -> None:
    arrays, positions = by_position()
    positions["rope_weights"] = 0.05 * positions["rope_weights"]
    found = grad_of(*arrays, **positions, method="polynomial", eps=1e-2)
    assert relative(found, grad_of(*arrays, **positions)) < 1e-2


@pytest.mark.parametrize("module", NAMESPACES)
@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"support": None}, "`support` must be given with `rope_weights`"),
        ({"rope_weights": None}, "`rope_weights` must be given with `support`"),
        ({"support": SUPPORT[:3]}, r"`rope_weights` must have shape \(t, n \+ m - 1\) = \(3, 77\)"),
        ({"rope_weights": np.ones((4, 78))}, r"= \(4, 77\), got \(4, 78\)"),
        ({"rope_weights": np.full((4, 77), np.nan)}, "`rope_weights` must be finite"),
        ({"support": [(0, 0), (1, 3), (1, 1), (2, 2)]}, "from 0 to E - 1 = 2, got 3"),
        (
            {"rope_weights": np.full((4, 77), 1e3), "method": "polynomial", "degree": 3},
            "the logits must be bounded by 16",
        ),
        (
            {"method": "polynomial", "eps": 1e-4},
            "Toeplitz terms, more than there are keys, 70",
        ),
    ],
)
def test_positions_that_do_not_fit(module: ModuleType, changed: dict[str, Any], match: str) -> None:
    arrays, positions = by_position()
    with pytest.raises(ValueError, match=match):
        module.attention_loss_grad(*arrays, **{**positions, **changed})
