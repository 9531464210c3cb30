"""The cheapest plays: known optima, the definition on small graphs, theorems, limits, refusals."""

from __future__ import annotations

import math
import signal
import threading
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pebbles import MODELS, dags, diamond
from running import sends_signals, task_order

from subquad import reference
from subquad.pebble import Dag, Model, Result, optimal, play


def solved(dag: Dag, memory: int, model: Model | None = None, **options: Any) -> Result:
    """A search to its end, whose moves the referee has counted."""
    found = optimal(dag, memory, model=model, **options)
    assert found.proved
    assert found.lower == found.upper
    assert (found.memory, found.model) == (memory, model or Model())
    if found.moves is not None:
        assert play(dag, found.moves, memory, model=model).cost == found.upper
    return found


@pytest.mark.parametrize(
    ("dag", "optima"),
    [
        (Dag.matmul(2, 2, 2), {4: 17, 5: 14, 6: 13, 7: 12}),
        (Dag.matmul(2, 2, 2, form="tree"), {3: 25, 4: 17, 5: 14, 6: 13, 7: 12}),
        (Dag.matmul(3, 3, 3), {6: 39, 9: 33, 12: 29, 14: 27}),
        (Dag.fft(8), {3: 40, 4: 31, 5: 27, 6: 24, 7: 22, 8: 20, 9: 18, 10: 16}),
        (Dag.pyramid(6), {3: 35, 4: 20, 5: 14, 6: 12, 7: 10, 8: 8}),
        (Dag.grid(5, 5), {3: 25, 4: 10, 5: 6, 6: 2}),
        (Dag.stencil(6, 3), {4: 28, 5: 22, 6: 16, 7: 14}),
        (Dag.attention(2, 2), {4: 38, 5: 24, 6: 22, 7: 20, 8: 16}),
    ],
    ids=repr,
)
def test_optima_are_those_known(dag: Dag, optima: dict[int, int]) -> None:
    assert {memory: solved(dag, memory).upper for memory in optima} == optima


def test_a_pebbling_is_cheaper_with_recomputation_or_with_pebbles_that_slide() -> None:
    grid = Dag.grid(3, 3)
    games = [Model(), Model(recompute=True), Model(sliding=True)]
    assert [solved(grid, 3, model).upper for model in games] == [6, 5, 2]
    assert [solved(Dag.fft(4), 4, model).upper for model in games[::2]] == [11, 10]


@settings(deadline=None, max_examples=150)
@given(dags(most=6), MODELS, st.integers(0, 2))
def test_the_search_agrees_with_the_definition(dag: Dag, model: Model, more: int) -> None:
    memory = max(1, dag.least_memory(model)) + more
    found, twin = solved(dag, memory, model), reference.pebble.optimal(dag, memory, model=model)
    assert (found.upper, found.status) == (twin.upper, twin.status)
    if twin.moves is not None:
        assert play(dag, twin.moves, memory, model=model).cost == twin.upper


@settings(deadline=None, max_examples=25)
@given(dags(most=9), st.integers(0, 1))
def test_more_memory_and_freer_rules_cost_no_more(dag: Dag, more: int) -> None:
    memory = max(1, dag.least_memory()) + more
    cost = solved(dag, memory).upper
    assert solved(dag, memory + 1).upper <= cost
    freer: list[dict[str, Any]] = [
        {"recompute": True},
        {"sliding": True},
        {"outputs": "any"},
    ]
    for rules in freer:
        assert solved(dag, memory, Model(**rules)).upper <= cost
    assert solved(dag, memory, Model(deletes=False)).upper >= cost


def test_computing_is_charged_exactly() -> None:
    dag = Dag.pyramid(3)
    once = solved(dag, 3)
    assert isinstance(once.upper, int)
    priced = solved(dag, 3, Model(compute_cost=0.25))
    assert priced.upper == once.upper + 0.25 * 6
    # Where computing again costs as much as loading, or nearly, the exact sums decide.
    for cost in (0.1, 1 / 3, 0.5, 1.0, 1e-9, 1e6):
        model = Model(recompute=True, compute_cost=cost)
        twin = reference.pebble.optimal(dag, 3, model=model)
        assert solved(dag, 3, model).upper == pytest.approx(twin.upper, rel=1e-15)


def test_the_outcome_does_not_depend_on_workers_or_slices() -> None:
    dag, model = Dag.matmul(3, 3, 2), Model()
    expected = optimal(dag, 5, model=model, workers=1, max_bytes=1 << 30)
    for order in ("forward", "reverse", "shuffled"):
        with task_order(order):
            assert optimal(dag, 5, model=model, workers=4, max_bytes=1 << 30) == expected


def test_limits_are_kept_and_bounds_returned() -> None:
    dag = Dag.fft(16)
    seen: list[Result] = []
    found = optimal(dag, 6, time_limit=0.6, progress=seen.append)
    assert (found.status, found.proved) == ("time limit", False)
    assert 40 <= found.lower < found.upper
    assert play(dag, found.moves or [], 6).words == found.upper
    assert seen
    assert all(one.status == "running" and one.moves is None for one in seen)
    assert all(one.lower <= found.lower and one.upper >= found.upper for one in seen)
    at_once = optimal(dag, 6, time_limit=0)
    assert at_once.lower == 32
    assert play(dag, at_once.moves or [], 6).words == at_once.upper
    small = optimal(dag, 6, max_bytes=1 << 21)
    assert small.status == "memory limit"
    assert small.bytes < 1 << 23


