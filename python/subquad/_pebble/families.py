"""Computations by name, as class methods of `Dag`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from . import generators
from .arguments import take_count

__all__ = ["Families"]


class Families(ABC):
    """Graphs of families; vertices have names that say what they are, and numbers are an order of computation."""

    @classmethod
    @abstractmethod
    def _of(cls, spec: generators.Spec) -> Self:
        """Return the graph of a specification."""

    @classmethod
    def chain(cls, length: int) -> Self:
        """Return one source, and values each computed from the one before: ``x[i]``.

        Parameters
        ----------
        length : int
            Values that are computed.

        Returns
        -------
        Dag
        """
        return cls._of(generators.spec("chain", {"length": length}, least=0))

    @classmethod
    def tree(cls, height: int) -> Self:
        """Return a complete binary tree with 2^height leaves; ``x[l,i]`` is value i of level l.

        Leaves are level 0; the others are numbered in postorder.

        Parameters
        ----------
        height : int
            Levels above the leaves.

        Returns
        -------
        Dag
        """
        return cls._of(generators.spec("tree", {"height": height}, least=0))

    @classmethod
    def pyramid(cls, height: int) -> Self:
        """Return height + 1 sources and rows that are one shorter each, up to one value.

        ``x[r,i]`` is computed from ``x[r-1,i]`` and ``x[r-1,i+1]``.

        Parameters
        ----------
        height : int
            Rows that are computed.

        Returns
        -------
        Dag
        """
        return cls._of(generators.spec("pyramid", {"height": height}, least=0))

    @classmethod
    def grid(cls, rows: int, columns: int) -> Self:
        """Return ``x[r,c]``, computed from ``x[r-1,c]`` and ``x[r,c-1]``; one source and one sink.

        Parameters
        ----------
        rows, columns : int
            Sizes.

        Returns
        -------
        Dag
        """
        return cls._of(generators.spec("grid", {"rows": rows, "columns": columns}))

    @classmethod
    def stencil(cls, width: int, steps: int) -> Self:
        """Return points that are computed again and again from themselves and their neighbours.

        ``x[t,i]`` is computed from ``x[t-1,i-1]``, ``x[t-1,i]`` and ``x[t-1,i+1]``, as far as they exist.

        Parameters
        ----------
        width : int
            Points.
        steps : int
            How often they are computed.

        Returns
        -------
        Dag
        """
        take_count("width", width)
        return cls._of(generators.spec("stencil", {"width": width, "steps": steps}, least=0))

    @classmethod
    def fft(cls, n: int) -> Self:
        """Return the butterflies of a fast Fourier transform.

        ``x[s,i]`` is computed from ``x[s-1,i]`` and the point whose number differs in bit s - 1.

        Parameters
        ----------
        n : int
            Points, a power of two.

        Returns
        -------
        Dag
        """
        return cls._of(generators.spec("fft", {"n": n}))

    @classmethod
    def matmul(cls, m: int, n: int, k: int, form: str = "fma") -> Self:
        """Return the product C of a matrix A, m by k, and a matrix B, k by n.

        Parameters
        ----------
        m, n, k : int
            Sizes.
        form : {"fma", "chain", "tree"}, optional
            How sums are computed. "fma": a product is multiplied and added in one step, so that a sum of k
            terms is k values, each from the one before and the factors. Else products are values, which are
            added one after the other, or in pairs, the sums in pairs, and so on.

        Returns
        -------
        Dag
            Its values are ``A[i,l]``, ``B[l,j]`` and ``C[i,j]``; ``C[i,j;0:2]`` is the sum of terms 0 and 1.

        Examples
        --------
        >>> from subquad.pebble import Dag
        >>> dag = Dag.matmul(3, 3, 3)
        >>> dag
        Dag(45 vertices, 72 edges, 18 sources, 9 outputs)
        >>> [dag.names[v] for v in dag.predecessors(44)]
        ['A[2,2]', 'B[2,2]', 'C[2,2;0:2]']
        """
        return cls._of(generators.spec("matmul", {"m": m, "n": n, "k": k}, form=form))

    @classmethod
    def attention(cls, n: int, d: int, form: str = "fma", softmax: str = "unnormalised") -> Self:
        """Return softmax attention O of n queries on n keys of width d, one head.

        Parameters
        ----------
        n, d : int
            Rows of Q, K and V, and their width.
        form : {"fma", "chain", "tree"}, optional
            How sums are computed, as for `matmul`. Online, sums over keys are one after the other.
        softmax : {"unnormalised", "safe", "online"}, optional
            How weights are made: exponentials of the scores, divided by their sum at the end; with the
            maximum of the row subtracted first, so that every exponential needs every score of its row; or
            with the maximum so far, and sums that are scaled whenever it may have grown, as in
            FlashAttention.

        Returns
        -------
        Dag
            Its values are the inputs ``Q``, ``K`` and ``V``, scores ``S[i,j]``, maxima ``m``, exponentials
            ``P[i,j]``, their sums ``l``, sums ``U`` of exponentials times rows of V, and outputs ``O``; online,
            ``r`` is what sums are scaled by.
        """
        sizes = {"n": n, "d": d}
        return cls._of(generators.spec("attention", sizes, form=form, softmax=softmax))

    @classmethod
    def attention_grad(cls, n: int, d: int, form: str = "fma") -> Self:
        """Return the gradient of attention, dQ, dK and dV from Q, K, V, O, dO and L.

        L are the logarithms of the sums of exponentials. The others are D, the row sums of dO times O;
        ``S``, Q K^T; ``P``, exp(S - L); ``dP``, dO V^T; ``dS``, P (dP - D); and dV = P^T dO, dQ = dS K,
        dK = dS^T Q.

        Parameters
        ----------
        n, d : int
            Rows of Q, K and V, and their width.
        form : {"fma", "chain", "tree"}, optional
            How sums are computed, as for `matmul`.

        Returns
        -------
        Dag
        """
        return cls._of(generators.spec("attention_grad", {"n": n, "d": d}, form=form))

    @classmethod
    def random(
        cls, num_vertices: int, sources: int, operands: tuple[int, int] = (1, 3), seed: int = 0
    ) -> Self:
        """Return values of random operands, the same on every machine.

        Parameters
        ----------
        num_vertices : int
            Values, sources included.
        sources : int
            Values without operands, which come first.
        operands : tuple of int, optional
            The fewest and the most operands that are drawn for a value, each from all values before it; one
            that is drawn twice counts once.
        seed : int, optional
            Fixes what is drawn; at most 2^64 - 1.

        Returns
        -------
        Dag
            What is computed and not used is an output.
        """
        return cls._of(generators.random_spec(num_vertices, sources, operands, seed))
