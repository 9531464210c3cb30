r"""The most products that attention can do with U words at hand, from above.

Every function bounds T(U) of `_pebble_segments` for one of the sets of products of `_pebble_attention`.
Letters: a, b, g, e words of Q, K, V and of the gradient of O; f words of results; c, C words of pairs. A pair
(i, j) is **whole** if its row of Q and its row of K are at hand, so that its score can be computed afresh: there
are at most :math:`\omega = a b / d^2`. Maxima that have no closed form are taken by `_pebble_maximum`.
"""

from __future__ import annotations

import numpy as np

from ._pebble_maximum import between
from ._pebble_segments import Floats, three_products
from ._pebble_tables import Table, table_of_all, table_of_both, table_of_four, table_of_slopes

__all__ = ["at_hand_all", "at_hand_both", "at_hand_four", "at_hand_outputs", "at_hand_slopes"]


def at_hand_outputs(sizes: Floats, d: int) -> Floats:
    r"""Bound the products of O = P V alone: :math:`\max\{(U/3)^{3/2}, U^2 / (16 d)\}`.

    Parameters
    ----------
    sizes : (m,) ndarray of float64
        U.
    d : int
        Width.

    Returns
    -------
    (m,) ndarray of float64
        At least T(U).

    Notes
    -----
    At most :math:`\sqrt{(\omega + c) f g}`, with a + b + c + f + g = U. For y = a + b + c, :math:`\omega + c \le
    (y - c)^2 / (4 d^2) + c` is convex in c, so at most its values at the ends, :math:`y^2 / (4 d^2)` or y. As
    :math:`\sqrt{f g} \le (U - y) / 2`, it remains to maximise :math:`y (U - y) / (4 d)`, at y = U / 2, and
    :math:`\sqrt y (U - y) / 2`, at y = U / 3.
    """
    return np.maximum(three_products(sizes), sizes**2 / (16.0 * d))


def at_hand_both(sizes: Floats, d: int, weight: float, price: float) -> Floats:
    r"""Bound the products of O = P V, which count 1, and of S = Q K^T, which count less.

    Parameters
    ----------
    sizes : (m,) ndarray of float64
        U.
    d : int
        Width.
    weight : float
        What a product of S counts, w.
    price : float
        What the start of a score is charged.

    Returns
    -------
    (m,) ndarray of float64
        At least T(U).

    Notes
    -----
    Let c pairs have words at hand, and let F others be started freshly, at the price :math:`\pi`. Then

    .. math:: T \le w \sqrt{a b (c + F)} + \sqrt{(\omega + c) f g}, \qquad a + b + f + g + c + \pi F \le U.

    With a = b and f = g it is a function of a + b, f + g and :math:`C = c + \pi F` alone, once c is best: for
    :math:`\rho = 1 / \pi - 1` it is :math:`\alpha \sqrt{C / (1 - \pi) - c} + G \sqrt{\omega + c}` with
    :math:`\alpha^2 = w^2 a^2 \rho` and G = f, which is concave in c. Its maximum is where :math:`\alpha^2 (\omega +
    c) = G^2 (C / (1 - \pi) - c)`, or at the end of [0, C] next to it. If :math:`\pi = 1`, c = C.
    """
    return _scaled(table_of_both(weight, price), sizes, d)


def at_hand_slopes(sizes: Floats, d: int) -> Floats:
    r"""Bound the products of the three results of the gradient: dV = P^T dO, dQ = dS K, dK = dS^T Q.

    Parameters
    ----------
    sizes : (m,) ndarray of float64
        U.
    d : int
        Width.

    Returns
    -------
    (m,) ndarray of float64
        At least T(U).

    Notes
    -----
    C counts words of P, dP and dS alike, a' = min(a, e), b' = min(b, g). Pairs with dS at hand are C at most, and
    those whole twice, :math:`W = a' b' / d^2`; pairs with P at hand are :math:`\omega` and C. By Loomis and Whitney

    .. math:: T \le \sqrt{(\omega + C) e f_V} + \sqrt{(W + C) b f_Q} + \sqrt{(W + C) a f_K}.

    *First bound.* Products with whole pairs are at most :math:`\Phi / d`, :math:`\Phi = \min(f_V a, e b) + \min(f_Q,
    a') b' + \min(f_K, b') a'`: a word of dV meets at most a / d whole rows, and so on. All others are
    at most :math:`\sqrt C (\sqrt{e f_V} + \sqrt{b f_Q} + \sqrt{a f_K}) \le \sqrt C s / 2`, for s words of operands
    and results, and at most 3 C d, as a pair has d products of each kind. And :math:`16 \Phi \le s^2`:
    write :math:`q = \min(f_Q, a'), k = \min(f_K, b'), m = \min(f_V a, e b)` and v for f_V. With

    .. math:: s^2 / 4 \ge (a + e + q)(b + v + g + k) = (a + e)(b + v) + (a + e)(g + k) + q (b + v + g + k)

    it is enough that this is at least 4 (m + q b' + k a'). Always :math:`(a + e)(b + v) \ge 4 \sqrt{a e b v} \ge
    4 m`, :math:`(a + e)(g + k) - 4 a' k \ge |a - e| (g + k) + 2 a' (b' - k) \ge |a - e| (g + k) + 2 q (b' - k)` and
    :math:`q (b + v + g + k) \ge q (2 b' + v + k)`. So there is nothing to show if :math:`v \ge k`; else
    :math:`q (k - v)` is missing, and is in :math:`(a + e)(b + v) - 4 m`: if :math:`a \le e`, this is at least
    :math:`2 a (b + v) - 4 a v = 2 a (b - v)`; if a > e, with :math:`4 m \le 3 a v + e b`, at least :math:`a (b - v) -
    v (a - e)`, and :math:`v (a - e) \le (a - e)(g + k)`. Both suffice, as :math:`q \le a, k \le b`.

    *Second bound.* With R words of results, the Cauchy-Schwarz inequality makes T at most the root of
    :math:`R\,[(\omega + C) e + (W + C)(a + b)] \le R\,[\kappa r^3 / d^2 + C r]`, for r words of operands. Here
    :math:`\kappa = 4 / 81`: if :math:`e \le a`, :math:`a b e + a' b' (a + b) \le e\,(a b + b' a + b' b) \le e
    (r - e)^2 / 3`, else it is at most :math:`a\,(b e + b' e + b' b) \le a (r - a)^2 / 3`.

    *Powers.* Multiplying all words by t multiplies the lesser of the two by :math:`t^{3/2}` at least, although 3 C d has
    the power 1. For d = 1 this term counts where :math:`s^2 \ge 36 C`. The power of :math:`s^2 / 16 + 3 C` at a point is that
    at least if :math:`2 s^2 / 16 + 3 C \ge \tfrac32 (s^2 / 16 + 3 C)`, which is :math:`s^2 \ge 48 C`. In between the second
    bound is the lesser, and has powers from 3/2 to 2: it is at most :math:`s^2 \sqrt{u (1 - u)(\kappa u^2 + C / s^2)}
    \le 0.106 s^2` for r = u s, as :math:`C / s^2 \le 1/36`, and the first is :math:`s^2 / 8` at least.
    """
    return _scaled(table_of_slopes(), sizes, d)


