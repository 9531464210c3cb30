"""Measure the gradients of a capture's heads, see `measure` for the two kinds of error."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import subquad

from .captures import Capture, Head
from .dense import best_seconds, exact_gradients

SAMPLED_ROWS = 32
# Beyond this many logits a float64 gradient takes longer than anybody waits for a check.
GRADIENT_LOGITS = 1 << 28


@dataclass(frozen=True)
class GradientReport:
    """Time and errors of one head's gradient, each relative to the norm of the exact rows.

    `error` and `check` hold one number for each of query, key and value, None where it is unknown.
    """

    seconds: float
    error: Mapping[str, float | None]
    check: Mapping[str, float | None]


def sampled_rows(capture: Capture, length: int) -> NDArray[np.intp]:
    """Rows to compare: the same random ones in every run, and those that the file checks."""
    picked = np.random.default_rng(0).choice(length, min(SAMPLED_ROWS, length), replace=False)
    rows = np.union1d(picked, capture.checks.get("check_rows", picked))
    return rows[rows < length].astype(np.intp)


def _relative(found: NDArray[Any], exact: NDArray[Any]) -> float | None:
    distance, size = np.linalg.norm(found.astype(np.float64) - exact), np.linalg.norm(exact)
    if size == 0:
        return 0.0 if distance == 0 else None
    return float(distance / size)


class Gradients:
    """Gradients of a run, with those of keys and values summed over the heads that share them.

    A file holds the sums, so they can be compared only when all heads that share a key ran.
    """

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.missing = Counter(int(kv) for kv in capture.kv_of_q)
        self.sums: dict[int, dict[str, NDArray[np.float64]]] = {}
        self.checks: dict[int, dict[str, float | None]] = {}

    def measure(self, index: int, head: Head, eps: float | None, workers: int) -> GradientReport:
        if head.grad_out is None:
            raise ValueError("no gradient `do` to start from")
        call = functools.partial(
            subquad.attention_grad,
            head.grad_out,
            head.query,
            head.key,
            head.value,
            eps=eps,
            workers=workers,
            **head.options,
        )
        found = call()
        seconds = best_seconds(call)
        self._add(index, found)

        error: dict[str, float | None] = dict.fromkeys(("query", "key", "value"))
        queries, keys = head.query.shape[0], head.key.shape[0]
        if queries * keys <= GRADIENT_LOGITS:
            rows, columns = sampled_rows(self.capture, queries), sampled_rows(self.capture, keys)
            exact = exact_gradients(head, rows, columns)
            error = {
                "query": _relative(found.query[rows], exact["query"]),
                "key": _relative(found.key[columns], exact["key"]),
                "value": _relative(found.value[columns], exact["value"]),
            }
        turned = self.capture.before_rotation(found.query)
        return GradientReport(seconds, error, {"query": self._check("check_dq", index, turned)})

    def _add(self, index: int, found: Any) -> None:
        kv = int(self.capture.kv_of_q[index])
        sums = self.sums.setdefault(kv, {})
        for name in ("key", "value"):
            sums[name] = sums.get(name, 0) + getattr(found, name).astype(np.float64)
        self.missing[kv] -= 1
        if self.missing[kv] == 0:
            sums["key"] = self.capture.before_rotation(sums["key"])
            self.checks[kv] = {
                "key": self._check("check_dk", kv, sums["key"]),
                "value": self._check("check_dv", kv, sums["value"]),
            }
            del self.sums[kv]

    def _check(self, name: str, index: int, gradient: NDArray[Any]) -> float | None:
        checks = self.capture.checks
        if name not in checks:
            return None
        return _relative(gradient[checks["check_rows"]], checks[name][index])

    def checked(self, index: int, report: GradientReport) -> GradientReport:
        """Add the checks of the key and value, once every head has run."""
        kv = int(self.capture.kv_of_q[index])
        shared = self.checks.get(kv, {"key": None, "value": None})
        return replace(report, check={**report.check, **shared})
