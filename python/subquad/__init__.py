"""Attention with an error budget.

`attention` computes softmax attention exactly, or as cheaply as the data allow within a budget
``eps`` that a returned bound certifies; `attention_grad` is its gradient, `merge` puts attention over
disjoint sets of keys together, `plan` says what a call would do and why. `halfspace` reports which
keys reach a threshold, `pebble` how many words a computation must move between two memories,
`polynomial` says what a polynomial can do in place of the exponential, `rope` turns queries and keys by
their positions, `toeplitz` has products and biases of relative positions.
`reference` holds slow, readable twins of every function that takes arrays.

Arrays must not be modified by another thread while a call reads them.
"""

from . import halfspace, pebble, polynomial, reference, rope, theory, toeplitz
from ._attention import attention
from ._config import show_config
from ._errors import AccuracyWarning, CertificateError
from ._gradient import attention_grad
from ._info import Gradients, Info
from ._merge import merge
from ._plan import Plan
from ._planner import plan
from ._polynomial import polynomial_attention, polynomial_attention_grad
from ._subquad import __version__
from ._threads import num_threads, set_num_threads, thread_limit
from ._toeplitz_attention import toeplitz_attention, toeplitz_attention_grad

__all__ = [
    "AccuracyWarning",
    "CertificateError",
    "Gradients",
    "Info",
    "Plan",
    "__version__",
    "attention",
    "attention_grad",
    "halfspace",
    "merge",
    "num_threads",
    "pebble",
    "plan",
    "polynomial",
    "polynomial_attention",
    "polynomial_attention_grad",
    "reference",
    "rope",
    "set_num_threads",
    "show_config",
    "theory",
    "thread_limit",
    "toeplitz",
    "toeplitz_attention",
    "toeplitz_attention_grad",
]
