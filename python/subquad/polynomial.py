"""The polynomial method: attention by low-rank factors of the exponential.

A polynomial of degree g that is close to exp on the logits makes the matrix of weights a product of two
factors with C(d + g, g) columns. `coefficients` returns the polynomial and a proved error;
`feasibility` says for which logits it has fewer features than there are keys. The theory is in
`subquad.theory.polynomial`.
"""

from ._exponential import coefficients
from ._feasibility import Feasibility, FeasibleDegree, feasibility

__all__ = ["Feasibility", "FeasibleDegree", "coefficients", "feasibility"]
