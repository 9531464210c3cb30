"""Attention over disjoint sets of keys, put together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, Operand, result_dtype, stored, take, wide
from ._finite import require_finite

__all__ = ["merge", "take_parts"]


def merge(outs: Iterable[Array], lses: Iterable[Array]) -> tuple[Any, Any]:
    """Combine attention over disjoint sets of keys into attention over their union.

    Parameters
    ----------
    outs : sequence of array_like, shape (..., L, Ev)
        Outputs of ``attention(..., return_lse=True)`` for the same queries, one per set of keys.
    lses : sequence of array_like, shape (..., L)
        The log-sum-exps that came with them.

    Returns
    -------
    out : array, shape (..., L, Ev)
        Of the kind of ``outs[0]``, in the common dtype of `outs`.
    lse : array, shape (..., L)
        In the common dtype of `lses`, float32 at least.

    Raises
    ------
    ValueError
        If there is no part, the numbers of parts or the shapes differ, or a number is not finite
        (``-inf`` in `lses` aside, which says that no key was seen).
    TypeError
        If a part is not an array of real numbers.

    Notes
    -----
    Sums in float64, in the order given. A query that sees no key in any part gives zeros and
    ``-inf``.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = rng.standard_normal((3, 2, 10, 4))
    >>> parts = [
    ...     subquad.attention(q, k[:, s], v[:, s], return_lse=True)
    ...     for s in (slice(0, 7), slice(7, 10))
    ... ]
    >>> out, lse = subquad.merge(*zip(*parts))
    >>> np.allclose(out, subquad.attention(q, k, v))
    True
    """
    parts, logs = take_parts(outs, lses)
    heights = np.stack([wide(log.array, log.dtype).astype(np.float64) for log in logs])
    top = heights.max(axis=0)
    # Rows that no part has seen keep weight 0; the subtraction below must not meet inf - inf.
    seen = top > -np.inf
    weights = np.exp(heights - np.where(seen, top, 0.0))
    total = weights.sum(axis=0)
    mean: NDArray[np.float64] = np.zeros(parts[0].shape)
    for part, weight in zip(parts, weights, strict=True):
        share = np.divide(weight, total, out=np.zeros_like(total), where=seen)
        mean += share[..., np.newaxis] * wide(part.array, part.dtype)
    lse = np.full(total.shape, -np.inf)
    lse[seen] = top[seen] + np.log(total[seen])
    dtype = result_dtype(*(part.dtype for part in parts))
    log_dtype = result_dtype(*(log.dtype for log in logs))
    log_dtype = "float64" if log_dtype == "float64" else "float32"
    give_back = parts[0].give_back
    return give_back(stored(mean, dtype), dtype), give_back(stored(lse, log_dtype), log_dtype)


def take_parts(outs: Iterable[Array], lses: Iterable[Array]) -> tuple[list[Operand], list[Operand]]:
    """Return the arrays of both sequences, checked."""
    parts = [take(f"outs[{i}]", x) for i, x in enumerate(outs)]
    logs = [take(f"lses[{i}]", x) for i, x in enumerate(lses)]
    if not parts or len(parts) != len(logs):
        raise ValueError(
            "`outs` and `lses` must hold one array per part and at least one part, got "
            f"{len(parts)} and {len(logs)}"
        )
    shape = parts[0].shape
    if len(shape) < 2:
        raise ValueError(f"`outs[0]` must have shape (..., L, Ev), got {shape}")
    for part, log in zip(parts, logs, strict=True):
        if part.shape != shape:
            raise ValueError(
                f"`{part.name}` must have the shape of `outs[0]`, {shape}, got {part.shape}"
            )
        if log.shape != shape[:-1]:
            raise ValueError(
                f"`{log.name}` must have shape (..., L) = {shape[:-1]}, got {log.shape}"
            )
        require_finite(part)
        require_finite(log)
    return parts, logs
