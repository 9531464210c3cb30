"""Polynomials close to the exponential: how they are found, proved, and kept as a table.

`enclosure` proves errors in integer arithmetic, `remez` finds coefficients, `generate` makes the table
of the package (``python -m subquad._tables.generate``), `table` reads it. Only the standard library is
needed to make it, so that anyone can.
"""
