"""The twins of the polynomial method: autograd, central differences, hand-worked examples."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.polynomial.polynomial import polyval
from polynomials import CAUSAL, FIXTURE_NAMES, NAMES, polynomial_fixture, taylor
from strategies import FIXTURES

from subquad import reference

Arrays = dict[str, Any]


@pytest.mark.parametrize("name", FIXTURE_NAMES)
def test_equals_the_fixtures(name: str) -> None:
    arrays, coefficients, options = polynomial_fixture(name)
    inputs: Any = (*(arrays[n] for n in ("query", "key", "value")), coefficients)
    out = reference.polynomial_attention(*inputs, **options)
    np.testing.assert_allclose(out, arrays["out"], rtol=1e-13, atol=1e-14)
    grads = reference.polynomial_attention_grad(arrays["grad_out"], *inputs, **options)
    for argument in ("query", "key", "value"):
        expected = arrays[f"grad_{argument}"]
        np.testing.assert_allclose(getattr(grads, argument), expected, rtol=1e-12, atol=1e-13)


# Shapes of query, key and value: one head, groups, one head for all, batches that broadcast.
SHAPES = [
    ((5, 3), (7, 3), (7, 2)),
    ((4, 5, 3), (2, 7, 3), (2, 7, 2)),
    ((4, 5, 3), (7, 3), (1, 7, 2)),
    ((1, 5, 3), (3, 4, 3), (3, 4, 2)),
    ((2, 1, 4, 5, 3), (3, 2, 6, 3), (1, 1, 2, 6, 2)),
]


def problem(shapes: Any, degree: int, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    arrays: Arrays = {n: 0.5 * rng.standard_normal(s) for n, s in zip(NAMES, shapes, strict=False)}
    return arrays | {"coefficients": taylor(degree) * rng.uniform(0.8, 1.2, degree + 1)}


@pytest.mark.parametrize("is_causal", CAUSAL)
@pytest.mark.parametrize("degree", [0, 1, 4])
@pytest.mark.parametrize("shapes", SHAPES)
def test_equals_central_differences(shapes: Any, degree: int, is_causal: Any) -> None:
    arrays = problem(shapes, degree)
    options: dict[str, Any] = {"is_causal": is_causal, "enable_gqa": True}
    out = reference.polynomial_attention(**arrays, **options)
    grad_out = np.random.default_rng(1).standard_normal(out.shape)
    grads = reference.polynomial_attention_grad(grad_out, **arrays, **options)
    for name in NAMES:
        expected = np.zeros(arrays[name].shape)
        for index in np.ndindex(*expected.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = arrays | {name: arrays[name].copy()}
                moved[name][index] += step
                ends.append(np.sum(grad_out * reference.polynomial_attention(**moved, **options)))
            expected[index] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(getattr(grads, name), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("scale", [None, -0.7])
def test_equals_autograd(torch: ModuleType, is_causal: bool, scale: float | None) -> None:
    arrays = problem(((2, 9, 3), (2, 9, 3), (2, 9, 4)), degree=4)
    q, k, v, c = (torch.from_numpy(arrays[name]).requires_grad_() for name in NAMES)
    logits = (3**-0.5 if scale is None else scale) * q @ k.mT
    weights = sum(c[t] * logits**t for t in range(5))
    weights = weights.tril() if is_causal else weights
    theirs = weights @ v / weights.sum(-1, keepdim=True)
    upstream = torch.randn_like(theirs)
    expected = torch.autograd.grad(theirs, (q, k, v, c), upstream)
    options: dict[str, Any] = {"is_causal": is_causal, "scale": scale}
    out = reference.polynomial_attention(**arrays, **options)
    np.testing.assert_allclose(out, theirs.detach().numpy(), rtol=1e-12, atol=1e-13)
    grads = reference.polynomial_attention_grad(upstream.numpy(), **arrays, **options)
    for name, grad in zip(NAMES, expected, strict=True):
        np.testing.assert_allclose(getattr(grads, name), grad.numpy(), rtol=1e-11, atol=1e-12)


def test_two_keys_by_hand() -> None:
    # Logits 1 and -1, weights 1 + 2 + 3 = 6 and 1 - 2 + 3 = 2.
    arrays: tuple[Any, ...] = ([[2.0]], [[0.5], [-0.5]], [[4.0], [8.0]], [1.0, 2.0, 3.0])
    out = reference.polynomial_attention(*arrays, scale=1.0)
    np.testing.assert_allclose(out, [[5.0]], rtol=1e-15)
    grads = reference.polynomial_attention_grad([[1.0]], *arrays, scale=1.0)
    # d out / d weight = (v - out) / 8 = -1/8 and 3/8; d weight / d logit = 2 + 6 s = 8 and -4.
    np.testing.assert_allclose(grads.value, [[0.75], [0.25]], rtol=1e-15)
    np.testing.assert_allclose(grads.coefficients, [0.25, -0.5, 0.25], rtol=1e-15)
    np.testing.assert_allclose(grads.key, [[-2.0], [-3.0]], rtol=1e-15)
    np.testing.assert_allclose(grads.query, [[-0.5 + 0.75]], rtol=1e-15)


def test_features_and_weights_by_hand() -> None:
    x = [[2.0, 3.0]]
    np.testing.assert_array_equal(
        reference.polynomial.features(x, 3), [[1, 2, 3, 4, 6, 9, 8, 12, 18, 27]]
    )
    np.testing.assert_array_equal(
        reference.polynomial.weights(2, 3), [1, 1, 1, 1, 2, 1, 1, 3, 3, 1]
    )
    assert reference.polynomial.features(np.zeros((4, 0)), 3).shape == (4, 1)
    assert reference.polynomial.features(np.zeros((0, 2)), 1).shape == (0, 3)


@pytest.mark.parametrize("degree", range(1, 6))
@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_features_times_weights_are_powers_of_products(d: int, degree: int) -> None:
    x, y = np.random.default_rng(2).standard_normal((2, 6, d))
    phi_x, phi_y = (reference.polynomial.features(z, degree) for z in (x, y))
    weights = reference.polynomial.weights(d, degree)
    assert weights.shape == (math.comb(d + degree, degree),)
    sizes = [math.comb(d + t - 1, t) for t in range(degree + 1)]
    c = np.random.default_rng(3).standard_normal(degree + 1)
    product = (phi_x * weights * np.repeat(c, sizes)) @ phi_y.T
    np.testing.assert_allclose(product, polyval(x @ y.T, c), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("eps", [1e-1, 1e-3, 1e-6])
@pytest.mark.parametrize("scale", [None, 0.4, -0.4])
def test_factors_meet_their_budget_entry_by_entry(eps: float, scale: float | None) -> None:
    q, k = 0.7 * np.random.default_rng(4).standard_normal((2, 9, 3))
    u, v, error_bound = reference.polynomial.factor(q, k[:7], eps=eps, scale=scale)
    exact = np.exp((3**-0.5 if scale is None else scale) * q @ k[:7].T)
    error = np.abs(u @ v.T - exact)
    assert np.all(error <= eps * exact)
    np.testing.assert_allclose(error.max(), error_bound, rtol=1e-6, atol=1e-12)
    degree = next(g for g in range(1, 99) if math.comb(3 + g, g) == u.shape[1])
    assert reference.polynomial.factor(q, k[:7], degree=degree, scale=scale)[2] == error_bound
    lower = reference.polynomial.factor(q, k[:7], degree=degree - 1, scale=scale)
    assert np.any(np.abs(lower.u @ lower.v.T - exact) > eps * exact)


def test_the_gradient_of_the_papers_loss_equals_the_fixture() -> None:
    with np.load(FIXTURES / "attention_loss.npz", allow_pickle=False) as archive:
        arrays = [archive[name] for name in ("A1", "X", "A2", "A3", "Y", "E")]
        expected = archive["grad_X"]
    grad = reference.polynomial.attention_loss_grad(*arrays)
    np.testing.assert_allclose(grad, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("scale", [None, 0.6])
def test_the_gradient_of_the_papers_loss_equals_central_differences(scale: float | None) -> None:
    rng = np.random.default_rng(5)
    # No two sizes are equal, so that no product fits in another orientation.
    shapes = ((8, 2), (2, 3), (7, 3), (7, 4), (4, 5), (8, 5))
    a1, x, a2, a3, y, e = (rng.standard_normal(shape) for shape in shapes)

    def loss(x: Any) -> float:
        powers = np.exp((1 / 3 if scale is None else scale) * (a1 @ x @ a2.T))
        f = powers / powers.sum(axis=1, keepdims=True)
        return 0.5 * float(np.sum((f @ a3 @ y - e) ** 2))

    expected = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        step = np.zeros(x.shape)
        step[index] = 1e-5
        expected[index] = (loss(x + step) - loss(x - step)) / 2e-5
    grad = reference.polynomial.attention_loss_grad(a1, x, a2, a3, y, e, scale=scale)
    np.testing.assert_allclose(grad, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: p.factor([[1.0]], [[1.0]]), ValueError, "`eps` and `degree`.*needed"),
        (lambda p: p.factor([[1.0]], [[1.0, 2.0]], eps=0.1), ValueError, r"`key`.*d = 1.*\(1, 2\)"),
        (lambda p: p.factor([[1.0]], [[1.0]], eps=0.0), ValueError, "`eps` must be positive"),
        (
            lambda p: p.attention_loss_grad(*np.ones((5, 2, 2)), np.ones((3, 2))),
            ValueError,
            r"`E` must have shape \(n, v\) with n = 2 as before, got \(3, 2\)",
        ),
    ],
)
def test_refusals(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(reference.polynomial)
