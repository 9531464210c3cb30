"""Sums of features over blocks of tokens, rows read from them, and the gradients of both."""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import comb
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from polynomial_sums import DTYPES
from polynomials import taylor
from running import assert_same_bits, task_order

from subquad import _subquad, polynomial

Array = NDArray[Any]
Arrays = dict[str, Array]

SCALE = 0.3

pytestmark = pytest.mark.usefixtures("thread_state")


class Sizes(NamedTuple):
    """Heads, tokens, weights of a token, a width, that of the values, a degree, tokens of a block."""

    heads: int = 2
    tokens: int = 230
    weights: int = 3
    width: int = 5
    value_width: int = 7
    degree: int = 2
    block: int = 100

    @property
    def features(self) -> int:
        return comb(self.width + self.degree, self.degree)

    @property
    def blocks(self) -> int:
        return -(-self.tokens // self.block)


def problem(sizes: Sizes, dtype: Any = np.float64, seed: int = 0) -> Arrays:
    """Draw tokens of one side: coordinates, weights, values with masses, and sums of every block."""
    rng = np.random.default_rng(seed)
    h, n, k, e, ev, _, _ = sizes
    of_blocks = (h, sizes.blocks, k, sizes.features)
    shapes = {
        "tokens": (h, n, e),
        "weights": (h, k, n),
        "values": (h, n, ev),
        "value_masses": (h, n),
        "sums": (*of_blocks, ev),
        "masses": of_blocks,
    }
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def by_block(array: Array, sizes: Sizes, axis: int = 1) -> list[Array]:
    return np.split(array, range(sizes.block, sizes.tokens, sizes.block), axis=axis)


def features_of(x: Array, sizes: Sizes) -> Array:
    # The public functions begin at degree one.
    rows = x.reshape(x.shape[0] * x.shape[1], sizes.width)
    flat: Array = polynomial.features(rows, max(sizes.degree, 1))
    return flat[:, : sizes.features].reshape(*x.shape[:2], sizes.features)


def factors(sizes: Sizes, c: Array) -> Array:
    """Coefficients, powers of the scale and multinomial weights of all features."""
    of_degree = [comb(sizes.width + t, t) for t in range(sizes.degree + 1)]
    degrees = np.repeat(np.arange(sizes.degree + 1), np.diff([0, *of_degree]))
    weights: Array = polynomial.weights(sizes.width, max(sizes.degree, 1))[: sizes.features]
    return weights * c[degrees] * SCALE ** degrees.astype(float)


def expected_sums(x: Arrays, sizes: Sizes, f: Array, masses: bool) -> tuple[Array, Array]:
    """Sum factors, weights, features and values (with their masses, or one) over every block."""
    phi = by_block(features_of(x["tokens"], sizes), sizes)
    weights = by_block(x["weights"], sizes, axis=2)
    values = by_block(x["values"], sizes)
    ones = x["value_masses"] if masses else np.ones_like(x["value_masses"])
    split = by_block(ones, sizes)
    many = list(zip(weights, phi, values, split, strict=True))
    sums = [np.einsum("m,hkn,hnm,hnc->hkmc", f, w, a, v, optimize=True) for w, a, v, _ in many]
    mass = [np.einsum("m,hkn,hnm,hn->hkm", f, w, a, u, optimize=True) for w, a, _, u in many]
    return np.stack(sums, axis=1), np.stack(mass, axis=1)


def expected_rows(x: Arrays, sizes: Sizes, f: Array) -> tuple[Array, Array, Array]:
    """Read rows, their masses, and what each weight gets if values and masses are the cotangents."""
    phi = by_block(features_of(x["tokens"], sizes) * f, sizes)
    weights = by_block(x["weights"], sizes, axis=2)
    parts = [np.einsum("hnm,hkmc->hknc", a, x["sums"][:, b]) for b, a in enumerate(phi)]
    of_masses = [np.einsum("hnm,hkm->hkn", a, x["masses"][:, b]) for b, a in enumerate(phi)]
    rows = [np.einsum("hkn,hknc->hnc", w, p) for w, p in zip(weights, parts, strict=True)]
    masses = [np.einsum("hkn,hkn->hn", w, p) for w, p in zip(weights, of_masses, strict=True)]
    part, of_mass = np.concatenate(parts, axis=2), np.concatenate(of_masses, axis=2)
    slopes = np.einsum("hknc,hnc->hkn", part, x["values"])
    slopes += of_mass * x["value_masses"][:, None]
    return np.concatenate(rows, axis=1), np.concatenate(masses, axis=1), slopes


def expected_slopes(x: Arrays, sizes: Sizes, f: Array) -> Array:
    """Differentiate `values . rows`, with their masses, by the tokens: monomial by monomial."""
    count, choose = range(sizes.width), combinations_with_replacement
    words = [word for t in range(sizes.degree + 1) for word in choose(count, t)]
    index = {word: m for m, word in enumerate(words)}
    phi = features_of(x["tokens"], sizes)
    weights, values = by_block(x["weights"], sizes, axis=2), by_block(x["values"], sizes)
    parts = []
    for b, masses in enumerate(by_block(x["value_masses"], sizes)):
        part = np.einsum("hkmc,hnc->hknm", x["sums"][:, b], values[b])
        part += x["masses"][:, b, :, None] * masses[:, None, :, None]
        parts.append(np.einsum("m,hkn,hknm->hnm", f, weights[b], part, optimize=True))
    slopes = np.concatenate(parts, axis=1)
    found = np.zeros_like(x["tokens"])
    for axis in count:
        for word in (word for word in words if axis in word):
            at = word.index(axis)
            rest = index[word[:at] + word[at + 1 :]]
            found[..., axis] += word.count(axis) * phi[..., rest] * slopes[..., index[word]]
    return found


class Found(NamedTuple):
    """All that the compiled functions give."""

    sums: Arrays
    rows: Arrays
    rows_grad: Arrays
    sums_grad: Arrays
    bad: tuple[bool, ...]


def compute(x: Arrays, sizes: Sizes, c: Array, workers: int = 1, start: float = 0.0) -> Found:
    """Call the four functions, which add to outputs that begin as told."""

    def like(**names: str) -> Arrays:
        return {name: np.full_like(x[of], start) for name, of in names.items()}

    sides: dict[str, Any] = {"weights": x["weights"], "block": sizes.block, "workers": workers}
    powers: dict[str, Any] = {"coefficients": c, "scale": SCALE}
    sums = like(sums="sums", masses="masses")
    keys: Any = sides | powers | {"key": x["tokens"], "value": x["values"]}
    queries: Any = sides | {"query": x["tokens"], "degree": sizes.degree}
    queries |= {"sums": x["sums"], "masses": x["masses"]}
    rows = like(rows="values", row_masses="value_masses")
    rows_grad = like(grad_query="tokens", grad_weights="weights", grad_sums="sums")
    rows_grad |= like(grad_masses="masses")
    sums_grad = like(grad_key="tokens", grad_value="values", grad_weights="weights")
    upstream: Any = {"grad_rows": x["values"], "grad_row_masses": x["value_masses"]}
    of_sums: Any = {"grad_sums": x["sums"], "grad_masses": x["masses"]}
    reports = [
        _subquad.polynomial_block_sums(**(keys | sums)),
        _subquad.polynomial_block_rows(**(queries | rows)),
        _subquad.polynomial_block_rows_grad(**(queries | upstream | rows_grad)),
        _subquad.polynomial_block_sums_grad(**(keys | of_sums | sums_grad)),
    ]
    for _, counts in reports:
        assert set(counts) == {"tasks", "tiles", "flops", "bytes_read"}
    return Found(sums, rows, rows_grad, sums_grad, tuple(bad for bad, _ in reports))


def definition(x: Arrays, sizes: Sizes, c: Array) -> Found:
    """Return the same by explicit features."""
    f, ones = factors(sizes, c), np.ones(sizes.features)
    sums, masses = expected_sums(x, sizes, f, masses=False)
    rows, row_masses, slopes = expected_rows(x, sizes, ones)
    own, own_masses = expected_sums(x, sizes, ones, masses=True)
    rows_grad = {"grad_query": expected_slopes(x, sizes, ones), "grad_weights": slopes}
    rows_grad |= {"grad_sums": own, "grad_masses": own_masses}
    # To a sum the mass of a value is one.
    keys = x | {"value_masses": np.ones_like(x["value_masses"])}
    grad_value, _, of_weights = expected_rows(keys, sizes, f)
    sums_grad = {"grad_key": expected_slopes(keys, sizes, f)}
    sums_grad |= {"grad_value": grad_value, "grad_weights": of_weights}
    both = {"rows": rows, "row_masses": row_masses}
    return Found({"sums": sums, "masses": masses}, both, rows_grad, sums_grad, (False,) * 4)


def assert_is_the_definition(sizes: Sizes, c: Array, dtype: Any = np.float64) -> None:
    x = problem(sizes, dtype)
    exact = {name: array.astype(np.float64) for name, array in x.items()}
    found, expected = compute(x, sizes, c), definition(exact, sizes, c)
    positive = {name: np.abs(array) for name, array in exact.items()}
    size = definition(positive, sizes, np.abs(c))
    assert found.bad == expected.bad
    unit = 1e-12 if dtype is np.float64 else 2e-5
    for some, right, most in zip(found[:-1], expected[:-1], size[:-1], strict=True):
        for name, array in right.items():
            assert some[name].dtype == dtype
            largest = np.max(np.abs(most[name]), initial=1e-300)
            np.testing.assert_allclose(
                some[name], array, rtol=0, atol=unit * largest, err_msg=f"{name} {sizes}"
            )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weights", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4])
def test_sums_rows_and_gradients_are_those_of_the_definition(
    degree: int, weights: int, dtype: Any
) -> None:
    sizes = Sizes(weights=weights, degree=degree)
    assert_is_the_definition(sizes, taylor(degree), dtype)


@pytest.mark.parametrize(
    "sizes",
    [
        Sizes(1, 1, 1, 1, 1, 1, 1),
        Sizes(1, 96, 2, 1, 16, 4, 96),
        Sizes(2, 97, 4, 20, 33, 2, 96),
        Sizes(1, 400, 1, 20, 16, 3, 192),
        Sizes(3, 50, 2, 3, 1, 4, 7),
        Sizes(1, 4000, 2, 2, 3, 2, 3500),
        Sizes(1, 40_000, 2, 1, 2, 1, 35_000),
        Sizes(2, 30, 2, 4, 5, 2, 1 << 62),
    ],
)
def test_blocks_of_any_size(sizes: Sizes) -> None:
    assert_is_the_definition(sizes, taylor(sizes.degree))


@given(
    st.tuples(
        *(
            st.integers(low, high)
            for low, high in [(1, 3), (0, 150), (1, 5), (0, 4), (0, 9), (0, 4), (1, 200)]
        )
    ),
    st.lists(st.floats(-2.0, 2.0, width=16), min_size=5, max_size=5),
    st.sampled_from(DTYPES),
)
def test_any_shape_any_polynomial(drawn: Any, coefficients: list[float], dtype: Any) -> None:
    sizes = Sizes(*drawn)
    if sizes.tokens:
        assert_is_the_definition(sizes, np.array(coefficients[: sizes.degree + 1]), dtype)
    else:
        assert not any(compute(problem(sizes), sizes, np.ones(sizes.degree + 1)).bad)


def test_terms_may_be_missing() -> None:
    sizes = Sizes(degree=3)
    for c in ([0.0, 1.0, 0.0, -0.5], [1.0, 0.0, 2.0, 0.0], [0.0] * 4):
        assert_is_the_definition(sizes, np.array(c))


def test_a_reading_of_sums_is_attention_without_a_division() -> None:
    sizes, c = Sizes(tokens=210, block=1000, weights=2, degree=3), taylor(3)
    keys = problem(sizes, seed=1)
    queries = problem(sizes._replace(tokens=150), seed=2)
    common: dict[str, Any] = {"block": 1000, "workers": 1}
    sums, masses = np.zeros_like(keys["sums"]), np.zeros_like(keys["masses"])
    _subquad.polynomial_block_sums(
        keys["tokens"], keys["values"], keys["weights"], c, sums, masses, scale=SCALE, **common
    )
    rows, of_rows = np.zeros_like(queries["values"]), np.zeros_like(queries["value_masses"])
    _subquad.polynomial_block_rows(
        queries["tokens"], queries["weights"], sums, masses, rows, of_rows, degree=3, **common
    )
    logits = SCALE * queries["tokens"] @ keys["tokens"].swapaxes(1, 2)
    weights = np.polynomial.polynomial.polyval(logits, c)
    weights *= np.einsum("hki,hkj->hij", queries["weights"], keys["weights"])
    expected = weights @ keys["values"]
    np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    expected = weights.sum(axis=2)
    np.testing.assert_allclose(of_rows, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_gradients_are_those_that_differences_see() -> None:
    sizes, c = Sizes(heads=1, tokens=12, weights=2, width=3, value_width=2, block=5), taylor(2)
    x = problem(sizes)
    found = compute(x, sizes, c)

    def loss_of_rows(x: Arrays) -> float:
        rows = compute(x, sizes, c).rows
        of_masses = np.sum(rows["row_masses"] * upstream["value_masses"])
        return float(np.sum(rows["rows"] * upstream["values"]) + of_masses)

    def loss_of_sums(x: Arrays) -> float:
        sums = compute(x, sizes, c).sums
        of_masses = np.sum(sums["masses"] * upstream["masses"])
        return float(np.sum(sums["sums"] * upstream["sums"]) + of_masses)

    upstream = {name: x[name] for name in ("values", "value_masses", "sums", "masses")}
    rng = np.random.default_rng(5)
    for loss, grads, names in [
        (loss_of_rows, found.rows_grad, {"grad_query": "tokens", "grad_weights": "weights",
                                         "grad_sums": "sums", "grad_masses": "masses"}),
        (loss_of_sums, found.sums_grad, {"grad_key": "tokens", "grad_weights": "weights",
                                         "grad_value": "values"}),
    ]:  # fmt: skip
        for grad, name in names.items():
            direction, step = rng.standard_normal(x[name].shape), 1e-5
            up, down = (loss(x | {name: x[name] + s * direction}) for s in (step, -step))
            slope = np.sum(grads[grad] * direction)
            assert (up - down) / (2 * step) == pytest.approx(slope, rel=1e-6, abs=1e-8), name


def test_results_are_added() -> None:
    sizes, c = Sizes(), taylor(2)
    x = problem(sizes)
    zero, one = compute(x, sizes, c), compute(x, sizes, c, start=1.0)
    for some, more in zip(zero[:-1], one[:-1], strict=True):
        for name, array in some.items():
            np.testing.assert_allclose(more[name] - 1, array, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    "left_out", ["grad_query", "grad_key", "grad_value", "grad_weights", "own"]
)
def test_any_gradient_may_be_left_out(left_out: str) -> None:
    sizes, c = Sizes(), taylor(2)
    x = problem(sizes)
    everything = compute(x, sizes, c)
    given_: Any = {"sums": x["sums"], "masses": x["masses"]}
    of_rows: Any = given_ | {"grad_rows": x["values"], "grad_row_masses": x["value_masses"]}
    of_rows |= {"query": x["tokens"], "degree": 2}
    of_sums: Any = {f"grad_{name}": array for name, array in given_.items()}
    of_sums |= {"key": x["tokens"], "value": x["values"], "coefficients": c, "scale": SCALE}
    common: Any = {"weights": x["weights"], "block": sizes.block, "workers": 1}
    names = {"grad_sums", "grad_masses"} if left_out == "own" else {left_out}
    calls: list[tuple[Any, Any, Arrays]] = [
        (_subquad.polynomial_block_rows_grad, of_rows, everything.rows_grad),
        (_subquad.polynomial_block_sums_grad, of_sums, everything.sums_grad),
    ]
    for call, arguments, right in calls:
        for absent in (names & set(right), set(right) - names):
            to = {name: None if name in absent else np.zeros_like(a) for name, a in right.items()}
            call(**(common | arguments | to))
            for name, array in to.items():
                if array is not None:
                    np.testing.assert_array_equal(array, right[name])


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_and_orders_of_tasks_do_not_change_a_bit(dtype: Any) -> None:
    for sizes in [
        Sizes(tokens=700, block=90),
        Sizes(heads=1, tokens=9000, width=2, block=4000),
        # Several tasks for the sums of one block.
        Sizes(heads=2, tokens=70_000, weights=2, width=2, value_width=2, block=60_000),
    ]:
        x, c = problem(sizes, dtype), taylor(2)
        expected = [array for some in compute(x, sizes, c)[:-1] for array in some.values()]
        for workers, order in [(2, "forward"), (1, "reverse"), (2, "shuffled"), (3, "forward")]:
            with task_order(order):
                found = compute(x, sizes, c, workers=workers)
            assert_same_bits([array for some in found[:-1] for array in some.values()], expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("name", "seen_by"),
    [
        ("tokens", [0, 1, 2, 3]),
        ("weights", [0, 1, 2, 3]),
        ("values", [0, 2, 3]),
        ("value_masses", [2]),
        ("sums", [1, 2, 3]),
        ("masses", [1, 2, 3]),
    ],
)
def test_what_is_not_finite_is_flagged(name: str, seen_by: list[int], bad: float) -> None:
    sizes = Sizes()
    x = problem(sizes)
    x[name].reshape(-1)[-3] = bad
    flags = compute(x, sizes, taylor(2)).bad
    assert [i for i, flag in enumerate(flags) if flag] == seen_by


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_inputs_may_be_of_other_types_and_strides(dtype: Any) -> None:
    sizes, c = Sizes(), taylor(2)
    x = {name: array.astype(dtype) for name, array in problem(sizes).items()}
    wide = {name: array.astype(np.float64) for name, array in x.items()}
    expected = compute(wide, sizes, c)
    strided = {name: np.repeat(array, 2, axis=-1)[..., ::2] for name, array in x.items()}
    sums, masses = np.zeros_like(wide["sums"]), np.zeros_like(wide["masses"])
    side: Any = {"weights": strided["weights"], "block": sizes.block, "workers": 1}
    _subquad.polynomial_block_sums(
        strided["tokens"], strided["values"], coefficients=c, sums=sums, masses=masses,
        scale=SCALE, **side
    )  # fmt: skip
    assert_same_bits([sums, masses], list(expected.sums.values()))
    rows, of_rows = np.zeros_like(wide["values"]), np.zeros_like(wide["value_masses"])
    _subquad.polynomial_block_rows(
        strided["tokens"], sums=strided["sums"], masses=strided["masses"], rows=rows,
        row_masses=of_rows, degree=2, **side
    )  # fmt: skip
    assert_same_bits([rows, of_rows], list(expected.rows.values()))


REFUSED: list[tuple[str, Any]] = [
    ("key", lambda a: a[:, :-1]),
    ("key", lambda a: a[0, 0]),
    ("key", lambda a: a[:, :, :-1]),
    ("query", lambda a: a[:, :-1]),
    ("query", lambda a: a[:, :, :-1]),
    ("value", lambda a: a[:, :-1]),
    ("value", lambda a: a[:1]),
    ("value", lambda a: a[:, :, :-1]),
    ("weights", lambda a: a[:, :, :-1]),
    ("weights", lambda a: a[:, :-1]),
    ("weights", lambda a: a[:, :0]),
    ("weights", lambda a: a[0]),
    ("weights", lambda a: a.astype(int)),
    ("sums", lambda a: a[:, :-1]),
    ("sums", lambda a: a[:, :, :-1]),
    ("sums", lambda a: a[:, :, :, :-1]),
    ("sums", lambda a: a[..., :-1]),
    ("sums", lambda a: a.swapaxes(1, 2)),
    ("masses", lambda a: a[:, :-1]),
    ("masses", lambda a: a[..., :-1]),
    ("masses", lambda a: a[..., None]),
    ("rows", lambda a: a[:, :-1]),
    ("rows", lambda a: a[..., :-1]),
    ("rows", lambda a: np.repeat(a, 2, axis=-1)[..., ::2]),
    ("row_masses", lambda a: a[:, :-1]),
    ("grad_rows", lambda a: a[:, :-1]),
    ("grad_row_masses", lambda a: a[:, :-1]),
    ("grad_query", lambda a: a[:, 1:]),
    ("grad_query", lambda a: np.broadcast_to(a[:1], a.shape)),
    ("grad_key", lambda a: a[:, :, 1:]),
    ("grad_value", lambda a: a[:1]),
    ("grad_value", lambda a: a.astype(np.float32)),
    ("grad_weights", lambda a: a[:, 1:]),
    ("grad_weights", lambda a: a.swapaxes(1, 2).copy().swapaxes(1, 2)),
    ("grad_sums", lambda a: a[:, 1:]),
    ("grad_sums", lambda _: None),
    ("grad_masses", lambda a: a[:, :, 1:]),
    ("coefficients", lambda a: a[:0]),
    ("coefficients", lambda a: a[:-1]),
    ("degree", lambda _: 1),
    ("degree", lambda _: 65),
    ("block", lambda _: 0),
    ("block", lambda _: 50),
]


@pytest.mark.parametrize(
    ("name", "spoil"), REFUSED, ids=[f"{name}-{i}" for i, (name, _) in enumerate(REFUSED)]
)
def test_arrays_that_do_not_fit_are_refused(name: str, spoil: Any) -> None:
    x = problem(Sizes(weights=2))
    sides: Any = {"weights": x["weights"], "block": 100}
    of_blocks = {"sums": x["sums"], "masses": x["masses"]}
    grads = {f"grad_{key}": array for key, array in of_blocks.items()}
    keys = sides | {"key": x["tokens"], "value": x["values"], "coefficients": taylor(2), "scale": 1}
    queries = sides | of_blocks | {"query": x["tokens"], "degree": 2}
    to: Any = {"grad_query": x["tokens"], "grad_weights": x["weights"]}
    rows = {"rows": x["values"], "row_masses": x["value_masses"]}
    upstream = {f"grad_{key}": array for key, array in rows.items()}
    of_keys = {"grad_key": x["tokens"], "grad_value": x["values"], "grad_weights": x["weights"]}
    calls: list[tuple[Any, dict[str, Any]]] = [
        (_subquad.polynomial_block_sums, keys | of_blocks),
        (_subquad.polynomial_block_rows, queries | rows),
        (_subquad.polynomial_block_rows_grad, queries | upstream | to | grads),
        (_subquad.polynomial_block_sums_grad, keys | grads | of_keys),
    ]
    tried = 0
    for call, arguments in calls:
        if name in arguments:
            tried += 1
            own = {key: np.copy(a) if isinstance(a, np.ndarray) else a
                   for key, a in arguments.items()}  # fmt: skip
            call(**own, workers=1)
            with pytest.raises((ValueError, TypeError)):
                call(**(own | {name: spoil(own[name])}), workers=1)
    assert tried
