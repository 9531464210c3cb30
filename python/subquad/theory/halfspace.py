r"""Bounds on half-space reporting and on attention by it, from arXiv:2410.10165.

The paper [1]_ keeps the logits :math:`s_i = \langle q, k_i \rangle / \sqrt d` that reach a threshold
b. Thresholds and standard deviations here are those of logits. `subquad.halfspace.Index` compares
:math:`\langle q, k_i \rangle` itself, so it takes :math:`b \sqrt d`. (Algorithms 1 and 2 of the paper
hand b to the data structure without this factor. For b > 0 that reports more keys than are activated:
the output is the same, the counts below do not apply.)

Keys are Gaussian where a count is bounded: n keys of d independent entries of mean 0 and standard
deviation `key_std`. Given q, logits then are independent and Gaussian. Real keys are neither
independent nor isotropic: measure before relying on a count.

All logarithms are natural. Costs are numbers of steps without the constants of the theorems.

References
----------
.. [1] "HSR-enhanced sparse attention acceleration", CPAL 2025, arXiv:2410.10165. Its data structure is
   that of Agarwal, Eppstein and Matoušek, "Dynamic half-space reporting, geometric optimization, and
   minimum spanning trees", FOCS 1992.
"""

from ._costs import (
    build_exponent,
    decoding_steps,
    prefill_steps,
    query_exponent,
    query_steps,
    space,
    update_exponent,
    update_steps,
)
from ._counts import (
    count_bound,
    count_bound_failure,
    expected_count,
    logit_std,
    logit_std_bound,
    quantile_threshold,
    query_norm_bound,
    sparse_count,
    sparse_threshold,
    sparsity,
)
from ._lost_mass import (
    discarded_mass_error,
    massive_activation,
    massive_activation_error,
)

__all__ = [
    "build_exponent",
    "count_bound",
    "count_bound_failure",
    "decoding_steps",
    "discarded_mass_error",
    "expected_count",
    "logit_std",
    "logit_std_bound",
    "massive_activation",
    "massive_activation_error",
    "prefill_steps",
    "quantile_threshold",
    "query_exponent",
    "query_norm_bound",
    "query_steps",
    "space",
    "sparse_count",
    "sparse_threshold",
    "sparsity",
    "update_exponent",
    "update_steps",
]
