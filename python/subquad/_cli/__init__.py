"""The command line `python -m subquad`: captured heads through the library, and what came of it."""
