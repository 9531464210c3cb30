"""Softmax attention by polynomials: problems for the tests, and what every answer must satisfy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from strategies import ROUNDOFF, spread_of

import subquad
from subquad._approximate.division import Division
from subquad._approximate.planning import redo
from subquad._planner import settle
from subquad._problem import Problem, prepare

Array = NDArray[Any]
Arrays = tuple[Array, Array, Array]
UNIT = ROUNDOFF | {"bfloat16": 2.0**-8}
# What the definition takes too.
OF_THE_DEFINITION = ("is_causal", "scale", "enable_gqa")


@dataclass(frozen=True)
class Answer:
    """One call by polynomials, and the definition in float64."""

    out: Any
    lse: Any
    info: subquad.Info
    exact: NDArray[np.float64]
    exact_lse: NDArray[np.float64]

    @property
    def error(self) -> NDArray[np.float64]:
        """Euclidean distance of every row from the exact one."""
        found: NDArray[np.float64] = np.linalg.norm(wide(self.out) - self.exact, axis=-1)
        return found


def wide(array: Any) -> NDArray[np.float64]:
    """Any array in float64, exactly; torch tensors too."""
    if not isinstance(array, np.ndarray) and hasattr(array, "double"):
        array = array.double().numpy()
    return np.asarray(array).astype(np.float64)


def problem(*lead: int, sizes: tuple[int, ...], size: float = 0.1, seed: int = 0) -> Arrays:
    """Draw queries, keys and values for sizes (L, S, E, Ev), with logits of about `size` squares."""
    queries, keys, width, columns = sizes
    rng = np.random.default_rng(seed)
    q = size * rng.standard_normal((*lead, queries, width))
    k = rng.standard_normal((*lead, keys, width))
    return q, k, rng.standard_normal((*lead, keys, columns))


def cast(arrays: Arrays, dtype: str) -> Arrays:
    q, k, v = (a.astype(dtype) for a in arrays)
    return q, k, v


def attend(arrays: Any, eps: float, **options: Any) -> Answer:
    """Attend by polynomials, and by the definition."""
    settings = {"method": "polynomial", "return_lse": True, "return_info": True, **options}
    out, lse, info = subquad.attention(*arrays, eps=eps, **settings)
    given: dict[str, Any] = {n: options[n] for n in OF_THE_DEFINITION if n in options}
    q, k, v = map(wide, arrays)
    exact, exact_lse = subquad.reference.attention(q, k, v, **given, return_lse=True)
    return Answer(out, lse, info, exact, exact_lse)


def slack_of(arrays: Any, scale: float | None) -> float:
    """Bound how far the definition in float64 is off by itself."""
    q, k, v = map(wide, arrays)
    if q.size == 0 or k.size == 0:
        return 0.0
    longest = [np.linalg.norm(a, axis=-1).max() for a in (q, k)]
    logit = abs(scale or q.shape[-1] ** -0.5) * longest[0] * longest[1]
    return float(2.0**-49 * (4.0 + logit) * np.linalg.norm(v, axis=-1).max(initial=0.0))


def assert_certified(arrays: Any, answer: Answer, eps: float, scale: float | None = None) -> None:
    """Hold an answer against its own bounds and the budget, and its report against the arrays."""
    info, exact, slack = answer.info, answer.exact, slack_of(arrays, scale)
    bound, spread, relative = info.error_bound, info.spread, info.relative_bound
    assert bound is not None
    assert spread is not None
    assert relative is not None
    assert bound.shape == relative.shape == exact.shape[:-1]
    assert spread.shape == exact.shape[:-2]
    assert np.isfinite(bound).all()
    assert np.all(answer.error <= bound + slack), (answer.error - bound).max()

    v = wide(arrays[2])
    dtype = info.plan.workload.dtype
    heads = exact.shape[-3] if exact.ndim > 2 else 1
    repeats = heads // v.shape[-3] if v.ndim > 2 and v.shape[-3] > 1 else 1
    own = np.repeat(v, repeats, axis=-3) if repeats > 1 else v
    expected = np.broadcast_to(spread_of(own), spread.shape)
    largest = np.linalg.norm(v, axis=-1).max(initial=0.0)
    np.testing.assert_allclose(spread, expected, rtol=1e-5, atol=2.0**-48 * largest)
    unit, sizes = UNIT[dtype], np.linalg.norm(wide(answer.out), axis=-1)
    budget = eps * expected[..., np.newaxis] + 2.0 * unit * sizes
    if "kept" not in info.reason:
        assert np.all(bound <= budget * (1.0 + 1e-6) + slack)
    # No row is further from another than two values are, up to rounding.
    rounding = max(8.0 * unit, 2.0**-42) * largest + np.finfo(np.float32).tiny
    most = 2.0001 * expected[..., np.newaxis] + rounding
    assert np.all(bound <= most)

    away = np.linalg.norm(wide(answer.out) - own.mean(axis=-2, keepdims=True), axis=-1)
    clear = away > 1e3 * unit * largest
    np.testing.assert_allclose(relative[clear], bound[clear] / away[clear], rtol=2e-2)
    assert_consistent(info, exact.shape, eps)


def assert_consistent(info: subquad.Info, shape: tuple[int, ...], eps: float) -> None:
    """Compare the parts of a report with each other."""
    plan = info.plan
    assert plan.eps == eps
    assert info.method == plan.method
    assert info.reason.startswith(plan.reason)
    assert info.grad_bound is None
    chosen = [head for head in plan.heads if head.method == "polynomial"]
    assert (info.method == "polynomial") == bool(chosen)
    if not chosen:
        assert "quadratic" in plan.reason
        return
    assert len(plan.heads) == int(np.prod(shape[:-2]))
    assert f"{len(chosen)} of {len(plan.heads)} heads" in plan.reason
    assert info.stats["degree"] == max(degree for head in chosen for degree, _ in head.degrees)
    assert info.stats["rank"] == max(head.features for head in chosen)
    left = shape[-2] * len(plan.heads)
    assert 0 <= info.stats["rows_recomputed"] <= 2 * left
    for head in chosen:
        assert head.reason == ""
        assert sum(rows for _, rows in head.degrees) + head.exact_rows == shape[-2]
        assert plan.workload.certificate == "statistical" or 0.0 <= head.bound <= eps
        assert head.flops > 0


def division_of(arrays: Any, eps: float, index: tuple[int, ...] = (0,), **options: Any) -> Division:
    """Return what a call does with one head: which polynomial answers which rows."""
    whole, plan = settled(arrays, eps, **options)
    number = list(np.ndindex(whole.shapes.out[:-2])).index(index)
    found = redo(whole, index, plan.heads[number], eps, gradient=plan.derivative)
    assert found is not None
    return found


def settled(arrays: Any, eps: float, **options: Any) -> tuple[Problem, subquad.Plan]:
    """Plan as a call does, and return the problem with what planning has kept."""
    settings = {"is_causal": False, "scale": None, "enable_gqa": False} | {
        name: options.pop(name) for name in OF_THE_DEFINITION if name in options
    }
    whole = prepare(
        *arrays, mask=None, bias=None, window=None, workers=None, check_finite=True, **settings
    )
    whole.memo |= {"certificate": options.pop("certificate", "deterministic"), "rng": None}
    plan = settle(whole, eps=eps, method="polynomial", given=None, **options)
    assert plan.method == "polynomial", plan.reason
    return whole, plan


__all__ = [
    "OF_THE_DEFINITION",
    "UNIT",
    "Answer",
    "Array",
    "Arrays",
    "assert_certified",
    "assert_consistent",
    "attend",
    "cast",
    "division_of",
    "problem",
    "settled",
    "slack_of",
    "wide",
]
