"""`python -m subquad pebble`: how few words a computation can move."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import pebble as game
from .._pebble.player import MOST_VERTICES
from . import pebble_plan, pebble_report
from .files import CaptureError, check_target
from .numbers import at_least, counted, positive
from .outcome import Outcome, Writing
from .pebble_graph import Problem, parse
from .pebble_plot import Plot, memories
from .pebble_search import Found, search

# Seconds of search if nothing is said; and of each point of a figure.
_SECONDS, _SECONDS_OF_A_POINT = 10.0, 2.0


def add(commands: Any) -> None:
    """Add the command to the subparsers of the command line."""
    parser = commands.add_parser(
        "pebble",
        help="find how few words a computation must move between two memories",
        description="Search for the cheapest play of the red-blue pebble game of a computation, with bounds on "
        "both sides; for attention too large for a graph, plan its blocks.",
        epilog="GRAPH is a file FILE.hdag or FILE.dot, or chain:LENGTH, tree:HEIGHT, pyramid:HEIGHT, grid:ROWS,COLUMNS, "
        "stencil:WIDTH,STEPS, fft:N, matmul:M,N,K, attention:N,D, attention_grad:N,D or random:VERTICES,SOURCES; "
        "sums of the last ones may be computed by ,chain or ,tree in place of multiply-adds, and softmax be ,safe "
        "or ,online.",
    )
    parser.add_argument("graph", metavar="GRAPH")
    parser.add_argument(
        "--memory", type=at_least(1), required=True, metavar="M", help="words of fast memory"
    )
    rules = parser.add_argument_group("rules of the game")
    rules.add_argument("--recompute", action="store_true", help="values may be computed again")
    rules.add_argument(
        "--sliding", action="store_true", help="a value may take the place of an operand"
    )
    rules.add_argument(
        "--recolour", action="store_true", help="a value is in one of the two memories at a time"
    )
    rules.add_argument(
        "--no-deletes", action="store_true", help="values leave fast memory only if stored"
    )
    rules.add_argument(
        "--compute-cost", type=positive, metavar="C", help="words that computing a value costs"
    )
    rules.add_argument(
        "--computable", action="store_true", help="sources are computed instead of loaded"
    )
    rules.add_argument("--anywhere", action="store_true", help="outputs may end in either memory")
    parser.add_argument("--causal", action="store_true", help="of a plan: query i sees keys 0 to i")
    parser.add_argument(
        "--time-limit", type=positive, metavar="S", help=f"seconds (default: {_SECONDS:g})"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--html", type=Path, metavar="OUT.html", help="write a page that steps through the play"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="OUT.png", help="draw words moved against words of memory"
    )
    parser.add_argument(
        "--workers",
        type=at_least(1),
        metavar="N",
        help="threads (default: the limit of the package)",
    )
    parser.set_defaults(run=pebble)


def pebble(arguments: argparse.Namespace) -> Outcome:
    """Run the command and return what it prints.

    Raises
    ------
    CaptureError
        If the graph, the memory, a file or a missing package stands in the way.
    """
    try:
        draw = None if arguments.plot is None else Plot(arguments.plot)
        if arguments.html is not None:
            check_target("--html", arguments.html)
        problem = parse(arguments.graph)
        run = _search if problem.dag is not None else pebble_plan.run
        return run(problem, arguments, draw)
    except CaptureError:
        raise
    except ValueError as err:
        # Readers of files name them.
        named = str(err).startswith(str(arguments.graph))
        raise CaptureError(str(err) if named else f"{arguments.graph}: {err}") from err
    except OSError as err:
        raise CaptureError(f"{err.filename or arguments.graph}: {err.strerror or err}") from err


def model_of(arguments: argparse.Namespace) -> game.Model:
    """Return the game that the options name."""
    return game.Model(
        recompute=arguments.recompute,
        sliding=arguments.sliding,
        blue_persists=not arguments.recolour,
        deletes=not arguments.no_deletes,
        compute_cost=arguments.compute_cost or 0,
        sources="computable" if arguments.computable else "blue",
        outputs="any" if arguments.anywhere else "blue",
    )


def _search(problem: Problem, arguments: argparse.Namespace, draw: Plot | None) -> Outcome:
    """Search for the cheapest play of a graph."""
    dag, model, memory = problem.dag, model_of(arguments), arguments.memory
    assert dag is not None
    if arguments.causal:
        raise CaptureError(f"{problem.name}: --causal is for plans of attention, not for graphs")
    if arguments.html is not None and dag.num_vertices > MOST_VERTICES:
        raise CaptureError(
            f"{problem.name}: --html is for at most {MOST_VERTICES:,} vertices, not {dag.num_vertices:,}"
        )
    limit = arguments.time_limit or _SECONDS
    found = search(problem, memory, model, limit, arguments.workers)
    writing = Writing(interrupted=found.status == "interrupted")
    if arguments.html is not None:
        with writing.of("player", arguments.html):
            if found.moves is None:
                raise CaptureError("there is no play to step through")
            title = f"{problem.name}, {counted(memory, 'word')}"
            game.player(dag, found.moves, memory, model=model, title=title).save(arguments.html)
    if draw is not None and not writing.interrupted:
        with writing.of("figure", draw.path):
            _draw(problem, arguments, found, draw)
    if arguments.json:
        return writing.outcome(pebble_report.as_json(problem, memory, model, found))
    return writing.outcome(pebble_report.text(problem, memory, model, found, writing.written))


def _draw(problem: Problem, arguments: argparse.Namespace, found: Found, draw: Plot) -> None:
    """Search with many sizes of memory, and draw what is found."""
    dag, model, memory = problem.dag, model_of(arguments), arguments.memory
    assert dag is not None
    points = memories(dag.least_memory(model), memory, int(dag.weights.sum()))
    each = min(arguments.time_limit or _SECONDS, _SECONDS_OF_A_POINT)
    curve = []
    for m in points:
        curve.append(search(problem, m, model, each, arguments.workers))
        # Ctrl-C ends a search early, and here all of them.
        if curve[-1].status == "interrupted":
            raise KeyboardInterrupt
    draw.search(f"{problem.name}, {model}", points, curve, (memory, found))
