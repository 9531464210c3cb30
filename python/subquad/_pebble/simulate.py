"""What an order of computation costs."""

from __future__ import annotations

from typing import Any, Literal, overload

from .. import _subquad
from .._options import check_choice
from .arguments import take_count, take_dag, take_flag, take_memory
from .dag import Dag
from .game import Count
from .model import Model, take_model
from .moves import Moves
from .orders import take_order

__all__ = ["POLICIES", "simulate"]

POLICIES = ("belady", "belady-clean", "best", "lru", "fifo", "random")


@overload
def simulate(
    dag: Dag,
    order: Any,
    memory: int,
    policy: str = ...,
    *,
    model: Model | None = ...,
    seed: int = ...,
    return_moves: Literal[False] = ...,
) -> Count: ...
@overload
def simulate(
    dag: Dag,
    order: Any,
    memory: int,
    policy: str = ...,
    *,
    model: Model | None = ...,
    seed: int = ...,
    return_moves: Literal[True],
) -> tuple[Count, Moves]: ...
def simulate(
    dag: Dag,
    order: Any,
    memory: int,
    policy: str = "belady",
    *,
    model: Model | None = None,
    seed: int = 0,
    return_moves: bool = False,
) -> Count | tuple[Count, Moves]:
    """Compute values in a given order, each once, and count the words that move.

    Before a value is computed, those of its operands that are not in fast memory are loaded; where there is
    no room, a policy says what leaves. A value that leaves is stored if it is not in slow memory; one that
    nobody needs any more is deleted for nothing; outputs are stored when they are last used.

    Parameters
    ----------
    dag : Dag
        The computation.
    order : array_like of int
        What outputs need, each value once and after its operands, as `order` returns it. Sources may be in
        it or not, for they are loaded when they are used first; they are skipped, and so is what no
        output needs.
    memory : int
        M, words of fast memory.
    policy : {"belady", "belady-clean", "best", "lru", "fifo", "random"}, optional
        What leaves:

        - "belady": what is used next furthest in the future (of operands of one value first those that need no
          store);
        - "belady-clean": of the 8 used next furthest in the future one that needs no store, if there is one;
        - "best": whichever of these two costs less;
        - "lru": what has not been used for longest;
        - "fifo": what has been in fast memory for longest;
        - "random": any, drawn from `seed`.

        Operands of what is being computed stay.
    model : Model, optional
        The game; values are computed once, whether it allows more or not.
    seed : int, optional
        For "random".
    return_moves : bool, optional
        Also return the moves.

    Returns
    -------
    count : Count
        What the play costs: an upper bound on the optimum.
    moves : Moves
        Only with `return_moves`. `play` counts the same.

    Raises
    ------
    ValueError
        If the order is none, with the value and the operand that comes after it; if the memory is too small, with
        the least that can do.

    See Also
    --------
    order, improve_order, play
    subquad.reference.pebble.simulate : The plain game, without "random", in a page of plain Python.

    Notes
    -----
    O(V + E) time, some tens of millions of values a second; 12 bytes per value and operand.

    No policy is optimal where evictions may cost a store, and looking furthest ahead may cost more than
    looking at what is in slow memory [2]_: hence "best". For the number of loads alone "belady" is
    optimal [1]_ among plays of this order.

    References
    ----------
    .. [1] L. A. Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems
       Journal 1966.
    .. [2] N. Beckmann, P. B. Gibbons, B. Haeupler and C. McGuffey, "Writeback-aware caching", APOCS 2020.

    Examples
    --------
    >>> from subquad.pebble import Dag, order, simulate
    >>> dag = Dag.fft(1024)
    >>> count = simulate(dag, order(dag), 34)
    >>> count.loads, count.stores, count.peak
    (9952, 9952, 34)
    >>> simulate(dag, order(dag, "blocked", block=32), 34).words
    4094
    """
    graph, game, words = take_dag(dag), take_model(model), take_memory(memory)
    listed = take_order(graph, order)
    check_choice("policy", policy, POLICIES)
    flag = take_flag("return_moves", return_moves)
    number = take_count("seed", seed, least=0, most=2**64 - 1)
    numbers, moves = _subquad.pebble_simulate(
        graph._core, listed, words, policy, number, game._fields(), flag
    )
    count = Count(*numbers, game)
    return count if moves is None else (count, Moves._of(moves))
