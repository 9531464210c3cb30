"""The referee: rules by hand, moves as a sequence, and the same verdict as the rules in plain Python."""

from __future__ import annotations

import operator
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pebbles import MODELS, OPS, dags, diamond, lucky, reduction
from running import LONG, interrupted, repeats_for, sends_signals

from subquad import reference
from subquad.pebble import Count, Dag, Model, Moves, PebbleError, play

TWINS = pytest.mark.parametrize("referee", [play, reference.pebble.play], ids=["core", "twin"])
PLAY = [("load", 0), ("compute", 1), ("compute", 2), ("delete", 0), ("compute", 3), ("store", 3)]


@TWINS
def test_a_legal_play_is_counted(referee: Any) -> None:
    expected = Count(1, 1, 3, 0, 3, Model())
    assert referee(diamond(), PLAY, 3) == expected
    assert referee(diamond(), Moves(PLAY), np.int64(3), model=Model()) == expected
    assert referee(diamond(), iter(PLAY), 3) == expected
    assert (expected.words, expected.cost) == (2, 2.0)
    priced = referee(diamond(), PLAY, 3, model=Model(compute_cost=0.5))
    assert (priced.words, priced.cost) == (2, 3.5)
    assert priced != expected


@TWINS
@pytest.mark.parametrize(
    ("moves", "memory", "model", "step", "rule"),
    [
        ([("load", 1)], 3, {}, 0, "load-needs-blue"),
        ([("store", 0)], 3, {}, 0, "store-needs-red"),
        ([("delete", 0)], 3, {}, 0, "delete-needs-red"),
        ([("load", 0), ("load", 0)], 3, {}, 1, "already-red"),
        ([("compute", 0)], 3, {}, 0, "source-computed"),
        ([("compute", 1)], 3, {}, 0, "compute-needs-operands"),
        ([("load", 9)], 3, {}, 0, "unknown-vertex"),
        (PLAY, 2, {}, 2, "memory-full"),
        (PLAY[:5], 3, {}, 5, "output-missing"),
        ([*PLAY[:2], ("delete", 1), ("compute", 1)], 3, {}, 3, "computed-again"),
        ([*PLAY[:2], ("delete", 1)], 3, {"deletes": False}, 2, "delete-forbidden"),
        ([("load", 0), ("delete", 0), ("load", 0)], 3, {"blue_persists": False}, 2, "load-needs-"),
        ([*PLAY[:2], ("store", 1), ("store", 1)], 3, {"blue_persists": False}, 3, "store-needs-"),
        ([("load", 0)], 3, {"sources": "computable"}, 0, "load-needs-blue"),
        ([*PLAY[:3], ("delete", 1)], 2, {"sliding": True}, 2, "memory-full"),
        ([], 1, {}, 0, "output-missing"),
    ],
)
def test_every_rule_is_kept(
    referee: Any, moves: Any, memory: int, model: dict[str, Any], step: int, rule: str
) -> None:
    with pytest.raises(PebbleError) as caught:
        referee(diamond(), moves, memory, model=Model(**model))
    error = caught.value
    assert error.step == step
    assert error.rule.startswith(rule)
    assert error.move == (moves[step] if step < len(moves) else None)
    assert isinstance(error, ValueError)


@TWINS
def test_variants_of_the_game(referee: Any) -> None:
    dag = diamond()
    slides = [*PLAY[:5], ("delete", 1), PLAY[5]]
    assert referee(dag, slides, 2, model=Model(sliding=True)).peak == 2
    again = [*PLAY[:2], ("delete", 1), *PLAY[1:]]
    assert referee(dag, again, 3, model=Model(recompute=True)).recomputations == 1
    computed = [("compute", 0), *PLAY[1:5]]
    free = Model(sources="computable", outputs="any")
    assert referee(dag, computed, 3, model=free) == Count(0, 0, 3, 0, 4, free)
    weighted = diamond(weights=[5, 2, 3, 4])
    assert referee(weighted, PLAY, 10) == Count(5, 4, 10, 0, 3, Model())


def verdict(referee: Any, dag: Dag, moves: Any, memory: int, model: Model) -> Any:
    try:
        return referee(dag, moves, memory, model=model)
    except PebbleError as err:
        return err.step, err.rule, err.move, err.vertex, err.missing, str(err)