def test_graphs_that_are_too_large_have_the_bounds_known_at_once() -> None:
    dag = Dag.matmul(12, 12, 12)
    found = optimal(dag, 20)
    assert (found.status, found.proved, found.expanded) == ("too large", False, 0)
    assert found.lower == 3 * 12**2
    assert play(dag, found.moves or [], 20).words == found.upper
    # A choice of millions of sets to evict is left when the time is over.
    wide = optimal(Dag.matmul(8, 8, 8), 60, time_limit=0.3)
    assert wide.status == "time limit"


def test_only_what_outputs_need_counts() -> None:
    edges = [(0, 2), (1, 2), (2, 3), (0, 4), (4, 5), (5, 6)]
    assert solved(Dag.from_edges(7, edges, outputs=[3]), 3).upper == 3
    assert solved(Dag.from_edges(7, edges, outputs=[]), 3).upper == 0
    assert solved(Dag.from_edges(7, edges, outputs=[0]), 3).upper == 0
    assert solved(Dag.from_edges(0, []), 1).upper == 0


def test_weights_are_words() -> None:
    dag = diamond()
    heavy = Dag.from_edges(4, dag.edges, weights=[5, 5, 5, 5])
    for memory in (3, 4):
        assert solved(heavy, 5 * memory).upper == 5 * solved(dag, memory).upper
        assert solved(heavy, 5 * memory + 4).upper == 5 * solved(dag, memory).upper


def test_a_game_that_cannot_be_won_is_infeasible() -> None:
    # A pebble that is recoloured and slides from a value is lost to the other that needs it.
    edges = [(0, 2), (1, 2), (0, 3), (1, 3), (0, 4), (1, 4)]
    dag, model = Dag.from_edges(5, edges), Model(sliding=True, blue_persists=False)
    found = optimal(dag, 2, model=model)
    assert (found.status, found.proved, found.moves) == ("infeasible", True, None)
    assert found.lower == found.upper == math.inf
    assert solved(dag, 3, model).upper < math.inf


@sends_signals
def test_ctrl_c_is_an_error_or_the_end() -> None:
    dag, previous = Dag.fft(16), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for outcome in ("raise", "return"):
            timer = threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,))
            timer.start()
            if outcome == "raise":
                with pytest.raises(KeyboardInterrupt):
                    optimal(dag, 6, time_limit=60)
            else:
                found = optimal(dag, 6, time_limit=60, on_interrupt=outcome)
                assert (found.status, found.proved) == ("interrupted", False)
                assert play(dag, found.moves or [], 6).words == found.upper
            timer.join()
    finally:
        signal.signal(signal.SIGINT, previous)


def test_an_error_of_progress_comes_out() -> None:
    def fail(_: Result) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        optimal(Dag.fft(16), 6, progress=fail)


@pytest.mark.parametrize("solver", [optimal, reference.pebble.optimal], ids=["core", "twin"])
def test_a_memory_that_is_too_small_is_refused(solver: Any) -> None:
    with pytest.raises(ValueError, match="`memory` must be at least 4 for this graph"):
        solver(Dag.matmul(2, 2, 2), 3)
    with pytest.raises(ValueError, match="`memory` must be at least 3 for this graph"):
        solver(Dag.matmul(2, 2, 2), 2, model=Model(sliding=True))
    with pytest.raises(TypeError, match="`model`"):
        solver(diamond(), 3, model="one-shot")


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"time_limit": -1}, ValueError, "`time_limit` must be at least 0"),
        ({"time_limit": math.nan}, ValueError, "`time_limit`"),
        ({"time_limit": "1"}, TypeError, "`time_limit`"),
        ({"max_bytes": 0}, ValueError, "`max_bytes` must be at least 1"),
        ({"workers": 0}, ValueError, "`workers`"),
        ({"progress": 1}, TypeError, "`progress` must be callable"),
        ({"on_interrupt": "ignore"}, ValueError, "`on_interrupt`"),
    ],
)
def test_bad_options_are_refused(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        optimal(diamond(), 3, **options)


def test_results_say_what_they_are() -> None:
    found = solved(Dag.pyramid(3), 3)
    assert str(found).startswith("Result\n")
    assert "11" in str(found)
    assert "optimal" in found._repr_html_()
    assert found == optimal(Dag.pyramid(3), 3)
    assert found != replace(found, model=Model(recompute=True))


def test_a_search_that_ends_early_improves_the_order_of_its_play() -> None:
    # 58 is the least that is known.
    found = optimal(Dag.fft(16), 6, max_bytes=200_000)
    assert found.status == "memory limit"
    assert found.lower < found.upper <= 61
    assert found.moves is not None
    assert play(Dag.fft(16), found.moves, 6).words == found.upper
    assert found == optimal(Dag.fft(16), 6, max_bytes=200_000, workers=1)
