"""A figure that is to be written to a file, and the colours of all figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .files import CaptureError, check_target, optional

__all__ = ["EXTRA", "LIMIT", "OTHER", "OURS", "FigureFile"]

# Okabe and Ito's colours, told apart with any kind of colour vision, and in grey by marker.
OURS, OTHER, LIMIT, EXTRA = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
KINDS = (".png", ".pdf", ".svg")


class FigureFile:
    """A figure to come in `path`; making one checks all that could stop it later."""

    def __init__(self, path: Path) -> None:
        figure = optional("matplotlib.figure", "plot")
        if path.suffix.lower() not in KINDS:
            raise CaptureError(f"--plot {path}: unknown extension; {', '.join(KINDS)} are written")
        check_target("--plot", path)
        self.path, self._figure = path, figure.Figure

    def new(self, width: float, height: float) -> Any:
        """Return an empty figure of so many inches."""
        return self._figure(figsize=(width, height), layout="constrained")

    def save(self, figure: Any) -> None:
        """Write the figure."""
        try:
            figure.savefig(self.path, dpi=150)
        except OSError as err:
            raise CaptureError(f"--plot {self.path}: {err.strerror or err}") from err
