"""Every documented refusal of rotary positions, by the functions and their twins."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import subquad

X = np.random.default_rng(0).standard_normal((2, 5, 6))
K = np.random.default_rng(1).standard_normal((2, 7, 6))
OF_ATTENTION = {"key_positions", "key", "query", "wrt", "eps"}
YARN = {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64}


def calls(arguments: dict[str, Any]) -> list[Callable[[], Any]]:
    """The functions and their twins, with good arguments where none are given."""
    found: list[Callable[[], Any]] = []
    for namespace in (subquad.rope, subquad.reference.rope):
        if not OF_ATTENTION & arguments.keys():
            found.append(partial(namespace.rotate, **{"x": X, **arguments}))
        if not {"x", "inverse", "out"} & arguments.keys():
            both = {"query": X, "key": K, "value": K, **arguments}
            if "positions" in arguments and "key_positions" not in arguments:
                both["key_positions"] = np.arange(7)
            if "wrt" not in arguments:
                found.append(partial(namespace.attention, **both))
            g = np.ones((2, 5, 6))
            found.append(partial(namespace.attention_grad, g, **both))
    return found


def changed(array: Any, index: tuple[int, ...], number: float) -> Any:
    copy = np.array(array, np.float64)
    copy[index] = number
    return copy


VALUE_ERRORS: list[tuple[dict[str, Any], str]] = [
    # shapes
    ({"x": X[0, 0]}, r"`x` must have shape \(\.\.\., L, E\), got \(6,\)"),
    ({"x": 1.0}, r"`x`.*got \(\)"),
    ({"x": X[..., :5]}, r"`rotary_dim` must be even.*at most E = 5, got None, with E = 5"),
    ({"x": X[..., :0]}, r"`rotary_dim`.*got None, with E = 0"),
    ({"rotary_dim": 3}, r"`rotary_dim` must be even, at least 2 and at most E = 6, got 3"),
    ({"rotary_dim": 8}, r"`rotary_dim`.*at most E = 6, got 8"),
    ({"rotary_dim": 0}, r"`rotary_dim`.*at least 2.*got 0"),
    ({"rotary_dim": -2}, r"`rotary_dim`.*got -2"),
    ({"query": X[0, 0]}, r"`query` must have shape \(\.\.\., L, E\), got \(6,\)"),
    # positions
    ({"positions": np.arange(4)}, r"`positions` must have a position for each of 5 rows.*\(4,\)"),
    ({"positions": [3]}, r"`positions`.*each of 5 rows.*got shape \(1,\)"),
    ({"positions": 3}, r"`positions`.*got shape \(\)"),
    ({"positions": np.zeros((3, 5))}, r"`positions`.*broadcast to \(2, 5\).*got shape \(3, 5\)"),
    ({"positions": np.zeros((1, 1, 2, 5))}, r"`positions`.*got shape \(1, 1, 2, 5\)"),
    ({"positions": [0, 1, 2, np.nan, 4]}, r"`positions` must be finite, got nan at index \(3,\)"),
    ({"positions": [0, np.inf, 2, 3, 4]}, r"`positions` must be finite, got inf at index \(1,\)"),
    (
        {"positions": [0, 2**53 + 1, 2, 3, 4]},
        r"`positions` must be at most 2\^53.*9007199254740993",
    ),
    ({"positions": [0, -(2**60), 2, 3, 4]}, r"`positions` must be at most 2\^53.*-1152921504"),
    ({"key_positions": np.arange(7)}, "`positions` and `key_positions`.*L = 5 and S = 7"),
    (
        {"positions": np.arange(5), "key_positions": np.arange(5)},
        r"`key_positions`.*each of 7 rows.*`key`.*got shape \(5,\)",
    ),
    # options
    ({"layout": "split"}, '`layout` must be one of "half", "interleaved", got \'split\''),
    ({"layout": None}, "`layout`.*None"),
    ({"theta": 0.0}, "`theta` must be positive and finite, got 0.0"),
    ({"theta": np.inf}, "`theta`.*inf"),
    ({"scaling": {"type": "ntk", "factor": 1e300}}, "`theta` = 10000.0 and.*exceed float64"),
    ({"workers": 0}, "`workers`"),
    # scaling
    ({"scaling": {}}, '`scaling` must have one "type" of .*"ntk", "yarn", got none'),
    ({"scaling": {"type": "dynamic", "factor": 2}}, "`scaling`.*\"linear\".*got 'dynamic'"),
    ({"scaling": {"type": ["yarn"]}}, "`scaling` must have one"),
    ({"scaling": {"type": "linear", "rope_type": "ntk", "factor": 2}}, "'linear' and 'ntk'"),
    ({"scaling": {"type": "linear"}}, '`scaling` of type "linear" must have "factor"'),
    ({"scaling": {"type": "yarn", "factor": 2.0}}, '"original_max_position_embeddings"'),
    (
        {"scaling": {"type": "linear", "factor": 2, "beta_fast": 3}},
        '`scaling` of type "linear" has the keys "type", "factor", "rope_theta", got \'beta_fast\'',
    ),
    ({"scaling": {"type": "ntk", "factor": 0.5}}, r"`scaling\['factor'\]` must be at least 1"),
    ({"scaling": {"type": "ntk", "factor": np.nan}}, r"`scaling\['factor'\]`.*nan"),
    ({"scaling": YARN | {"beta_slow": 0}}, r"`scaling\['beta_slow'\]` must be positive"),
    ({"scaling": YARN, "theta": 1.0}, "`theta` must exceed 1"),
    ({"scaling": YARN | {"rope_theta": 5e5}}, '`theta` = 10000.0 and "rope_theta" = 500000.0'),
    # numbers
    ({"x": changed(X, (1, 2, 4), np.nan)}, r"`x` must be finite, got nan at index \(1, 2, 4\)"),
    ({"x": changed(X, (0, 4, 5), -np.inf), "rotary_dim": 2}, r"`x`.*-inf at index \(0, 4, 5\)"),
    ({"query": changed(X, (1, 2, 4), np.nan)}, r"`query`.*got nan at index \(1, 2, 4\)"),
    ({"key": changed(K, (1, 6, 0), np.inf)}, r"`key`.*got inf at index \(1, 6, 0\)"),
    # out
    ({"out": np.empty((2, 5, 5))}, r"`out` must have shape \(\.\.\., L, E\) = \(2, 5, 6\)"),
    ({"out": X}, "`out` must not overlap an input, but it overlaps `x`"),
    ({"wrt": ("positions",)}, "`wrt`.*'positions'"),
    ({"eps": 0.0}, "`eps` must be positive"),
]

TYPE_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"x": X.astype(complex)}, "`x` must hold real numbers.*complex128"),
    ({"rotary_dim": 2.0}, "`rotary_dim` must be an integer, got 2.0 of type float"),
    ({"rotary_dim": True}, "`rotary_dim` must be an integer"),
    ({"positions": np.zeros(5, bool)}, "`positions` must be numbers, got dtype bool"),
    ({"positions": ["a"] * 5}, "`positions`.*str"),
    ({"theta": "1"}, "`theta` must be a real number"),
    ({"scaling": "yarn"}, "`scaling` must be a mapping or None, got str"),
    ({"scaling": {"type": "ntk", "factor": "2"}}, r"`scaling\['factor'\]` must be a real number"),
    ({"scaling": YARN | {"truncate": 1}}, '"truncate" of `scaling` must be True or False'),
    ({"inverse": 1}, "`inverse` must be True or False"),
    ({"out": np.empty((2, 5, 6), np.float32)}, "`out`.*float64, got float32"),
]


@pytest.mark.parametrize(("arguments", "message"), VALUE_ERRORS)
def test_refuses_values(arguments: dict[str, Any], message: str) -> None:
    for call in calls(arguments):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(("arguments", "message"), TYPE_ERRORS)
def test_refuses_types(arguments: dict[str, Any], message: str) -> None:
    for call in calls(arguments):
        with pytest.raises(TypeError, match=message):
            call()


def test_good_arguments_are_taken() -> None:
    for call in calls({}):
        call()
    for call in calls({"positions": np.arange(5)}):
        call()


def test_what_leaves_the_range_is_no_answer() -> None:
    x = np.full((1, 2), 3e38, np.float32)
    with pytest.raises(ValueError, match="turned rows of `x` exceed the range of float32"):
        subquad.rope.rotate(x, positions=[-0.7])
    with pytest.raises(ValueError, match="turned rows of `key` exceed the range of float32"):
        subquad.rope.attention(x * 1e-38, x, x * 0, positions=[-0.7])


def test_without_the_check_nothing_is_looked_for() -> None:
    q = changed(X, (1, 2, 4), np.nan)
    subquad.rope.attention(q, K, K, check_finite=False)


@pytest.mark.parametrize("dim", [0, 3, -2])
def test_frequencies_refuse_what_rotate_refuses(dim: int) -> None:
    with pytest.raises(ValueError, match=f"`rotary_dim` must be even, at least 2, got {dim}"):
        subquad.rope.frequencies(dim)
    with pytest.raises(TypeError, match="`rotary_dim`"):
        subquad.rope.frequencies(None)  # type: ignore[arg-type]
