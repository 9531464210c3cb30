"""What `pebble` prints of a search: a table, or one JSON object."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import subquad

from .. import pebble as game
from .._table import text_table
from .numbers import counted
from .pebble_graph import Problem
from .pebble_search import Found, proved_bounds

__all__ = ["as_json", "text"]


def text(
    problem: Problem,
    memory: int,
    model: game.Model,
    found: Found,
    written: Sequence[tuple[str, Path]],
) -> str:
    """Return a table of a search, and which files were written."""
    dag, count = problem.dag, _count(problem, memory, model, found)
    assert dag is not None
    rows = [("cost" if model.compute_cost else "words moved", _verdict(found))]
    if count is not None:
        rows += [
            ("loads, stores", f"{count.loads:,}, {count.stores:,}"),
            ("peak", counted(count.peak, "word")),
            (
                "computed",
                f"{counted(count.computations, 'value')}, {count.recomputations:,} of them again",
            ),
            ("play", f"{counted(len(found.moves or ()), 'move')}, by {found.by}"),
        ]
    bounds = proved_bounds(problem, memory, model)
    rows += [(f"bound, {name}", f"{value:,}") for name, value in bounds.items()]
    rows.append(("search", f"{found.status}, {found.seconds:.2g} s"))
    rows += [(what, str(path)) for what, path in written]
    return (
        f"{problem.name}: {', '.join(dag._facts())}\n"
        f"subquad {subquad.__version__}, {model}; {counted(memory, 'word')} of fast memory "
        f"(at least {dag.least_memory(model):,})\n\n{text_table(rows)}"
    )


def _verdict(found: Found) -> str:
    if found.moves is None:
        return "no play ends" if found.lower == math.inf else f"at least {found.lower:,}"
    if found.proved:
        return f"{found.upper:,}, and no play moves fewer"
    return f"{found.upper:,}, and every play at least {found.lower:,}"


def _count(problem: Problem, memory: int, model: game.Model, found: Found) -> game.Count | None:
    if found.moves is None:
        return None
    assert problem.dag is not None
    return game.play(problem.dag, found.moves, memory, model=model)


def as_json(problem: Problem, memory: int, model: game.Model, found: Found) -> str:
    """Return all figures and the moves."""
    dag, count = problem.dag, _count(problem, memory, model, found)
    assert dag is not None
    counted = ("loads", "stores", "peak", "computations", "recomputations")
    whole = {
        "subquad": subquad.__version__,
        "graph": problem.name,
        "vertices": dag.num_vertices,
        "edges": dag.num_edges,
        "sources": len(dag.sources),
        "outputs": len(dag.outputs),
        "words": int(dag.weights.sum()),
        "model": asdict(model),
        "memory": memory,
        "least_memory": dag.least_memory(model),
        "lower": _finite(found.lower),
        "upper": _finite(found.upper),
        "proved": found.proved,
        "status": found.status,
        "by": found.by,
        "bounds": proved_bounds(problem, memory, model),
        "seconds": found.seconds,
        **{name: getattr(count, name, None) for name in counted},
    }
    figures = json.dumps(whole, indent=2, allow_nan=False).removesuffix("\n}")
    # In one line: there may be thousands.
    moves = json.dumps(None if found.moves is None else [list(move) for move in found.moves])
    return f'{figures},\n  "moves": {moves}\n}}'


def _finite(cost: float) -> float | None:
    return cost if math.isfinite(cost) else None
