"""Schedules of attention: executions against closed forms, against the definition, and against recorded counts."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import LONG, interrupted, repeats_for, sends_signals

import subquad
from subquad import _subquad, reference
from subquad.pebble import attention_plan

WORDS = [1, 1, 1]
FORWARD = ("flash-2", "row-resident", "rectangular", "square", "flash-1", "naive")
BACKWARD = ("two-pass", "one-pass", "stored-slopes", "row-resident", "rectangular", "four-phase")


def problem(n: int, d: int, **options: Any) -> _subquad.PebbleAttention:
    given = {"causal": False, "mask": None, "block": 1} | options
    return _subquad.PebbleAttention(n, n, 1, d, 1.0, **given)


def counted(core: Any, name: str, sizes: list[int], direction: str) -> int:
    """Words moved, by the closed form and by executing in no more memory than the peak."""
    expected = core.predict(name, sizes, WORDS, direction)
    found = core.count(name, sizes, expected[2], WORDS, direction)
    assert found[:5] == expected[:5], (name, sizes)
    return int(sum(found[0]) + sum(found[1]))


@pytest.mark.parametrize("direction", ["forward", "backward", "loss"])
@pytest.mark.parametrize(
    ("n", "d", "memory"),
    [(256, 16, 16), (256, 64, 2048), (300, 48, 1000), (1024, 64, 4096), (1000, 32, 700),
     (2048, 128, 20_000), (8192, 64, 65_536), (8192, 128, 8192 * 128), (1021, 17, 333)],
)  # fmt: skip
@pytest.mark.parametrize("causal", [False, True])
def test_executed_words_are_those_of_the_formula(
    direction: str, n: int, d: int, memory: int, causal: bool
) -> None:
    # Slopes of scores are made word by word for the loss.
    core = problem(min(n, 2048) if direction == "loss" else n, d, causal=causal)
    for name, best in core.plans([memory], WORDS, direction)[0]:
        if best is not None:
            (_, sizes), figures = best
            counted(core, name, [size for _, size in sizes], direction)
            assert figures[2] <= memory


@given(data=st.data())
def test_formulas_hold_for_every_size_of_blocks(data: Any) -> None:
    n, d = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 12))
    causal = data.draw(st.booleans())
    block = data.draw(st.integers(1, n))
    side = -(-n // block)
    mask = None
    if data.draw(st.booleans()):
        seed = data.draw(st.integers(0, 2**32 - 1))
        mask = np.random.default_rng(seed).random((side, side)) < 0.6
    core = problem(n, d, causal=causal, mask=mask, block=block)
    rows, cols = st.integers(1, n), st.integers(1, d)
    name = data.draw(st.sampled_from(("flash-2", "row-resident", "square", "flash-1")))
    shapes = {
        "flash-2": (rows, rows, cols),
        "row-resident": (rows, cols, rows, cols, cols),
        "square": (rows,),
        "flash-1": (rows, rows),
    }
    sizes = data.draw(st.tuples(*shapes[name]))
    expected = core.predict(name, list(sizes), WORDS, "forward")
    found = core.count(name, list(sizes), expected[2], WORDS, "forward")
    assert found[:2] == expected[:2]
    assert found[3:5] == expected[3:5]


def recorded() -> Iterator[dict[str, str]]:
    path = Path(__file__).parent / "data" / "pebble_attention.csv"
    with path.open() as file:
        yield from csv.DictReader(file)


def largest(n: int, fits: Any) -> int:
    return next((b - 1 for b in range(1, n + 2) if b > n or not fits(b)), 0)


def recorded_blocks(n: int, d: int, memory: int) -> dict[str, list[int]]:
    """Sizes of blocks with which the words were recorded."""
    root = math.isqrt(memory) + 1
    whole = n if n + 2 <= memory else 1
    keys = largest(n, lambda b: 4 * b * d + 2 * d + 2 * b + 1 <= memory)
    rows = largest(n, lambda b: 3 * b * d + 4 * b + d <= memory)
    return {
        "naive": [max(1, largest(root, lambda b: b * b + 2 * b <= memory)), whole],
        "flash-1": [largest(n, lambda b: 2 * b * d + d + b + 2 <= memory), 1],
        "flash-2": [min((memory - 1) // (2 * d + 3), n), 1, 1],
        "square": [max(1, largest(root, lambda b: b * b + 4 * b <= memory))],
        "one-pass": [keys, 1],
        "two-pass": [keys, keys, 1, rows, rows, 1],
        "four-phase": [max(1, largest(root, lambda b: b * b + 3 * b <= memory))],
    }


def test_recorded_words_are_reproduced() -> None:
    # 128 problems from n = 256 to 8192 and M = d to n d, seven schedules, to the four digits recorded.
    seen = 0
    for row in recorded():
        n, d, memory = (int(row[name]) for name in ("n", "d", "memory"))
        core = problem(n, d)
        for name, sizes in recorded_blocks(n, d, memory).items():
            if row[name] == "":
                continue
            direction = "forward" if name in FORWARD and name not in BACKWARD else "backward"
            figures = core.predict(name, sizes, WORDS, direction)
            words = sum(figures[0]) + sum(figures[1])
            if name == "two-pass":
                # Recorded with a pass of its own for sums of rows, which reads grad_out and they once more.
                words += n * d + n
            assert words == pytest.approx(float(row[name]), rel=6e-4), (n, d, memory, name)
            seen += 1
    assert seen > 700


def arrays(n: int, d: int, group: int = 1, keys: int | None = None) -> list[Any]:
    rng = np.random.default_rng(n * d + group)
    heads = (n, d) if group == 1 else (group, n, d)
    rows = [rng.standard_normal(heads), rng.standard_normal(heads)]
    return [rows[0], *rng.standard_normal((2, keys or n, d)), rows[1]]


def sizes_of(core: Any, memory: int, direction: str) -> Iterator[tuple[str, list[int]]]:
    for name, best in core.plans([memory], WORDS, direction)[0]:
        if best is not None:
            yield name, [size for _, size in best[0][1]]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("memory", [40, 150, 700])
def test_every_family_computes_attention(causal: bool, memory: int) -> None:
    n, d = 33, 6
    q, k, v, grad = arrays(n, d)
    mask = np.kron(np.eye(7, dtype=bool) | (np.arange(7) % 3 == 0), np.ones((5, 5), bool))[:n, :n]
    core = problem(n, d, causal=causal, mask=mask[::5, ::5].copy(), block=5)
    out, lse = reference.attention(q, k, v, scale=1.0, is_causal=causal, mask=mask, return_lse=True)
    grads = reference.attention_grad(grad, q, k, v, scale=1.0, is_causal=causal, mask=mask)
    flat = [x.ravel() for x in (q, k, v)]
    for name, sizes in sizes_of(core, memory, "forward"):
        _, (found, *rest) = core.execute(name, sizes, memory, WORDS, "forward", flat)
        np.testing.assert_allclose(found.reshape(n, d), out, rtol=0, atol=1e-12)
        for found_lse in rest:
            np.testing.assert_allclose(found_lse, lse, rtol=0, atol=1e-12)
    given = [*flat, out.ravel(), lse, grad.ravel()]
    for name, sizes in sizes_of(core, memory, "backward"):
        _, results = core.execute(name, sizes, memory, WORDS, "backward", given)
        for found, expected in zip(results, (grads.query, grads.key, grads.value), strict=True):
            np.testing.assert_allclose(found.reshape(n, d), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"group": 3}, {"keys": 41}])
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("memory", [60, 5000])
def test_plans_execute(options: dict[str, Any], direction: str, memory: int) -> None:
    n, d, group = 29, 5, options.get("group", 1)
    q, k, v, grad = arrays(n, d, group, options.get("keys"))
    plan = attention_plan(n, d, memory, direction=direction, **options)
    kwargs = {"is_causal": plan.workload.is_causal, "enable_gqa": group > 1}
    if direction == "forward":
        found = plan.execute(q, k, v)
        expected = subquad.attention(q, k, v, **kwargs)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        assert found.dtype == np.float64
        return
    found = plan.execute(q, k, v, grad_out=grad)
    expected = subquad.attention_grad(grad, q, k, v, **kwargs)
    for name in ("query", "key", "value"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("memory", [40, 400, 4000])
def test_the_gradient_of_the_loss_is_that_of_the_papers(memory: int) -> None:
    n, d = 23, 4
    rng = np.random.default_rng(memory)
    a1, a2, a3, target = rng.standard_normal((4, n, d))
    x, y = rng.standard_normal((2, d, d))
    expected = subquad.polynomial.attention_loss_grad(a1, x, a2, a3, y, target, scale=1.0 / d)
    out = subquad.attention(a1 @ x, a2, a3 @ y, scale=1.0 / d)
    plan = attention_plan(n, d, memory, direction="loss")
    found = plan.execute(a1, a2, a3, scale=1.0 / d, grad_out=out - target, projections=(x, y))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    core = plan.workload.core(1.0 / d)
    flat = [z.ravel() for z in (a1, x, a2, a3, y, out - target)]
    for name, sizes in sizes_of(core, memory, "loss"):
        _, (one,) = core.execute(name, sizes, memory, WORDS, "loss", flat)
        np.testing.assert_allclose(one.reshape(d, d), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_twin_executes_by_definition(direction: str) -> None:
    q, k, v, grad = arrays(9, 3, 2)
    mask = np.tril(np.ones((3, 3), bool))
    options: dict[str, Any] = {"direction": direction, "group": 2, "mask_blocks": mask}
    given = {} if direction == "forward" else {"grad_out": grad}
    ours = attention_plan(9, 3, 30, **options).execute(q, k, v, **given)
    twin = reference.pebble.attention_plan(9, 3, 30, **options).execute(q, k, v, **given)
    if direction == "forward":
        np.testing.assert_allclose(ours, twin, atol=1e-12)
        return
    for name in ("query", "key", "value"):
        np.testing.assert_allclose(getattr(ours, name), getattr(twin, name), atol=1e-12)


def test_numbers_of_every_type_are_taken() -> None:
    q, k, v = (np.arange(12).reshape(4, 3) % m for m in (5, 4, 3))
    plan = attention_plan(4, 3, 50)
    found = plan.execute(q, k.astype(np.float32), v.tolist())
    np.testing.assert_allclose(found, subquad.attention(q * 1.0, k * 1.0, v * 1.0), atol=1e-12)


def test_wrong_arrays_are_refused() -> None:
    plan = attention_plan(8, 4, 60)
    q = np.zeros((8, 4))
    with pytest.raises(ValueError, match=r"`key` must have shape \(8, 4\), got \(7, 4\)"):
        plan.execute(q, q[:7], q)
    bad = q.copy()
    bad[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"`value` must be finite, got nan at index \(2, 1\)"):
        plan.execute(q, q, bad)
    with pytest.raises(TypeError, match="`query` must hold real numbers"):
        plan.execute(q + 1j, q, q)
    with pytest.raises(ValueError, match="`grad_out` must be left out"):
        plan.execute(q, q, q, grad_out=q)
    backward = attention_plan(8, 4, 60, direction="backward")
    with pytest.raises(ValueError, match="`grad_out` must be given"):
        backward.execute(q, q, q)
    with pytest.raises(ValueError, match="`scale`"):
        plan.execute(q, q, q, scale=np.nan)
    loss = attention_plan(8, 4, 60, direction="loss")
    with pytest.raises(ValueError, match="`projections` must be given"):
        loss.execute(q, q, q, grad_out=q)
    with pytest.raises(ValueError, match=r"`projections\[1\]` must have shape \(4, 4\)"):
        loss.execute(q, q, q, grad_out=q, projections=(q[:4], q))


def test_overflow_is_not_hidden() -> None:
    q = np.full((4, 2), 1e200)
    with pytest.raises(ValueError, match="exceeds the range of float64"):
        attention_plan(4, 2, 40).execute(q, q, q)


def test_a_broken_plan_is_noticed() -> None:
    plan = attention_plan(8, 4, 60)
    q = np.ones((8, 4))
    with pytest.raises(RuntimeError, match="words were to be moved"):
        replace(plan, words=plan.words - 1).execute(q, q, q)
    with pytest.raises(RuntimeError, match="fast memory would hold"):
        replace(plan, peak=plan.peak - 1).execute(q, q, q)


@sends_signals
def test_a_long_execution_can_be_interrupted() -> None:
    def run(panels: int) -> Any:
        n = 64 * panels
        q = np.ones((n, 16))
        return attention_plan(n, 16, 3000).execute(q, q, q)

    panels = 1 + round(repeats_for(LONG, lambda times: run(max(1, round(times**0.5)))) ** 0.5)
    with interrupted():
        run(panels)
