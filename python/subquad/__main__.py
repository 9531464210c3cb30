"""The command line: `python -m subquad {attend, pebble, info}`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Never

import subquad

from . import _config
from ._cli import attend, pebble
from ._cli.files import CaptureError
from ._cli.outcome import Outcome

UNWRITTEN = 1
REFUSED = 2
INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """A parser whose refusals are one line."""

    def error(self, message: str) -> Never:
        self.exit(REFUSED, f"{self.prog}: error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments, by default those of the process.

    Returns
    -------
    status : int
        0, 1 if something could not be written, 2 for input that cannot be used, 130 after Ctrl-C.
    """
    try:
        arguments = _parser().parse_args(argv)
        command: Callable[[argparse.Namespace], str | Outcome] = arguments.run
        done = command(arguments)
        return _report(done if isinstance(done, Outcome) else Outcome(done))
    except CaptureError as err:
        print(f"subquad: error: {err}", file=sys.stderr)
        return REFUSED
    except MemoryError as err:
        print(f"subquad: error: not enough memory ({err})", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("subquad: interrupted", file=sys.stderr)
        return INTERRUPTED


def _report(done: Outcome) -> int:
    """Print what came of a command, and return the exit status."""
    status = UNWRITTEN if done.failures else 0
    try:
        print(done.text, flush=True)
    except OSError as err:
        # Where the reader of a pipe has left there is nothing to say. Nothing is left to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = UNWRITTEN
        if not isinstance(err, BrokenPipeError):
            print(f"subquad: error: standard output: {err.strerror or err}", file=sys.stderr)
    for failure in done.failures:
        print(f"subquad: error: {failure}", file=sys.stderr)
    if done.interrupted:
        print("subquad: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m subquad", description="Attention with an error budget.")
    parser.add_argument("--version", action="version", version=f"subquad {subquad.__version__}")
    commands = parser.add_subparsers(required=True, metavar="{attend,pebble,info}")
    attend.add(commands)
    pebble.add(commands)
    info = commands.add_parser("info", help="show build, threads and limits of this machine")
    info.add_argument("--measure", action="store_true", help="measure the limits: two seconds")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(run=_info)
    return parser


def _info(arguments: argparse.Namespace) -> str:
    measured = _config.measure() if arguments.measure else None
    if not arguments.json:
        return _config.info_text(measured)
    facts = _config.show_config(mode="dicts")
    return json.dumps(facts if measured is None else {**facts, "limits": measured}, indent=2)


if __name__ == "__main__":
    sys.exit(main())
