"""Softmax from all keys, or a polynomial by Toeplitz products: what a head is computed with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .._exponential import minimax, minimax_of_degree
from .._plan import HeadPlan
from .._tables.enclosure import LARGEST_BOUND
from ..theory._relative import relative_flops, term_count, term_flops
from .arguments import Relative
from .head import Floats, RelativeHead

__all__ = ["Choice", "choose"]

# Share of a budget that a polynomial may take; the rest is for rounding.
_SHARE = 0.95
# How much longer an operation of the transforms takes than one of the kernel over all keys: 2 to 3 times
# where there are many terms, 5 times for one entry of the support (`bench_toeplitz_attention`).
_SLOWER = 5.0


@dataclass(frozen=True, slots=True)
class Choice:
    """What is done with a head, and the numbers it was decided from."""

    coefficients: Floats | None
    """None: softmax from all keys."""
    share: float
    """Bound on the error of a row over the spread, rounding apart; 0 where a polynomial is the definition."""
    flops: float
    exact_flops: float
    plan: HeadPlan


def choose(call: Relative, head: RelativeHead, *, gradient: bool) -> Choice:
    """Choose for one head; with `gradient` polynomials are close to exp with their derivatives."""
    if call.coefficients is not None:
        return _by_polynomial(call, head, call.coefficients, 0.0, "given")
    if call.degree is not None:
        _require_bound(head)
        c, error = minimax_of_degree(head.bound, call.degree, both=gradient)
        return _by_polynomial(call, head, np.array(c), _share(error), "minimax")
    if call.eps is None:
        return _exact(call, head, "no polynomial asked for")
    if not head.bound <= LARGEST_BOUND:
        return _exact(
            call,
            head,
            f"logits up to {head.bound:.3g}, polynomials are tabulated to {LARGEST_BOUND:g}",
        )
    for c, error in minimax(head.bound, both=gradient):
        if _share(error) <= _SHARE * call.eps:
            found = _by_polynomial(call, head, np.array(c), _share(error), "minimax")
            if _SLOWER * found.flops < found.exact_flops:
                return found
            degree = len(c) - 1
            return _exact(
                call,
                head,
                f"logits up to {head.bound:.3g} take degree {degree}, that is C({head.entries} + {degree}, "
                f"{degree}) = {found.plan.features} Toeplitz terms: {found.flops:.3g} operations of "
                f"transforms, each as dear as {_SLOWER:g} of the {found.exact_flops:.3g} for all keys",
            )
    return _exact(call, head, f"no tabulated degree reaches eps for logits up to {head.bound:.3g}")


def _share(error: float) -> float:
    # Weights within a factor of 1 + error of exact ones move their mean by no more.
    return error / (1.0 - error) if error < 1.0 else math.inf


def _require_bound(head: RelativeHead) -> None:
    if not head.bound <= LARGEST_BOUND:
        raise ValueError(
            f"`degree` needs logits bounded by {LARGEST_BOUND:g}, got |scale| times the sum of "
            f"|q_a| max|W_ab| max|k_b| = {head.bound:.4g}: without `degree` any are taken"
        )


def _by_polynomial(
    call: Relative, head: RelativeHead, coefficients: Floats, share: float, kind: str
) -> Choice:
    degree = len(coefficients) - 1
    terms = term_count(head.entries, degree)
    columns = head.value.shape[1] + 1
    flops = terms * term_flops(max(head.weights.shape[1], 1), columns)
    plan = HeadPlan(
        method="polynomial",
        centres="none",
        degrees=((degree, head.queries),),
        tables=((kind, head.bound),),
        features=terms,
        exact_rows=0,
        exact_keys=0,
        largest_logit=head.bound,
        bound=share,
        flops=flops,
        reason="",
        coefficients=(tuple(float(c) for c in coefficients),),
    )
    return Choice(coefficients, share, flops, _exact_flops(head), plan)


def _exact(call: Relative, head: RelativeHead, reason: str) -> Choice:
    flops = _exact_flops(head)
    plan = HeadPlan(
        method="exact",
        centres="none",
        degrees=(),
        tables=(),
        features=0,
        exact_rows=head.queries,
        exact_keys=0,
        largest_logit=head.bound,
        bound=0.0,
        flops=flops,
        reason=reason,
    )
    return Choice(None, 0.0, flops, flops, plan)


def _exact_flops(head: RelativeHead) -> float:
    return relative_flops(int(head.seen.sum()), head.entries, head.value.shape[1])
