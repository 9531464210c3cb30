"""Biases of attention that depend on the relative position of query and key alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._arrays import Array, Operand, take, wide
from ._bias_forms import T5, Alibi, Floats, Form, Kerple, Learned, all_lags
from ._coefficients import check_degree
from ._options import check_choice

__all__ = ["Bias"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Bias:
    """A bias ``b[i - j]`` of query i and key j, for ``attention(..., bias=...)``.

    Made by `learned`, `alibi`, `t5` or `kerple` from one array of parameters, which is copied.
    Attention adds L + S - 1 numbers of a head to its logits as it goes along, where the array that they
    stand for would have L x S; the gradient is that of the parameters, in ``Gradients.bias``, and no
    array of queries by keys is made for it either.

    Positions of queries and of keys both count from 0, whatever `is_causal` says. Where the queries are
    the last L of S positions, lags are short by S - L: a bias of a kind for that is
    ``Bias.learned(bias.lags(S, S)[:, S - L :])``.

    Per head or shared: parameters for several heads belong to the query heads H, in their order; those
    without such an axis, or with one of size 1, to all of them. All leading axes have the same bias.

    See Also
    --------
    attention : Where it is used.

    Notes
    -----
    `lags`, in float64, takes O(H (L + S)) operations and memory. A constant that is added to a bias
    changes nothing but the log-sum-exp.

    Examples
    --------
    >>> import numpy as np, subquad
    >>> bias = subquad.toeplitz.Bias.alibi(np.array([0.5, 0.25], np.float32))
    >>> bias
    Bias(alibi, parameters float32 (2,))
    >>> bias.dense(2, 3)[0]
    array([[-0. , -0.5, -1. ],
           [-0.5, -0. , -0.5]])
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 2, 100, 16), np.float32)
    >>> grads = subquad.attention_grad(q, q, k, v, bias=bias, is_causal=True)
    >>> grads.bias.shape
    (2,)
    """

    form: Form
    """The kind, with its options."""
    operand: Operand
    """The parameters, as an argument named "bias"."""

    @classmethod
    def learned(cls, values: Array) -> Bias:
        """One number for every lag.

        Parameters
        ----------
        values : array_like, shape (L + S - 1,) or (H, L + S - 1)
            The bias of lag i - j at index ``i - j + S - 1``: first that of the first query and the last
            key. ``-inf`` hides a lag.

        Raises
        ------
        ValueError
            If the array has another number of axes, or a number is NaN or ``+inf``. That there are
            L + S - 1 numbers, attention checks.
        TypeError
            If it is not an array of real numbers in main memory, or requires grad.
        """
        operand = _take("values", values, (1, 2), "(L + S - 1,) or (H, L + S - 1)")
        numbers = _numbers(operand)
        _require(
            np.isfinite(numbers) | np.isneginf(numbers), numbers, "`values` must be finite or -inf"
        )
        return cls._of(Learned(), operand)

    @classmethod
    def alibi(cls, slopes: Array) -> Bias:
        """``-slope |i - j|``: attention with linear biases [1]_.

        Parameters
        ----------
        slopes : array_like, shape (H,) or ()
            Falls of the logit from one position to the next, usually positive.

        Raises
        ------
        ValueError
            If the array has another number of axes, or a slope is not finite.
        TypeError
            If it is not an array of real numbers in main memory, or requires grad.

        References
        ----------
        .. [1] O. Press, N. A. Smith and M. Lewis, "Train short, test long: attention with linear biases
           enables input length extrapolation", arXiv:2108.12409.
        """
        operand = _take("slopes", slopes, (0, 1), "(H,) or ()")
        numbers = _numbers(operand)
        _require(np.isfinite(numbers), numbers, "`slopes` must be finite")
        return cls._of(Alibi(), operand)

    @classmethod
    def t5(
        cls,
        table: Array,
        *,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
    ) -> Bias:
        """One number for each bucket of relative positions, as in T5 [1]_.

        Parameters
        ----------
        table : array_like, shape (num_buckets, H)
            The weight of the embedding; one column serves all heads.
        num_buckets : int
            Half of them for each direction where `bidirectional`.
        max_distance : int
            From here on all distances share the last bucket.
        bidirectional : bool
            Encoders distinguish keys before and after the query. In decoders, False: keys after it get
            the bucket of distance 0, and are hidden anyway.

        Raises
        ------
        ValueError
            If the table has another shape or a number that is not finite, `num_buckets` is odd where
            `bidirectional` or leaves fewer than 2 for a direction, or `max_distance` is not beyond the
            distances that have buckets of their own.
        TypeError
            If it is not an array of real numbers in main memory, or requires grad.

        Notes
        -----
        Buckets are those of ``T5Attention._relative_position_bucket`` of transformers, its rounding in
        float32 included; its relative position is j - i.

        References
        ----------
        .. [1] C. Raffel et al., "Exploring the limits of transfer learning with a unified text-to-text
           transformer", arXiv:1910.10683.
        """
        count = check_degree(num_buckets, "num_buckets")
        form = T5(count, check_degree(max_distance, "max_distance"), bool(bidirectional))
        if bidirectional and count % 2:
            raise ValueError(f"`num_buckets` must be even with bidirectional=True, got {count}")
        if form.one_sided < 2:
            least = 4 if bidirectional else 2
            raise ValueError(
                f"`num_buckets` must be at least {least} with bidirectional={bool(bidirectional)}, "
                f"got {count}"
            )
        if form.max_distance <= form.one_sided // 2:
            raise ValueError(
                f"`max_distance` must be above {form.one_sided // 2}, the distances with a bucket of "
                f"their own, got {form.max_distance}"
            )
        operand = _take("table", table, (2,), "(num_buckets, H)")
        if operand.shape[0] != count:
            raise ValueError(
                f"`table` must have shape (num_buckets, H) with num_buckets = {count}, got "
                f"{operand.shape}"
            )
        numbers = _numbers(operand)
        _require(np.isfinite(numbers), numbers, "`table` must be finite")
        return cls._of(form, operand)

    @classmethod
    def kerple(cls, parameters: Array, *, kind: str = "log") -> Bias:
        """``-r1 log(1 + r2 |i - j|)`` or ``-r1 |i - j|^r2``: kernels of relative positions [1]_.

        Parameters
        ----------
        parameters : array_like, shape (2,) or (2, H)
            r1 and r2, both positive.
        kind : {"log", "power"}
            Which of the two; r2 is at most 2 for "power".

        Raises
        ------
        ValueError
            If the array has another shape, a parameter is out of its range, or `kind` is not one of
            those.
        TypeError
            If it is not an array of real numbers in main memory, or requires grad.

        References
        ----------
        .. [1] T.-C. Chi, T.-H. Fan, P. J. Ramadge and A. I. Rudnicky, "KERPLE: kernelized relative
           positional embedding for length extrapolation", arXiv:2205.09921.
        """
        check_choice("kind", kind, ("log", "power"))
        operand = _take("parameters", parameters, (1, 2), "(2,) or (2, H)")
        if operand.shape[0] != 2:
            raise ValueError(f"`parameters` must have shape (2,) or (2, H), got {operand.shape}")
        numbers = _numbers(operand)
        _require(
            np.isfinite(numbers) & (numbers > 0.0),
            numbers,
            "`parameters` must be positive and finite",
        )
        if kind == "power":
            _require(
                numbers[1:] <= 2.0, numbers[1:], '`parameters[1]` must be at most 2 with "power"'
            )
        return cls._of(Kerple(kind), operand)

    @classmethod
    def _of(cls, form: Form, operand: Operand) -> Bias:
        array = operand.array.copy()
        array.flags.writeable = False
        return cls(form, Operand("bias", array, operand.dtype, operand.give_back))

    @property
    def parameters(self) -> Any:
        """The parameters: a copy, of the kind and dtype they came in."""
        return self.operand.give_back(self.operand.array.copy(), self.operand.dtype)

    def lags(self, num_queries: int, num_keys: int) -> Floats:
        """Return the bias of every lag from 1 - S to L - 1.

        Parameters
        ----------
        num_queries, num_keys : int
            L and S.

        Returns
        -------
        array of float64, shape (H or 1, L + S - 1)
            That of lag i - j at index ``i - j + S - 1``.
        """
        lags = all_lags(num_queries, num_keys)
        with np.errstate(over="ignore"):
            found = self.form.bias(_numbers(self.operand), lags)
        if not isinstance(self.form, Learned) and not np.isfinite(found).all():
            head, at = (int(n) for n in np.argwhere(~np.isfinite(found))[0])
            raise ValueError(
                f"`bias` must be finite, got {found[head, at]} for lag {lags[at]} of head {head}"
            )
        return found

    def pullback(self, grad_lags: Floats, num_queries: int, num_keys: int) -> Floats:
        """Return the gradient of the parameters, in float64, for that of the bias of every lag.

        `grad_lags` has shape (..., H, L + S - 1); leading axes, and heads that share parameters, are
        summed over.
        """
        lags = all_lags(num_queries, num_keys)
        grad = grad_lags.reshape(-1, *grad_lags.shape[-2:]).sum(axis=0)
        numbers = _numbers(self.operand)
        if self.heads == 1:
            grad = grad.sum(axis=0, keepdims=True)
        return self.form.pullback(numbers, lags, grad)

    def dense(self, num_queries: int, num_keys: int) -> Floats:
        """Return the array that the bias stands for, in float64.

        Parameters
        ----------
        num_queries, num_keys : int
            L and S.

        Returns
        -------
        array, shape (L, S) or (H, L, S)
            Entry (i, j) is the bias of lag i - j. The first where parameters have no axis for heads.
        """
        size = (
            check_degree(num_queries, "num_queries", 0),
            check_degree(num_keys, "num_keys", 0),
        )
        index = np.subtract.outer(np.arange(size[0]), np.arange(size[1])) + size[1] - 1
        full: Floats = self.lags(*size)[:, index]
        return full if self.per_head else full[0]

    def of_head(self, head: int) -> tuple[str, Floats]:
        """Return the kind, and the parameters of a query head; of learned values those of all lags."""
        numbers = _numbers(self.operand)
        if isinstance(self.form, Alibi):
            return "alibi", np.broadcast_to(numbers, max(head + 1, self.heads))[head : head + 1]
        at = head if self.heads > 1 else 0
        if isinstance(self.form, Kerple):
            return f"kerple {self.form.kind}", numbers.reshape(2, -1)[:, at]
        if isinstance(self.form, T5):
            return "t5", numbers[:, at]
        return "learned", np.atleast_2d(numbers)[at]

    @property
    def per_head(self) -> bool:
        """Whether parameters have an axis for heads."""
        axes = self.operand.array.ndim
        return axes == 1 if isinstance(self.form, Alibi) else axes == 2

    @property
    def heads(self) -> int:
        """Heads that parameters are for, 1 where all share them."""
        if not self.per_head:
            return 1
        return self.operand.shape[0 if isinstance(self.form, Learned | Alibi) else 1]

    def __repr__(self) -> str:
        """Return kind, options, and dtype and shape of the parameters."""
        return f"Bias({self.form!r}, parameters {self.operand.dtype} {self.operand.shape})"


def _take(name: str, x: Any, axes: tuple[int, ...], symbols: str) -> Operand:
    operand = take(name, x)
    if operand.dtype == "bool":
        raise TypeError(f"`{name}` must be numbers, got dtype bool")
    if len(operand.shape) not in axes or (len(operand.shape) == 2 and 0 in operand.shape):
        raise ValueError(f"`{name}` must have shape {symbols}, got {operand.shape}")
    return operand


def _numbers(operand: Operand) -> Floats:
    return wide(operand.array, operand.dtype).astype(np.float64)


def _require(good: Any, numbers: Floats, rule: str) -> None:
    if not np.all(good):
        index = tuple(int(i) for i in np.argwhere(~good)[0])
        raise ValueError(f"{rule}, got {numbers[index]} at index {index}")
