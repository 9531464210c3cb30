"""Proofs of cheapest plays: what they take, and against an integer program.

    python pebble_optimal.py                 all; some minutes, most of them the other solver's
    python pebble_optimal.py --quick         a selection, with short limits
    python pebble_optimal.py --only fine     one part: known, fine or cpsat

``known`` counts the states that are expanded for graphs whose optima are known. ``fine`` has fine-grained
graphs of sparse linear algebra, of the kind and size that solvers of this problem are tested with, at the least memory r0 and at
2 r0. ``cpsat`` needs OR-tools: the game as an integer program, whose binary variables say what is computed, in
fast memory and loaded at each step, with the loads of inputs as linear cuts and eight workers; the two
solvers take turns in one process, and both have the same limit. A play of one must not beat a bound of the other.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from subquad.pebble import Dag, optimal, play

Case = tuple[str, Dag, int]


def known(quick: bool) -> list[Case]:
    """Graphs whose optima are known, at all memories that matter."""
    families = [
        ("matmul 3x3x3", Dag.matmul(3, 3, 3), range(4, 15)),
        ("fft 8", Dag.fft(8), range(3, 11)),
        ("stencil 8x4", Dag.stencil(8, 4), range(4, 8)),
        ("pyramid 8", Dag.pyramid(8), range(5, 6)),
        ("grid 8x8", Dag.grid(8, 8), range(5, 6)),
        ("tree 5", Dag.tree(5), range(4, 6)),
        ("attention n=2 d=3", Dag.attention(2, 3), range(6, 7)),
        ("attention n=3 d=1", Dag.attention(3, 1), range(6 if quick else 5, 11)),
    ]
    if not quick:
        families += [
            ("attention n=2 d=4", Dag.attention(2, 4), range(6, 7)),
            ("stencil 8x8", Dag.stencil(8, 8), range(6, 8)),
            ("pyramid 9", Dag.pyramid(9), range(5, 6)),
            ("matmul 3x3x3 chain", Dag.matmul(3, 3, 3, form="chain"), range(5, 6)),
            ("matmul 4x4x2", Dag.matmul(4, 4, 2), range(6, 7)),
            ("attention n=3 d=2", Dag.attention(3, 2), range(6, 7)),
            ("fft 16", Dag.fft(16), range(6, 7)),
        ]
    return [(name, dag, memory) for name, dag, memories in families for memory in memories]


class Builder:
    """A graph that grows."""

    def __init__(self) -> None:
        self.edges: list[tuple[int, int]] = []
        self.size = 0

    def add(self, *operands: int) -> int:
        """Return a new value of some others, or a source."""
        self.edges += [(operand, self.size) for operand in set(operands)]
        self.size += 1
        return self.size - 1

    def sources(self, count: int) -> list[int]:
        return [self.add() for _ in range(count)]

    def product(self, matrix: dict[tuple[int, int], int], vector: Sequence[int]) -> list[int]:
        """Return a sparse matrix times a vector, each entry the sum of its products at once."""
        rows = sorted({i for i, _ in matrix})
        terms = {ij: self.add(entry, vector[ij[1]]) for ij, entry in matrix.items()}
        return [self.add(*(term for (i, _), term in terms.items() if i == row)) for row in rows]

    def dot(self, one: Sequence[int], other: Sequence[int]) -> int:
        return self.add(*(self.add(a, b) for a, b in zip(one, other, strict=True)))

    def plus(self, one: Sequence[int], factor: int, other: Sequence[int]) -> list[int]:
        """Return one vector plus a factor times another."""
        return [self.add(a, factor, b) for a, b in zip(one, other, strict=True)]

    def dag(self) -> Dag:
        return Dag.from_edges(self.size, self.edges)


def sparse(builder: Builder, size: int, density: float, seed: int) -> dict[tuple[int, int], int]:
    """Return the entries of a sparse matrix whose diagonal is full."""
    rng = np.random.default_rng(seed)
    places = [(i, j) for i in range(size) for j in range(size) if i == j or rng.random() < density]
    return dict(zip(places, builder.sources(len(places)), strict=True))


def sparse_product(size: int) -> Dag:
    """Return a sparse matrix times a vector."""
    builder = Builder()
    matrix = sparse(builder, size, 0.25, 1)
    builder.product(matrix, builder.sources(size))
    return builder.dag()


def matrix_power(size: int, times: int) -> Dag:
    """Return a sparse matrix times a vector, again and again."""
    builder = Builder()
    matrix = sparse(builder, size, 0.3, 2)
    vector = builder.sources(size)
    for _ in range(times):
        vector = builder.product(matrix, vector)
    return builder.dag()


def conjugate_gradients(size: int, steps: int) -> Dag:
    """Return steps of conjugate gradients with a full matrix."""
    builder = Builder()
    matrix = sparse(builder, size, 1.0, 3)
    x, residual = builder.sources(size), builder.sources(size)
    direction, norm = residual, builder.dot(residual, residual)
    for _ in range(steps):
        image = builder.product(matrix, direction)
        alpha = builder.add(norm, builder.dot(direction, image))
        x = builder.plus(x, alpha, direction)
        residual = builder.plus(residual, alpha, image)
        after = builder.dot(residual, residual)
        direction = builder.plus(residual, builder.add(after, norm), direction)
        norm = after
    return builder.dag()


def page_rank(size: int, steps: int) -> Dag:
    """Return steps of a damped power iteration."""
    builder = Builder()
    matrix = sparse(builder, size, 0.2, 4)
    damping, rank = builder.add(), builder.sources(size)
    for _ in range(steps):
        rank = [builder.add(damping, entry) for entry in builder.product(matrix, rank)]
    return builder.dag()


def means(points: int, centres: int) -> Dag:
    """Return a step of k-means."""
    builder = Builder()
    where, centre = builder.sources(points), builder.sources(centres)
    distances = [[builder.add(p, c) for c in centre] for p in where]
    nearest = [builder.add(*row) for row in distances]
    shares = [[builder.add(p, n) for p, n in zip(where, nearest, strict=True)] for _ in centre]
    for row in shares:
        builder.add(*row[: points // 2], *row[points // 2 :])
    return builder.dag()


def fine(quick: bool) -> list[Case]:
    """Fine-grained computations with sparse matrices."""
    graphs = [
        ("sparse product 6", sparse_product(6)),
        ("sparse power 4^2", matrix_power(4, 2)),
        ("conjugate gradients 2x2", conjugate_gradients(2, 2)),
        ("page rank 4x2", page_rank(4, 2)),
        ("means 5x2", means(5, 2)),
    ]
    cases = []
    for name, dag in graphs[: 3 if quick else None]:
        least = dag.least_memory()
        cases += [(name, dag, least), (name, dag, 2 * least)]
    return cases


def against(quick: bool) -> list[Case]:
    """Cases for both solvers."""
    cases = [
        ("attention n=2 d=1", Dag.attention(2, 1), 4),
        ("matmul 2x2x3", Dag.matmul(2, 2, 3), 4),
        ("tree 4", Dag.tree(4), 4),
        ("pyramid 6", Dag.pyramid(6), 4),
        ("matmul 2x2x2", Dag.matmul(2, 2, 2), 4),
        ("fft 4", Dag.fft(4), 4),
        ("grid 4x4", Dag.grid(4, 4), 3),
    ]
    if quick:
        return cases[-3:]
    return [
        *cases,
        ("attention n=2 d=2", Dag.attention(2, 2), 4),
        ("fft 8", Dag.fft(8), 6),
        ("stencil 8x4", Dag.stencil(8, 4), 5),
        ("matmul 3x3x3", Dag.matmul(3, 3, 3), 6),
    ]


def proofs(cases: Iterable[Case], limit: float) -> None:
    """Print what proving each case takes."""
    row = "{:<24} {:>4} {:>3} {:>10} {:>9} {:>9} {:>7} {:>9}"
    print(row.format("graph", "V", "M", "cost", "expanded", "states", "MB", "seconds"))
    for name, dag, memory in cases:
        start = time.perf_counter()
        found = optimal(dag, memory, time_limit=limit)
        seconds = time.perf_counter() - start
        assert found.moves is not None
        assert play(dag, found.moves, memory).words == found.upper
        cost = f"{found.upper}" if found.proved else f"{found.lower}..{found.upper}"
        size, states = f"{found.bytes / 1e6:.1f}", found.states
        figures = dag.num_vertices, memory, cost, found.expanded, states, size, f"{seconds:.3f}"
        print(row.format(name, *figures), flush=True)


def program(dag: Dag, memory: int, limit: float) -> tuple[bool, float, float]:
    """Solve the game as an integer program; return whether it is proved, the bound and the best cost."""
    from ortools.sat.python import cp_model

    preds = [dag.predecessors(v).tolist() for v in range(dag.num_vertices)]
    computed = [v for v, operands in enumerate(preds) if operands]
    before, after = relatives(preds)
    last = len(computed) - 1
    model: Any = cp_model.CpModel()
    steps = range(len(computed))
    window = {v: (before[v], last - after[v]) for v in computed}
    make = {
        (v, t): model.new_bool_var("")
        for v in computed
        for t in range(window[v][0], window[v][1] + 1)
    }
    red = {(v, t): model.new_bool_var("") for v in range(dag.num_vertices) for t in steps}
    load = {key: model.new_bool_var("") for key in red}
    store = {v: model.new_bool_var("") for v in computed}
    for t in steps:
        model.add_exactly_one(make[v, t] for v in computed if (v, t) in make)
        model.add(sum(red[v, t] for v in range(dag.num_vertices)) <= memory)
    for v in computed:
        model.add_exactly_one(make[v, t] for t in steps if (v, t) in make)
    for (v, t), made in make.items():
        model.add_implication(made, red[v, t])
        for u in preds[v]:
            model.add_implication(made, red[u, t])
    for (v, t), there in red.items():
        reasons = [there.negated(), load[v, t]]
        reasons += [red[v, t - 1]] if t else []
        reasons += [make[v, t]] if (v, t) in make else []
        model.add_bool_or(reasons)
        if preds[v]:
            model.add_implication(load[v, t], store[v])
            earlier = [make[v, s] for s in range(t) if (v, s) in make]
            model.add_bool_or([load[v, t].negated(), *earlier])
    for v in dag.outputs.tolist():
        model.add(store[v] == 1)
    for u in {u for operands in preds for u in operands if not preds[u]}:
        model.add(sum(load[u, t] for t in steps) >= 1)
    model.minimize(sum(load.values()) + sum(store.values()))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = limit
    solver.parameters.num_workers = 8
    status = solver.solve(model)
    feasible = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    cost = solver.objective_value if feasible else float("inf")
    return status == cp_model.OPTIMAL, solver.best_objective_bound, cost


def relatives(preds: list[list[int]]) -> tuple[list[int], list[int]]:
    """Return how many computed values each one needs, and how many need it; operands have smaller numbers."""
    below: list[set[int]] = [set() for _ in preds]
    for v, operands in enumerate(preds):
        for u in operands:
            below[v] |= below[u] | ({u} if preds[u] else set())
    above = [sum(v in needed for needed in below) for v in range(len(preds))]
    return [len(needed) for needed in below], above


def duel(cases: Iterable[Case], limit: float, rounds: int) -> None:
    """Print both solvers' outcomes and the ratio of their times."""
    row = "{:<20} {:>3} {:>10} {:>9} {:>12} {:>9} {:>9}"
    print(row.format("graph", "M", "cost", "seconds", "CP-SAT", "seconds", "ratio"))
    ratios = []
    for name, dag, memory in cases:
        ours, theirs = [], []
        for _ in range(rounds):
            start = time.perf_counter()
            found = optimal(dag, memory, time_limit=limit)
            ours.append(time.perf_counter() - start)
            start = time.perf_counter()
            proved, bound, cost = program(dag, memory, limit)
            theirs.append(time.perf_counter() - start)
        assert found.lower <= cost
        assert bound <= found.upper + 1e-6
        ratio = min(theirs) / min(ours)
        if proved and found.proved:
            assert cost == found.upper
            ratios.append(ratio)
        there = f"{cost:.0f}" if proved else f"{bound:.0f}..{cost:.0f}"
        here = f"{found.upper}" if found.proved else f"{found.lower}..{found.upper}"
        figures = memory, here, f"{min(ours):.4f}", there, f"{min(theirs):.2f}"
        print(row.format(name, *figures, f"{'' if proved else '>'}{ratio:.0f}"), flush=True)
    if ratios:
        print(f"median ratio where both prove: {statistics.median(ratios):.0f}")


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=("known", "fine", "cpsat"))
    parser.add_argument("--limit", type=float, help="seconds for each proof")
    parser.add_argument("--rounds", type=int, default=1, help="of the duel; the best time counts")
    options = parser.parse_args()
    limit = options.limit or (5.0 if options.quick else 60.0)
    if options.only in (None, "known"):
        proofs(known(options.quick), limit)
    if options.only in (None, "fine"):
        proofs(fine(options.quick), limit)
    if options.only in (None, "cpsat"):
        try:
            import ortools  # noqa: F401
        except ImportError:
            print("without OR-tools there is no duel: pip install ortools")
        else:
            duel(against(options.quick), limit, options.rounds)


if __name__ == "__main__":
    main()