@given(
    dags(named=True),
    MODELS,
    st.integers(1, 12),
    st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 8)), max_size=12),
)
def test_any_moves_get_the_verdict_of_the_twin(
    dag: Dag, model: Model, memory: int, moves: Any
) -> None:
    assert verdict(play, dag, moves, memory, model) == verdict(
        reference.pebble.play, dag, moves, memory, model
    )


@given(dags(most=6), MODELS, st.integers(2, 14), st.integers(0, 2**32 - 1))
@example(diamond(outputs=[]), Model(), 3, 0)
def test_likely_moves_get_the_verdict_of_the_twin(
    dag: Dag, model: Model, memory: int, seed: int
) -> None:
    moves = lucky(dag, model, memory, seed, 40)
    found = verdict(play, dag, moves, memory, model)
    assert found == verdict(reference.pebble.play, dag, moves, memory, model)
    # Whatever was legal stays so without what came after it, where no output is wanted.
    if isinstance(found, tuple) and found[0] < len(moves):
        free = Dag.from_edges(dag.num_vertices, dag.edges, outputs=[], weights=dag.weights)
        step = found[0] - (moves[found[0] - 1][0] == "compute" if found[0] else 0)
        play(free, moves[:step], memory, model=model)


def test_likely_moves_reach_every_rule_and_the_end() -> None:
    # Else the test above would compare little.
    rules: set[str] = set()
    finished = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        flags = rng.integers(2, size=6).astype(bool).tolist()
        model = Model(
            recompute=flags[0],
            sliding=flags[1],
            blue_persists=flags[2],
            deletes=flags[3],
            sources="computable" if flags[4] else "blue",
            outputs="any" if flags[5] else "blue",
        )
        memory = int(rng.integers(2, 5))
        found = verdict(play, diamond(), lucky(diamond(), model, memory, seed, 20), memory, model)
        if isinstance(found, tuple):
            rules.add(found[1])
        else:
            finished += 1
    assert finished >= 10
    assert len(rules) >= 9


def test_messages_use_names() -> None:
    dag = diamond(names=["x", "sin x", "cos x", "tan x"])
    cases = {
        'step 0, compute "tan x": operands "sin x", "cos x" are not in fast memory': PLAY[4:],
        'after step 0: output "tan x" is not in slow memory at the end': [],
        "step 0, load 9: the graph has 4 vertices": [("load", 9)],
    }
    for message, moves in cases.items():
        with pytest.raises(PebbleError) as caught:
            play(dag, moves, 3)
        assert str(caught.value) == message
    with pytest.raises(PebbleError, match=r'operand "sin x" is not in') as caught:
        play(dag, [("load", 0), ("compute", 2), ("compute", 3)], 3)
    assert (caught.value.vertex, caught.value.missing) == (3, (1,))
    with pytest.raises(PebbleError, match=r"3 words of 2; this graph needs at least 3$"):
        play(diamond(), PLAY, 2)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), vars(copy)) == (str(caught.value), vars(caught.value))
    assert PebbleError.__module__ == "subquad.pebble"


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((None, PLAY, 3), {}, TypeError, r"`dag` must be a subquad\.pebble\.Dag"),
        ((diamond(), PLAY, 0), {}, ValueError, "`memory` must be at least 1, got 0"),
        ((diamond(), PLAY, 2.5), {}, TypeError, "`memory` must be an integer, got 2.5"),
        ((diamond(), PLAY, 2**64), {}, ValueError, "`memory` must be at most"),
        ((diamond(), PLAY, 3), {"model": "red"}, TypeError, "`model` must be a Model or None"),
        ((diamond(), 7, 3), {}, TypeError, "`moves` must be an iterable of pairs"),
        ((diamond(), [("jump", 1)], 3), {}, ValueError, r"got \('jump', 1\) at index 0"),
        ((diamond(), [PLAY[0], ("load", 1.5)], 3), {}, ValueError, r"1.5\) at index 1"),
        ((diamond(), [("load", True)], 3), {}, ValueError, r"True\) at index 0"),
        ((diamond(), [("load",)], 3), {}, ValueError, r"pairs \(op, vertex\)"),
        ((diamond(), [("load", -1)], 3), {}, ValueError, "from 0 to .* got -1 at index 0"),
        ((diamond(), [("load", 2**30)], 3), {}, ValueError, "got 1073741824 at index 0"),
    ],
)
@TWINS
def test_bad_arguments_are_refused(
    referee: Any, arguments: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        referee(*arguments, **options)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"recompute": 1}, TypeError),
        ({"sliding": None}, TypeError),
        ({"blue_persists": "yes"}, TypeError),
        ({"compute_cost": -1}, ValueError),
        ({"compute_cost": float("nan")}, ValueError),
        ({"compute_cost": "1"}, TypeError),
        ({"sources": "red"}, ValueError),
        ({"outputs": "computable"}, ValueError),
    ],
)
def test_bad_models_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=f"`{next(iter(options))}` must be"):
        Model(**options)


