"""Sums with polynomial weights that nothing divides, as the compiled module has them, and their gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial.polynomial import polyval
from polynomial_sums import DTYPES, INPUTS, assert_is_the_definition, compute, problem
from polynomials import taylor
from running import assert_same_bits, task_order

from subquad import _subquad

# Every key; those up to a query's own place; fewer; more; none for the first tile of queries.
SHIFTS = [None, 0, -3, 40, -150]

pytestmark = pytest.mark.usefixtures("thread_state")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("degree", [0, 1, 2, 4])
def test_sums_and_gradients_are_those_of_the_definition(
    degree: int, shift: int | None, dtype: Any
) -> None:
    assert_is_the_definition(problem(dtype=dtype), taylor(degree), shift)


@given(
    st.tuples(
        *(st.integers(low, high) for low, high in [(0, 3), (0, 200), (0, 200), (0, 5), (0, 9)])
    ),
    st.lists(st.floats(-2.0, 2.0, width=16), min_size=1, max_size=4),
    st.sampled_from([None, 0, -2, 3, 100, -100]),
    st.sampled_from(DTYPES),
)
def test_any_shape_any_polynomial(
    sizes: Any, coefficients: list[float], shift: int | None, dtype: Any
) -> None:
    assert_is_the_definition(problem(sizes, dtype), np.array(coefficients), shift, scale=-0.2)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("sizes", [(1, 1, 1, 2, 1), (3, 96, 97, 5, 16), (2, 40, 300, 3, 33)])
def test_tiles_of_any_size(sizes: Any, shift: int | None) -> None:
    assert_is_the_definition(problem(sizes), taylor(3), shift)


@pytest.mark.parametrize("shift", [None, 0])
def test_without_masses_the_sums_are_zero(shift: int | None) -> None:
    x = problem()
    x["masses"][...] = 0
    found, _ = compute(x, taylor(2), shift)
    assert not found["sums"].any()
    assert_is_the_definition(x, taylor(2), shift)


def test_masses_of_one_key_give_its_weights() -> None:
    x, c = problem(), taylor(2)
    x["masses"][...] = 0
    x["masses"][:, 5] = 1
    found, _ = compute(x, c)
    weights = polyval(0.3 * np.einsum("hle,he->hl", x["query"], x["key"][:, 5]), c)
    np.testing.assert_allclose(found["sums"], weights, rtol=1e-13)


def test_heads_of_queries_share_those_of_keys() -> None:
    x = problem((4, 50, 60, 3, 5))
    shared = {name: x[name][:2] if name in INPUTS[1:] else x[name] for name in x}
    repeated = {name: np.repeat(x[name], 2, axis=0) for name in INPUTS[1:]}
    repeated = {name: array[:4] for name, array in repeated.items()}
    found, _ = compute(shared, taylor(2), 0)
    expected, _ = compute(x | repeated, taylor(2), 0)
    for name, array in expected.items():
        of_keys = array.reshape(2, 2, *array.shape[1:]).sum(axis=1) if name in INPUTS[1:] else array
        np.testing.assert_allclose(found[name], of_keys, rtol=0, atol=1e-12 * np.abs(of_keys).max())


@pytest.mark.parametrize("shift", [None, 3])
@pytest.mark.parametrize("left_out", INPUTS)
def test_any_gradient_may_be_left_out(left_out: str, shift: int | None) -> None:
    x, c = problem(), taylor(2)
    everything, _ = compute(x, c, shift)
    some, _ = compute(x, c, shift, wanted=tuple(name for name in INPUTS if name != left_out))
    only, _ = compute(x, c, shift, wanted=(left_out,))
    for found in (some, only):
        assert_same_bits(list(found.values()), [everything[name] for name in found])


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_and_orders_of_tasks_do_not_change_a_bit(dtype: Any) -> None:
    for sizes in [(3, 300, 500, 8, 9), (1, 17_000, 17_000, 3, 2)]:
        x = problem(sizes, dtype)
        for shift in (None, 0, -400):
            expected = list(compute(x, taylor(2), shift)[0].values())
            for workers, order in [(2, "forward"), (1, "reverse"), (2, "shuffled")]:
                with task_order(order):
                    found, _ = compute(x, taylor(2), shift, workers=workers)
                assert_same_bits(list(found.values()), expected)


@pytest.mark.parametrize("shift", [None, 0])
@pytest.mark.parametrize("name", [*INPUTS, "grad_rows", "grad_sums"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_flagged(name: str, bad: float, shift: int | None) -> None:
    x = problem((2, 130, 130, 3, 4))
    x[name][1, 3] = bad
    assert compute(x, taylor(2), shift)[1]


REFUSED: list[tuple[str, Any]] = [
    ("masses", lambda a: a[:, :-1]),
    ("masses", lambda a: a[:1]),
    ("masses", lambda a: a[:, :, None]),
    ("rows", lambda a: a[:, :-1]),
    ("rows", lambda a: a[:, :, :-1]),
    ("rows", lambda a: a[:1]),
    ("rows", lambda a: np.broadcast_to(a[:1], a.shape)),
    ("rows", lambda a: a[[0, 0]].view(np.int64)),
    ("sums", lambda a: a[:, :-1]),
    ("sums", lambda a: a[:1]),
    ("sums", lambda a: a.astype(np.float32)),
    ("grad_rows", lambda a: a[:, 1:]),
    ("grad_rows", lambda a: a[:1]),
    ("grad_sums", lambda a: a[:, 1:]),
    ("grad_sums", lambda a: a[:1]),
    ("grad_query", lambda a: a[:, 1:]),
    ("grad_key", lambda a: a[:, :, 1:]),
    ("grad_value", lambda a: a[:1]),
    ("grad_value", lambda a: a.astype(np.float32)),
    ("grad_masses", lambda a: a[:, 1:]),
    ("grad_masses", lambda a: a[:1]),
    ("grad_masses", lambda a: a.astype(np.float32)),
    ("coefficients", lambda a: a[:0]),
    ("key", lambda a: a[:, 1:]),
    ("value", lambda a: a[:1]),
]


@pytest.mark.parametrize(
    ("name", "spoil"), REFUSED, ids=[f"{name}-{i}" for i, (name, _) in enumerate(REFUSED)]
)
def test_arrays_that_do_not_fit_are_refused(name: str, spoil: Any) -> None:
    x = problem((2, 30, 40, 3, 4))
    inputs = {key: x[key] for key in INPUTS} | {"coefficients": taylor(2)}
    forward = inputs | {"rows": np.zeros((2, 30, 4)), "sums": np.zeros((2, 30))}
    grads = {f"grad_{key}": np.zeros_like(x[key]) for key in INPUTS}
    cotangents = {key: x[key] for key in ("grad_rows", "grad_sums")}
    backward = cotangents | inputs | grads
    tried = 0
    calls: list[tuple[Any, dict[str, Any]]] = [
        (_subquad.polynomial_sums, forward),
        (_subquad.polynomial_sums_grad, backward),
    ]
    for call, arguments in calls:
        if name in arguments:
            tried += 1
            spoilt: Any = arguments | {name: spoil(arguments[name])}
            with pytest.raises((ValueError, TypeError)):
                call(**spoilt, scale=1.0, shift=None, workers=1)
    assert tried
