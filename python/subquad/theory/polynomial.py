r"""Degrees, ranks and thresholds of the polynomial method.

A polynomial p of degree g with :math:`|p(s) - e^s| \le \epsilon e^s` for all logits s turns the matrix of
weights into a product of two factors with :math:`r = C(d + g, g)` columns. How large g must be is the
question of [1]_, what follows for attention that of [2]_, for its gradient of [3]_, and for attention to
pairs and longer tuples of keys of [4]_.

`degree_growth`, `decay_degree_growth`, `entry_threshold` and `logit_threshold` are asymptotic statements,
without the constants that the theorems leave open. The others hold as they stand.

All logarithms are natural. Bounds on logits are on :math:`s = \text{scale} \, \langle q, k \rangle`,
whatever the scale; the papers take 1 / d.

References
----------
.. [1] Aggarwal, Alman, "Optimal-degree polynomial approximations for exponentials and Gaussian kernel
   density estimation", CCC 2022, arXiv:2205.06249.
.. [2] Alman, Song, "Fast attention requires bounded entries", NeurIPS 2023, arXiv:2302.13214.
.. [3] Alman, Song, "The fine-grained complexity of gradient computation for training large language
   models", NeurIPS 2024, arXiv:2402.04497.
.. [4] Alman, Song, "How to capture higher-order correlations? Generalizing matrix softmax attention to
   Kronecker computation", ICLR 2024, arXiv:2310.04064.
"""

from ._degrees import (
    chebyshev_degree,
    chebyshev_error,
    decay_degree_growth,
    degree_growth,
    taylor_degree,
    taylor_error,
)
from ._ranks import (
    attention_flops,
    crossover,
    entry_threshold,
    feature_count,
    logit_threshold,
    output_error,
    polynomial_flops,
)
from ._relative import relative_flops, term_count, term_flops

__all__ = [
    "attention_flops",
    "chebyshev_degree",
    "chebyshev_error",
    "crossover",
    "decay_degree_growth",
    "degree_growth",
    "entry_threshold",
    "feature_count",
    "logit_threshold",
    "output_error",
    "polynomial_flops",
    "relative_flops",
    "taylor_degree",
    "taylor_error",
    "term_count",
    "term_flops",
]
