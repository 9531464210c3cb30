"""Progress of a long run on the terminal: tqdm's bar where it is installed, plain lines without."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from types import TracebackType
from typing import Any, Self

# Seconds of silence: a run that is over by then needs no bar, and plain lines come no faster.
PATIENCE = 1.0


class Progress:
    """Counts steps on stderr, if that is a terminal and the run is not a short one."""

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        self.total = total
        self.done = 0
        self.visible = not quiet and sys.stderr.isatty()
        self.last = time.monotonic()
        self.bar: Any = None

    def __enter__(self) -> Self:
        if self.visible:
            try:
                self.bar = import_module("tqdm").tqdm(
                    total=self.total, delay=PATIENCE, leave=False, file=sys.stderr
                )
            except ImportError:
                self.bar = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def step(self, what: str) -> None:
        """Count one step, now that `what` is done."""
        self.done += 1
        if self.bar is not None:
            self.bar.set_postfix_str(what, refresh=False)
            self.bar.update()
        elif self.visible and time.monotonic() - self.last >= PATIENCE:
            self.last = time.monotonic()
            print(f"{self.done}/{self.total} {what}", file=sys.stderr)
