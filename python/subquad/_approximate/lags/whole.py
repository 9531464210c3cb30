"""All pairs by Toeplitz products: one for each monomial and each column of the values.

The weight of a pair is ``tau(i - j) omega_j sum over m of f_m phi_m(x_i) phi_m(y_j)``, so that numerators are
sums of rescaled Toeplitz products (arXiv:2505.11892), by FFT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _subquad
from ..._problem import Stats
from ...theory.toeplitz import convolution_flops, product_error
from ..head import UP, Floats
from .division import Far, LagDivision, Sides, sides_of, units_of, values_of
from .routes import Blocks

__all__ = ["Whole", "whole_backward", "whole_forward", "whole_noise"]


@dataclass(frozen=True, slots=True)
class Whole:
    """No block is near: all pairs are in the products."""

    blocks: Blocks
    top: float
    features: int
    name = "Toeplitz products by FFT"
    reach = -1
    functions = 1
    growth = 1.0
    error = 2.0**-50

    @property
    def steps(self) -> int:
        """One for every feature, one by one."""
        return self.features + 8

    def spread(self, numbers: Floats, of_lags: Floats) -> None:
        """Every lag has its own."""
        of_lags += numbers


def features(x: NDArray[Any], degree: int) -> NDArray[Any]:
    """Return monomials, a row for each, in the order of `subquad.polynomial.features`."""
    x = np.ascontiguousarray(x.T)
    width, tokens = x.shape
    found = np.empty((math.comb(width + degree, degree), tokens), x.dtype)
    found[0] = 1
    for at, l, before in _steps(width, degree):
        np.multiply(x[l], found[before], out=found[at])
    return found


def pull_features(
    x: NDArray[Any], degree: int, found: NDArray[Any], grad: NDArray[Any]
) -> NDArray[Any]:
    """Return the gradient of x given that of its monomials, which is used up."""
    of_x = np.zeros((x.shape[1], x.shape[0]), x.dtype)
    columns = np.ascontiguousarray(x.T)
    for at, l, before in reversed(list(_steps(x.shape[1], degree))):
        of_x[l] += np.einsum("mt,mt->t", grad[at], found[before])
        grad[before] += columns[l] * grad[at]
    return np.ascontiguousarray(of_x.T)


def _steps(width: int, degree: int) -> list[tuple[slice, int, slice]]:
    """Rows that are a coordinate times earlier ones: where they are, which, and where those are.

    Monomials of a degree that begin with coordinate l are l times those of the degree below that begin
    with l or later.
    """
    steps = []
    start, before = 1, 0
    for t in range(1, degree + 1):
        count = math.comb(width + t - 2, t - 1) if t > 1 else 1
        at = start
        for l in range(width):
            left = math.comb(width - l + t - 2, t - 1)
            steps.append((slice(at, at + left), l, slice(before + count - left, before + count)))
            at += left
        before, start = start, at
    return steps


def _tau(division: LagDivision) -> NDArray[Any]:
    """Weights of lags; hidden ones are zero."""
    route = division.route
    exponents = division.lags - route.top
    if route.blocks.is_causal:
        # What is hidden may be any number above the largest that is not.
        exponents[: route.blocks.keys - 1] = -np.inf
    tau = np.exp(exponents)
    return tau.astype(division.measures.centred.head.value.dtype)[np.newaxis]


def _terms(division: LagDivision, sides: Sides) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return monomials of queries, those of keys times masses, both times factors, and values with ones."""
    centred, p = division.measures.centred, division.p
    kind = centred.head.value.dtype
    left, right = features(sides.x, p.degree), features(sides.y, p.degree)
    of_left, of_right = _factors(division, sides.scale)
    left *= of_left[:, np.newaxis].astype(kind)
    right *= of_right[:, np.newaxis].astype(kind)
    right *= centred.masses.astype(kind)
    ones = np.ones((len(centred.y), 1), kind)
    values = values_of(centred) / kind.type(_unit(division))
    return left, right, np.concatenate([values, ones], axis=1)


def _unit(division: LagDivision) -> float:
    """Return a power of two that is not below any value: columns of the same size round alike."""
    reach = division.measures.reach
    return 2.0 ** math.ceil(math.log2(reach)) if reach > 0.0 else 1.0


