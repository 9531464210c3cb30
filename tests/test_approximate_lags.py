"""How biases split into functions of queries and of keys, block by block."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from subquad._approximate.lags.near import near_pairs
from subquad._approximate.lags.routes import Blocks, Decay, Plateau, Route
from subquad._approximate.lags.smooth import Kerple, Smooth, smooth_route
from subquad._approximate.lags.whole import features, pull_features
from subquad.reference import polynomial

LOG, POWER = Kerple("log", 1.2, 0.7), Kerple("power", 0.3, 0.4)
Floats = NDArray[np.float64]
Make = Callable[..., Any]
BIASES: dict[str, tuple[Make, Make]] = {
    "decay": (lambda blocks: Decay(blocks, 0.05), lambda m: -0.05 * abs(m)),
    "steep": (lambda blocks: Decay(blocks, 9.0), lambda m: -9.0 * abs(m)),
    "plateau": (
        lambda blocks: Plateau(blocks, -1.0, 0.3),
        lambda m: np.where(m > 0, -1.0, 0.3),
    ),
    "log": (lambda blocks: smooth_route(blocks, LOG, 1e-3), lambda m: LOG.bias(abs(1.0 * m))),
    "power": (lambda blocks: smooth_route(blocks, POWER, 1e-3), lambda m: POWER.bias(abs(1.0 * m))),
}
SHAPES = list(itertools.product((37, 64, 200), (50, 64, 200), (8, 16), (True, False)))


def weights_of(route: Route) -> Floats:
    """Push every key on its own through a split."""
    blocks = route.blocks
    f, g = route.of_queries(), route.of_keys()
    sums = np.zeros((blocks.of_keys, route.functions, blocks.keys))
    for j in range(blocks.keys):
        sums[j // blocks.size, :, j] = g[:, j]
    pushed = route.push(sums)
    return np.stack([f[:, i] @ pushed[i // blocks.size] for i in range(blocks.queries)])


def far_pairs(route: Route) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    blocks = route.blocks
    i, j = np.arange(blocks.queries)[:, np.newaxis], np.arange(blocks.keys)
    far = abs(i // blocks.size - j // blocks.size) > route.reach
    return i - j, far & (j <= i) if blocks.is_causal else far


@pytest.mark.parametrize("name", BIASES)
@pytest.mark.parametrize(("queries", "keys", "size", "is_causal"), SHAPES)
def test_far_weights_are_those_of_the_bias(
    name: str, queries: int, keys: int, size: int, is_causal: bool
) -> None:
    make, bias = BIASES[name]
    route = make(Blocks(queries, keys, size, is_causal))
    lags, far = far_pairs(route)
    found = weights_of(route)
    wanted = np.exp(bias(lags) - route.top)
    assert np.all(found[~far] == 0.0)
    assert np.all(abs(found - wanted)[far] <= route.error * wanted[far] + 1e-14)


def test_the_error_of_a_smooth_split_falls_with_more_points() -> None:
    blocks = Blocks(300, 300, 8, is_causal=True)
    lags, far = far_pairs(Smooth(blocks, LOG, 3, 0.0, 1.0))
    wanted = np.exp(LOG.bias(np.abs(1.0 * lags)))
    errors = [
        np.max((abs(weights_of(Smooth(blocks, LOG, points, 0.0, 1.0)) - wanted) / wanted)[far])
        for points in (3, 5, 8)
    ]
    assert errors[0] > 10.0 * errors[1] > 100.0 * errors[2]


@pytest.mark.parametrize("name", BIASES)
@pytest.mark.parametrize("is_causal", [True, False])
def test_gradients_go_back_the_way_that_sums_came(name: str, is_causal: bool) -> None:
    rng = np.random.default_rng(1)
    route = BIASES[name][0](Blocks(150, 130, 8, is_causal))
    sums = rng.standard_normal((route.blocks.of_keys, route.functions, 3, 2))
    grad = rng.standard_normal((route.blocks.of_queries, route.functions, 3, 2))
    pushed = route.push(sums)
    back, _ = route.pull(sums, pushed, grad)
    assert np.isclose((pushed * grad).sum(), (back * sums).sum(), rtol=1e-11)


@pytest.mark.parametrize(
    ("make", "numbers"),
    [
        (lambda blocks, slope: Decay(blocks, slope), [0.05]),
        (Plateau, [-1.0, 0.3]),
        (lambda blocks, a, b: Smooth(blocks, Kerple("log", a, b), 5, 0.0, 1.0), [1.2, 0.7]),
        (lambda blocks, a, b: Smooth(blocks, Kerple("power", a, b), 5, 0.0, 1.0), [0.3, 0.4]),
    ],
    ids=["decay", "plateau", "log", "power"],
)
@pytest.mark.parametrize("is_causal", [True, False])
def test_the_numbers_of_a_bias_have_their_gradient(
    make: Make, numbers: list[float], is_causal: bool
) -> None:
    """By central differences of all that depends on them: both functions, and the way between."""
    rng = np.random.default_rng(2)
    blocks = Blocks(90, 100, 8, is_causal)
    inner = rng.standard_normal((blocks.queries, blocks.keys))

    def total(values: Floats) -> float:
        route = make(blocks, *values)
        return float(np.exp(route.top) * (weights_of(route) * inner).sum())

    route = make(blocks, *numbers)
    f, g = route.of_queries(), route.of_keys()
    sums = np.zeros((blocks.of_keys, route.functions, blocks.keys))
    grad = np.zeros((blocks.of_queries, route.functions, blocks.keys))
    for j in range(blocks.keys):
        sums[j // blocks.size, :, j] = g[:, j]
    pushed = route.push(sums)
    for i in range(blocks.queries):
        grad[i // blocks.size] += f[:, i, np.newaxis] * inner[i]
    of_f = np.stack([pushed[i // blocks.size] @ inner[i] for i in range(blocks.queries)], axis=1)
    back, found = route.pull(sums, pushed, grad)
    of_g = np.stack([back[j // blocks.size, :, j] for j in range(blocks.keys)], axis=1)
    found = np.exp(route.top) * (found + route.slopes(of_g, of_f))
    for at, value in enumerate(found):
        ahead, behind = (np.array(numbers) + np.eye(len(numbers))[at] * h for h in (1e-6, -1e-6))
        difference = (total(ahead) - total(behind)) / 2e-6
        assert np.isclose(value, difference, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("route", "bias"),
    [
        (lambda blocks: Decay(blocks, 0.3), lambda m, slope: -slope * abs(m)),
        (
            lambda blocks: Smooth(blocks, LOG, 5, 0.0, 1.0),
            lambda m, a, b: Kerple("log", a, b).bias(m),
        ),
    ],
    ids=["decay", "log"],
)
@pytest.mark.parametrize(("queries", "keys"), [(50, 20), (20, 50)])
def test_a_gradient_of_lags_has_that_of_the_numbers_as_a_consequence(
    route: Make, bias: Make, queries: int, keys: int
) -> None:
    made = route(Blocks(queries, keys, 8, is_causal=False))
    numbers = np.array([0.3]) if isinstance(made, Decay) else np.array([LOG.a, LOG.b])
    wanted = np.arange(1.0, 1.0 + len(numbers))
    of_lags = np.zeros(queries + keys - 1)
    made.spread(wanted, of_lags)
    lags = abs(np.arange(-(keys - 1.0), queries))
    for at in range(len(numbers)):
        step = 1e-6 * np.eye(len(numbers))[at]
        change = (bias(lags, *(numbers + step)) - bias(lags, *(numbers - step))) / 2e-6
        assert np.isclose(of_lags @ change, wanted[at], rtol=1e-6)


def test_an_exponent_above_one_is_not_split() -> None:
    blocks = Blocks(500, 500, 16, is_causal=True)
    assert smooth_route(blocks, Kerple("power", 0.1, 1.5), 1e-2) is None


def test_near_pairs_are_counted() -> None:
    blocks = Blocks(100, 70, 16, is_causal=False)
    i, j = np.arange(100)[:, np.newaxis] // 16, np.arange(70) // 16
    assert near_pairs(blocks, 1) == int((abs(i - j) <= 1).sum())


@pytest.mark.parametrize(("width", "degree"), [(1, 3), (3, 1), (4, 3), (5, 2)])
def test_monomials_and_their_gradient(width: int, degree: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((7, width))
    found = features(x, degree)
    np.testing.assert_allclose(found.T, polynomial.features(x, degree), rtol=1e-14)
    grad = rng.standard_normal(found.shape)
    pulled = pull_features(x, degree, found, grad.copy())
    for l in range(width):
        step = np.zeros(width)
        step[l] = 1e-6
        change = (features(x + step, degree) - features(x - step, degree)) / 2e-6
        np.testing.assert_allclose(pulled[:, l], (grad * change).sum(axis=0), rtol=1e-7)
