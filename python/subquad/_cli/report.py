"""What `attend` prints: a table with its legend, or one JSON object."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import subquad

from .captures import Capture
from .dense import thread_counts
from .measure import HeadReport

_DASH = "-"


def text(capture: Capture, reports: Sequence[HeadReport], settings: dict[str, Any]) -> str:
    """Table of the heads, the gradients under it, and what the columns mean."""
    parts = [_header(capture, settings), _forward(reports)]
    if reports[0].gradient is not None:
        parts.append(_gradient(reports))
    parts.append(_legend(capture, reports, settings))
    return "\n\n".join(parts)


def as_json(capture: Capture, reports: Sequence[HeadReport], settings: dict[str, Any]) -> str:
    """All figures; a number that is unknown or not finite is null."""
    whole = {
        "subquad": subquad.__version__,
        "file": capture.name,
        "stored": capture.stored,
        "dtype": str(capture.dtype),
        "causal": capture.causal,
        "window": capture.window,
        "scale": capture.scale,
        "theta": capture.theta,
        **settings,
        "heads": [{**asdict(report), "ratio": report.ratio} for report in reports],
    }
    return json.dumps(_finite(whole), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _header(capture: Capture, settings: dict[str, Any]) -> str:
    kind = str(capture.dtype)
    if capture.stored != kind:
        kind = f"{capture.stored} widened to {kind}"
    facts = [f"{capture.heads} heads" if capture.heads > 1 else "1 head", kind, capture.mask]
    facts.append(f"scale {capture.scale:.6g}")
    if capture.theta is not None:
        facts.append(f"rotary positions of base {capture.theta:g}")
    eps = "none" if settings["eps"] is None else f"{settings['eps']:g} of the spread"
    workers = settings["workers"]
    threads = f"{workers} threads" if workers > 1 else "1 thread"
    return (
        f"{capture.name}: {', '.join(facts)}\n"
        f"subquad {subquad.__version__}, {threads}; error budget: {eps}"
    )


def _name(report: HeadReport) -> str:
    return f"{report.head} {report.label}".rstrip()


def _forward(reports: Sequence[HeadReport]) -> str:
    checked = any(report.check is not None for report in reports)
    heading = ["head", "n", "d", "max |logit|", "keys 90 %", "method", "bound/R", "error/R"]
    heading += ["check/R"] * checked + ["time", "numpy", "ratio"]
    rows = []
    for report in reports:
        n, d = str(report.keys), str(report.width)
        row = [
            _name(report),
            n if report.queries == report.keys else f"{report.queries} x {n}",
            d if report.width == report.value_width else f"{d}, {report.value_width}",
            f"{report.max_logit:.4g}",
            f"{report.keys_for_90_percent:g}",
            report.method,
            _small(report.bound),
            _small(report.error),
        ]
        row += [_small(report.check)] * checked
        row += [_time(report.seconds), _time(report.numpy_seconds), f"{report.ratio:.1f}x"]
        rows.append(row)
    return _table(heading, rows)


def _gradient(reports: Sequence[HeadReport]) -> str:
    names = ("query", "key", "value")
    found = [(report, report.gradient) for report in reports if report.gradient is not None]
    checked = any(x is not None for _, gradient in found for x in gradient.check.values())
    heading = ["head", "gradient", "/ forward", *(f"d{name[0]} error" for name in names)]
    heading += [f"d{name[0]} check" for name in names] * checked
    rows = []
    for report, gradient in found:
        row = [_name(report), _time(gradient.seconds)]
        row.append(f"{gradient.seconds / report.seconds:.1f}x")
        row += [_small(gradient.error[name]) for name in names]
        row += [_small(gradient.check[name]) for name in names] * checked
        rows.append(row)
    return _table(heading, rows)


def _legend(capture: Capture, reports: Sequence[HeadReport], settings: dict[str, Any]) -> str:
    most = max(report.sampled_rows for report in reports)
    graded = reports[0].gradient is not None
    exact = "long double" if capture.dtype == "float64" else "float64"
    entries = {
        "R": "spread: largest distance of a value from the mean of the values",
        "keys 90 %": f"how many keys hold 90 % of a row's mass, median of {most} sampled rows",
        "bound": "certified: no row is further from exact attention, rounding included",
        "error": f"against {exact} on the same inputs, worst of {most} sampled rows",
    }
    if graded:
        entries["dq, dk, dv"] = "relative to the norm of the exact rows, on sampled rows"
    if any(report.check is not None for report in reports):
        rotated = ", rounding of the rotation included" if capture.theta is not None else ""
        entries["check"] = f"against the results that the file holds{rotated}"
    entries["time"] = "best of several calls"
    if settings["eps"] is not None:
        entries["time"] += ", certifying the budget included"
    if graded:
        entries["gradient"] = "of query, key and value, the forward pass recomputed"
    entries["numpy"] = "softmax(q k' scale) v on all keys in blocks of rows, " + _threads(settings)
    entries["numpy"] += _scaled(reports)
    if any(report.max_logit_rows < report.queries for report in reports):
        entries["max |logit|"] = "of evenly spaced blocks of rows"
    width = max(map(len, entries))
    lines = [f"{name.ljust(width)}  {meaning}" for name, meaning in entries.items()]
    recomputed = sum(report.rows_recomputed for report in reports)
    if recomputed:
        lines.append(f"{recomputed} rows were recomputed in float64 to meet the budget")
    reasons = dict.fromkeys(report.reason for report in reports if report.reason)
    return "\n".join([*lines, *(f"reason: {reason}" for reason in reasons)])


def _threads(settings: dict[str, Any]) -> str:
    counts = thread_counts(settings["workers"])
    if counts[0] is None:
        return "with its own number of threads"
    return f"the better of {counts[0]} and {counts[1]} threads" if counts[1:] else "1 thread"


def _scaled(reports: Sequence[HeadReport]) -> str:
    timed = {(r.numpy_rows, r.queries) for r in reports if r.numpy_rows < r.queries}
    if not timed:
        return ""
    parts = ", ".join(f"{some} of {rows}" for some, rows in sorted(timed))
    return f"; {parts} rows timed, scaled up"


def _small(value: float | None) -> str:
    return _DASH if value is None or not math.isfinite(value) else f"{value:.1e}"


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def _table(heading: list[str], rows: list[list[str]]) -> str:
    """Columns aligned to the right, but the first one, which holds names."""
    cells = [heading, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heading))]
    lines = []
    for row in cells:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([first.strip().ljust(widths[0]), *others]))
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
