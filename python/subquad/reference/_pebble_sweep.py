"""Words against memory, one plan at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .._pebble import sweep as sweeps
from .._pebble.sweep import Crossover, Sweep
from ._pebble_attention import IOPlan, attention_plan

__all__ = ["sweep"]


def sweep(
    n: int,
    d: int,
    memories: Any,
    *,
    unit: str = "words",
    dtypes: Any = None,
    is_causal: bool = False,
    mask_blocks: Any = None,
    direction: str = "forward",
    keys: int | None = None,
    group: int = 1,
) -> Sweep:
    """Try all sizes of blocks for every memory; arguments as in `subquad.pebble.sweep`."""
    options: dict[str, Any] = {
        "unit": unit,
        "dtypes": dtypes,
        "is_causal": is_causal,
        "mask_blocks": mask_blocks,
        "direction": direction,
        "keys": keys,
        "group": group,
    }
    given = sweeps.sweep(n, d, memories, **options)
    plans = [
        attention_plan(n, d, memory, **options) if fits else None
        for memory, fits in zip(given.memories.tolist(), given.schedules, strict=True)
    ]
    names = [plan.schedule if plan else "" for plan in plans]
    return replace(
        given,
        words={name: np.array([_words(plan, name) for plan in plans]) for name in given.words},
        best=np.array([float(plan.words) if plan else np.nan for plan in plans]),
        schedules=tuple(names),
        crossovers=tuple(
            Crossover(memory, before, after)
            for memory, before, after in zip(
                given.memories.tolist()[1:], names[:-1], names[1:], strict=True
            )
            if before and before != after
        ),
    )


def _words(plan: IOPlan | None, schedule: str) -> float:
    rows = plan.table if plan else ()
    moved = next((row.words for row in rows if row.schedule == schedule), None)
    return np.nan if moved is None else float(moved)
