"""One checked call: the arrays as the compiled module takes them, and the passes over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _subquad
from ._arrays import Operand, result_dtype, take, wide
from ._bias import Bias
from ._finite import refuse_nonfinite, require_finite
from ._layout import expand, laid_out, open_view
from ._options import check_scale, check_visibility
from ._shapes import Shape, Shapes, match_shapes
from ._threads import resolve_workers

__all__ = ["Problem", "Stats", "added", "prepare"]

Stats = dict[str, int]

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


# Not changed once made. Freezing it would say so, but takes a tenth of the time of a small call.
@dataclass(slots=True)
class Problem:
    """Attention over given arrays; everything in it has been checked."""

    operands: dict[str, Operand]
    """The array arguments as given, by name."""
    shapes: Shapes
    query: NDArray[Any]
    key: NDArray[Any]
    value: NDArray[Any]
    mask: NDArray[np.bool_] | None
    bias: NDArray[Any] | None
    relative: Bias | None
    """A bias of relative positions, in place of an array."""
    lags: NDArray[np.float64] | None
    """What it adds for every lag, for every head."""
    scale: float
    shift: int | None
    window: int | None
    workers: int
    check_finite: bool
    dtype: str
    """Name of the dtype of the output."""
    compute: np.dtype[Any]
    """What the kernels compute and write in: float32 or float64."""
    extra: Sequence[Operand] = field(default=())
    """Further inputs of a gradient, for the search after what is not finite."""
    memo: dict[Any, Any] = field(default_factory=dict)
    """What planning has found out about the numbers, for the passes over them."""

    def widened(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """Return part of an argument in numbers that numpy knows."""
        return wide(array, self.operands[name].dtype)

    def heads(self) -> list[Shape]:
        """Return the indices of all heads of the output."""
        return list(np.ndindex(self.shapes.out[:-2]))

    def kernel(self) -> str:
        """Return the name of the kernel for these shapes."""
        return _subquad.attention_kernel(self.shapes.queries, self.shapes.keys)

    def forward(
        self, out: NDArray[Any] | None = None, *, want_lse: bool = False
    ) -> tuple[NDArray[Any], NDArray[Any] | None, Stats]:
        """Compute the output, into `out` if given, and the log-sum-exp if wanted."""
        shape = self.shapes.out
        out = np.empty(shape, self.compute) if out is None else out.reshape(shape)
        lse = np.empty(shape[:-1], self.compute) if want_lse else None
        if self.shapes.empty:
            return out, lse, _no_work()
        bad, stats = _subquad.attention_forward(*self._inputs(), out, lse, **self._options())
        if bad and self.check_finite:
            refuse_nonfinite(self.operands.values(), self.compute)
        return out, lse, stats

    def backward(
        self,
        grad_out: NDArray[Any],
        out: NDArray[Any],
        lse: NDArray[Any],
        grads: dict[str, NDArray[Any]],
    ) -> Stats:
        """Add the gradients into `grads`, zero arrays in the shapes of the arguments.

        That of the parameters of a `Bias` is replaced by one in float64. Of lags without parameters "bias" is
        the gradient of every lag.
        """
        if self.shapes.empty or not grads:
            return _no_work()

        def view(name: str, shape: Shape) -> NDArray[Any] | None:
            return open_view(grads[name], shape) if name in grads else None

        # Every head sums up its own: what several share is added in a fixed order afterwards.
        grad_lags = None
        if self.lags is not None and "bias" in grads:
            grad_lags = np.zeros(self.lags.shape) if self.relative else grads["bias"]
        bad, stats = _subquad.attention_backward(
            grad_out,
            *self._inputs(),
            out,
            lse,
            view("query", self.shapes.query),
            view("key", self.shapes.key),
            view("value", self.shapes.value),
            view("bias", self.shapes.logits) if self.lags is None else None,
            grad_lags,
            **self._options(),
        )
        if self.relative is not None and grad_lags is not None:
            grads["bias"] = self.relative.pullback(grad_lags, self.shapes.queries, self.shapes.keys)
        if bad and self.check_finite:
            refuse_nonfinite((*self.operands.values(), *self.extra), self.compute)
        return stats

    def bounds(self, out: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bound the rounding error of each row of `out` from `forward`, and measure the spread."""
        if self.shapes.empty:
            rows = self.shapes.out[:-1]
            return np.zeros(rows), np.zeros(rows[:-1])
        bound, spread = _subquad.attention_bounds(*self._inputs(), out, **self._options())
        if self.check_finite and not np.isfinite(spread).all():
            # A bound needs all values, also those that no query sees and the kernel passed over.
            for operand in self.operands.values():
                require_finite(operand)
        return bound, spread

    def rows(
        self, head: Shape, rows: slice | NDArray[np.intp], compute: np.dtype[Any] = _FLOAT64
    ) -> Problem:
        """Return some queries of one head as a problem.

        Which keys they see is a mask, an array of queries by keys, unless they are a slice.
        """
        one = tuple(slice(i, i + 1) for i in head)
        group = self.shapes.heads // self.shapes.kv_heads
        kv = (*one[:-1], slice(head[-1] // group, head[-1] // group + 1))

        def some(array: NDArray[Any]) -> NDArray[Any]:
            return array[one][..., rows, :]

        query = some(self.query)
        shapes = replace(
            self.shapes,
            batch=(1,) * len(self.shapes.batch),
            heads=1,
            kv_heads=1,
            queries=query.shape[-2],
        )
        shift, mask = self.shift, None if self.mask is None else some(self.mask)
        bias = None if self.bias is None else some(self.bias)
        lags = None if self.lags is None else self.lags[one]
        if lags is None:
            pass
        elif isinstance(rows, slice):
            start, stop, _ = rows.indices(self.shapes.queries)
            lags = lags[..., start : stop + self.shapes.keys - 1]
        else:
            last = self.shapes.keys - 1
            bias, lags = lags[..., np.subtract.outer(rows, np.arange(last + 1)) + last], None
        if shift is None:
            pass
        elif isinstance(rows, slice):
            shift += rows.indices(self.shapes.queries)[0]
        else:
            assert self.window is None  # nobody asks
            seen = np.arange(self.shapes.keys) <= (rows + shift)[:, np.newaxis]
            mask, shift = (
                np.broadcast_to(seen if mask is None else mask & seen, shapes.logits),
                None,
            )
        return replace(
            self,
            shapes=shapes,
            query=query,
            key=self.key[kv],
            value=self.value[kv],
            mask=mask,
            bias=bias,
            relative=None,
            lags=lags,
            shift=shift,
            compute=compute,
            memo={},
        )

    def lead(self, array: NDArray[Any]) -> NDArray[Any]:
        """Drop the head axis that was added around one head: from inside shapes to the caller's."""
        return array if self.shapes.lead else array[0]

    def _inputs(self) -> tuple[Any, Any, Any, Any, Any, Any]:
        return self.query, self.key, self.value, self.mask, self.bias, self.lags

    def _options(self) -> dict[str, Any]:
        return {
            "scale": self.scale,
            "shift": self.shift,
            "window": self.window,
            "workers": self.workers,
        }


def prepare(
    query: Any,
    key: Any,
    value: Any,
    *,
    mask: Any,
    bias: Any,
    is_causal: Any,
    window: Any,
    scale: Any,
    enable_gqa: bool,
    workers: Any,
    check_finite: bool,
) -> Problem:
    """Check the arguments that every kind of attention shares."""
    q, k, v = take("query", query), take("key", key), take("value", value)
    operands = {"query": q, "key": k, "value": v}
    dtype = result_dtype(q.dtype, k.dtype, v.dtype)
    shapes = match_shapes(q.shape, k.shape, v.shape, bool(enable_gqa))
    shift, window = check_visibility(is_causal, window, shapes.queries, shapes.keys)
    compute = _FLOAT64 if dtype == "float64" else _FLOAT32
    relative = bias if isinstance(bias, Bias) else None
    return Problem(
        query=expand(laid_out(q, compute), shapes.query),
        key=expand(laid_out(k, compute), shapes.key),
        value=expand(laid_out(v, compute), shapes.value),
        mask=None if mask is None else _take_mask(mask, shapes, operands),
        bias=None if bias is None or relative else _take_bias(bias, shapes, operands),
        relative=relative,
        lags=None if relative is None else _take_lags(relative, shapes, operands),
        operands=operands,
        shapes=shapes,
        scale=check_scale(scale, shapes.width),
        shift=shift,
        window=window,
        workers=resolve_workers(workers),
        check_finite=check_finite,
        dtype=dtype,
        compute=compute,
    )


def _take_mask(mask: Any, shapes: Shapes, operands: dict[str, Operand]) -> NDArray[np.bool_]:
    operand = take("mask", mask)
    if operand.dtype != "bool":
        raise TypeError(
            f"`mask` must be boolean (True = seen), got dtype {operand.dtype}: what is added to "
            "the logits goes in `bias`"
        )
    operands["mask"] = operand
    return _over_logits(operand, operand.array, shapes)


def _take_bias(bias: Any, shapes: Shapes, operands: dict[str, Operand]) -> NDArray[Any]:
    operand = take("bias", bias)
    if operand.dtype == "bool":
        raise TypeError(
            "`bias` must be numbers to add to the logits, got dtype bool: which keys are seen goes "
            "in `mask`"
        )
    operands["bias"] = operand
    array = laid_out(operand, np.dtype(np.float64), any_strides=True)
    return _over_logits(operand, array, shapes)


def _take_lags(bias: Bias, shapes: Shapes, operands: dict[str, Operand]) -> NDArray[np.float64]:
    lags = bias.lags(shapes.queries, shapes.keys)
    if len(lags) not in (1, shapes.heads):
        raise ValueError(
            f"`bias` has parameters for {len(lags)} heads, but `query` has H = {shapes.heads}: one for "
            f"all or H are required, got {bias!r}"
        )
    operands["bias"] = bias.operand
    return np.broadcast_to(lags, (*shapes.batch, shapes.heads, lags.shape[1]))


def _over_logits(operand: Operand, array: NDArray[Any], shapes: Shapes) -> NDArray[Any]:
    wanted = (*shapes.lead, shapes.queries, shapes.keys)
    try:
        array = expand(array, wanted)
    except ValueError:
        raise ValueError(
            f"`{operand.name}` must broadcast to (..., L, S) = {wanted}, got {operand.shape}"
        ) from None
    return array if shapes.lead else array[np.newaxis]


def _no_work() -> Stats:
    return {"flops": 0, "tiles": 0, "bytes_read": 0, "tasks": 0}


def added(a: Stats, b: Stats) -> Stats:
    """Sum the counts of two passes."""
    return {name: a.get(name, 0) + b.get(name, 0) for name in {**a, **b}}
