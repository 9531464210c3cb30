"""What is known from below of the words that a computation moves, before any search."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..theory import pebble as theory
from .arguments import require_memory, take_count, take_memory
from .dag import Dag
from .model import Model, take_model

__all__ = ["LowerBound", "lower_bounds"]

# Of fast memory, for `subquad.theory.pebble`.
_MOST_WORDS = 2**63 - 1


@dataclass(frozen=True)
class LowerBound:
    """A number and what it claims.

    Attributes
    ----------
    value : int or float
        Words, or what `Count.cost` counts where the model charges for computing.
    kind : {"proved", "asymptotic"}
        Whether no play costs less; or whether it is the order of growth of a theorem with constant 1, which is
        no bound.
    statement : str
        What it is, and where the proof is.
    model : Model
        The game.
    """

    value: int | float
    kind: str
    statement: str
    model: Model

    def __float__(self) -> float:
        """Return the number."""
        return float(self.value)


def lower_bounds(
    problem: Dag | str, memory: int, *, model: Model | None = None
) -> dict[str, LowerBound]:
    """Return the lower bounds that are known of a computation.

    Parameters
    ----------
    problem : Dag or str
        A graph, or a family and its sizes, which may be far larger than graphs: ``"matmul:m,n,k"``, ``"fft:n"``,
        ``"attention:n,d"`` or ``"attention_grad:n,d"``.
    memory : int
        Words of fast memory.
    model : Model, optional
        The game.

    Returns
    -------
    dict of str to LowerBound
        ``"trivial"``: every source that is needed is loaded once, every output stored once. ``"tree"``: the
        optimum of a tree, for graphs that are one. ``"segments"``: the proved bounds of
        `subquad.theory.pebble` for a product of matrices, butterflies, attention and its gradient.
        ``"order"``: the papers' orders of growth. What does not hold in the game is left out. A family is a
        graph, of which every source is needed, also where softmax would not need a score.

    Raises
    ------
    ValueError
        If `memory` is too small for the graph, or a family is not known.
    TypeError
        For arguments of other types.

    Notes
    -----
    Takes O(V + E) for a graph, and less than a second for a family of any size.

    Examples
    --------
    >>> from subquad.pebble import lower_bounds
    >>> {name: bound.value for name, bound in lower_bounds("matmul:96,96,96", 256).items()}
    {'trivial': 27648, 'segments': 110833}
    """
    words, game = take_memory(memory), take_model(model)
    if isinstance(problem, Dag):
        require_memory(problem, words, game)
        found = _of_graph(problem, words, game)
    else:
        found = _of_family(problem, words, game)
    return {name: LowerBound(value, kind, text, game) for name, value, kind, text in found}


# Name, value, kind and statement.
_Found = Iterator[tuple[str, int | float, str, str]]


def _of_graph(dag: Dag, memory: int, model: Model) -> _Found:
    needed, used = _needed(dag)
    is_source = np.zeros(dag.num_vertices, dtype=np.bool_)
    is_source[dag.sources] = True
    outputs = np.zeros(dag.num_vertices, dtype=np.bool_)
    outputs[dag.outputs] = True
    computed = int((needed & ~is_source).sum())
    if model.sources == "blue":
        loaded = int(dag.weights[used & is_source].sum())
        stored = int(dag.weights[outputs & ~is_source].sum())
    else:
        loaded, stored = 0, int(dag.weights[outputs].sum())
        computed = int(needed.sum())
    yield _trivial(loaded, stored, computed, memory, model)
    parents = _parents(dag, needed)
    if parents is not None and _moves_all(model):
        least = theory.tree_words(parents, memory, sliding=model.sliding)
        value = _plain(least + model.compute_cost * computed)
        yield "tree", value, "proved", "a tree's optimum, if deletions are free; Sethi and Ullman"


def _trivial(
    loaded: int, stored: int, computed: int, memory: int, model: Model
) -> tuple[str, int | float, str, str]:
    if model.sources == "computable":
        loaded = 0
    if model.outputs == "any":
        stored = max(0, stored - memory)
    value = _plain(loaded + stored + model.compute_cost * computed)
    return "trivial", value, "proved", "sources loaded once, outputs stored once"


def _plain(value: float) -> int | float:
    return int(value) if float(value).is_integer() else value


def _moves_all(model: Model) -> bool:
    """Whether sources must be loaded, and outputs stored."""
    return model.sources == "blue" and model.outputs == "blue"


def _needed(dag: Dag) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which values an output needs, itself included, and which of them others are made of."""
    needed = np.zeros(dag.num_vertices, dtype=np.bool_)
    used = needed.copy()
    needed[dag.outputs] = True
    has_results = used.copy()
    has_results[dag.edges[:, 0]] = True
    if (needed | has_results).all():
        # Everything leads to something without results, and that is an output.
        return np.ones_like(needed), has_results
    for vertex in dag.order[::-1].tolist():
        if needed[vertex]:
            operands = dag.predecessors(vertex)
            needed[operands] = used[operands] = True
    return needed, used


