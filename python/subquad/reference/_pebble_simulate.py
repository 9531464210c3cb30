"""Orders of computation, played with sets; all policies but the random one, and the plain game only."""

from __future__ import annotations

from typing import Any

from .._pebble.arguments import require_memory, take_dag, take_memory
from .._pebble.dag import Dag
from .._pebble.game import Count, play
from .._pebble.model import Model, take_model
from .._pebble.moves import Moves
from .._pebble.orders import take_order

__all__ = ["simulate"]

_NEVER = (10**18, 0)


def simulate(
    dag: Dag,
    order: Any,
    memory: int,
    policy: str = "belady",
    *,
    model: Model | None = None,
    seed: int = 0,
    return_moves: bool = False,
) -> Count | tuple[Count, Moves]:
    """Compute values in a given order; arguments as in `subquad.pebble.simulate`.

    Pebbles may not slide, values may be deleted and stay in slow memory, sources begin and outputs end there.
    """
    graph, game, room = take_dag(dag), take_model(model), take_memory(memory)
    require_memory(graph, room, game)
    if game != Model(recompute=game.recompute, compute_cost=game.compute_cost):
        raise ValueError(
            f"`model` must be the plain game, recomputation and costs apart, got {game!r}"
        )
    known = ("belady", "belady-clean", "best", "lru", "fifo")
    if policy not in known:
        raise ValueError(f"`policy` must be one of {', '.join(known)} for the twin, got {policy!r}")
    rules = ["belady", "belady-clean"] if policy == "best" else [policy]
    steps = take_order(graph, order).tolist()
    plays = [_moves(graph, steps, room, rule) for rule in rules]
    counts = [play(graph, moves, room, model=game) for moves in plays]
    count, moves = min(zip(counts, plays, strict=True), key=lambda pair: pair[0].words)
    return (count, moves) if return_moves else count


def _moves(dag: Dag, order: list[int], memory: int, policy: str) -> Moves:
    """Return the moves of a policy."""
    sources, wanted = set(dag.sources.tolist()), set(dag.outputs.tolist())
    weights = dag.weights.tolist()
    steps = [v for v in order if v not in sources]
    # The operands of a step, the last number first; a use is a step and a place in it.
    operands = {v: dag.predecessors(v).tolist()[::-1] for v in steps}
    uses: dict[int, list[tuple[int, int]]] = {v: [] for v in range(dag.num_vertices)}
    for step, v in enumerate(steps):
        for place, u in enumerate(operands[v]):
            uses[u].append((step, place))
    blue, moves = set(sources), list[tuple[str, int]]()
    # What is in fast memory, the one to leave last at the end.
    red: list[int] = []

    def next_use(v: int, step: int) -> tuple[int, int]:
        return next((use for use in uses[v] if use >= (step, 0)), _NEVER)

    def victim(step: int, v: int) -> int:
        others = [u for u in red if u not in operands[v]]
        if policy in ("lru", "fifo"):
            return others[0]
        others.sort(key=lambda u: next_use(u, step), reverse=True)
        furthest = next_use(others[0], step)
        if policy == "belady-clean":
            near = others[:8]
        else:
            # Operands of one value, at most 8 places before the last.
            near = [
                u
                for u in others
                if (use := next_use(u, step))[0] == furthest[0] and furthest[1] - use[1] <= 8
            ]
        return next((u for u in near if u in blue), others[0])

    def leave(v: int, *, needed: bool) -> None:
        if needed and v not in blue:
            moves.append(("store", v))
            blue.add(v)
        moves.append(("delete", v))
        red.remove(v)

    for step, v in enumerate(steps):
        if policy == "lru":
            for u in operands[v]:
                if u in red:
                    red.append(red.pop(red.index(u)))
        for x in [*(u for u in operands[v] if u not in red), v]:
            while sum(weights[u] for u in red) + weights[x] > memory:
                leave(victim(step, v), needed=True)
            moves.append(("compute" if x == v else "load", x))
            red.append(x)
        for x in [*operands[v], v]:
            if next_use(x, step + 1) == _NEVER:
                leave(x, needed=x in wanted)
    return Moves(moves)
