"""Computations by name: for every value, in an order of computation, the values that it is computed from.

The vertices of the generators of `subquad.pebble.Dag` have these names and these operands; the tests compare.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = [
    "Operands",
    "attention",
    "attention_grad",
    "chain",
    "fft",
    "grid",
    "matmul",
    "pyramid",
    "random",
    "stencil",
    "tree",
]

# From the name of a value to the names of its operands.
Operands = dict[str, list[str]]


def chain(length: int) -> Operands:
    """Return one source, and `length` values each from the one before."""
    return {f"x[{i}]": [f"x[{i - 1}]"] if i else [] for i in range(length + 1)}


def tree(height: int) -> Operands:
    """Return a complete binary tree."""
    found: Operands = {}
    for level in range(height + 1):
        for i in range(2 ** (height - level)):
            below = [f"x[{level - 1},{2 * i}]", f"x[{level - 1},{2 * i + 1}]"]
            found[f"x[{level},{i}]"] = below if level else []
    return found


def pyramid(height: int) -> Operands:
    """Return rows that are one shorter each, every value from its two neighbours in the row before."""
    found: Operands = {}
    for row in range(height + 1):
        for i in range(height + 1 - row):
            found[f"x[{row},{i}]"] = [f"x[{row - 1},{i}]", f"x[{row - 1},{i + 1}]"] if row else []
    return found


def grid(rows: int, columns: int) -> Operands:
    """Return values each from the ones above and to the left."""
    found: Operands = {}
    for row in range(rows):
        for column in range(columns):
            above = [f"x[{row - 1},{column}]"] if row else []
            left = [f"x[{row},{column - 1}]"] if column else []
            found[f"x[{row},{column}]"] = above + left
    return found


def stencil(width: int, steps: int) -> Operands:
    """Return points that are computed again and again from themselves and their neighbours."""
    found: Operands = {}
    for step in range(steps + 1):
        for i in range(width):
            near = [j for j in (i - 1, i, i + 1) if 0 <= j < width]
            found[f"x[{step},{i}]"] = [f"x[{step - 1},{j}]" for j in near] if step else []
    return found


def fft(n: int) -> Operands:
    """Return the butterflies of a fast Fourier transform of `n` points."""
    found: Operands = {f"x[0,{i}]": [] for i in range(n)}
    for stage in range(1, n.bit_length()):
        for i in range(n):
            both = (i, i ^ (1 << (stage - 1)))
            found[f"x[{stage},{i}]"] = [f"x[{stage - 1},{j}]" for j in both]
    return found


def matmul(m: int, n: int, k: int, form: str = "fma") -> Operands:
    """Return C = A B, where A is m by k and B is k by n."""
    found = _matrix("A", m, k) | _matrix("B", k, n)
    for i in range(m):
        for j in range(n):
            _products(found, f"C[{i},{j}", [[f"A[{i},{x}]", f"B[{x},{j}]"] for x in range(k)], form)
    return found


def attention(n: int, d: int, form: str = "fma", softmax: str = "unnormalised") -> Operands:
    """Return O = softmax(Q K^T) V."""
    found = _matrix("Q", n, d) | _matrix("K", n, d) | _matrix("V", n, d)
    for i in range(n):
        for j in range(n):
            products = [[f"Q[{i},{c}]", f"K[{j},{c}]"] for c in range(d)]
            _products(found, f"S[{i},{j}", products, form)
        if softmax == "online":
            _online(found, i, n, d, form)
            continue
        scores = [[f"S[{i},{j}]"] for j in range(n)]
        if softmax == "safe":
            maximum = _values(found, f"m[{i}", [score[0] for score in scores], form)
            scores = [[*score, maximum] for score in scores]
        for j, operands in enumerate(scores):
            found[f"P[{i},{j}]"] = operands
        total = _values(found, f"l[{i}", [f"P[{i},{j}]" for j in range(n)], form)
        for c in range(d):
            products = [[f"P[{i},{j}]", f"V[{j},{c}]"] for j in range(n)]
            _products(found, f"U[{i},{c}", products, form)
            found[f"O[{i},{c}]"] = [f"U[{i},{c}]", total]
    return found


def _online(found: Operands, i: int, n: int, d: int, form: str) -> None:
    """Scale sums whenever the maximum may have grown."""
    maximum, total = f"S[{i},0]", f"P[{i},0]"
    found[total] = [maximum]
    found |= {f"U[{i},{c},0]": [total, f"V[0,{c}]"] for c in range(d)}
    for j in range(1, n):
        at, weight, scale = f"[{i},{j}]", f"P[{i},{j}]", f"r[{i},{j}]"
        found[f"m{at}"] = [maximum, f"S{at}"]
        found[scale] = [maximum, f"m{at}"]
        maximum = f"m{at}"
        found[weight] = [f"S{at}", maximum]
        if form == "fma":
            found[f"l{at}"] = [total, scale, weight]
        else:
            found |= {f"r*l{at}": [total, scale], f"l{at}": [f"r*l{at}", weight]}
        total = f"l{at}"
        for c in range(d):
            at, before = f"[{i},{c},{j}]", f"U[{i},{c},{j - 1}]"
            if form == "fma":
                found[f"U{at}"] = [before, scale, weight, f"V[{j},{c}]"]
            else:
                found[f"P*V{at}"] = [weight, f"V[{j},{c}]"]
                found[f"r*U{at}"] = [before, scale]
                found[f"U{at}"] = [f"r*U{at}", f"P*V{at}"]
    found |= {f"O[{i},{c}]": [f"U[{i},{c},{n - 1}]", total] for c in range(d)}


def attention_grad(n: int, d: int, form: str = "fma") -> Operands:
    """Return dQ, dK and dV from Q, K, V, O, dO and the logarithms L of the sums of exponentials."""
    found: Operands = {}
    for label in ("Q", "K", "V", "O", "dO"):
        found |= _matrix(label, n, d)
    rows, columns = range(n), range(d)
    found |= {f"L[{i}]": [] for i in rows}
    for i in rows:
        _products(found, f"D[{i}", [[f"dO[{i},{c}]", f"O[{i},{c}]"] for c in columns], form)
    for i in rows:
        for j in rows:
            at = f"[{i},{j}"
            _products(found, f"S{at}", [[f"Q[{i},{c}]", f"K[{j},{c}]"] for c in columns], form)
            found[f"P{at}]"] = [f"S{at}]", f"L[{i}]"]
            _products(found, f"dP{at}", [[f"dO[{i},{c}]", f"V[{j},{c}]"] for c in columns], form)
            found[f"dS{at}]"] = [f"P{at}]", f"dP{at}]", f"D[{i}]"]
    for i in rows:
        for c in columns:
            at = f"[{i},{c}"
            _products(found, f"dQ{at}", [[f"dS[{i},{j}]", f"K[{j},{c}]"] for j in rows], form)
            _products(found, f"dK{at}", [[f"dS[{j},{i}]", f"Q[{j},{c}]"] for j in rows], form)
            _products(found, f"dV{at}", [[f"P[{j},{i}]", f"dO[{j},{c}]"] for j in rows], form)
    return found


def random(
    num_vertices: int, sources: int, operands: tuple[int, int] = (1, 3), seed: int = 0
) -> Operands:
    """Return values of random operands: how many is drawn, then each from all values before."""
    least, most = operands
    state = seed

    def below(end: int) -> int:
        nonlocal state
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        x = state
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
        return (x ^ (x >> 31)) * end >> 64

    found: Operands = {}
    for v in range(num_vertices):
        drawn = 0 if v < sources else least + below(most - least + 1)
        found[f"x[{v}]"] = [f"x[{below(v)}]" for _ in range(drawn)]
    return found


def _matrix(label: str, rows: int, columns: int) -> Operands:
    return {f"{label}[{i},{j}]": [] for i in range(rows) for j in range(columns)}


def _products(found: Operands, name: str, factors: list[list[str]], form: str) -> None:
    """Add the sum of some products, which is called `name]`."""
    whole = len(factors)

    def part(first: int, last: int) -> str:
        return f"{name}]" if last - first == whole else f"{name};{first}:{last}]"

    if form == "fma":
        for t, pair in enumerate(factors):
            found[part(0, t + 1)] = pair if t == 0 else [part(0, t), *pair]
        return
    for t, pair in enumerate(factors):
        found[part(t, t + 1)] = pair
    _added(found, part, [part(t, t + 1) for t in range(whole)], form)


def _values(found: Operands, name: str, terms: list[str], form: str) -> str:
    """Add the sum of some values, which is called `name]`, and return what it is called."""
    whole = len(terms)
    return _added(
        found, lambda a, b: f"{name}]" if b - a == whole else f"{name};{a}:{b}]", terms, form
    )


def _added(found: Operands, part: Callable[[int, int], str], terms: list[str], form: str) -> str:
    """Add up terms one after the other, or in pairs, pairs of pairs and so on."""

    def add(first: int, last: int) -> str:
        if last - first == 1:
            return terms[first]
        # Whatever is paired with the last ones is a power of two, the largest that leaves some over.
        middle = first + 2 ** ((last - first - 1).bit_length() - 1) if form == "tree" else last - 1
        found[part(first, last)] = [add(first, middle), add(middle, last)]
        return part(first, last)

    return add(0, len(terms))
