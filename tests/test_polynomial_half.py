"""Sums with polynomial weights whose products are of bf16, as the compiled module has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polynomial_sums import INPUTS, Array, Arrays, definition, problem
from polynomials import taylor
from running import assert_same_bits, task_order

from subquad import _subquad

pytestmark = pytest.mark.usefixtures("thread_state")

needs_bf16 = pytest.mark.skipif(not _subquad.bf16, reason="no AVX512_BF16")

# Four numbers of a product are rounded to 8 bits, once each.
ROUNDING = 1.02 * ((1 + 2.0**-8) ** 4 - 1)


def sums(
    x: Arrays, c: Array, *, half: bool = True, scale: float = 0.3, workers: int = 1
) -> tuple[Array, Array]:
    rows = np.full_like(x["grad_rows"], np.nan)
    masses = np.full_like(x["grad_sums"], np.nan)
    inputs: dict[str, Any] = {name: x[name] for name in INPUTS}
    bad, counts = _subquad.polynomial_sums(
        **inputs,
        coefficients=c,
        rows=rows,
        sums=masses,
        scale=scale,
        shift=None,
        workers=workers,
        half=half,
    )
    assert not bad
    assert set(counts) == {"tasks", "tiles", "flops", "bytes_read"}
    return rows, masses


def assert_is_within_the_bound(x: Arrays, c: Array, scale: float = 0.3) -> None:
    rows, masses = sums(x, c, scale=scale)
    expected, size = definition(x, c, None, scale)
    _, rounded = definition(x, np.where(np.arange(len(c)) < 2, 0.0, c), None, scale)
    largest = np.max(size["rows"], initial=0.0)
    bound = ROUNDING * rounded["rows"] + 2e-5 * largest
    assert (np.abs(rows - expected["rows"]) <= bound).all()
    assert_same_bits([masses], [sums(x, c, half=False, scale=scale)[1]])


@needs_bf16
@pytest.mark.parametrize("degree", [2, 3, 4])
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 1, 1), (2, 95, 97, 5, 17), (2, 96, 192, 8, 64), (1, 97, 95, 11, 100)]
)
def test_rows_are_those_of_the_definition_within_the_bound(sizes: Any, degree: int) -> None:
    assert_is_within_the_bound(problem(sizes, np.float32), taylor(degree))


@needs_bf16
@given(
    st.tuples(
        *(st.integers(low, high) for low, high in [(0, 3), (0, 200), (0, 200), (0, 5), (0, 20)])
    ),
    st.lists(st.floats(-2.0, 2.0, width=16), min_size=1, max_size=5),
)
def test_any_shape_any_polynomial(sizes: Any, coefficients: list[float]) -> None:
    assert_is_within_the_bound(problem(sizes, np.float32), np.array(coefficients), scale=-0.2)


@needs_bf16
@pytest.mark.parametrize("c", [[0.3], [0.3, -1.7], [0.0, 1.0, 0.0, 0.0]])
def test_degrees_below_two_are_not_rounded(c: list[float]) -> None:
    x = problem((2, 130, 210, 60, 33), np.float32)
    assert_same_bits(sums(x, np.array(c)), sums(x, np.array(c), half=False))


@needs_bf16
def test_workers_and_the_order_of_tasks_change_nothing() -> None:
    x = problem((2, 4000, 17000, 4, 5), np.float32)
    one = sums(x, taylor(3))
    for order in ("reverse", "shuffled"):
        with task_order(order):
            assert_same_bits(sums(x, taylor(3), workers=2), one)
    assert_same_bits(sums(x, taylor(3), workers=2), one)


REFUSED: list[tuple[Any, dict[str, Any]]] = [
    (np.float64, {}),
    (np.float32, {"shift": 0}),
    (np.float32, {"shift": 1000}),
    (np.float32, {"lead": 2, "coefficients": np.ones((1, 3))}),
]


@pytest.mark.parametrize(("dtype", "options"), REFUSED, ids=range(len(REFUSED)))
def test_what_has_no_products_of_bf16_is_refused(dtype: Any, options: dict[str, Any]) -> None:
    x = problem((2, 30, 40, 3, 4), dtype)
    call: dict[str, Any] = {name: x[name] for name in INPUTS} | {"coefficients": taylor(2)}
    call |= {"rows": np.zeros((2, 30, 4), dtype), "sums": np.zeros((2, 30), dtype)}
    call |= {"scale": 1.0, "shift": None, "workers": 1} | options
    with pytest.raises(ValueError, match="half"):
        _subquad.polynomial_sums(**call, half=True)


@pytest.mark.skipif(_subquad.bf16, reason="there is AVX512_BF16")
def test_a_machine_without_bf16_refuses() -> None:
    with pytest.raises(ValueError, match="AVX512_BF16"):
        sums(problem((1, 2, 3, 4, 5), np.float32), taylor(2))
