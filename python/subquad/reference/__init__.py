"""Slow, readable twins of every public function that takes arrays.

Each has the signature of its twin and refuses the same arguments, but follows the definition, in
plain numpy and float64, or, where the answer is a set, in exact arithmetic. Results are numpy
arrays. The tests compare the library with these; read them to see what it computes.
"""

from . import halfspace, pebble, polynomial, rope, toeplitz
from ._attention import attention, attention_grad, merge, plan
from ._polynomial import polynomial_attention, polynomial_attention_grad
from ._toeplitz_attention import toeplitz_attention, toeplitz_attention_grad

__all__ = [
    "attention",
    "attention_grad",
    "halfspace",
    "merge",
    "pebble",
    "plan",
    "polynomial",
    "polynomial_attention",
    "polynomial_attention_grad",
    "rope",
    "toeplitz",
    "toeplitz_attention",
    "toeplitz_attention_grad",
]
