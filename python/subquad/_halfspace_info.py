"""What half-space reporting says about its answers and its indices."""

from __future__ import annotations

from dataclasses import dataclass

from ._table import count, html_table, text_table

__all__ = ["Info", "Stats"]


@dataclass(frozen=True, slots=True, repr=False)
class Info:
    """How an answer was found. The counts may differ between machines; the answer does not.

    Attributes
    ----------
    engine : str
        What answered: "scan", "int8", "int4", "rotated", "tree", or "none" where the
        thresholds alone decide.
    bytes_read : int
        Bytes of the index that were read, also by a search in boxes that gave up.
    scanned : int
        Pairs of query and key that the first stage looked at.
    candidates : int
        Of these, the pairs that it could not exclude.
    sure : int
        Of the candidates, those that it proved to be in.
    residual : int
        Candidates that a second stage of codes looked at.
    float32, float64, exact : int
        Candidates decided in float32, in float64, and in exact arithmetic.
    reported : int
        Pairs in the answer.
    """

    engine: str
    bytes_read: int
    scanned: int
    candidates: int
    sure: int
    residual: int
    float32: int
    float64: int
    exact: int
    reported: int

    def _rows(self) -> list[tuple[str, str]]:
        decided = f"{count(self.float32)} float32, {count(self.float64)} float64, "
        return [
            ("engine", self.engine),
            ("bytes read", count(self.bytes_read)),
            ("pairs scanned", count(self.scanned)),
            ("candidates", f"{count(self.candidates)}, {count(self.sure)} of them sure"),
            ("refined", f"{count(self.residual)} by codes, {decided}{count(self.exact)} exactly"),
            ("reported", count(self.reported)),
        ]

    def __repr__(self) -> str:
        """Return a table of the counts."""
        return f"Info\n{text_table(self._rows())}"

    def _repr_html_(self) -> str:
        return html_table("Info", self._rows())


@dataclass(frozen=True, slots=True, repr=False)
class Stats:
    """What an index consists of.

    Attributes
    ----------
    keys : int
        Keys that can be reported.
    removed : int
        Removed keys that still take memory; `Index.compact` frees it.
    dim : int
        d, the numbers in a key.
    dtype : str
        Their type: "float32", "float16" or "bfloat16".
    method : str
        As given.
    engines : tuple of str
        The engines that are built.
    bytes_keys, bytes_codes, bytes_other : int
        Memory of the keys themselves, of what the engines read instead of them, and of ids and
        tombstones.
    mapped : bool
        Whether any of it is in the pages of a file.
    next_id : int
        The id that the next key will get.
    """

    keys: int
    removed: int
    dim: int
    dtype: str
    method: str
    engines: tuple[str, ...]
    bytes_keys: int
    bytes_codes: int
    bytes_other: int
    mapped: bool
    next_id: int

    @property
    def bytes(self) -> int:
        """Memory in all."""
        return self.bytes_keys + self.bytes_codes + self.bytes_other

    @property
    def bytes_per_key(self) -> float:
        """Memory per key that is stored, removed ones included; NaN without any."""
        stored = self.keys + self.removed
        return self.bytes / stored if stored else float("nan")

    def _rows(self) -> list[tuple[str, str]]:
        parts = f"{count(self.bytes_codes)} codes, {count(self.bytes_other)} other"
        place = "mapped from a file" if self.mapped else "in memory"
        return [
            ("keys", f"{self.keys} of d = {self.dim}, {self.dtype}"),
            ("removed", str(self.removed)),
            ("method", f"{self.method} ({', '.join(self.engines)})"),
            ("bytes", f"{count(self.bytes)}: {count(self.bytes_keys)} keys, {parts}"),
            ("per key", f"{self.bytes_per_key:.1f} bytes"),
            ("place", place),
            ("next id", str(self.next_id)),
        ]

    def __repr__(self) -> str:
        """Return a table of the figures."""
        return f"Stats\n{text_table(self._rows())}"

    def _repr_html_(self) -> str:
        return html_table("Stats", self._rows())
