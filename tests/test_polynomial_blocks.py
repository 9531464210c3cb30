"""Sums with weights that are a polynomial of two parts of the logit: leading coordinates, and trailing ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polynomial_sums import DTYPES, INPUTS, Array, assert_is_the_definition, compute, problem
from polynomials import taylor
from running import assert_same_bits, task_order

from subquad import _subquad

pytestmark = pytest.mark.usefixtures("thread_state")


def table(degree: int, trailing: int, seed: int = 1) -> Array:
    """Draw coefficients of `v**k w**u`, in row u and column k, for `k + 2 u <= degree`."""
    c = np.random.default_rng(seed).standard_normal((trailing + 1, degree + 1))
    u, k = np.indices(c.shape)
    return np.where(k + 2 * u <= degree, c, 0.0)


# Width, and how many coordinates of it lead; degree, and that of the trailing coordinates.
BLOCKS = [
    *[(6, lead, 4, 2) for lead in (0, 1, 3, 5, 6)],
    *[(7, 2, degree, trailing) for degree in (0, 1, 2, 3, 5) for trailing in (0, 1, 4)],
    *[(1, lead, 6, 2) for lead in (0, 1)],
    (19, 4, 3, 1),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("width", "lead", "degree", "trailing"), BLOCKS)
def test_two_blocks_of_coordinates(
    width: int, lead: int, degree: int, trailing: int, dtype: Any
) -> None:
    x = problem((2, 130, 210, width, 17), dtype)
    assert_is_the_definition(x, table(degree, trailing), None, 0.2, lead)


@given(
    st.tuples(
        *(st.integers(low, high) for low, high in [(0, 3), (0, 200), (0, 200), (0, 5), (0, 9)])
    ),
    st.data(),
    st.sampled_from(DTYPES),
)
def test_two_blocks_of_any_shape(sizes: Any, data: st.DataObject, dtype: Any) -> None:
    lead = data.draw(st.integers(0, sizes[3]))
    c = table(data.draw(st.integers(0, 5)), data.draw(st.integers(0, 3)), seed=2)
    # Terms may be missing.
    c *= data.draw(st.lists(st.booleans(), min_size=c.shape[1], max_size=c.shape[1]))
    assert_is_the_definition(problem(sizes, dtype), c, None, -0.2, lead)


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_all_coordinates_lead_there_is_one_block(dtype: Any) -> None:
    x, c = problem(dtype=dtype), taylor(3)
    found, _ = compute(x, c[None], lead=6)
    expected, _ = compute(x, c)
    assert_same_bits(list(found.values()), list(expected.values()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_and_orders_of_tasks_do_not_change_a_bit(dtype: Any) -> None:
    for sizes in [(3, 300, 500, 8, 9), (1, 17_000, 17_000, 3, 2)]:
        x, c = problem(sizes, dtype), table(3, 1)
        expected = list(compute(x, c, lead=2)[0].values())
        for workers, order in [(2, "forward"), (1, "reverse"), (2, "shuffled")]:
            with task_order(order):
                found, _ = compute(x, c, lead=2, workers=workers)
            assert_same_bits(list(found.values()), expected)


LEADS: list[tuple[Any, dict[str, Any]]] = [
    (table(2, 1), {"lead": 4}),
    (table(2, 1), {"lead": -1}),
    (table(2, 1), {"lead": None}),
    (table(2, 1), {"shift": 0}),
    (table(2, 1), {"shift": 100}),
    (np.ones((1, 3)), {"shift": -100}),
    (np.ones((2, 3)), {}),
    (np.where(table(2, 1) == 0, np.nan, 1.0), {}),
    (np.ones(3), {}),
    (np.ones((1, 3, 1)), {}),
    (np.ones((0, 3)), {}),
    (np.ones((3, 0)), {}),
    (np.ones((1, 66)), {}),
    (np.asfortranarray(table(3, 1)), {}),
    (table(3, 1).astype(np.float32), {}),
]


@pytest.mark.parametrize(("c", "options"), LEADS, ids=range(len(LEADS)))
def test_blocks_that_do_not_fit_are_refused(c: Any, options: dict[str, Any]) -> None:
    x = problem((2, 30, 40, 3, 4))
    call: dict[str, Any] = {name: x[name] for name in INPUTS} | {"coefficients": c}
    call |= {"scale": 1.0, "shift": None, "workers": 1, "lead": 2} | options
    refused = pytest.raises((ValueError, TypeError, OverflowError))
    with refused:
        _subquad.polynomial_sums(**call, rows=np.zeros((2, 30, 4)), sums=np.zeros((2, 30)))
    call |= {f"grad_{name}": np.zeros_like(x[name]) for name in INPUTS}
    call |= {name: x[name] for name in ("grad_rows", "grad_sums")}
    with refused:
        _subquad.polynomial_sums_grad(**call)


def test_more_features_than_memory_are_refused() -> None:
    x = problem((1, 2, 2, 400, 3))
    for lead, c in [(400, np.ones((1, 33))), (0, table(60, 30)), (200, table(20, 10))]:
        with pytest.raises(MemoryError):
            compute(x, c, lead=lead)