def _factors(division: LagDivision, scale: float) -> tuple[Floats, Floats]:
    """Return the factors of the monomials of queries and of keys: their products' roots, with the sign."""
    centred, p = division.measures.centred, division.p
    width = centred.x.shape[1]
    degrees = np.repeat(
        np.arange(p.degree + 1), [math.comb(width + t - 1, t) for t in range(p.degree + 1)]
    )
    multinomials = _subquad.polynomial_weights(width, p.degree)
    factors: Floats = (p.c * scale ** np.arange(p.degree + 1))[degrees] * multinomials
    root: Floats = np.sqrt(np.abs(factors))
    return np.sign(factors) * root, root


def whole_forward(division: LagDivision) -> Far:
    """Compute numerators and sums of weights of all pairs."""
    left, right, columns = _terms(division, sides_of(division))
    rows = np.zeros((left.shape[1], columns.shape[1]), columns.dtype)
    workers = division.measures.centred.head.workers
    _subquad.rescaled_toeplitz(_tau(division), left, right, columns, rows, workers=workers)
    numerators = rows[:, :-1] * columns.dtype.type(_unit(division))
    return Far(numerators, np.ascontiguousarray(rows[:, -1]), _counts(division, 1))


def whole_backward(
    division: LagDivision,
    exact: NDArray[np.bool_],
    of_rows: NDArray[Any],
    of_masses: NDArray[Any],
) -> tuple[dict[str, NDArray[Any]], Floats, Stats]:
    """Return gradients as `far_backward`; those of the bias for every lag."""
    centred, p = division.measures.centred, division.p
    sides = sides_of(division, exact)
    left, right, columns = _terms(division, sides)
    tau = _tau(division)
    unit = columns.dtype.type(_unit(division))
    of_left, of_right, of_columns, of_tau = (
        np.zeros(x.shape, columns.dtype) for x in (left, right, columns, tau)
    )
    _subquad.rescaled_toeplitz_grad(
        tau,
        left,
        right,
        columns,
        np.concatenate([of_rows * unit, of_masses[:, np.newaxis]], axis=1),
        of_left,
        of_right,
        of_columns,
        of_tau,
        workers=centred.head.workers,
    )
    grads = {"value": of_columns[:, :-1] / unit}
    grads["mass"] = np.einsum("mt,mt->t", of_right, right).astype(np.float64)
    grads["factor"] = np.einsum("mt,mt->t", of_left, left).astype(np.float64)
    # The first monomial is one, so that factors can be taken out of the others.
    for_left, for_right = (
        x[:, np.newaxis].astype(left.dtype) for x in _factors(division, sides.scale)
    )
    of_left *= for_left
    of_right *= for_right
    of_right *= centred.masses.astype(left.dtype)
    both = (("query", sides.x, of_left), ("key", sides.y, of_right))
    for (name, rows, grad), to in zip(both, sides.units, strict=True):
        monomials = features(rows, p.degree)
        grads[name] = pull_features(rows, p.degree, monomials, grad) * left.dtype.type(to)
    return grads, of_tau[0].astype(np.float64) * tau[0], _counts(division, 2)


def _counts(division: LagDivision, products: int) -> Stats:
    """Count operations of so many products for every term."""
    assert isinstance(division.route, Whole)
    columns = division.measures.centred.head.value.shape[1] + 1
    once = convolution_flops(len(division.lags), columns)
    return {"flops": int(products * division.route.features * once)}


def whole_noise(division: LagDivision) -> Floats:
    """Bound what the rounding of the transforms does to sums of weights; numerators over the reach too.

    Two terms or columns go through a transform together, and what is bounded for one is bounded by the norm of
    both. So the terms' left sides meet right sides of others: by Cauchy and Schwarz the bound is the product of
    the roots of the sums of the squares of both, twice those of the right sides. The factors of the terms are
    half on either side, so that these sums are polynomials.
    """
    measures, lags, route, p = division.measures, division.lags, division.route, division.p
    centred = measures.centred
    unit = float(np.finfo(centred.head.value.dtype).eps) / 2.0
    visible = lags[route.blocks.keys - 1 :] if route.blocks.is_causal else lags
    size = float(np.sqrt(np.exp(2.0 * (visible - route.top)).sum()))
    x, y = measures.lengths
    to_x, to_y, scale = units_of(division)
    of_x, of_y = p.size(abs(scale) * (x * to_x) ** 2), p.size(abs(scale) * (y * to_y) ** 2)
    total = float(np.sqrt((centred.masses**2 * of_y).sum()))
    noise: Floats = UP * 2.0 * product_error(len(lags)) * unit * size * total * np.sqrt(of_x)
    return noise
