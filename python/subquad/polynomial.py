"""The polynomial method: attention by low-rank factors of the exponential.

A polynomial of degree g that is close to exp on the logits makes the matrix of weights a product of two
factors with C(d + g, g) columns. `coefficients` returns the polynomial and a proved error;
`feasibility` says for which logits it has fewer features than there are keys. `features` and `weights` are
what the factors are made of. The theory is in `subquad.theory.polynomial`.
"""

from ._exponential import coefficients
from ._factor import factor
from ._factors import Factors
from ._feasibility import Feasibility, FeasibleDegree, feasibility
from ._features import features, weights

__all__ = [
    "Factors",
    "Feasibility",
    "FeasibleDegree",
    "coefficients",
    "factor",
    "feasibility",
    "features",
    "weights",
]
