"""Tables of text and of HTML, for the `repr` of plans and results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["count", "html_table", "text_table"]


def text_table(rows: Sequence[Sequence[str]], *, indent: str = "  ") -> str:
    """Align columns to the left, two blanks apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join((indent + line).rstrip() for line in lines)


def html_table(
    title: str, rows: Iterable[Sequence[str]], *, header: Sequence[str] | None = None
) -> str:
    """Return one HTML table; `header` labels its columns."""
    parts = [f"<table><caption>{escape(title)}</caption>"]
    if header is not None:
        cells = "".join(f"<th>{escape(name)}</th>" for name in header)
        parts.append(f"<thead><tr>{cells}</tr></thead>")
    parts.append("<tbody>")
    for row in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        parts.append(f"<tr>{cells}</tr>")
    parts.append("</tbody></table>")
    return "".join(parts)


def count(n: float) -> str:
    """Three significant digits with the usual letter: 8590000000 is "8.59 G"."""
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g} {letter}"
    return f"{n:.3g}"
