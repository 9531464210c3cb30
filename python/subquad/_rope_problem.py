"""Problems of attention whose queries and keys are turned, and what the rounding of that does to rows.

Let a computed turned row be off by ``e(x) = rho |x| + eta``, eta for what underflows. Then a logit is off by
at most ``t = |scale| (|q| e(k) + e(q) |k| + e(q) e(k))``, norms those of exact turned rows, which computed
ones bound: ``|x| <= (|x'| + eta) / (1 - rho)``. Weights are wrong by factors ``exp(d)``, ``|d| <= t``, and with
``x = exp(t) - 1`` the weighted mean of values moves by at most ``x / (1 - x) sum_j p_j |v_j - out|``, hence
``2 R x / (1 - x)``, R the spread of the values; never by more than ``2 R``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Operand
from ._errors import AccuracyWarning, CertificateError
from ._forward import Forward, make_info
from ._info import Info
from ._layout import expand, laid_out
from ._norms import matrix, row_norms
from ._options import check_budget
from ._plan import Plan
from ._problem import Problem, Stats
from ._rope import Turning, place, refuse_turned, room, take_positions, turn

__all__ = ["Turned", "places", "turn_problem"]

Floats = NDArray[np.float64]

# Four units of the last place, and what turns are off by in float64 (rotation.rs and turns.rs).
_ROUNDING = {"float32": 2.0**-22 + 2.0**-49, "float64": 20 * 2.0**-53}

# Of the budget, what rotation may take before it is done in float64.
_SHARE = 0.25

# Room for the rounding of norms and of a spread.
_UP = 1.0 + 1e-6


@dataclass(slots=True)
class Turned:
    """A problem of attention over turned queries and keys."""

    plain: Problem
    """With queries and keys as given."""
    problem: Problem
    """With turned ones, in the type that logits are computed in."""
    turning: Turning
    where: dict[str, Floats]
    """Positions of the rows of queries and keys."""
    moved: Floats | None = None
    """What the rounding of rotation moves rows by at most, over 2 R, in the shapes used inside."""
    budget: float | None = None

    def measure(self, eps: Any, plan: Any, *, asked: bool) -> None:
        """Bound what rotation does to rows where that matters, in float64 if it is too much else."""
        self.budget = plan.eps if isinstance(plan, Plan) else check_budget(eps)
        if self.budget is None and not asked:
            return
        self.moved = _moved(self.problem)
        if self._takes_too_much() and self.plain.compute == np.float32:
            self.problem = _turned(self.plain, self.turning, self.where, np.dtype(np.float64))
            self.moved = _moved(self.problem)

    def _worst(self) -> float:
        return 0.0 if self.moved is None else 2.0 * _UP * float(self.moved.max(initial=0.0))

    def _takes_too_much(self) -> bool:
        return self.budget is not None and self._worst() > _SHARE * self.budget

    def left(self, eps: Any) -> Any:
        """Return what rotation leaves of a budget."""
        if self.moved is None or self.budget is None:
            return eps
        return self.budget - min(self._worst(), _SHARE * self.budget)

    def within(self, plan: Plan | None, fallback: str) -> Plan | None:
        """Return a plan that has what is left; do what the caller wants where that is too little."""
        if plan is None or self.moved is None or self.budget is None:
            return plan
        if self._takes_too_much():
            message = (
                f"rotation alone may move rows by {self._worst():.2g} of the spread even in float64, "
                f"of eps = {self.budget:g}"
            )
            if fallback == "raise":
                raise CertificateError(message, replace(plan, eps=self.budget))
            if fallback == "warn":
                # Two frames up: the public function, its caller.
                warnings.warn(message, AccuracyWarning, stacklevel=3)
        return replace(plan, eps=self.left(None))

    def report(self, plan: Plan, forward: Forward, stats: Stats | None = None) -> Info:
        """Report a forward pass, rotation included."""
        if forward.certificate is not None and self.moved is not None:
            spread = _not_below(forward.certificate.spread, self.problem)
            with np.errstate(over="ignore", invalid="ignore"):
                np.add(
                    forward.certificate.bound,
                    2.0 * spread[..., np.newaxis] * self.moved,
                    out=forward.certificate.bound,
                )
        info = make_info(self.problem, replace(plan, eps=self.budget), forward, stats)
        if self.moved is None:
            return info
        turned = f"rotation moves rows by at most {self._worst():.1e} of the spread"
        if self.problem.compute != self.plain.compute:
            turned += " and was done in float64, as were logits"
        if self._takes_too_much():
            turned += ", too much of eps"
        return replace(info, reason=f"{info.reason}; {turned}")

    def back(self, name: str, grad: NDArray[Any]) -> NDArray[Any]:
        """Turn a gradient of turned rows into that of the rows given: the transpose of rotation."""
        to = room(grad.shape, grad.dtype)
        factor = self.turning.spectrum.factor
        workers = self.problem.workers
        turn(grad, self.where[name], self.turning, to, factor=factor, inverse=True, workers=workers)
        return to


def turn_problem(plain: Problem, turning: Turning, positions: Any, key_positions: Any) -> Turned:
    """Check positions and turn queries and keys."""
    where = places(plain, positions, key_positions)
    return Turned(plain, _turned(plain, turning, where, plain.compute), turning, where)


def places(plain: Problem, positions: Any, key_positions: Any) -> dict[str, Floats]:
    """Return positions of the rows of queries and keys, checked."""
    shapes, query, key = plain.shapes, plain.operands["query"], plain.operands["key"]
    given = {
        name: None if array is None else take_positions(name, array)
        for name, array in (("positions", positions), ("key_positions", key_positions))
    }
    of_query, of_key = given["positions"], given["key_positions"]
    if (of_query is None) != (of_key is None):
        if shapes.queries != shapes.keys:
            raise ValueError(
                "`positions` and `key_positions` must be given together where L != S, got one of "
                f"them with L = {shapes.queries} and S = {shapes.keys}"
            )
        of_query, of_key = of_query or of_key, of_key or of_query
    # Where `is_causal` puts the first query.
    start = plain.shift or 0
    return {
        "query": place("positions", of_query, query, start),
        "key": place("key_positions", of_key, key),
    }


def _turned(
    plain: Problem, turning: Turning, where: dict[str, Floats], compute: np.dtype[Any]
) -> Problem:
    operands = dict(plain.operands)
    for name in ("query", "key"):
        operands[name] = _turned_operand(plain, operands[name], turning, where[name], compute)
    return replace(
        plain,
        operands=operands,
        query=expand(operands["query"].array, plain.shapes.query),
        key=expand(operands["key"].array, plain.shapes.key),
        compute=compute,
    )


def _turned_operand(
    plain: Problem, operand: Operand, turning: Turning, where: Floats, compute: np.dtype[Any]
) -> Operand:
    array = laid_out(operand, compute)
    # What is repeated along an axis, positions included, is turned once.
    strides = zip(array.strides[:-1], where.strides, strict=True)
    once = tuple(slice(0, 1) if a == b == 0 else slice(None) for a, b in strides)
    array, where = array[once], where[once]
    out = room(array.shape, compute)
    finite = turn(
        array,
        where,
        turning,
        out,
        factor=turning.spectrum.factor,
        inverse=False,
        workers=plain.workers,
    )
    if not finite and plain.check_finite:
        refuse_turned(operand, compute)
    return Operand(operand.name, expand(out, operand.shape), compute.name, operand.give_back)


def _moved(problem: Problem) -> Floats:
    """Bound what the rounding of rotation moves rows of the output by, over 2 R."""
    shapes, rho = problem.shapes, _ROUNDING[problem.compute.name]
    tiny = 3.0 * float(np.finfo(problem.compute).smallest_subnormal) * np.sqrt(shapes.width)

    with np.errstate(over="ignore", invalid="ignore"):
        query, key = (
            _UP * (_norms(problem, name) + tiny) / (1.0 - rho) for name in ("query", "key")
        )
        key = key.max(axis=-1, initial=0.0)
        key = np.repeat(key, shapes.heads // max(1, shapes.kv_heads), axis=-1)[..., np.newaxis]
        of_query, of_key = rho * query + tiny, rho * key + tiny
        off = abs(problem.scale) * (query * of_key + of_query * key + of_query * of_key)
        wrong = np.expm1(np.minimum(off, 1.0))
        moved = wrong / (1.0 - np.minimum(wrong, 0.5))
    return np.where(wrong < 0.5, moved, 1.0)


def _not_below(spread: Floats, problem: Problem) -> Floats:
    """Return a spread without what a mean in float64 may have taken off it."""
    with np.errstate(over="ignore", invalid="ignore"):
        most = _norms(problem, "value").max(axis=-1, initial=0.0)
        most = np.repeat(most, problem.shapes.heads // max(1, problem.shapes.kv_heads), axis=-1)
        return _UP * (spread + 2.0**-51 * (problem.shapes.keys + 8) * most)


def _norms(problem: Problem, name: str) -> Floats:
    """Norms of the rows of an argument in the shape used inside; repeated ones are taken once."""
    array: NDArray[Any] = getattr(problem, name)
    some = array[tuple(slice(None) if step else slice(0, 1) for step in array.strides[:-1])]
    rows = matrix(some)
    found = row_norms(lambda block: problem.widened(name, rows[block]), *rows.shape)
    return np.broadcast_to(found.reshape(some.shape[:-1]), array.shape[:-1])
