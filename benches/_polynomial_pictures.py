"""Pictures of `polynomial_gallery`, from its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from subquad.theory.polynomial import logit_threshold

Row = dict[str, Any]

# Colours that no kind of colour blindness confuses; wider lines below, since steps coincide.
WIDTHS = {
    "16": ("#d55e00", 1.2),
    "32": ("#009e73", 2.0),
    "64": ("#0072b2", 3.0),
    "128": ("#cc79a7", 4.0),
}
MODELS = ("o", "s", "^")
GREY = "#666666"
STYLE = {"svg.hashsalt": "subquad", "svg.fonttype": "none", "font.size": 9, "axes.titlesize": 10}


def draw_reach(found: Row, path: Path) -> None:
    """Draw the largest certified logit over n, and those of trained heads beside it."""
    mpl.rcParams.update(STYLE)
    figure, axes = plt.subplots(
        1, 3, figsize=(9.0, 4.0), sharey=True, layout="constrained", width_ratios=[3, 3, 1.5]
    )
    sizes = np.geomspace(2**12, 2**20, 50)
    titles = {"bound": "weights", "grad_bound": "weights and derivative"}
    for axis, (field, title) in zip(axes, titles.items(), strict=False):
        for d, steps in sorted(found["steps"].items(), key=lambda item: -int(item[0])):
            colour, width = WIDTHS[d]
            x, y = ([step[name] for step in steps] for name in ("n", field))
            axis.step(x, y, where="post", color=colour, lw=width, label=f"d = {d}")
        axis.plot(sizes, [logit_threshold(int(n)) for n in sizes], "--", color="#000000", lw=1.2)
        axis.text(2**16, 12.5, "log n", ha="center", va="bottom")
        ticks = [2**i for i in range(12, 21, 2)]
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [f"{n // 1024}Ki" if n < 2**20 else "1Mi" for n in ticks])
        axis.set_xlabel("tokens n")
        axis.set_title(f"{title} within {100 * found['eps']:g} %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], frameon=False, ncols=4, loc="outside lower center")
    axes[0].set_yscale("log")
    axes[0].set_ylim(0.008, 150)
    marks = [0.01, 0.1, 1, 10, 100]
    axes[0].set_yticks(marks, [f"{mark:g}" for mark in marks])
    axes[0].set_ylabel("largest logit max |s|")
    draw_heads(axes[2], found["heads"])
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None})


def draw_heads(axis: Any, models: dict[str, list[Row]]) -> None:
    """One mark per head: its largest logit."""
    for column, (heads, mark) in enumerate(zip(models.values(), MODELS, strict=True)):
        largest = sorted(head["largest"] for head in heads)
        # Spread over the column in the order of size, so that marks do not cover each other.
        x = column + (np.arange(len(largest)) % 4 - 1.5) * 0.15 * (len(largest) > 4)
        axis.plot(x, largest, mark, ms=4, color=GREY, mfc="none")
    labels = [name.replace(", ", "\n").replace(" and ", ",\n") for name in models]
    axis.set_xticks(range(len(models)), labels)
    axis.set_xlim(-0.6, len(models) - 0.4)
    axis.set_title("trained heads")


LINES = [
    ("minimax", "certified", "minimax: bound", "-", "#0072b2"),
    ("minimax", "worst", "minimax: worst case", "x", "#0072b2"),
    ("minimax", "gaussian", "minimax: Gaussian data", "o", "#0072b2"),
    ("taylor", "certified", "Taylor: bound", "--", "#d55e00"),
    ("taylor", "gaussian", "Taylor: Gaussian data", "^", "#d55e00"),
]


def draw_error(found: Row, path: Path) -> None:
    """Draw bound and errors over the degree, one panel for each bound on the logits."""
    mpl.rcParams.update(STYLE)
    bounds = sorted({row["bound"] for row in found["rows"]})
    figure, axes = plt.subplots(
        1, len(bounds), figsize=(9.6, 4.0), sharey=True, sharex=True, layout="constrained"
    )
    for axis, bound in zip(axes, bounds, strict=True):
        rows = [row for row in found["rows"] if row["bound"] == bound]
        for kind, field, label, style, colour in LINES:
            chosen = [row for row in rows if row["kind"] == kind and row[field] is not None]
            x, y = ([row[name] for row in chosen] for name in ("degree", field))
            axis.semilogy(x, y, style, color=colour, ms=5, mfc="none", label=label)
        # A constant weighs all keys alike.
        mean = next(row["gaussian"] for row in rows if row["degree"] == 0)
        axis.axhline(mean, color="#000000", lw=0.8, ls=":", label="Gaussian data: mean of values")
        axis.set_title(f"max |s| = {bound:g}")
        axis.set_xlabel("degree")
        axis.set_xticks(range(0, 9, 2))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("error over the spread of the values")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=3, loc="outside lower center")
    figure.savefig(path, metadata={"Date": None})
