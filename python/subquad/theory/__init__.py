"""What the papers prove, as plain functions of a few numbers.

One module per family, with the names of the field; every function names its theorem. Costs are without
the constants that the theorems leave open, so compare their growth, not their size. What is measured
against them, and where a statement does not hold as it is printed, is said with the function.
"""

from . import halfspace, pebble, polynomial, toeplitz

__all__ = ["halfspace", "pebble", "polynomial", "toeplitz"]
