"""Draws the README's figure: share of the machine's multiply-add peak over the context length.

``python readme_figure.py OUT.svg``. One head of width 64 in float32 on one thread; subquad and
torch's scaled_dot_product_attention alternate in this process, and the best of several calls counts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
from suite._alternate import seconds
from suite.bench_attention import normal, one_thread, sdpa, tensors

import subquad
import subquad._config

LENGTHS = [256, 512, 1024, 2048, 4096, 8192, 16_384]
WIDTH = 64
COLOURS = {"subquad": "#0072b2", "torch": "#d55e00"}


def forward(n: int, causal: bool) -> dict[str, Callable[[], object]]:
    """Both forward passes."""
    arrays = normal(*[(n, WIDTH)] * 3)
    q, k, v = tensors(arrays)
    return {
        "subquad": lambda: subquad.attention(*arrays, is_causal=causal),
        "torch": lambda: sdpa(q, k, v, is_causal=causal),
    }


def backward(n: int, causal: bool) -> dict[str, Callable[[], object]]:
    """Both backward passes, each from its own forward pass."""
    arrays = normal(*[(n, WIDTH)] * 4)
    saved = subquad.attention(*arrays[1:], is_causal=causal, return_lse=True)
    (grad,) = tensors(arrays[:1])
    inputs = tensors(arrays[1:], requires_grad=True)
    out = sdpa(*inputs, is_causal=causal)
    return {
        "subquad": lambda: subquad.attention_grad(*arrays, is_causal=causal, forward=saved),
        "torch": lambda: torch.autograd.grad(out, inputs, grad, retain_graph=True),
    }


PASSES = {"forward": (forward, 4), "backward": (backward, 10)}


def shares(which: str, causal: bool, peak: float) -> dict[str, list[float]]:
    """Share of the peak of each package at every length."""
    make, products = PASSES[which]
    result: dict[str, list[float]] = {name: [] for name in COLOURS}
    for n in LENGTHS:
        calls = make(n, causal)
        best = dict.fromkeys(calls, float("inf"))
        rounds = max(3, min(40, 2**24 // n**2))
        for _ in range(rounds):
            for name, call in calls.items():
                best[name] = min(best[name], seconds(call))
        work = products * n * n * WIDTH / (2 if causal else 1)
        for name in calls:
            result[name].append(work / best[name] / peak * 1e-9)
    return result


def main(path: str) -> None:
    """Measure and draw."""
    one_thread()
    peak = subquad._config.measure()["fma_f32"]
    mpl.rcParams.update(
        {"svg.hashsalt": "subquad", "svg.fonttype": "none", "font.size": 9, "axes.titlesize": 10}
    )
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), sharey=True, layout="constrained")
    for axis, which in zip(axes, PASSES, strict=True):
        for causal, style in ((False, "-"), (True, "--")):
            for name, values in shares(which, causal, peak).items():
                label = f"{name}, causal" if causal else name
                axis.plot(
                    LENGTHS, values, style, marker="o", ms=3, color=COLOURS[name], label=label
                )
        axis.set_xscale("log", base=2)
        axis.set_xticks(LENGTHS, [str(n) if n < 1024 else f"{n // 1024}k" for n in LENGTHS])
        axis.set_ylim(0, 1)
        axis.set_xlabel("context length")
        axis.set_title(f"{which} pass, float32, width {WIDTH}")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of the multiply-add peak")
    lines, labels = axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, frameon=False, ncols=4, loc="outside lower center")
    kind = subquad._config.machine_class()
    figure.suptitle(
        f"Exact attention on one thread (machine class {kind}, torch {torch.__version__.split('+')[0]})"
    )
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main(sys.argv[1])
