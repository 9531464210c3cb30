"""Pictures of `pebble_attention`, from its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from _polynomial_pictures import STYLE

Row = dict[str, Any]

COLOURS = {
    "flash-2": "#0072b2", "two-pass": "#0072b2",
    "flash-1": "#56b4e9", "one-pass": "#56b4e9",
    "stored-slopes": "#cc79a7",
    "row-resident": "#d55e00",
    "rectangular": "#009e73",
    "square": "#999999", "four-phase": "#999999",
    "naive": "#cccccc",
}  # fmt: skip
# Families of which the envelope is made are drawn strong, what is published for the same ends dashed.
DASHED = ("flash-1", "one-pass", "square", "four-phase", "naive")


def draw_crossover(found: Row, path: Path) -> None:
    """Draw words over n^2 against M / d^2 for all families, with the bound."""
    mpl.rcParams.update(STYLE)
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 4.4), layout="constrained")
    for axis, direction in zip(axes, ("forward", "backward"), strict=True):
        curve = found["curves"][direction]
        ratio = np.array(curve["ratio"])
        best = np.full(ratio.shape, np.inf)
        for name, words in curve["words"].items():
            y = np.array([np.nan if x is None else x for x in words])
            best = np.fmin(best, y)
            style = "--" if name in DASHED else "-"
            axis.plot(ratio, y, style, color=COLOURS[name], lw=1.2, label=name, zorder=2)
        axis.plot(ratio, best, color="#000000", lw=4.0, alpha=0.15, label="plan", zorder=1)
        axis.plot(ratio, curve["bound"], ":", color="#000000", lw=1.4, label="lower bound")
        axis.axvline(1.0, color="#000000", lw=0.6)
        axis.set_xscale("log")
        axis.set_yscale("log")
        ticks = [0.03, 0.1, 0.3, 1, 3, 10, 30]
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        low = min(curve["bound"])
        axis.set_ylim(low / 1.5, 60 if direction == "forward" else 150)
        marks = [x for x in (0.1, 0.3, 1, 3, 10, 30, 100) if x > low / 1.5]
        axis.set_yticks(marks, [f"{mark:g}" for mark in marks])
        axis.set_xlabel("fast memory M / d²")
        axis.set_title(f"{direction}, n = {found['n']}, d = {found['d']}")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=7, loc="lower left")
    axes[0].set_ylabel("words moved / n²")
    figure.savefig(path, metadata={"Date": None})


def draw_devices(found: Row, path: Path) -> None:
    """Draw the gain over published schedules against M / d^2; every device is a mark."""
    mpl.rcParams.update(STYLE)
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.9), layout="constrained")
    marks = {64: "o", 128: "s", 256: "^", 512: "D"}
    for axis, direction in zip(axes, ("forward", "backward"), strict=True):
        rows = [r for r in found["rows"] if r["direction"] == direction and r["gain"] is not None]
        for d, mark in marks.items():
            for name in dict.fromkeys(row["schedule"] for row in rows):
                some = [r for r in rows if r["d"] == d and r["schedule"] == name]
                x, y = ([row[field] for row in some] for field in ("ratio", "gain"))
                axis.plot(x, y, mark, color=COLOURS[name], ms=5, mfc="none", zorder=2)
        for d, mark in marks.items():
            axis.plot([], [], mark, color="#666666", ms=5, mfc="none", label=f"d = {d}")
        for name in dict.fromkeys(row["schedule"] for row in rows):
            axis.plot([], [], color=COLOURS[name], lw=3, label=name)
        axis.axvline(1.0, color="#000000", lw=0.6)
        axis.axhline(1.0, color="#000000", lw=0.6, ls=":")
        axis.set_xscale("log")
        axis.set_yscale("log")
        ticks = [0.03, 0.1, 0.3, 1, 3, 10, 30]
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        steps = [1, 1.5, 2, 3, 5, 10, 20]
        axis.set_yticks([x for x in steps if x <= 1.2 * max(r["gain"] for r in rows)])
        axis.set_yticks([], minor=True)
        axis.get_yaxis().set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        axis.set_xlabel("fast memory M / d²")
        over = "flash-2" if direction == "forward" else "one-pass"
        axis.set_ylabel(f"words of {over} / plan")
        axis.set_title(direction)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=7, loc="upper right")
    figure.savefig(path, metadata={"Date": None})


def draw_overflow(found: Row, path: Path) -> None:
    """Draw peaks of the rule over M, and what they are made of for one width."""
    mpl.rcParams.update(STYLE)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.8), layout="constrained")
    colours = {32: "#d55e00", 64: "#0072b2", 128: "#009e73"}
    for curve in found["curves"]:
        x = [row["ratio"] for row in curve["rows"]]
        d = curve["d"]
        for field, style in (("peak", "-"), ("with rows kept", "--")):
            label = f"d = {d}" if field == "peak" else None
            y = [row[field] for row in curve["rows"]]
            left.plot(x, y, style, color=colours[d], lw=1.2, label=label)
    left.plot([], [], "--", color="#666666", lw=1.2, label="rows kept until the end")
    left.set_ylabel("most words in fast memory / M")
    left.legend(frameon=False, fontsize=8)
    curve = next(curve for curve in found["curves"] if curve["d"] == 64)["rows"]
    x = [row["ratio"] for row in curve]
    parts = ("keys and values", "outputs", "scores")
    layers = [[row[name] for row in curve] for name in parts]
    rest = [row["peak"] - sum(row[name] for name in parts) for row in curve]
    shades = ("#56b4e9", "#e69f00", "#009e73", "#666666")
    labels = ("keys and values", "outputs", "scores", "statistics")
    right.stackplot(x, *layers, rest, labels=labels, colors=shades, alpha=0.6, lw=0)
    right.set_title("d = 64")
    right.legend(frameon=False, fontsize=8, loc="lower left")
    for axis in (left, right):
        axis.axhline(1.0, color="#000000", lw=1.0)
        axis.set_xscale("log")
        ticks = [0.25, 1, 4, 16]
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_xlim(0.25, 32)
        axis.set_ylim(0, 1.5)
        axis.set_xlabel("fast memory M / d²")
        axis.grid(alpha=0.3)
    left.set_title("blocks by the rule c = ⌈M / 4d⌉, r = min(c, d)")
    figure.savefig(path, metadata={"Date": None})


DRAW = {"crossover": draw_crossover, "devices": draw_devices, "overflow": draw_overflow}
