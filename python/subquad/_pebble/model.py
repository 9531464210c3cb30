"""The variant of the game, which every number carries."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .._options import check_choice, check_real

__all__ = ["Fields", "Model", "take_model"]

# Beyond, costs of plays would lose their words to rounding, or be infinite.
_DEAREST = 1e15

# As the compiled module takes a model.
Fields = tuple[bool, bool, bool, bool, float, str, str]


@dataclass(frozen=True, kw_only=True, repr=False)
class Model:
    """The rules of a game of pebbles that authors choose differently.

    Costs and optima of different models are not comparable, so counts, results and plans carry theirs.

    Parameters
    ----------
    recompute : bool, optional
        May a value be computed more than once? Hong and Kung allow it; without, the game is called
        one-shot, and its optimum may be larger.
    sliding : bool, optional
        May the pebble of an operand move to the value that is computed from it? Then a value and its
        last operand share a place in fast memory. As moves this is a ``compute`` followed at once by
        the ``delete`` of one of its operands; memory may be overfull between the two.
    blue_persists : bool, optional
        Does a value stay in slow memory when it is loaded, and in fast memory when it is stored? If
        not, pebbles are recoloured, and a value that was loaded must be stored again to be kept.
    deletes : bool, optional
        May a value leave fast memory without being in slow memory?
    compute_cost : float, optional
        What computing a value costs, in words moved; from 0 to 10^15.
    sources : {"blue", "computable"}, optional
        Where sources begin: in slow memory, or nowhere, to be computed from nothing.
    outputs : {"blue", "any"}, optional
        Where outputs must end: in slow memory, or in either.

    Notes
    -----
    The defaults are the game of [1]_ without recomputation; ``Model(recompute=True)`` is theirs.
    [2]_ compares the variants.

    References
    ----------
    .. [1] J.-W. Hong and H. T. Kung, "I/O complexity: the red-blue pebble game", STOC 1981.
    .. [2] P. A. Papp and R. Wattenhofer, "On the hardness of red-blue pebble games",
       arXiv:2005.08609.

    Examples
    --------
    >>> from subquad.pebble import Model
    >>> Model(recompute=True)
    Model(recompute=True)
    """

    recompute: bool = False
    sliding: bool = False
    blue_persists: bool = True
    deletes: bool = True
    compute_cost: float = 0
    sources: str = "blue"
    outputs: str = "blue"

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("recompute", "sliding", "blue_persists", "deletes"):
            value = getattr(self, name)
            if not isinstance(value, bool | np.bool_):
                raise TypeError(f"`{name}` must be True or False, got {value!r}")
            object.__setattr__(self, name, bool(value))
        cost = check_real("compute_cost", self.compute_cost)
        if not (math.isfinite(cost) and cost >= 0.0):
            raise ValueError(f"`compute_cost` must be finite and at least 0, got {cost}")
        if cost > _DEAREST:
            raise ValueError(f"`compute_cost` must be at most {_DEAREST:g}, got {cost:g}")
        object.__setattr__(self, "compute_cost", cost)
        check_choice("sources", self.sources, ("blue", "computable"))
        check_choice("outputs", self.outputs, ("blue", "any"))

    def __repr__(self) -> str:
        """Return what differs from the defaults."""
        return f"Model({', '.join(f'{name}={value!r}' for name, value in self._changed())})"

    def __str__(self) -> str:
        """Return the name of the game, then what else differs from the defaults."""
        game = "recomputation" if self.recompute else "one-shot"
        others = [f"{name}={value!r}" for name, value in self._changed() if name != "recompute"]
        return ", ".join([game, *others])

    def _changed(self) -> list[tuple[str, Any]]:
        values = [(field, getattr(self, field.name)) for field in fields(self)]
        return [(field.name, value) for field, value in values if value != field.default]

    def _fields(self) -> Fields:
        """Return the fields as the compiled module takes them."""
        flags = self.recompute, self.sliding, self.blue_persists, self.deletes
        return (*flags, self.compute_cost, self.sources, self.outputs)


def take_model(model: Any) -> Model:
    """Return `model`; None stands for the defaults."""
    if model is None:
        return Model()
    if not isinstance(model, Model):
        raise TypeError(f"`model` must be a Model or None, got {model!r}")
    return model
