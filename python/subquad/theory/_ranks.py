"""What the polynomial method costs, what it errs by, and for which entries it can be fast."""

from __future__ import annotations

import math

from ._arguments import LARGEST, check_count, check_positive, check_within

__all__ = [
    "attention_flops",
    "crossover",
    "entry_threshold",
    "feature_count",
    "logit_threshold",
    "output_error",
    "polynomial_flops",
]


def feature_count(d: int, degree: int) -> int:
    """Rank of a polynomial of an inner product: the number of monomials.

    Parameters
    ----------
    d : int
        Width of queries and keys, at least 1.
    degree : int
        g >= 0.

    Returns
    -------
    r : int
        C(d + g, g), exactly.

    Notes
    -----
    The rank lemma of arXiv:2302.13214 expands the polynomial in 2 d variables and counts C(2(d + g), 2g)
    monomials; the one of a query and the one of a key that occur together are one feature.
    """
    g = check_count("degree", degree, least=0)
    return math.comb(check_count("d", d) + g, g)


def attention_flops(n: int, d: int, value_dim: int, *, grad: bool = False) -> int:
    """Floating-point operations of exact attention of n queries over n keys.

    Parameters
    ----------
    n : int
        Number of queries and of keys.
    d, value_dim : int
        Widths of keys and of values.
    grad : bool
        Of the gradient instead, given the output and its log-sum-exp.

    Returns
    -------
    flops : int
        2 n^2 (d + d_v); 2 n^2 (3 d + 2 d_v) for the gradient. Without exponentials.

    Notes
    -----
    The Definition of attention, two products of matrices; five in the gradient.
    """
    keys, width, values = (
        check_count("n", n),
        check_count("d", d),
        check_count("value_dim", value_dim),
    )
    return 2 * keys * keys * (3 * width + 2 * values if grad else width + values)


def polynomial_flops(n: int, r: int, value_dim: int, *, grad: bool = False) -> int:
    """Floating-point operations of attention by r features, of n queries over n keys.

    Parameters
    ----------
    n : int
        Number of queries and of keys.
    r : int
        Number of features, `feature_count`.
    value_dim : int
        d_v, the width of values.
    grad : bool
        Of the gradient instead, given the state of the forward pass.

    Returns
    -------
    flops : int
        4 n r (d_v + 1); twice that for the gradient. Features themselves take one multiplication
        each and are left out.

    Notes
    -----
    The products in the upper bound theorem of arXiv:2302.13214, one for the keys and one for the
    queries, where the 1 is the denominator; four in the gradient of what they compute.
    """
    keys, features = check_count("n", n), check_count("r", r)
    return (8 if grad else 4) * keys * features * (check_count("value_dim", value_dim) + 1)


def crossover(r: int, d: int, value_dim: int, rate: float = 1.0, *, grad: bool = False) -> float:
    """Return the number of keys from which r features cost less than exact attention.

    Parameters
    ----------
    r : int
        Number of features, `feature_count`.
    d, value_dim : int
        Widths of keys and of values.
    rate : float
        How many times as many operations per second the polynomial kernel does as the exact one.
        It has no exponentials and larger products; measured on Zen 4, about 1, and 1.2 against torch's
        exact kernel.
    grad : bool
        Of the gradient instead.

    Returns
    -------
    n : float
        Where `polynomial_flops` over the rate equals `attention_flops`. For d = d_v about r / rate.

    Notes
    -----
    From the Definition of attention and the products in the upper bound theorem of arXiv:2302.13214.
    """
    width, values = check_count("d", d), check_count("value_dim", value_dim)
    ours = polynomial_flops(1, r, values, grad=grad)
    exact = attention_flops(1, width, values, grad=grad)
    return ours / exact / check_positive("rate", rate)


def output_error(delta: float, value_range: float) -> float:
    r"""Bound what an error of the weights does to a coordinate of the output.

    Parameters
    ----------
    delta : float
        Every weight is wrong by at most this share of it, 0 <= delta < 1.
    value_range : float
        Largest minus smallest value in the coordinate.

    Returns
    -------
    error : float
        :math:`\frac{\delta}{1 - \delta} \cdot \frac{1}{2} \text{value\_range}`.

    Notes
    -----
    The upper bound theorem of arXiv:2302.13214 has :math:`2 \delta \max |v|`, to first order. This is
    sharper. With weights :math:`a_j`, approximate ones :math:`\tilde a_j` and the exact output o, the error
    is :math:`\sum_j (\tilde a_j - a_j) (v_j - o) / \sum_j \tilde a_j`, exactly; and the mean distance of the
    values from their mean o is at most half their range.
    """
    share = check_within("delta", delta, 0.0, 1.0 - 2.0**-53, "0 <= delta < 1")
    extent = check_within("value_range", value_range, 0.0, LARGEST, "0 <= value_range < inf")
    return share / (1.0 - share) * (extent / 2.0)


def entry_threshold(n: int, order: int = 2) -> float:
    r"""Size of the entries of queries and keys at which sub-quadratic attention ends.

    Parameters
    ----------
    n : int
        Number of keys.
    order : int
        2 for attention, k for tensors of order k: attention of queries to (k - 1)-tuples of keys.

    Returns
    -------
    threshold : float
        :math:`(\log n)^{1/k}`, without the constants of the theorems.

    Notes
    -----
    Asymptotic, for d proportional to :math:`\log n`, logits :math:`\langle q, k \rangle / d`, and errors
    of 1 / poly(n). With entries of :math:`o(\sqrt{\log n})` attention takes :math:`n^{1 + o(1)}` time
    (the upper bound theorem of arXiv:2302.13214), and so does its gradient (that of
    arXiv:2402.04497). Where entries leave that range it is hard: with
    :math:`C_b \sqrt{\log n}` for a constant :math:`C_b` no algorithm takes :math:`O(n^{2 - q})`, if the
    strong exponential time hypothesis holds (the lower bound theorem of arXiv:2302.13214; Theorem E.5
    of arXiv:2402.04497 for gradients). Order k: arXiv:2310.04064.

    The theorems say nothing about any one n: `subquad.polynomial.feasibility` does.
    """
    power = check_count("order", order, least=2)
    return math.pow(math.log(check_count("n", n)), 1.0 / power)


def logit_threshold(n: int) -> float:
    r"""Size of the logits at which sub-quadratic attention ends.

    Parameters
    ----------
    n : int
        Number of keys.

    Returns
    -------
    threshold : float
        :math:`\log n`, without the constants of the theorems.

    Notes
    -----
    `entry_threshold` in terms of logits, since entries of B allow :math:`|\langle q, k \rangle| / d \le
    B^2`: asymptotic, from the theorems of arXiv:2302.13214. In the related problem of arXiv:2205.06249,
    sums of Gaussian kernels, :math:`\kappa \log n` with a small constant :math:`\kappa` still leaves an exponent
    below 2. Up to n = 1 M the bounds of `subquad.polynomial.feasibility` are more than 5 times smaller,
    for d >= 32 and errors of 1e-2. Logits beyond are not hopeless: half-space reporting does not need
    them bounded, where few weights matter.
    """
    return math.log(check_count("n", n))
