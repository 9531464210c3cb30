r"""The most products that attention can do with U words at hand, from above.

Every function bounds T(U) of `_pebble_segments` for one of the sets of products of `_pebble_attention`.
Letters: a, b, g, e words of Q, K, V and of the gradient of O; f words of results; c, C words of pairs. A pair
(i, j) is **whole** if its row of Q and its row of K are at hand, so that its score can be computed afresh: there
are at most :math:`\omega = a b / d^2`.

What is left after the arguments there is a maximum over one number, s words of operands and results beside C =
U - s words of pairs. It is taken over cells of s, with the monotone terms at their worse ends, for U of a grid;
between its points, T grows at least like :math:`U^{3/2}` and at most like :math:`U^2`, as all terms do if all
words are multiplied by one number (:math:`\sqrt{a b c}` like the former, :math:`\sqrt{\omega f g}`
like the latter). And :math:`T(U) = d^3 \tau(U / d^2)`, so that one table serves all d.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from ._pebble_segments import Floats, three_products

__all__ = ["at_hand_all", "at_hand_both", "at_hand_four", "at_hand_outputs", "at_hand_slopes"]

# Of s / U, and of U / d^2.
_CELLS = 1500
_RATIO = 1.03
_FIRST = 1e-4
_POINTS = 800

# Of s from above, and of U - s from below and from above, all over U; d is 1.
_Program = Callable[[Floats, Floats, Floats], Floats]


def at_hand_outputs(sizes: Floats, d: int) -> Floats:
    r"""Products of O = P V alone: :math:`\max\{(U/3)^{3/2}, U^2 / (16 d)\}`.

    At most :math:`\sqrt{(\omega + c) f g}`, with a + b + c + f + g = U. For y = a + b + c, :math:`\omega + c \le
    (y - c)^2 / (4 d^2) + c` is convex in c, so at most its values at the ends, :math:`y^2 / (4 d^2)` or y. As
    :math:`\sqrt{f g} \le (U - y) / 2`, it remains to maximise :math:`y (U - y) / (4 d)`, at y = U / 2, and
    :math:`\sqrt y (U - y) / 2`, at y = U / 3.
    """
    return np.maximum(three_products(sizes), sizes**2 / (16.0 * d))


def at_hand_both(sizes: Floats, d: int) -> Floats:
    r"""Products of S = Q K^T and O = P V together.

    At most :math:`\sqrt{a b c} + \sqrt{(\omega + c) f g}`. With :math:`\sqrt{\omega + c} \le \sqrt\omega + \sqrt c` it
    is at most :math:`\frac s 2 \sqrt C + \frac{s^2}{16 d}`, for :math:`a + b + f + g = s`; with
    :math:`\sqrt{\omega + c} \le \sqrt c + \omega / (2 \sqrt c)` the second term is at most
    :math:`a b \sqrt{f g} / (2 d^2 \sqrt C)`, and :math:`a b \sqrt{f g} \le s^3 / 54` (a = b = s / 3).
    """
    return _from_table("both", sizes, d)


def at_hand_slopes(sizes: Floats, d: int) -> Floats:
    r"""Products of the three results of the gradient, dV = P^T dO, dQ = dS K and dK = dS^T Q.

    C counts words of P, dP and dS alike, a' = min(a, e), b' = min(b, g). Pairs with dS at hand are C at most, and
    those whole twice, :math:`W = a' b' / d^2`; pairs with P at hand are :math:`\omega` and C. By Loomis and Whitney

    .. math:: T \le \sqrt{(\omega + C) e f_V} + \sqrt{(W + C) b f_Q} + \sqrt{(W + C) a f_K}.

    *First bound.* Products with whole pairs are at most :math:`\Phi / d`, :math:`\Phi = \min(f_V a, e b) + \min(f_Q,
    a') b' + \min(f_K, b') a'`: a word of dV meets at most a / d whole rows, and so on. All others are
    at most :math:`\sqrt C (\sqrt{e f_V} + \sqrt{b f_Q} + \sqrt{a f_K}) \le \sqrt C s / 2`. And :math:`16 \Phi \le s^2`:
    write :math:`q = \min(f_Q, a'), k = \min(f_K, b'), m = \min(f_V a, e b)` and v for f_V. With

    .. math:: s^2 / 4 \ge (a + e + q)(b + v + g + k) = (a + e)(b + v) + (a + e)(g + k) + q (b + v + g + k)

    it is enough that this is at least 4 (m + q b' + k a'). Always :math:`(a + e)(b + v) \ge 4 \sqrt{a e b v} \ge
    4 m`, :math:`(a + e)(g + k) - 4 a' k \ge |a - e| (g + k) + 2 a' (b' - k) \ge |a - e| (g + k) + 2 q (b' - k)` and
    :math:`q (b + v + g + k) \ge q (2 b' + v + k)`. So there is nothing to show if :math:`v \ge k`; else
    :math:`q (k - v)` is missing, and is in :math:`(a + e)(b + v) - 4 m`: if :math:`a \le e`, this is at least
    :math:`2 a (b + v) - 4 a v = 2 a (b - v)`; if a > e, with :math:`4 m \le 3 a v + e b`, at least :math:`a (b - v) -
    v (a - e)`, and :math:`v (a - e) \le (a - e)(g + k)`. Both suffice, as :math:`q \le a, k \le b`.

    *Second bound.* With R words of results, the Cauchy-Schwarz inequality makes T at most the root of
    :math:`R\,[(\omega + C) e + (W + C)(a + b)] \le R\,[\kappa s^3 / d^2 + C s]`, s now without the results. Here
    :math:`\kappa = 4 / 81`: if :math:`e \le a`, :math:`a b e + a' b' (a + b) \le e\,(a b + b' a + b' b) \le e
    (s - e)^2 / 3`, else it is at most :math:`a\,(b e + b' e + b' b) \le a (s - a)^2 / 3`. The maximum over C = U - s - R is
    at :math:`R = (U - s + \kappa s^2 / d^2) / 2`, or C = 0.
    """
    return _from_table("slopes", sizes, d)


def at_hand_four(sizes: Floats, d: int) -> Floats:
    r"""Products of dP = dO V^T, dV, dQ and dK.

    To the terms of `at_hand_slopes` comes :math:`\sqrt{c_p e g}`, for :math:`c_p` pairs of dP whose sum is open or
    started; of the :math:`C`, :math:`c_s` are of P. *First bound.* :math:`\sqrt{c_p e g} + \sqrt{c_s e f_V} \le
    \sqrt{c_p + c_s} \sqrt{e (g + f_V)}`, so that again words of pairs give at most :math:`\sqrt C s / 2`, and whole
    pairs :math:`s^2 / (16 d)`. *Second bound.* Likewise with :math:`C + \omega` and :math:`C + W` under the roots,
    which are at most :math:`\sqrt C + \omega / (2 \sqrt C)` and so on. It remains that :math:`\Xi = a b \sqrt{e (g + f_V)}
    + a' b' (\sqrt{b f_Q} + \sqrt{a f_K}) \le s^3 / 40`. Words of dV may as well be words of V, as :math:`\Xi`
    shows. With :math:`a' b' \le \sqrt{a e b g}`, 2 h = e + g, 2 m = a + b and F the other words, :math:`\Xi \le h m\,
    (m + \sqrt{2 m F})`. For F = z^2 m / 2 this is at most :math:`\frac{8}{27} \frac{1 + z}{(4 + z^2)^2} s^3`, with m and h
    at best, and z = 2/3 is best.
    """
    return _from_table("four", sizes, d)


def at_hand_all(sizes: Floats, d: int) -> Floats:
    r"""All five products of the gradient: dP and dV count 1, S, dQ and dK count :math:`\sqrt3 / 2`.

    With :math:`p_s = c_s + \omega`, :math:`p_p = c_p + e g / d^2` and :math:`\delta` words of dS, pairs with dS at
    hand are at most :math:`D = \delta + \min(p_s, p_p)`. Let :math:`\Sigma = p_s + p_p + \delta`. The terms of dP and dV are
    at most :math:`\sqrt{e (g + f_V) \Sigma}`. Those of S, dQ and dK, :math:`w (\sqrt{p_s} \sqrt{a b} + \sqrt D (\sqrt{b f_Q}
    + \sqrt{a f_K}))`, are at most :math:`\lambda (a + b + f_Q + f_K)` for :math:`4 \lambda = w (\sqrt{p_s} +
    \sqrt{p_s + 4 D})`: :math:`w \sqrt{D b f_Q} \le \lambda f_Q + w^2 D b / (4 \lambda)`, :math:`w \sqrt{p_s a b} \le w
    \sqrt{p_s} (a + b) / 2`, and the factors of b add up to :math:`\lambda`. As :math:`D \le \Sigma - p_s`, it is
    greatest for :math:`p_s = \Sigma / 3`: :math:`\lambda \le w \sqrt{\Sigma / 3} = \sqrt\Sigma / 2`. So :math:`T \le
    \frac s 2 \sqrt\Sigma`, and :math:`\Sigma \le C + (a b + e g) / d^2 \le C + s^2 / (4 d^2)`.
    """
    return _from_table("all", sizes, d)


def _added(s: Floats, _least: Floats, left: Floats) -> Floats:
    return s / 2.0 * np.sqrt(left) + s**2 / 16.0


def _corrected(share: float) -> _Program:
    """Take the lesser of both bounds; in the second, s^3 has half the factor `share`."""

    def program(s: Floats, least: Floats, left: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            second = s / 2.0 * np.sqrt(left) + s**3 * (share / 2.0) / np.sqrt(least)
        return np.minimum(_added(s, least, left), second)

    return program


def _by_roots(s: Floats, _least: Floats, left: Floats) -> Floats:
    whole = 4.0 / 81.0 * s**2
    inner = np.sqrt(s) * (left + whole) / 2.0
    return np.where(whole < left, inner, np.sqrt(s * whole * left))


def _all(s: Floats, _least: Floats, left: Floats) -> Floats:
    return np.asarray(s / 2.0 * np.sqrt(left + s**2 / 4.0))


# Each of the programs bounds the products; where their s are not the same, the least of their maxima does.
_PROGRAMS: dict[str, tuple[_Program, ...]] = {
    "both": (_corrected(1.0 / 54.0),),
    "slopes": (_added, _by_roots),
    "four": (_corrected(1.0 / 40.0),),
    "all": (_all,),
}


@cache
def _table(name: str) -> tuple[Floats, Floats]:
    """U / d^2, and the least of the maxima over s, from above."""
    points: Floats = _FIRST * _RATIO ** np.arange(_POINTS, dtype=np.float64)
    ends = np.linspace(0.0, 1.0, _CELLS + 1)
    s = points[:, None] * ends[1:]
    least, left = points[:, None] * (1.0 - ends[1:]), points[:, None] * (1.0 - ends[:-1])
    maxima = [program(s, least, left).max(axis=1) for program in _PROGRAMS[name]]
    return points, np.min(maxima, axis=0)


def _from_table(name: str, sizes: Floats, d: int) -> Floats:
    points, most = _table(name)
    scaled = sizes / float(d) ** 2
    above = np.searchsorted(points, scaled)
    under = np.maximum(above - 1, 0)
    over = np.minimum(above, len(points) - 1)
    grown = most[under] * np.maximum(scaled / points[under], 1.0) ** 2
    shrunk = most[over] * np.minimum(scaled / points[over], 1.0) ** 1.5
    inside = np.minimum(grown, shrunk)
    found = np.where(above == 0, shrunk, np.where(above == len(points), grown, inside))
    return np.asarray(found * float(d) ** 3)
