"""Text files of graphs, read and written."""

from __future__ import annotations

import os
from typing import Any, Never, Protocol

__all__ = ["Source", "Target", "read", "refuse", "written"]


class _Readable(Protocol):
    def read(self) -> Any: ...


class _Writeable(Protocol):
    def write(self, text: str, /) -> Any: ...


# What is read from, and what is written to: a path, or something open.
Source = str | os.PathLike[str] | _Readable
Target = str | os.PathLike[str] | _Writeable


def refuse(name: str, line: int, requires: str, found: str) -> Never:
    """Refuse a line."""
    shown = found if len(found) <= 60 else f"{found[:57]}..."
    raise ValueError(f"{name}, line {line}: {requires}, got {shown!r}")


def read(file: Source) -> tuple[str, str]:
    """Return the name of a file and its text."""
    if isinstance(file, str | os.PathLike):
        name = os.fspath(file)
        with open(name, "rb") as opened:
            data: Any = opened.read()
    elif hasattr(file, "read"):
        name, data = str(getattr(file, "name", "the file")), file.read()
    else:
        raise TypeError(f"`file` must be a path or something open, got {file!r}")
    if isinstance(data, str):
        return name, data
    try:
        return name, bytes(data).decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = bytes(data[: err.start]).count(b"\n") + 1
        raise ValueError(f"{name}, line {line}: a file must be UTF-8, and is not") from None


def written(text: str, file: Target | None) -> str:
    """Write a text to a path or to something that is open, if it is given, and return it."""
    if file is None:
        return text
    if isinstance(file, str | os.PathLike):
        # Encoded first, so that a text that cannot be written leaves what is there.
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as err:
            raise ValueError(
                f"a file must be UTF-8, which has no place for {text[err.start]!r}"
            ) from None
        with open(file, "wb") as opened:
            opened.write(data)
    elif hasattr(file, "write"):
        file.write(text)
    else:
        raise TypeError(f"`file` must be a path or something open, got {file!r}")
    return text
