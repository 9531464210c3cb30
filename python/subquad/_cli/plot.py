"""Draw what `attend` measured: one row per head, one panel per question."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import subquad

from .captures import Capture
from .figure import EXTRA, LIMIT, OTHER, OURS, FigureFile
from .measure import HeadReport

# Heads beyond which rows would be too thin for a name each.
NAMED_HEADS = 48


class Plot(FigureFile):
    """The figure of a capture."""

    def __call__(self, capture: Capture, reports: Sequence[HeadReport], eps: float | None) -> None:
        """Draw the figure and write it."""
        graded = reports[0].gradient is not None
        panels = 4 if graded else 3
        height = 1.9 + 0.34 * min(max(len(reports), 3), NAMED_HEADS)
        figure = self.new(3.9 * panels + 0.8, height)
        figure.get_layout_engine().set(w_pad=0.12)
        axes = figure.subplots(1, panels, sharey=True)
        _errors(axes[0], reports, eps)
        _keys(axes[1], reports)
        _times(axes[2], reports)
        if graded:
            _gradients(axes[3], reports)
        _rows(axes, reports)
        figure.suptitle(_title(capture), fontsize=12, x=0.01, ha="left")
        self.save(figure)


def _title(capture: Capture) -> str:
    return f"{capture.name}: {capture.mask}, {capture.dtype} (subquad {subquad.__version__})"


def _named(reports: Sequence[HeadReport]) -> range:
    """Rows that carry text, so few that lines of it do not touch."""
    return range(0, len(reports), -(-len(reports) // NAMED_HEADS))


def _rows(axes: Any, reports: Sequence[HeadReport]) -> None:
    ticks = _named(reports)
    names = [f"{reports[i].head}  {reports[i].label}".rstrip() for i in ticks]
    axes[0].set_yticks(list(ticks), names)
    axes[0].set_ylabel("head")
    axes[0].set_ylim(len(reports) - 0.4, -0.6)
    for ax in axes:
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", which="major", color="0.88", linewidth=0.8)
        ax.set_axisbelow(True)
        ax.spines[["top", "right", "left"]].set_visible(False)


def _marks(
    ax: Any, places: Sequence[tuple[float, int]], marker: str, colour: str, name: str
) -> None:
    """Draw marks at (number, row), whole even at the edge of the panel."""
    x, rows = zip(*places, strict=True)
    ax.plot(x, rows, marker, color=colour, label=name, zorder=3, clip_on=False)


def _pairs(
    ax: Any,
    left: Sequence[float | None],
    right: Sequence[float | None],
    names: tuple[str, str],
) -> None:
    """Two marks per row joined by a line; numbers unknown or 0 have no place on a log axis."""
    for marks, name, colour, marker in (
        (left, names[0], OURS, "o"),
        (right, names[1], OTHER, "D"),
    ):
        known = [(x, row) for row, x in enumerate(marks) if x]
        if known:
            _marks(ax, known, marker, colour, name)
    for row, (a, b) in enumerate(zip(left, right, strict=True)):
        if a and b:
            ax.plot([a, b], [row, row], color="0.7", linewidth=2, zorder=2)


def _finish(ax: Any, title: str, unit: str, marks: Iterable[float | None], columns: int) -> None:
    """Title, legend above the panel where it covers no head, and an axis of whole decades."""
    ax.set_xscale("log")
    known = [mark for mark in marks if mark]
    if known:
        first = math.floor(math.log10(min(known)))
        last = max(math.ceil(math.log10(max(known))), first + 1)
        ax.set_xlim(10.0**first, 10.0**last)
    ax.xaxis.set_minor_formatter("")
    ax.set_xlabel(unit)
    ax.set_title(title, fontsize=11, pad=26)
    ax.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=9,
        handletextpad=0.3,
        columnspacing=1.2,
    )


def _errors(ax: Any, reports: Sequence[HeadReport], eps: float | None) -> None:
    measured, bound = [r.error for r in reports], [r.bound for r in reports]
    _pairs(ax, measured, bound, ("measured", "certified bound"))
    if eps is not None:
        ax.axvline(eps, color=LIMIT, linestyle="--", label=f"budget {eps:g}", clip_on=False)
    unit = "distance / spread R of the values"
    _finish(ax, "Error of the worst row", unit, [*measured, *bound, eps], 3)


def _keys(ax: Any, reports: Sequence[HeadReport]) -> None:
    held, all_keys = [r.keys_for_90_percent for r in reports], [float(r.keys) for r in reports]
    _pairs(ax, held, all_keys, ("hold 90 % of the mass", "all keys"))
    _finish(ax, "Keys that matter to the median row", "keys", [*held, *all_keys], 2)
    ax.xaxis.set_major_formatter("{x:g}")


def _times(ax: Any, reports: Sequence[HeadReport]) -> None:
    ours, dense = [r.seconds * 1e3 for r in reports], [r.numpy_seconds * 1e3 for r in reports]
    _pairs(ax, ours, dense, ("subquad", "dense numpy"))
    gradients = [(r.gradient.seconds * 1e3, i) for i, r in enumerate(reports) if r.gradient]
    if gradients:
        _marks(ax, gradients, "s", EXTRA, "gradient")
    times = [*ours, *dense, *(time for time, _ in gradients)]
    _finish(ax, "Time, and numpy's as a multiple", "ms", times, 3)
    ax.xaxis.set_major_formatter("{x:g}")
    for row in _named(reports):
        # At the right edge of the panel, clear of all marks.
        ax.annotate(
            f"{reports[row].ratio:.1f}x",
            (1.0, row),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color="0.3",
        )


def _gradients(ax: Any, reports: Sequence[HeadReport]) -> None:
    everything: list[float | None] = []
    marks = (("query", OURS, "o"), ("key", OTHER, "D"), ("value", LIMIT, "s"))
    for name, colour, marker in marks:
        errors = [(r.gradient.error[name], i) for i, r in enumerate(reports) if r.gradient]
        known = [(error, row) for error, row in errors if error]
        everything += [error for error, _ in errors]
        if known:
            _marks(ax, known, marker, colour, name)
    _finish(ax, "Error of the gradient", "distance / norm, sampled rows", everything, 3)
