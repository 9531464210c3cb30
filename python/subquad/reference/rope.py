"""Rotary positions by their definition: a pair of coordinates is a complex number, and turned by one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays import Array, Operand, result_dtype, stored, take
from .._finite import require_finite
from .._layout import expand
from .._out import writeable_out
from .._plan import Plan
from .._planner import check_policy
from .._problem import Problem, prepare
from .._rope import check_turning, place, take_positions
from .._rope_problem import places
from .._rope_scaling import check_rotary_dim, check_theta, take_scaling
from .._threads import resolve_workers
from ._attention import attend, differentiate
from ._heads import Floats, numbers

__all__ = ["attention", "attention_grad", "rotate"]


def rotate(
    x: Array,
    *,
    theta: float = 1e4,
    layout: str = "half",
    rotary_dim: int | None = None,
    positions: Array | None = None,
    scaling: Mapping[str, Any] | None = None,
    inverse: bool = False,
    out: Array | None = None,
    workers: int | None = None,
) -> Any:
    """Turn rows by their positions; arguments as in `subquad.rope.rotate`."""
    operand = take("x", x)
    if len(operand.shape) < 2:
        raise ValueError(f"`x` must have shape (..., L, E), got {operand.shape}")
    check_turning(operand.shape[-1], theta, layout, rotary_dim, scaling)
    if not isinstance(inverse, bool | np.bool_):
        raise TypeError(f"`inverse` must be True or False, got {inverse!r}")
    resolve_workers(workers)
    given = None if positions is None else take_positions("positions", positions)
    where = place("positions", given, operand)
    target = None
    if out is not None:
        inputs = {"x": operand} if given is None else {"x": operand, "positions": given}
        dtype = result_dtype(operand.dtype)
        target = writeable_out(out, operand, dtype, operand.shape, "(..., L, E)", inputs)
    require_finite(operand)
    dim = check_rotary_dim(rotary_dim, operand.shape[-1])
    turns = _turns(where, dim, theta, scaling)
    result = _turned(numbers(operand), 1.0 / turns if inverse else turns, layout)
    if target is None:
        return result
    target[...] = stored(result, result_dtype(operand.dtype))
    return out


def attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    theta: float = 1e4,
    layout: str = "half",
    rotary_dim: int | None = None,
    positions: Array | None = None,
    key_positions: Array | None = None,
    scaling: Mapping[str, Any] | None = None,
    eps: float | None = None,
    is_causal: bool | str = False,
    window: int | None = None,
    mask: Array | None = None,
    bias: Array | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    method: str = "auto",
    certificate: str = "deterministic",
    fallback: str = "exact",
    centres: Any = "auto",
    plan: Plan | None = None,
    rng: Any = None,
    check_finite: bool = True,
    out: Array | None = None,
    workers: int | None = None,
    return_lse: bool = False,
    return_info: bool = False,
) -> Any:
    """Softmax attention of turned queries and keys; arguments as in `subquad.rope.attention`."""
    check_policy(certificate, fallback, rng)
    problem = prepare(
        query,
        key,
        value,
        mask=mask,
        bias=bias,
        is_causal=is_causal,
        window=window,
        scale=scale,
        enable_gqa=enable_gqa,
        workers=workers,
        check_finite=check_finite,
    )
    problem.memo |= {"certificate": certificate, "rng": rng}
    turns = _turns_of(problem, theta, layout, rotary_dim, scaling, positions, key_positions)
    return attend(
        _turned_problem(problem, turns, layout),
        eps=eps,
        method=method,
        centres=centres,
        plan=plan,
        out=out,
        return_lse=return_lse,
        return_info=return_info,
    )


def attention_grad(
    grad_out: Array,
    query: Array,
    key: Array,
    value: Array,
    *,
    forward: tuple[Array, Array] | None = None,
    wrt: Iterable[str] | None = None,
    theta: float = 1e4,
    layout: str = "half",
    rotary_dim: int | None = None,
    positions: Array | None = None,
    key_positions: Array | None = None,
    scaling: Mapping[str, Any] | None = None,
    eps: float | None = None,
    is_causal: bool | str = False,
    window: int | None = None,
    mask: Array | None = None,
    bias: Array | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    method: str = "auto",
    certificate: str = "deterministic",
    fallback: str = "exact",
    centres: Any = "auto",
    plan: Plan | None = None,
    rng: Any = None,
    check_finite: bool = True,
    workers: int | None = None,
    return_info: bool = False,
) -> Any:
    """Gradient with respect to rows before rotation; arguments as in `subquad.rope.attention_grad`."""
    check_policy(certificate, fallback, rng)
    problem = prepare(
        query,
        key,
        value,
        mask=mask,
        bias=bias,
        is_causal=is_causal,
        window=window,
        scale=scale,
        enable_gqa=enable_gqa,
        workers=workers,
        check_finite=check_finite,
    )
    problem.memo |= {"certificate": certificate, "rng": rng}
    turns = _turns_of(problem, theta, layout, rotary_dim, scaling, positions, key_positions)
    grads, info = differentiate(
        _turned_problem(problem, turns, layout),
        grad_out,
        forward=forward,
        wrt=wrt,
        eps=eps,
        method=method,
        centres=centres,
        plan=plan,
        return_info=True,
    )
    # The transpose of a multiplication with a complex number is one with its conjugate.
    back = {
        name: _turned(grad, np.conj(turns[name]), layout)
        for name in ("query", "key")
        if (grad := getattr(grads, name)) is not None
    }
    grads = replace(grads, **back)
    return (grads, info) if return_info else grads


def _turns_of(
    problem: Problem,
    theta: Any,
    layout: Any,
    rotary_dim: Any,
    scaling: Any,
    positions: Any,
    key_positions: Any,
) -> dict[str, NDArray[Any]]:
    width = problem.shapes.width
    check_turning(width, theta, layout, rotary_dim, scaling)
    dim = check_rotary_dim(rotary_dim, width)
    where = places(problem, positions, key_positions)
    return {name: _turns(rows, dim, theta, scaling) for name, rows in where.items()}


def _turned_problem(problem: Problem, turns: dict[str, NDArray[Any]], layout: str) -> Problem:
    operands, arrays = dict(problem.operands), dict[str, Any]()
    for name in ("query", "key"):
        if problem.check_finite:
            require_finite(operands[name])
        rows = _turned(numbers(operands[name]), turns[name], layout)
        operands[name] = Operand(name, rows, "float64", operands[name].give_back)
        arrays[name] = expand(rows.astype(problem.compute), getattr(problem.shapes, name))
    return replace(problem, operands=operands, **arrays)


def _turns(positions: Floats, dim: int, theta: Any, scaling: Any) -> NDArray[Any]:
    """Return a complex number for every position and pair: what it is multiplied with."""
    frequencies, factor = _frequencies(dim, check_theta(theta), scaling)
    # In more digits than float64 has, where numpy has them: angles may be large.
    angles = positions[..., np.newaxis].astype(np.longdouble) * frequencies
    turns: NDArray[np.complex128] = np.cos(angles) + 1j * np.sin(angles)
    return factor * turns.astype(np.complex128)


def _turned(x: Floats, turns: NDArray[Any], layout: str) -> Floats:
    result, dim = x.copy(), 2 * turns.shape[-1]
    half = dim // 2
    first, second = (slice(half), slice(half, dim))
    if layout == "interleaved":
        first, second = slice(0, dim, 2), slice(1, dim, 2)
    pairs = (x[..., first] + 1j * x[..., second]) * turns
    result[..., first], result[..., second] = pairs.real, pairs.imag
    return result


def _frequencies(dim: int, theta: float, scaling: Any) -> tuple[Floats, float]:
    kind, given = take_scaling(scaling, theta)
    factor = given.get("factor", 1.0)
    if kind == "ntk" and dim > 2:
        theta *= factor ** (dim / (dim - 2))
    plain = np.array([theta ** (-2 * i / dim) for i in range(dim // 2)])
    if kind == "linear":
        return plain / factor, 1.0
    if kind != "yarn":
        return plain, 1.0
    # How often a pair turns within the length of training falls with its number: at which number is it so much?
    trained = given["original_max_position_embeddings"]
    fast, slow = (
        dim * math.log(trained / (2 * math.pi * given.get(name, turns))) / (2 * math.log(theta))
        for name, turns in (("beta_fast", 32.0), ("beta_slow", 1.0))
    )
    if given.get("truncate", True):
        fast, slow = math.floor(fast), math.ceil(slow)
    fast, slow = max(fast, 0), min(slow, dim - 1)
    slow += 0.001 if slow == fast else 0
    mixed = plain.copy()
    for i, frequency in enumerate(plain):
        stretched = min(1.0, max(0.0, (i - fast) / (slow - fast)))
        mixed[i] = (1.0 - stretched) * frequency + stretched * frequency / factor
    ratio = [
        1.0 + 0.1 * given.get(name, 1.0) * math.log(factor) for name in ("mscale", "mscale_all_dim")
    ]
    both = given.get("mscale") and given.get("mscale_all_dim")
    default = ratio[0] / ratio[1] if both else 1.0 + 0.1 * math.log(factor)
    return mixed, float(given.get("attention_factor", default))