def _parents(dag: Dag, needed: NDArray[np.bool_]) -> list[int] | None:
    """Return what each value is used for, if the graph is a tree whose root alone is wanted."""
    edges = dag.edges
    if len(dag.outputs) != 1 or not needed.all() or (dag.weights != 1).any():
        return None
    # All lead to the one output, so each but this has an edge, and as there are no others, one.
    if len(edges) != dag.num_vertices - 1:
        return None
    parents = np.full(dag.num_vertices, -1, dtype=np.int64)
    parents[edges[:, 0]] = edges[:, 1]
    return [int(parent) for parent in parents]


def _of_family(problem: Any, memory: int, model: Model) -> _Found:
    if not isinstance(problem, str):
        kind = type(problem).__name__
        raise TypeError(f"`problem` must be a subquad.pebble.Dag or a str, got one of {kind}")
    family, _, listed = problem.partition(":")
    if family not in _FAMILIES:
        known = ", ".join(f'"{name}"' for name in _FAMILIES)
        raise ValueError(f"`problem` must be a graph or begin with one of {known}, got {problem!r}")
    names, bounds = _FAMILIES[family]
    texts = [text.strip() for text in listed.split(",")]
    if len(texts) != len(names) or not all(text.isdecimal() for text in texts):
        raise ValueError(
            f'`problem` must be "{family}:{",".join(names)}" in integers, got {problem!r}'
        )
    sizes = [take_count(name, int(text)) for name, text in zip(names, texts, strict=True)]
    return bounds(sizes, memory, model)


def _bounded(memory: int) -> int:
    """Return words of fast memory of which the theorems can be asked.

    In so much memory their bounds, which are below 2^63, are the trivial ones, as in any larger one.
    """
    return min(memory, _MOST_WORDS)


def _matmul(sizes: list[int], memory: int, model: Model) -> _Found:
    m, n, k = sizes
    yield _trivial(m * k + k * n, m * n, m * n * k, memory, model)
    if _moves_all(model):
        value = theory.matmul_lower_bound(m, n, k, _bounded(memory))
        yield "segments", value, "proved", "standard products; theory.pebble.matmul_lower_bound"


def _fft(sizes: list[int], memory: int, model: Model) -> _Found:
    n = sizes[0]
    if n == 1:
        # One value, which is where it must be.
        yield _trivial(0, 0, 0, memory, model)
        return
    value = theory.fft_lower_bound(n, _bounded(memory))
    yield _trivial(n, n, n * (n.bit_length() - 1), memory, model)
    if _moves_all(model):
        yield "segments", value, "proved", "butterflies; theory.pebble.fft_lower_bound"


def _forward(sizes: list[int], memory: int, model: Model) -> _Found:
    n, d = sizes
    yield _trivial(3 * n * d, n * d, 2 * n * n * d, memory, model)
    if _moves_all(model):
        value = theory.attention_lower_bound(n, d, _bounded(memory))
        yield "segments", value, "proved", _ATTENTION
    order = theory.attention_order(n, d, _bounded(memory))
    yield "order", order, "asymptotic", "constant 1; arXiv:2402.07443"


def _backward(sizes: list[int], memory: int, model: Model) -> _Found:
    n, d = sizes
    yield _trivial(4 * n * d, 3 * n * d, 5 * n * n * d, memory, model)
    if _moves_all(model):
        value = theory.attention_lower_bound(n, d, _bounded(memory), direction="backward")
        yield "segments", value, "proved", _ATTENTION
    order = theory.attention_gradient_order(n, d, _bounded(memory))
    yield "order", order, "asymptotic", "constant 1, of the papers' gradient; arXiv:2410.09397"


_ATTENTION = (
    "standard products, each weight made of its own score; theory.pebble.attention_lower_bound"
)

_FAMILIES: dict[str, tuple[tuple[str, ...], Callable[[list[int], int, Model], _Found]]] = {
    "matmul": (("m", "n", "k"), _matmul),
    "fft": (("n",), _fft),
    "attention": (("n", "d"), _forward),
    "attention_grad": (("n", "d"), _backward),
}
