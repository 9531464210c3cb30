"""Run the heads of a capture through the library and measure each of them.

Errors come in two kinds. The *error* of a head is against float64 arithmetic (long double for
float64 inputs) on the very arrays that the library was given, which is what its certified bound
speaks of. The *check* is against the results that the file itself holds: where positions are
rotated, these also see that rotated numbers were rounded.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import subquad

from .captures import Capture
from .dense import best_seconds, dense_seconds, exact_rows, largest_logit
from .files import CaptureError
from .measure_grad import GradientReport, Gradients, sampled_rows
from .progress import Progress

# Steps of progress for each head.
STEPS = 3


@dataclass(frozen=True)
class HeadReport:
    """What was measured on one head; `bound`, `error` and `check` in units of the spread R."""

    head: int
    label: str
    queries: int
    keys: int
    width: int
    value_width: int
    max_logit: float
    max_logit_rows: int
    keys_for_90_percent: float
    method: str
    reason: str
    spread: float
    bound: float | None
    error: float | None
    check: float | None
    sampled_rows: int
    rows_recomputed: int
    seconds: float
    numpy_seconds: float
    numpy_rows: int
    gradient: GradientReport | None = None

    @property
    def ratio(self) -> float:
        """How many times longer the dense numpy form takes."""
        return self.numpy_seconds / self.seconds


def run(
    capture: Capture,
    heads: Sequence[int],
    *,
    eps: float | None,
    workers: int,
    grad: bool,
    quiet: bool,
) -> list[HeadReport]:
    """Measure `heads` of the capture one after the other.

    Raises
    ------
    CaptureError
        If the library refuses a head, such as one that holds NaN.
    """
    reports = []
    gradients = Gradients(capture) if grad else None
    with Progress(STEPS * len(heads), quiet=quiet) as progress:
        for index in heads:
            with np.errstate(all="ignore"):
                reports.append(_measure(capture, index, eps, workers, gradients, progress))
    if gradients is None:
        return reports
    return [
        replace(report, gradient=gradients.checked(report.head, report.gradient))
        for report in reports
        if report.gradient is not None
    ]


def _measure(
    capture: Capture,
    index: int,
    eps: float | None,
    workers: int,
    gradients: Gradients | None,
    progress: Progress,
) -> HeadReport:
    head = capture.head(index)
    name = f"head {index}"
    attend = functools.partial(
        subquad.attention,
        head.query,
        head.key,
        head.value,
        eps=eps,
        workers=workers,
        **head.options,
    )
    gradient = None
    try:
        out, info = attend(return_info=True)
        seconds = best_seconds(attend)
        if gradients is not None:
            gradient = gradients.measure(index, head, eps, workers)
    except (ValueError, TypeError) as err:
        raise CaptureError(f"{capture.name}, {name}: {err}") from err
    progress.step(name)

    rows = sampled_rows(capture, head.query.shape[0])
    exact, holders = exact_rows(head, rows)
    max_logit, max_logit_rows = largest_logit(head)
    progress.step(f"{name} in float64")

    numpy_seconds, numpy_rows = dense_seconds(head, workers)
    progress.step(f"{name} in numpy")

    value = head.value.astype(np.float64)
    spread = float(np.linalg.norm(value - value.mean(axis=0), axis=1).max())
    check = None
    if "check_o" in capture.checks:
        check = _distance(out[capture.checks["check_rows"]], capture.checks["check_o"][index])
    return HeadReport(
        head=index,
        label=capture.labels[index],
        queries=head.query.shape[0],
        keys=head.key.shape[0],
        width=head.query.shape[1],
        value_width=value.shape[1],
        max_logit=max_logit,
        max_logit_rows=max_logit_rows,
        keys_for_90_percent=float(np.median(holders)),
        method=info.method,
        reason=info.reason,
        spread=spread,
        bound=_in_units(float(np.max(info.error_bound)), spread),
        error=_in_units(_distance(out[rows], exact), spread),
        check=_in_units(check, spread),
        sampled_rows=rows.size,
        rows_recomputed=int(info.stats.get("rows_recomputed", 0)),
        seconds=seconds,
        numpy_seconds=numpy_seconds,
        numpy_rows=numpy_rows,
        gradient=gradient,
    )


def _distance(found: NDArray[Any], exact: NDArray[Any]) -> float:
    """Largest distance between two rows."""
    off = found.astype(exact.dtype) - exact
    return float(np.linalg.norm(off.astype(np.float64), axis=-1).max())


def _in_units(distance: float | None, spread: float) -> float | None:
    if distance is None or (spread == 0 and distance > 0):
        return None
    return distance / spread if spread else 0.0