def test_a_model_shows_what_differs() -> None:
    assert repr(Model()) == "Model()"
    assert str(Model()) == "one-shot"
    model = Model(recompute=True, compute_cost=2, outputs="any")
    assert repr(model) == "Model(recompute=True, compute_cost=2.0, outputs='any')"
    assert str(model) == "recomputation, compute_cost=2.0, outputs='any'"
    assert eval(repr(model)) == model
    assert hash(model) == hash(Model(recompute=True, compute_cost=2.0, outputs="any"))


PAIRS = st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 2**30 - 1)), max_size=30)


@given(PAIRS, PAIRS)
def test_moves_are_a_sequence_of_pairs(pairs: Any, others: Any) -> None:
    moves = Moves(pairs)
    assert list(moves) == pairs
    assert (len(moves), bool(moves)) == (len(pairs), bool(pairs))
    assert [moves[i] for i in range(-len(pairs), len(pairs))] == pairs + pairs
    assert list(reversed(moves)) == pairs[::-1]
    assert list(moves[1:-1:2]) == pairs[1:-1:2]
    assert list(moves + Moves(others)) == pairs + others
    assert (moves == Moves(others)) == (pairs == others)
    assert moves == Moves(moves) == Moves.from_array(moves.array)
    assert hash(moves) == hash(Moves(list(moves)))
    assert pickle.loads(pickle.dumps(moves)) == moves
    assert [OPS[op] for op in moves.ops] == [op for op, _ in pairs]
    assert moves.vertices.tolist() == [v for _, v in pairs]
    assert moves.array.nbytes == 4 * len(pairs)


def test_moves_are_shown_and_do_not_change() -> None:
    moves = Moves(("load", v) for v in range(20))
    assert repr(moves) == (
        "Moves(20: load 0, load 1, load 2, load 3, load 4, load 5, ..., "
        "load 14, load 15, load 16, load 17, load 18, load 19)"
    )
    assert repr(moves[:7]).endswith("load 5, load 6)")
    assert repr(Moves()) == "Moves(0)"
    assert "<td>20</td>" in moves._repr_html_()
    assert moves != list(moves)
    with pytest.raises(IndexError):
        moves[20]
    with pytest.raises(ValueError, match="read-only"):
        moves.array[0] = 1
    words = np.array([5], dtype=np.uint32)
    kept = Moves.from_array(words)
    words[0] = 6
    assert kept[0] == ("load", 5)
    for wrong in (np.array([5]), np.zeros((1, 1), dtype=np.uint32)):
        with pytest.raises(ValueError, match="`words` must be an array of uint32 with one axis"):
            Moves.from_array(wrong)
    with pytest.raises(TypeError):
        operator.add(moves, list(moves))


@sends_signals
def test_a_long_play_can_be_interrupted() -> None:
    width = 20_000
    dag, model = reduction(width), Model(recompute=True)
    begin = Moves(("load", v) for v in range(width))
    again = Moves([("delete", width), ("compute", width)])

    def run(times: int) -> Count:
        moves = begin + Moves([("compute", width)])
        moves += Moves.from_array(np.tile(again.array, times)) + Moves([("store", width)])
        return play(dag, moves, width + 1, model=model)

    assert run(3) == Count(width, 1, width + 1, 3, 4, model)
    times = repeats_for(LONG, run)
    with interrupted():
        run(times)
