"""Two thin matrices in place of their product."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, Operand, stored, take, wide
from ._centring import ROUNDOFF
from ._finite import refuse_nonfinite, require_finite
from ._norms import row_norms

__all__ = ["Factors", "refuse_row_sum", "take_columns"]

# Numbers of a factor that are widened at a time.
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Factors:
    """Low-rank factors of ``A = exp(scale * Q K^T)``; made by `factor`.

    Works as a linear operator: ``factors @ x`` is ``u @ (v.T @ x)``, and no array of n x m numbers is ever
    made. ``scipy.sparse.linalg.aslinearoperator`` takes it as it is.

    Attributes
    ----------
    u : array, shape (n, r)
    v : array, shape (m, r)
        float64 if ``np.result_type(query, key)`` is, else float32; of the kind of `query`.
    error_bound : float
        No entry of ``u v^T``, taken over the real numbers, differs from that of A by more.
    degree : int
        g, so that r = C(d + g, g).
    """

    u: Any
    v: Any
    error_bound: float
    degree: int

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, m)``."""
        return len(_numbers("u", self.u)), len(_numbers("v", self.v))

    @property
    def rank(self) -> int:
        """Number of columns of each factor, r."""
        return int(_numbers("u", self.u).shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the factors, as numpy names it."""
        return _numbers("u", self.u).dtype

    @property
    def T(self) -> Factors:
        """Factors of the transpose."""
        return Factors(self.v, self.u, self.error_bound, self.degree)

    def matvec(self, x: Array) -> Any:
        """Return ``u @ (v.T @ x)``, also written ``factors @ x``.

        Parameters
        ----------
        x : array_like, shape (m,) or (m, c)

        Returns
        -------
        array, shape (n,) or (n, c)
            Of the kind of `x` and of dtype ``np.result_type(factors, x)``. O((n + m) r c) operations.

        Raises
        ------
        ValueError, TypeError
            If `x` has another shape, or does not hold finite real numbers.
        """
        operand = take_columns(x, self.shape[1])
        columns = wide(operand.array, operand.dtype)
        u, v = _numbers("u", self.u), _numbers("v", self.v)
        return _give_back(operand, u @ (v.T @ columns))

    def rmatvec(self, x: Array) -> Any:
        """Return ``v @ (u.T @ x)``, also written ``factors.T @ x``.

        Parameters
        ----------
        x : array_like, shape (n,) or (n, c)

        Returns
        -------
        array, shape (m,) or (m, c)
            As from `matvec`, which has the errors too.
        """
        return self.T.matvec(x)

    def row_sums(self) -> Any:
        """Sum the rows of ``u v^T``: what softmax divides by.

        Returns
        -------
        array, shape (n,)
            Summed in float64, of the kind and dtype of `u`; zeros where m is 0.
        """
        operand = take("u", self.u)
        return operand.give_back(stored(self._sums()[0], operand.dtype), operand.dtype)

    def normalise(self, x: Array) -> Any:
        """Return ``D^-1 u (v.T @ x)`` with D the diagonal matrix of the row sums.

        With the values as `x` this is softmax attention, up to the error of the factors.

        Parameters
        ----------
        x : array_like, shape (m,) or (m, c)

        Returns
        -------
        array, shape (n,) or (n, c)
            As from `matvec`; zeros where m is 0.

        Raises
        ------
        ValueError
            As in `matvec`; if a row sum is not certainly positive, with the index of the first.
        TypeError
            As in `matvec`.
        """
        operand = take_columns(x, self.shape[1])
        columns = wide(operand.array, operand.dtype)
        u, v = _numbers("u", self.u), _numbers("v", self.v)
        result = u @ (v.T @ columns)
        if len(v) == 0:
            return _give_back(operand, result)
        sums, doubt = self._sums()
        unsafe = ~(sums > doubt)
        if unsafe.any():
            row = int(np.argmax(unsafe))
            refuse_row_sum(row, float(sums[row]), float(doubt[row]))
        result /= sums.astype(result.dtype).reshape(-1, *(1,) * (result.ndim - 1))
        if not np.isfinite(result).all():
            refuse_nonfinite((), result.dtype)
        return _give_back(operand, result)

    def _sums(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Row sums in float64, and bounds of their rounding errors."""
        u, v = _numbers("u", self.u), _numbers("v", self.v)
        total = v.sum(axis=0, dtype=np.float64)
        sums = np.empty(len(u))
        for block in _blocks(*u.shape):
            sums[block] = u[block].astype(np.float64, copy=False) @ total
        # A sum over m rows of v, then an inner product of r terms, by Cauchy and Schwarz.
        terms = len(v) + u.shape[1] + 8
        length = float(row_norms(lambda block: v[block], *v.shape).sum())
        doubt = row_norms(lambda block: u[block], *u.shape) * (length * terms * ROUNDOFF)
        return sums, doubt

    def __matmul__(self, x: Array) -> Any:
        """Return ``u @ (v.T @ x)``."""
        return self.matvec(x)

    def __rmatmul__(self, x: Any) -> Any:
        """Return ``(x @ u) @ v.T`` for a numpy array or a sequence."""
        return self.rmatvec(np.transpose(x)).T

    # Makes numpy leave `x @ factors` to the method above.
    __array_ufunc__ = None

    def __repr__(self) -> str:
        """Return sizes and error."""
        return (
            f"Factors(shape={self.shape}, rank={self.rank}, degree={self.degree}, "
            f"dtype={self.dtype}, error_bound={self.error_bound:.3g})"
        )


def take_columns(x: Array, rows: int) -> Operand:
    """Return a vector, or several as columns."""
    operand = take("x", x)
    if len(operand.shape) not in (1, 2) or operand.shape[0] != rows:
        raise ValueError(f"`x` must have shape ({rows},) or ({rows}, c), got {operand.shape}")
    require_finite(operand)
    return operand


def refuse_row_sum(row: int, total: float, doubt: float) -> NoReturn:
    """Raise the error about the first row that may not be divided by its sum."""
    raise ValueError(
        f"the sum of row {row} is {total:.6g}, which is not above the bound {doubt:.3g} of its own "
        "rounding error, and rows are divided by their sums: factors within a relative `eps` below 1 "
        "have positive sums"
    )


def _numbers(name: str, factor: Any) -> NDArray[Any]:
    return take(name, factor).array


def _give_back(operand: Operand, result: NDArray[Any]) -> Any:
    return operand.give_back(result, result.dtype.name)


def _blocks(rows: int, width: int) -> Iterator[slice]:
    step = max(1, _BLOCK // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
