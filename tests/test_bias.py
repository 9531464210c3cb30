"""Biases of relative positions by themselves: what they stand for, refusals."""

from __future__ import annotations

import math
import pickle
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from biases import KINDS, make, rebuilt

from subquad.toeplitz import Bias


def test_learned_values_ascend_by_lag() -> None:
    # Two queries, three keys: lags -2, -1, 0, 1.
    bias = Bias.learned([10.0, 20.0, 30.0, 40.0])
    np.testing.assert_array_equal(bias.dense(2, 3), [[30.0, 20.0, 10.0], [40.0, 30.0, 20.0]])
    np.testing.assert_array_equal(bias.dense(3, 2), [[20.0, 10.0], [30.0, 20.0], [40.0, 30.0]])
    heads = Bias.learned([[1.0, 2.0], [3.0, -np.inf]])
    np.testing.assert_array_equal(heads.dense(1, 2), [[[2.0, 1.0]], [[-np.inf, 3.0]]])


def test_alibi_falls_with_the_distance() -> None:
    lag = np.subtract.outer(np.arange(4), np.arange(6))
    shared = Bias.alibi(0.25)
    np.testing.assert_array_equal(shared.dense(4, 6), -0.25 * np.abs(lag))
    heads = Bias.alibi([0.5, 2.0])
    np.testing.assert_array_equal(heads.dense(4, 6)[1], -2.0 * np.abs(lag))


@pytest.mark.parametrize("kind", ["log", "power"])
def test_kerple_by_its_formula(kind: str) -> None:
    r1, r2 = np.array([0.7, 1.5]), np.array([0.3, 2.0])
    dense = Bias.kerple([r1, r2], kind=kind).dense(5, 9)
    assert dense.shape == (2, 5, 9)
    for (h, i, j), found in np.ndenumerate(dense):
        m = abs(i - j)
        fall = math.log(1 + r2[h] * m) if kind == "log" else m ** r2[h]
        assert found == pytest.approx(-r1[h] * fall, rel=1e-14, abs=0)
    np.testing.assert_array_equal(Bias.kerple([0.7, 0.3], kind=kind).dense(5, 9), dense[0])


def bucket(relative: int, num_buckets: int, max_distance: int, bidirectional: bool) -> int:
    """T5's bucket of the position of a key relative to that of its query, one number at a time."""
    first = 0
    if bidirectional:
        num_buckets //= 2
        first = num_buckets if relative > 0 else 0
        relative = abs(relative)
    else:
        relative = -min(relative, 0)
    max_exact = num_buckets // 2
    if relative < max_exact:
        return first + relative
    one = np.float32
    log = one(math.log(one(one(relative) / one(max_exact))))
    share = one(log / one(math.log(max_distance / max_exact)))
    large = max_exact + int(one(share * one(num_buckets - max_exact)))
    return first + min(large, num_buckets - 1)


SETTINGS = [
    (num_buckets, max_distance, bidirectional)
    for num_buckets in (4, 8, 10, 32, 64, 320)
    for max_distance in (81, 128, 256, 800, 1000)
    for bidirectional in (True, False)
    if max_distance > num_buckets // 2
]


@pytest.mark.parametrize(("num_buckets", "max_distance", "bidirectional"), SETTINGS)
def test_t5_has_the_buckets_of_the_formula(
    num_buckets: int, max_distance: int, bidirectional: bool
) -> None:
    # The number of a bucket as its bias shows which one a pair has.
    table = np.arange(num_buckets, dtype=np.float64)[:, np.newaxis]
    options = {"num_buckets": num_buckets, "max_distance": max_distance}
    bias = Bias.t5(table, **options, bidirectional=bidirectional)
    found = bias.lags(3001, 3001)[0]
    lags = range(-3000, 3001)
    expected = [bucket(-m, num_buckets, max_distance, bidirectional) for m in lags]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("num_buckets", "max_distance", "bidirectional"), SETTINGS)
