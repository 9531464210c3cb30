"""The polynomial method: attention by low-rank factors of the exponential.

A polynomial of degree g that is close to exp on the logits makes the matrix of weights a product of two
factors with C(d + g, g) columns. `coefficients` returns the polynomial and a proved error;
`feasibility` says for which logits it has fewer features than there are keys. `factor` makes the factors,
of `features` and their `weights`. `attention_loss_grad` is the gradient whose complexity the theory is
about; see `subquad.theory.polynomial`.
"""

from ._exponential import coefficients
from ._factor import factor
from ._factors import Factors
from ._feasibility import Feasibility, FeasibleDegree, feasibility
from ._features import features, weights
from ._loss_grad import attention_loss_grad

__all__ = [
    "Factors",
    "Feasibility",
    "FeasibleDegree",
    "attention_loss_grad",
    "coefficients",
    "factor",
    "feasibility",
    "features",
    "weights",
]