def at_hand_four(sizes: Floats, d: int) -> Floats:
    r"""Bound the products of dP = dO V^T, dV, dQ and dK.

    Parameters
    ----------
    sizes : (m,) ndarray of float64
        U.
    d : int
        Width.

    Returns
    -------
    (m,) ndarray of float64
        At least T(U).

    Notes
    -----
    C, :math:`\omega` and W are those of `at_hand_slopes`; of the C pairs :math:`c_s` have words of P and :math:`c_p` of
    dP, at hand or started. With x = e + g + f_V words,

    .. math:: \sqrt{c_p e g} + \sqrt{(\omega + c_s) e f_V} \le \sqrt{\omega + C} \sqrt{e (g + f_V)}
        \le \frac x 2 \sqrt{\omega + C},

    and with y = a + b and R words of dQ and dK the others are at most :math:`\sqrt{(W + C) y R}`, where
    :math:`\omega \le y^2 / (4 d^2)` and :math:`W \le \min(x^2, y^2) / (4 d^2)`, as W is at most :math:`\omega` and
    :math:`e g / d^2`. It remains to divide B = U - x - y between C and R. For any z > 0 the root of
    :math:`\omega + C` is at most :math:`(\omega + C) / (2 z) + z / 2`; put :math:`\lambda = x / (4 z)`. With
    :math:`2 C = B - W + (B + W) \cos \phi`,

    .. math:: \lambda C + \sqrt{(W + C) y R} = \lambda \frac{B - W} 2 + \frac{B + W} 2 (\lambda \cos \phi +
        \sqrt y \sin \phi) \le \lambda \frac{B - W} 2 + \frac{B + W} 2 \sqrt{\lambda^2 + y}.

    The z that is taken is near the best one.
    """
    return _scaled(table_of_four(), sizes, d)


def at_hand_all(sizes: Floats, d: int) -> Floats:
    r"""Bound all five products of the gradient: dP and dV count 1, S, dQ and dK count :math:`\sqrt3 / 2`.

    Parameters
    ----------
    sizes : (m,) ndarray of float64
        U.
    d : int
        Width.

    Returns
    -------
    (m,) ndarray of float64
        At least T(U).

    Notes
    -----
    With :math:`p_s = c_s + \omega`, :math:`p_p = c_p + e g / d^2` and :math:`\delta` words of dS, pairs with dS at
    hand are at most :math:`D = \delta + \min(p_s, p_p)`. Let :math:`\Sigma = p_s + p_p + \delta`. The terms of dP and dV are
    at most :math:`\sqrt{e (g + f_V) \Sigma}`. Those of S, dQ and dK, :math:`w (\sqrt{p_s} \sqrt{a b} + \sqrt D (\sqrt{b f_Q}
    + \sqrt{a f_K}))`, are at most :math:`\lambda (a + b + f_Q + f_K)` for :math:`4 \lambda = w (\sqrt{p_s} +
    \sqrt{p_s + 4 D})`: :math:`w \sqrt{D b f_Q} \le \lambda f_Q + w^2 D b / (4 \lambda)`, :math:`w \sqrt{p_s a b} \le w
    \sqrt{p_s} (a + b) / 2`, and the factors of b add up to :math:`\lambda`. As :math:`D \le \Sigma - p_s`, it is
    greatest for :math:`p_s = \Sigma / 3`: :math:`\lambda \le w \sqrt{\Sigma / 3} = \sqrt\Sigma / 2`. So :math:`T \le
    \frac s 2 \sqrt\Sigma`, and :math:`\Sigma \le C + (a b + e g) / d^2 \le C + s^2 / (4 d^2)`.
    """
    return _scaled(table_of_all(), sizes, d)


def _scaled(table: Table, sizes: Floats, d: int) -> Floats:
    return between(*table, sizes / float(d) ** 2) * float(d) ** 3
