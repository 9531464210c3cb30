"""Pictures of `toeplitz_gallery`, from its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from _polynomial_pictures import STYLE

Row = dict[str, Any]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
MARKS = ("o", "s", "^", "D")


def draw_training(found: Row, path: Path) -> None:
    """Draw losses over steps, and the bias that was found."""
    mpl.rcParams.update(STYLE)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.4), layout="constrained")
    steps = range(1, found["steps"] + 1)
    left.semilogy(steps, found["losses of torch"], color=COLOURS[1], lw=3.5, label="torch autograd")
    left.semilogy(steps, found["losses"], color=COLOURS[0], lw=1.2, label="subquad")
    left.set_xlabel("step")
    left.set_ylabel("mean square error")
    left.legend(frameon=False)
    for head, values in enumerate(found["bias"]):
        shown = [(lag, x) for lag, x in zip(found["lags"], values, strict=True) if lag >= 0]
        right.plot(*zip(*shown, strict=True), MARKS[head] + "-", ms=4, lw=1, mfc="none",
                   color=COLOURS[head], label=f"head {head}")  # fmt: skip
    right.set_xlabel("lag i - j")
    right.set_ylabel("learned bias")
    right.legend(frameon=False)
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None})


def draw_pays(found: Row, path: Path) -> None:
    """Draw by how much polynomials are faster than exact attention, over n."""
    mpl.rcParams.update(STYLE)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.0, 3.6), sharey=True, layout="constrained"
    )
    kinds = sorted({(row["entries"], row["degree"]) for row in found["general"]})
    counts = sorted({entries for entries, _ in kinds})
    for entries, degree in kinds:
        rows = [r for r in found["general"] if (r["entries"], r["degree"]) == (entries, degree)]
        what = f"{entries} {'entry' if entries == 1 else 'entries'}, degree {degree}"
        curve(left, rows, (counts.index(entries), degree - 1), what)
    for number, kind in enumerate(dict.fromkeys(row["kind"] for row in found["biases"])):
        rows = [r for r in found["biases"] if r["kind"] == kind and r["ratio"] is not None]
        curve(right, rows, (number, number), f"{kind}: {rows[0]['route']}")
    left.set_title("a matrix for every lag, by transforms")
    right.set_title("a bias, d = 16, degree 2")
    left.set_ylabel("time of exact attention / polynomial")
    for axis in (left, right):
        axis.axhline(1.0, color="#000000", lw=0.8, ls=":")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        ticks = [2**i for i in range(12, 17)]
        axis.set_xticks(ticks, [f"{n // 1024}Ki" for n in ticks])
        axis.set_xlabel("tokens n")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=7)
    figure.savefig(path, metadata={"Date": None})


def curve(axis: Any, rows: list[Row], look: tuple[int, int], label: str) -> None:
    """Draw one line, or a mark where there is one length only, in a colour and with a mark of its own."""
    colour, mark = look
    style = MARKS[mark] + ("-" if len(rows) > 1 else "")
    x, y = ([row[name] for row in rows] for name in ("n", "ratio"))
    axis.plot(x, y, style, color=COLOURS[colour], ms=4, mfc="none", lw=1.2, label=label)
