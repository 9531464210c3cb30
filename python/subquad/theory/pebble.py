"""Bounds of red-blue pebbling: how many words must move between a small fast memory and a large slow one.

Three kinds, and they are not to be confused. *Optima* are exact, for a few graphs whose optimum is known in
closed form, and for trees. *Lower bounds* are proved, constants included: no algorithm of the class that
they name moves fewer words; for attention every weight is made of its own score. *Orders* are the theorems of the papers with constant 1, for exponents and pictures.

Words are counted as in `subquad.pebble`: loads and stores, of one word per value. The proofs are in the
headers of the modules where the functions are: `_pebble_segments` has the argument that all lower bounds
share, `_pebble_programs` and `_pebble_attention` apply it to attention.
"""

from ._pebble_attention import attention_lower_bound
from ._pebble_optima import (
    chain_optimum,
    fft_optimum,
    grid_optimum,
    matmul_optimum,
    pyramid_optimum,
    tree_optimum,
)
from ._pebble_orders import (
    attention_gradient_order,
    attention_order,
    flash_attention_order,
    sparse_attention_order,
    standard_attention_order,
    var_kv_lower_bound,
)
from ._pebble_products import fft_lower_bound, matmul_lower_bound
from ._pebble_scores import attention_trivial_bound, count_scores
from ._pebble_trees import tree_number, tree_spills, tree_words

__all__ = [
    "attention_gradient_order",
    "attention_lower_bound",
    "attention_order",
    "attention_trivial_bound",
    "chain_optimum",
    "count_scores",
    "fft_lower_bound",
    "fft_optimum",
    "flash_attention_order",
    "grid_optimum",
    "matmul_lower_bound",
    "matmul_optimum",
    "pyramid_optimum",
    "sparse_attention_order",
    "standard_attention_order",
    "tree_number",
    "tree_optimum",
    "tree_spills",
    "tree_words",
    "var_kv_lower_bound",
]
