"""What `pebble` does with attention that is too large for a graph: it plans blocks."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

import subquad

from .. import pebble as game
from .files import CaptureError
from .outcome import Outcome, Writing
from .pebble_graph import Problem
from .pebble_plot import Plot, spread

__all__ = ["run"]

_POINTS = 60
# Options that are rules of a game, or need a graph.
_OF_GRAPHS = (
    "recompute", "sliding", "recolour", "no_deletes", "compute_cost", "computable", "anywhere", "time_limit",
    "html", "workers",
)  # fmt: skip


def run(problem: Problem, arguments: argparse.Namespace, draw: Plot | None) -> Outcome:
    """Plan attention, and return what is printed."""
    for name in _OF_GRAPHS:
        if getattr(arguments, name):
            option = f"--{name.replace('_', '-')}"
            raise CaptureError(
                f"{problem.name}: {option} is for graphs; attention of this size is planned in blocks, unless "
                f"{problem.name},fma asks for its graph"
            )
    n, d = problem.sizes
    direction = "backward" if problem.family == "attention_grad" else "forward"
    options: dict[str, Any] = {"direction": direction, "is_causal": arguments.causal}
    plan = game.attention_plan(n, d, arguments.memory, **options)
    writing = Writing()
    if draw is not None:
        with writing.of("figure", draw.path):
            memories = _memories(n, d, arguments.memory)
            _draw(problem, plan, game.sweep(n, d, memories, **options), draw)
    if arguments.json:
        return writing.outcome(json.dumps(_figures(problem, plan), indent=2, allow_nan=False))
    table = f"{problem.name}\nsubquad {subquad.__version__}\n\n{plan!r}"
    return writing.outcome(
        table + "".join(f"\n  {what}         {path}" for what, path in writing.written)
    )


def _memories(n: int, d: int, chosen: int) -> list[int]:
    """Return sizes from less than a row of each matrix needs to all of them, and the one asked for."""
    return sorted({chosen, *spread(min(chosen, 8), max(chosen, 4 * n * d), _POINTS)})


def _draw(problem: Problem, plan: game.IOPlan, found: game.Sweep, draw: Plot) -> None:
    seen = ", causal" if plan.workload.is_causal else ""
    assert found.lower_bound is not None
    draw.plans(
        f"{problem.name}, {plan.workload.direction}{seen}",
        found.memories.tolist(),
        {name: words.tolist() for name, words in found.words.items()},
        found.lower_bound.tolist(),
        plan.workload.d**2,
        (plan.workload.memory, plan.words),
    )


def _figures(problem: Problem, plan: game.IOPlan) -> dict[str, Any]:
    w = plan.workload
    return {
        "subquad": subquad.__version__,
        "graph": problem.name,
        "direction": w.direction,
        "n": w.n,
        "d": w.d,
        "causal": w.is_causal,
        "memory": w.memory,
        "model": asdict(plan.model),
        "schedule": plan.schedule,
        "blocks": plan.blocks,
        "words": plan.words,
        "bytes": plan.bytes,
        "flops": plan.flops,
        "peak": plan.peak,
        "workspace": plan.workspace,
        "lower_bound": plan.lower_bound,
        "table": [asdict(row) for row in plan.table],
    }
