"""What a command prints, also where it was interrupted or a file could not be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Outcome", "Writing"]


@dataclass(frozen=True)
class Outcome:
    """What is printed, and what did not come of it.

    Attributes
    ----------
    text : str
        For the standard output.
    failures : tuple of str
        One line for each file that could not be written.
    interrupted : bool
        Whether Ctrl-C has ended the work early.
    """

    text: str
    failures: tuple[str, ...] = ()
    interrupted: bool = False


class Writing:
    """Files that are written beside what is printed, which must not be lost with them."""

    def __init__(self, *, interrupted: bool = False) -> None:
        self.written: list[tuple[str, Path]] = []
        self._failures: list[str] = []
        self.interrupted = interrupted

    @contextmanager
    def of(self, what: str, path: Path) -> Iterator[None]:
        """Make and write one file: what fails, or Ctrl-C, ends no more than that."""
        try:
            yield
        except KeyboardInterrupt:
            self.interrupted = True
        except (OSError, ValueError) as err:
            reason = err.strerror or err if isinstance(err, OSError) else err
            self._failures.append(f"{what} {path}: not written: {reason}")
        else:
            self.written.append((what, path))

    def outcome(self, text: str) -> Outcome:
        """Return what is printed."""
        return Outcome(text, tuple(self._failures), self.interrupted)
