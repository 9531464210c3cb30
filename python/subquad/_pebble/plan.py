"""Which schedule of attention moves fewest words, and how it is executed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._table import count, html_table, text_table
from ..theory.pebble import attention_lower_bound
from .cached import plan_for_cache
from .execute import execute
from .model import Model
from .workload import Workload, take_workload

__all__ = ["IOCandidate", "IOPlan", "attention_plan", "candidates_of", "lower_bound"]

# Values are computed again where a schedule makes scores twice, and sums take the place of a summand.
MODEL = Model(recompute=True, sliding=True)

_HEADER = ("schedule", "words", "flop", "peak", "workspace", "blocks")


@dataclass(frozen=True, slots=True)
class IOCandidate:
    """The best member of a family of schedules.

    Attributes
    ----------
    schedule : str
        The family.
    blocks : dict of str to int or None
        Sizes of its blocks; None if not even the smallest fit, and then all numbers are None too.
    words, bytes : int
        Words moved both ways, and bytes with the types of the plan.
    flops : int
        Multiplications and additions of products of matrices, for scores that are not masked.
    peak : int
        The most that is in fast memory, in the unit of the plan.
    workspace : int
        The most words of slow memory in use beyond inputs and outputs.
    """

    schedule: str
    blocks: dict[str, int] | None = field(hash=False)
    words: int | None
    bytes: int | None
    flops: int | None
    peak: int | None
    workspace: int | None

    def _cells(self) -> tuple[str, ...]:
        if self.blocks is None:
            return (self.schedule, "", "", "", "", "none fits")
        numbers = (self.words, self.flops, self.peak, self.workspace)
        return (self.schedule, *(count(number or 0) for number in numbers), _sizes(self.blocks))


@dataclass(frozen=True, slots=True, repr=False)
class IOPlan:
    """A schedule of attention for a fast memory of limited size, and what it costs.

    Made by `attention_plan`. Its ``repr`` is the table of all families.

    Attributes
    ----------
    schedule : str
        The family: forward "flash-2", "row-resident", "rectangular", "square", "flash-1" or "naive"; backward
        "two-pass", "one-pass", "stored-slopes", "row-resident", "rectangular" or "four-phase"; for the
        loss "large-cache" or "small-cache".
    blocks : dict of str to int
        Sizes of its blocks.
    words, bytes : int
        Words moved between the memories, loads and stores, and bytes with the types of the plan.
    flops : int
        Multiplications and additions of products of matrices, for scores that are not masked.
    peak : int
        The most that is in fast memory, in `unit`: words, or bytes.
    workspace : int
        The most words of slow memory in use beyond inputs and outputs.
    lower_bound : int or None
        Words that every algorithm which makes each weight of its own score moves with as much fast memory: the class of
        `subquad.theory.pebble.attention_lower_bound`; None for the gradient of the loss.
    table : tuple of IOCandidate
        The best member of every family; with ``cache="lru"``, families that cannot be best have the blocks of a
        scratchpad.
    replayed : float or None
        With ``cache="lru"``, what a cache moves over what the schedule does, as replayed.
    model : Model
        The game: values may be computed again, and a sum takes the place of its summand.
    workload : Workload
        What the plan was made for.
    """

    schedule: str
    blocks: dict[str, int] = field(hash=False)
    words: int
    bytes: int
    flops: int
    peak: int
    workspace: int
    lower_bound: int | None
    table: tuple[IOCandidate, ...]
    replayed: float | None
    model: Model
    workload: Workload

    def execute(
        self,
        query: Any,
        key: Any,
        value: Any,
        *,
        scale: float | None = None,
        grad_out: Any = None,
        projections: tuple[Any, Any] | None = None,
    ) -> Any:
        """Execute the schedule on data, word by word, in a fast memory that holds no more than the plan says.

        Parameters
        ----------
        query : array_like, shape (n, d); (group, n, d) for a plan of several heads
        key, value : array_like, shape (keys, d)
        scale : float, optional
            Factor of the scores, by default 1 / sqrt(d).
        grad_out : array_like, shape of `query`
            For ``direction="backward"`` and "loss": the gradient of the output.
        projections : pair of array_like, shape (d, d)
            For ``direction="loss"``: X and Y of ``softmax(scale A1 X A2^T) A3 Y``, where `query`, `key` and `value`
            are A1, A2 and A3.

        Returns
        -------
        ndarray of float64, or Gradients
            The output, shape of `query`; the gradients of query, key and value; or that of X, shape (d, d).
            Rows that see no key are 0.

        Raises
        ------
        ValueError, TypeError
            For arrays of other shapes, of no real numbers, or not finite.
        RuntimeError
            If the execution does not move `words` words: an error of this package.

        Notes
        -----
        All arithmetic is in float64, whatever the types of the plan. The time is that of plain loops.

        Examples
        --------
        >>> import numpy as np
        >>> import subquad
        >>> from subquad.pebble import attention_plan
        >>> rng = np.random.default_rng(0)
        >>> q, k, v = rng.standard_normal((3, 64, 16))
        >>> out = attention_plan(64, 16, memory=300).execute(q, k, v)
        >>> bool(np.allclose(out, subquad.attention(q, k, v), rtol=1e-12, atol=1e-12))
        True
        """
        return execute(self, query, key, value, scale, grad_out, projections)

    def _rows(self) -> list[tuple[str, str]]:
        w = self.workload
        heads = f"{w.group} x " if w.group > 1 else ""
        seen = ", causal" if w.is_causal else ""
        if w.mask_blocks is not None:
            open_blocks = f"{int(w.mask_blocks.sum())} of {w.mask_blocks.size} blocks of {w.block}"
            seen += f", {open_blocks}"
        memory = f"{w.memory:,} {w.unit}"
        if w.unit == "bytes":
            memory += f" ({', '.join(w.dtypes)})"
        rows = [
            ("attention", f"{w.direction}, {heads}{w.n} x {w.keys}, d = {w.d}{seen}"),
            ("fast memory", f"{memory}, {w.cache}"),
            ("schedule", f"{self.schedule} ({_sizes(self.blocks)})"),
            ("words moved", f"{self.words:,} ({count(self.bytes)}B)"),
        ]
        if self.lower_bound is not None:
            ratio = ""
            if self.lower_bound > 0:
                ratio = f" ({self.words / self.lower_bound:.3g} times as many move)"
            rows.append(("lower bound", f"{self.lower_bound:,}{ratio}"))
        if self.replayed is not None:
            rows.append(("cache / schedule", f"{self.replayed:.3f}"))
        return [*rows, ("model", str(self.model))]

    def __repr__(self) -> str:
        """Return what is planned, and the table of families."""
        table = [_HEADER, *(row._cells() for row in self.table)]
        return "\n".join(["IOPlan", text_table(self._rows()), text_table(table, indent="    ")])

    def _repr_html_(self) -> str:
        rows = [row._cells() for row in self.table]
        return html_table("IOPlan", self._rows()) + html_table("Families", rows, header=_HEADER)


def _sizes(blocks: dict[str, int]) -> str:
    """Sizes of blocks; how many words pass by at once does not matter to what moves."""
    shown = {name: size for name, size in blocks.items() if not name.endswith("stream")}
    return ", ".join(f"{name} {size}" for name, size in shown.items())


def attention_plan(
    n: int,
    d: int,
    memory: int,
    *,
    unit: str = "words",
    dtypes: Any = None,
    is_causal: bool = False,
    mask_blocks: Any = None,
    direction: str = "forward",
    cache: str = "scratchpad",
    keys: int | None = None,
    group: int = 1,
) -> IOPlan:
    r"""Find the schedule of attention that moves fewest words between a fast memory and a slow one.

    The sizes of the blocks of all families are enumerated, as integers; what a schedule moves is known in closed form.

    Parameters
    ----------
    n, d : int
        Queries, and the width of queries, keys and values.
    memory : int
        Fast memory, in `unit`.
    unit : {"words", "bytes"}
        With "words" every number takes one word; with "bytes", what its type takes, and bytes are least.
    dtypes : dtype or mapping, optional
        Types of "operands" (inputs, outputs and stored scores), "accumulators" (sums in progress) and
        "statistics" (of rows). One type is that of the operands, with the others at least float32. By default all are
        float32.
    is_causal : bool
        Whether query i sees keys 0 to i only.
    mask_blocks : array_like of bool, or pair of it and int
        Which blocks of queries by keys are computed, and the side of a block; by default n over the number of rows,
        which must be whole.
    direction : {"forward", "backward", "loss"}
        The output; the gradients of query, key and value from these, the output, its logarithms of sums and its
        gradient; or the gradient of X in the attention loss of [3]_.
    cache : {"scratchpad", "lru"}
        Whether the program says what stays in fast memory, or a cache that replaces the least recently used line. The
        latter needs smaller blocks: how much smaller is found by replaying schedules on a cache of lines of 64 bytes
        in sets of 8, of a problem of a few hundred rows if this one is larger.
    keys : int, optional
        Keys, by default n.
    group : int, optional
        Query heads that share the keys.

    Returns
    -------
    IOPlan

    Raises
    ------
    TypeError, ValueError
        For sizes that are not positive integers, a memory in which no schedule fits (the message says how much is
        needed), or masks and types of other forms.

    See Also
    --------
    sweep : The same for many sizes of memory.
    subquad.theory.pebble.attention_lower_bound : What no algorithm can avoid that makes each weight of its
        own score by standard products.

    Notes
    -----
    With M words, to leading order: forward :math:`4 n^2 d^2 / M` ("flash-2", [1]_), :math:`2 n^2 d^2 / M + 2 n^2`
    ("row-resident") and :math:`4 n^2 d / \sqrt M + n^2` ("rectangular", "square", [2]_); backward
    :math:`14 n^2 d^2 / M` ("two-pass"), :math:`9 n^2 d^2 / M + 2 n^2` ("stored-slopes"),
    :math:`5 n^2 d^2 / M + 5 n^2` ("row-resident") and :math:`10 n^2 d / \sqrt M + 3 n^2` ("rectangular", "four-phase",
    [3]_). The middle ones are the least for M near d^2.

    Planning takes :math:`O(\sqrt n)` steps, with a causal mask O(n), and more with blocks of a mask.

    References
    ----------
    .. [1] T. Dao, "FlashAttention-2", arXiv:2307.08691.
    .. [2] B. Saha and C. Ye, "I/O complexity of attention", arXiv:2402.07443.
    .. [3] "On fine-grained I/O complexity of attention backward passes", arXiv:2410.09397.

    Examples
    --------
    >>> from subquad.pebble import attention_plan
    >>> attention_plan(8192, 128, 10_000)  # doctest: +ELLIPSIS
    IOPlan
      attention    forward, 8192 x 8192, d = 128
      fast memory  10,000 words, scratchpad
      schedule     row-resident (rows 77, ...)
    ...
    """
    workload = take_workload(
        n,
        d,
        memory,
        unit=unit,
        dtypes=dtypes,
        is_causal=is_causal,
        mask_blocks=mask_blocks,
        direction=direction,
        cache=cache,
        keys=keys,
        group=group,
    )
    core = workload.core()
    cached = plan_for_cache(workload, core) if workload.cache == "lru" else None
    if cached is None:
        table = candidates_of(workload, core, [workload.memory])[0]
        best, ratio = choose(table, workload.unit), None
    else:
        table, best, ratio = cached.table, cached.best, cached.ratio
    if best is None:
        least = core.least_memory(workload.widths, workload.direction)
        raise ValueError(
            f"`memory` must be at least {least} {workload.unit} for a schedule to fit, got {workload.memory}"
        )
    bound = lower_bound(workload, core.pairs(), np.array([workload.memory]))
    return _plan(workload, best, table, ratio, None if bound is None else int(bound[0]))


def _plan(
    workload: Workload,
    best: IOCandidate,
    table: tuple[IOCandidate, ...],
    replayed: float | None,
    bound: int | None,
) -> IOPlan:
    assert best.blocks is not None
    return IOPlan(
        schedule=best.schedule,
        blocks=best.blocks,
        words=best.words or 0,
        bytes=best.bytes or 0,
        flops=best.flops or 0,
        peak=best.peak or 0,
        workspace=best.workspace or 0,
        lower_bound=bound,
        table=table,
        replayed=replayed,
        model=MODEL,
        workload=workload,
    )


def candidates_of(
    workload: Workload, core: Any, memories: list[int]
) -> list[tuple[IOCandidate, ...]]:
    """Return the best member of every family for each memory."""
    found = core.plans(memories, workload.widths, workload.direction)
    return [tuple(_candidate(name, best, workload) for name, best in row) for row in found]


def _candidate(name: str, best: Any, workload: Workload) -> IOCandidate:
    if best is None:
        return IOCandidate(name, None, None, None, None, None, None)
    (_, sizes), (loads, stores, peak, flops, workspace, _) = best
    moved = [a + b for a, b in zip(loads, stores, strict=True)]
    size = sum(a * b for a, b in zip(moved, workload.itemsizes, strict=True))
    return IOCandidate(name, dict(sizes), sum(moved), size, flops, peak, workspace)


def choose(table: tuple[IOCandidate, ...], unit: str) -> IOCandidate | None:
    """Return what moves least; of equals what needs least workspace, then least work."""
    fitting = [row for row in table if row.blocks is not None]
    key = "bytes" if unit == "bytes" else "words"
    return min(fitting, key=lambda r: (getattr(r, key), r.workspace, r.flops), default=None)


def lower_bound(
    workload: Workload, pairs: int, memories: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Return words that must move, for each memory: in bytes, as many words fit as are narrowest."""
    if workload.direction == "loss":
        return None
    words = np.maximum(memories // min(workload.widths), 1)
    rows = workload.n * workload.group
    whole = workload.mask_blocks is None and rows == workload.keys
    options: dict[str, Any] = {"is_causal": workload.is_causal} if whole else {"scores": pairs}
    side = max(rows, workload.keys)
    direction = workload.direction
    found = attention_lower_bound(side, workload.d, words, direction=direction, **options)
    return np.asarray(found, dtype=np.int64)
