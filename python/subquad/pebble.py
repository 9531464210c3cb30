"""Red-blue pebbling: the words that must move between a small fast memory and a large slow one.

A `Dag` is a computation: its vertices are values, and an edge leads from an operand to a result. `play`
checks moves one by one and counts words; `simulate` plays an order of computation, of which `order` knows
several. `replay` counts what a cache moves, which decides by itself what stays. Variants of the game have
different optima, so every number comes with its `Model`.
"""

from ._pebble.bounds import LowerBound, lower_bounds
from ._pebble.dag import Dag
from ._pebble.devices import Device, Devices, devices
from ._pebble.game import Count, PebbleError, play
from ._pebble.model import Model
from ._pebble.moves import Moves
from ._pebble.optimal import Result, optimal
from ._pebble.orders import ImprovedOrder, improve_order, order
from ._pebble.plan import IOCandidate, IOPlan, attention_plan
from ._pebble.player import Player, player
from ._pebble.replay import Distances, Trace, Traffic, replay, reuse_distances
from ._pebble.simulate import simulate
from ._pebble.sweep import Crossover, Sweep, sweep

__all__ = [
    "Count",
    "Crossover",
    "Dag",
    "Device",
    "Devices",
    "Distances",
    "IOCandidate",
    "IOPlan",
    "ImprovedOrder",
    "LowerBound",
    "Model",
    "Moves",
    "PebbleError",
    "Player",
    "Result",
    "Sweep",
    "Trace",
    "Traffic",
    "attention_plan",
    "devices",
    "improve_order",
    "lower_bounds",
    "optimal",
    "order",
    "play",
    "player",
    "replay",
    "reuse_distances",
    "simulate",
    "sweep",
]
