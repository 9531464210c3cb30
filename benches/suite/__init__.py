"""Benchmarks of subquad, for asv and for ``python report.py``."""
