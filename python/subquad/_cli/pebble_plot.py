"""Draw words moved against words of fast memory, both axes logarithmic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import subquad

from .figure import EXTRA, LIMIT, OTHER, OURS, FigureFile
from .pebble_search import Found

__all__ = ["Plot", "memories", "spread"]

_POINTS = 12


def memories(least: int, chosen: int, words: int) -> list[int]:
    """Return sizes of memory from the least to all words, and the one that was asked for."""
    # An empty graph needs none.
    least = max(least, 1)
    most = max(words, chosen, least + 1)
    return sorted({least, most, chosen, *spread(least, most, _POINTS)})


def spread(least: int, most: int, points: int) -> list[int]:
    """Return whole numbers of about equal ratios; in Python's integers, which do not overflow."""
    ratios = np.geomspace(least, most, points).tolist()
    return [min(max(round(ratio), least), most) for ratio in ratios]


class Plot(FigureFile):
    """The figure of a search or of plans."""

    def search(
        self,
        title: str,
        points: Sequence[int],
        found: Sequence[Found],
        chosen: tuple[int, Found],
    ) -> None:
        """Draw the plays found for many sizes of memory with what is proved, and the one asked for."""
        figure = self.new(6.4, 4.4)
        ax = figure.subplots()
        both = [(m, f) for m, f in zip(points, found, strict=True) if f.moves is not None]
        ax.plot([m for m, _ in both], [f.upper for _, f in both], color=OURS, zorder=2)
        for proved, name, face in (
            (True, "fewest words", OURS),
            (False, "best play found", "white"),
        ):
            marks = [(m, f.upper) for m, f in both if f.proved == proved]
            if marks:
                ax.plot(
                    *zip(*marks, strict=True), "o", color=OURS, markerfacecolor=face, label=name
                )
        gaps = [(m, f) for m, f in both if not f.proved]
        if gaps:
            low = [f.lower for _, f in gaps]
            ax.plot([m for m, _ in gaps], low, "v", color=LIMIT, label="proved lower bound")
        for m, f in gaps:
            ax.plot([m, m], [f.lower, f.upper], color="0.7", linewidth=2, zorder=1)
        memory, play = chosen
        if play.moves is not None:
            _chosen(ax, memory, play.upper)
        costs = [cost for _, f in both for cost in (f.lower, f.upper)]
        _finish(ax, title, has_zero=min(costs, default=0) <= 0)
        self.save(figure)

    def plans(
        self,
        title: str,
        points: Sequence[int],
        curves: dict[str, Sequence[float]],
        lower: Sequence[float],
        crossover: float,
        chosen: tuple[int, float],
    ) -> None:
        """Draw what each kind of schedule moves, the bound, and the memory at which orders change."""
        figure = self.new(7.6, 4.8)
        ax = figure.subplots()
        colours = (OURS, OTHER, EXTRA, "#E69F00", "#56B4E9", "0.25", "0.5", "0.65")
        styles = ("-", "--", "-.", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), "--", "-.")
        for i, (name, words) in enumerate(curves.items()):
            style = {"color": colours[i % 8], "linestyle": styles[i % 8]}
            ax.plot(points, words, linewidth=1.6, label=name, **style)
        ax.plot(points, lower, color=LIMIT, linewidth=2.2, label="proved lower bound")
        ax.axvline(crossover, color="0.5", linewidth=1, linestyle=":")
        ax.annotate(
            "$M = d^2$",
            (crossover, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(4, -12),
            textcoords="offset points",
            fontsize=9,
            color="0.35",
        )
        _chosen(ax, *chosen)
        _finish(ax, title)
        self.save(figure)


def _chosen(ax: Any, memory: int, words: float) -> None:
    mark = {"color": OTHER, "markersize": 11, "markeredgewidth": 2, "fillstyle": "none"}
    ax.plot([memory], [words], "s", label=f"M = {memory:,}", zorder=4, **mark)


def _finish(ax: Any, title: str, *, has_zero: bool = False) -> None:
    """Logarithmic axes with plain numbers, and a legend beside the panel that covers nothing.

    With zeros, words from 0 to 1 are linear.
    """
    ax.set_xscale("log", base=2)
    if has_zero:
        ax.set_ylim(-0.2, max(1.0, 1.5 * ax.dataLim.y1) if ax.lines else 1.0)
        ax.set_yscale("symlog", linthresh=1)
    else:
        ax.set_yscale("log")
    first, last = ax.get_xlim()
    if last / first < 2**12:
        # Beyond, powers of two take less room.
        ax.xaxis.set_major_formatter("{x:,.0f}")
    low, high = ax.get_ylim()
    if low > 0 and high / low < 100:
        # Too few decades for powers of ten alone.
        ax.yaxis.set_minor_formatter("{x:,.0f}")
        ax.tick_params(axis="y", which="minor", labelsize=8)
    shape = "{:,.0f}" if high < 1e6 else "{:.0e}"
    # The axis of zeros begins a little below them.
    ax.yaxis.set_major_formatter(lambda x, _: "" if x < 0 else shape.format(x))
    ax.set_xlabel("words of fast memory")
    ax.set_ylabel("words moved")
    ax.grid(which="major", color="0.88", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(
        f"{title} (subquad {subquad.__version__})", fontsize=11, loc="left", parse_math=False
    )
    if ax.lines:
        beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        ax.legend(frameon=False, fontsize=9, handlelength=2.4, **beside)