def test_t5_has_the_buckets_that_torch_computes(
    num_buckets: int, max_distance: int, bidirectional: bool, torch: ModuleType
) -> None:
    relative = torch.arange(-5000, 5001)
    count = num_buckets // 2 if bidirectional else num_buckets
    first = (relative > 0).long() * count if bidirectional else torch.zeros_like(relative)
    distance = relative.abs() if bidirectional else -relative.clamp(max=0)
    exact = count // 2
    large = torch.log(distance.float() / exact) / math.log(max_distance / exact) * (count - exact)
    large = (exact + large.long()).clamp(max=count - 1)
    expected = first + torch.where(distance < exact, distance, large)
    table = np.arange(num_buckets, dtype=np.float64)[:, np.newaxis]
    options = {"num_buckets": num_buckets, "max_distance": max_distance}
    bias = Bias.t5(table, **options, bidirectional=bidirectional)
    # The lag is minus the relative position.
    np.testing.assert_array_equal(bias.lags(5001, 5001)[0][::-1], expected.numpy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("heads", [None, 1, 3])
@pytest.mark.parametrize(("queries", "keys"), [(5, 7), (7, 5), (1, 1), (0, 4), (4, 0), (0, 0)])
def test_dense_is_made_of_the_lags(kind: str, heads: int | None, queries: int, keys: int) -> None:
    if queries + keys == 0 and heads:
        kind = "alibi"  # there are no arrays of heads without a number
    bias = make(kind, queries, keys, heads)
    lags, full = bias.lags(queries, keys), bias.dense(queries, keys)
    assert lags.shape == (heads or 1, max(queries + keys - 1, 0))
    lead = (heads or 1,) if kind.startswith("t5") else () if heads is None else (heads,)
    assert full.shape == (*lead, queries, keys)
    for index in np.ndindex(queries, keys):
        i, j = index
        np.testing.assert_array_equal(full[..., i, j].reshape(-1), lags[:, i - j + keys - 1])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "hiding"])
@pytest.mark.parametrize("heads", [None, 1, 3])
def test_the_pullback_is_that_of_the_lags(kind: str, heads: int | None) -> None:
    bias = make(kind, 60, 70, heads)
    parameters = bias.parameters
    grad = np.random.default_rng(1).standard_normal((2, 3, 129))
    pulled = bias.pullback(grad, 60, 70)
    assert pulled.shape == parameters.shape
    weights = grad.sum(axis=0) if heads == 3 else grad.sum(axis=(0, 1))[np.newaxis]
    for index in np.ndindex(parameters.shape):
        ends = []
        for step in (1e-6, -1e-6):
            moved = parameters.copy()
            moved[index] += step
            ends.append(np.sum(weights * rebuilt(kind, moved).lags(60, 70)))
        expected = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(pulled[index], expected, rtol=1e-6, atol=1e-7)


def test_parameters_are_copied_and_cannot_be_changed() -> None:
    slopes = np.array([0.5, 0.25], np.float32)
    bias = Bias.alibi(slopes)
    slopes[0] = 9.0
    bias.parameters[0] = 9.0
    np.testing.assert_array_equal(bias.parameters, [0.5, 0.25])
    with pytest.raises(AttributeError):
        bias.form = None  # type: ignore[misc, assignment]
    again = pickle.loads(pickle.dumps(bias))
    np.testing.assert_array_equal(again.lags(4, 5), bias.lags(4, 5))


def test_repr_names_kind_options_and_shape() -> None:
    assert repr(Bias.learned(np.zeros((2, 7), np.float32))) == (
        "Bias(learned, parameters float32 (2, 7))"
    )
    assert repr(Bias.kerple([1.0, 1.0])) == "Bias(kerple, kind='log', parameters float64 (2,))"
    assert repr(Bias.t5(np.zeros((32, 8)))) == (
        "Bias(t5, num_buckets=32, max_distance=128, bidirectional=True, parameters float64 (32, 8))"
    )


def test_tensors_are_taken_and_given_back(torch: ModuleType) -> None:
    slopes = torch.tensor([0.5, 0.25], dtype=torch.bfloat16)
    bias = Bias.alibi(slopes)
    assert bias.parameters.dtype == torch.bfloat16
    np.testing.assert_array_equal(bias.lags(1, 2), [[-0.5, 0.0], [-0.25, 0.0]])
    slopes.zero_()
    np.testing.assert_array_equal(bias.lags(1, 2), [[-0.5, 0.0], [-0.25, 0.0]])
    with pytest.raises(TypeError, match="`slopes` requires grad"):
        Bias.alibi(torch.ones(3, requires_grad=True))


