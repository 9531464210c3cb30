"""`python -m subquad attend`: captured heads through the library, with a table of what it did."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import subquad

from . import report
from .captures import Capture
from .files import CaptureError
from .load import load
from .measure import run
from .numbers import at_least, positive
from .plot import Plot


def add(commands: Any) -> None:
    """Add the command to the subparsers of the command line."""
    parser = commands.add_parser(
        "attend",
        help="run captured attention heads and show error, bound and time of each",
        description="Run every head of a capture through subquad.attention, and compare error "
        "and time with float64 and with the plain formula in numpy.",
        epilog="The file holds q, k, v: 2-D, heads first, or layers x heads; and, where they "
        "apply, scale, causal, window, theta (rotary positions), bias (by lags), kv_of_q and do. Without a file "
        "a small real capture that comes with the package is used.",
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE.npz|FILE.safetensors")
    parser.add_argument(
        "--eps", type=positive, help="error budget, relative to the spread of the values"
    )
    parser.add_argument(
        "--causal",
        action=argparse.BooleanOptionalAction,
        help="query i sees keys 0 to i; instead of what the file says",
    )
    parser.add_argument(
        "--window",
        type=at_least(0),
        metavar="W",
        help="only the last W of those, 0 for all; instead of what the file says",
    )
    parser.add_argument(
        "--heads",
        metavar="0,3-5",
        help="heads to run, counted from 0 over layers and heads (default: all)",
    )
    parser.add_argument("--grad", action="store_true", help="also the gradient, from `do`")
    parser.add_argument("--plot", type=Path, metavar="OUT.png", help="draw the figures")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--workers",
        type=at_least(1),
        metavar="N",
        help="threads (default: the limit of the package)",
    )
    parser.set_defaults(run=attend)


def attend(arguments: argparse.Namespace) -> str:
    """Run the command and return what it prints.

    Raises
    ------
    CaptureError
        If the file, a head or a missing package stands in the way.
    """
    capture = load(arguments.file)
    heads = chosen(arguments.heads, capture)
    capture = masked(capture, arguments.causal, arguments.window)
    if arguments.grad and capture.grad_out is None:
        raise CaptureError(f"{capture.name}: --grad needs the array `do`, which is not there")
    draw = None
    if arguments.plot is not None:
        # What is missing is found now, not after minutes of work.
        draw = Plot(arguments.plot)
    workers = arguments.workers or subquad.num_threads()
    settings = {"eps": arguments.eps, "workers": workers}
    reports = run(capture, heads, grad=arguments.grad, quiet=arguments.json, **settings)
    if draw is not None:
        draw(capture, reports, arguments.eps)
    if arguments.json:
        return report.as_json(capture, reports, settings)
    table = report.text(capture, reports, settings)
    return table if draw is None else f"{table}\nfigure: {arguments.plot}"


def chosen(text: str | None, capture: Capture) -> list[int]:
    """Heads that a text such as `0,3-5` names, each once, in the order given."""
    if text is None:
        return list(range(capture.heads))
    heads: dict[int, None] = {}
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        if ends is None:
            raise CaptureError(f"--heads {text}: numbers and ranges such as 0,3-5 are needed")
        first = int(ends[1])
        last = first if ends[2] is None else int(ends[2])
        if last < first or last >= capture.heads:
            raise CaptureError(
                f"--heads {part.strip()}: {capture.name} has heads 0 to {capture.heads - 1}"
            )
        heads.update(dict.fromkeys(range(first, last + 1)))
    return list(heads)


def masked(capture: Capture, causal: bool | None, window: int | None) -> Capture:
    """Replace the mask by that of the command line, where it names one.

    The results stored in the file go when the mask changes: they are not those of the new one.
    """
    new_causal = capture.causal if causal is None else causal
    new_window = capture.window if window is None else window or None
    if window is None and not new_causal:
        new_window = None
    if new_window is not None and not new_causal:
        raise CaptureError(f"--window {window} needs --causal: {capture.name} is not causal")
    if (new_causal, new_window) == (capture.causal, capture.window):
        return capture
    return replace(capture, causal=new_causal, window=new_window, checks={})