NAN, INF = np.nan, np.inf
REFUSED: list[tuple[Any, Any, type[Exception], str]] = [
    (
        Bias.learned,
        [0.0, NAN],
        ValueError,
        r"`values` must be finite or -inf, got nan at index \(1,",
    ),
    (Bias.learned, [INF, 0.0], ValueError, r"`values` must be finite or -inf, got inf"),
    (Bias.learned, 1.0, ValueError, r"`values` must have shape \(L \+ S - 1,\) or .*got \(\)"),
    (Bias.learned, np.zeros((2, 3, 4)), ValueError, r"`values`.*got \(2, 3, 4\)"),
    (Bias.learned, np.zeros((0, 4)), ValueError, r"`values`.*got \(0, 4\)"),
    (Bias.learned, [True, False], TypeError, "`values` must be numbers, got dtype bool"),
    (Bias.learned, [1j], TypeError, "`values` must hold real numbers"),
    (Bias.alibi, np.zeros((2, 2)), ValueError, r"`slopes` must have shape \(H,\) or \(\)"),
    (Bias.alibi, [0.5, -INF], ValueError, r"`slopes` must be finite, got -inf at index \(1,\)"),
    (Bias.t5, np.zeros(32), ValueError, r"`table` must have shape \(num_buckets, H\), got \(32,\)"),
    (Bias.t5, np.zeros((8, 32)), ValueError, r"`table`.*num_buckets = 32, got \(8, 32\)"),
    (Bias.t5, np.full((32, 1), NAN), ValueError, r"`table` must be finite, got nan"),
    (
        Bias.kerple,
        [1.0],
        ValueError,
        r"`parameters` must have shape \(2,\) or \(2, H\), got \(1,\)",
    ),
    (Bias.kerple, [1.0, 0.0], ValueError, r"`parameters` must be positive.*0.0 at index \(1,\)"),
    (Bias.kerple, [-1.0, 1.0], ValueError, r"`parameters` must be positive.*-1.0 at index \(0,\)"),
    (Bias.kerple, [1.0, INF], ValueError, r"`parameters` must be positive and finite, got inf"),
]


@pytest.mark.parametrize(("make_it", "parameters", "error", "message"), REFUSED)
def test_parameters_out_of_range_are_refused(
    make_it: Any, parameters: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_it(parameters)


OPTIONS: list[tuple[int, dict[str, Any], type[Exception], str]] = [
    (31, {"num_buckets": 31}, ValueError, "`num_buckets` must be even.*got 31"),
    (2, {"num_buckets": 2}, ValueError, "`num_buckets` must be at least 4.*True, got 2"),
    (1, {"num_buckets": 1, "bidirectional": False}, ValueError, "at least 2.*False, got 1"),
    (32, {"max_distance": 8}, ValueError, "`max_distance` must be above 8.*got 8"),
    (32, {"max_distance": 16, "bidirectional": False}, ValueError, "above 16.*got 16"),
    (32, {"num_buckets": 32.0}, TypeError, "`num_buckets` must be an integer"),
]


@pytest.mark.parametrize(("rows", "options", "error", "message"), OPTIONS)
def test_t5_refuses_options_without_a_meaning(
    rows: int, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Bias.t5(np.zeros((rows, 2)), **options)


def test_kerple_refuses_powers_above_two_and_unknown_kinds() -> None:
    assert Bias.kerple([1.0, 2.5]).heads == 1
    with pytest.raises(ValueError, match=r"`parameters\[1\]` must be at most 2"):
        Bias.kerple([1.0, 2.5], kind="power")
    with pytest.raises(ValueError, match='`kind` must be one of "log", "power"'):
        Bias.kerple([1.0, 1.0], kind="cubic")


def test_a_bias_beyond_float64_is_refused_and_not_hidden() -> None:
    with pytest.raises(ValueError, match="`bias` must be finite, got -inf for lag -3 of head 0"):
        Bias.alibi(1e308).lags(3, 4)
