"""Low-rank factors of exp: never further off than they say, and an operator like any other."""

from __future__ import annotations

import math
import pickle
from decimal import Decimal, localcontext
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from exchange import Exchanged
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import FIXTURES, ROUNDOFF

import subquad
from subquad import reference
from subquad.polynomial import Factors, factor

Array = NDArray[Any]
Inputs = tuple[Array, Array]
CAPTURE = FIXTURES.parent / "captures" / "minilm_stdlib_n512.npz"

# 64 bits of mantissa on x86; where it has no more than float64, only larger errors are measured.
Long = np.longdouble


def longer(x: Any) -> Any:
    return np.asarray(x, Long)


def errors(query: Array, key: Array, factors: Factors, scale: float | None = None) -> Array:
    """Return errors and entries, and what the measurement itself may be wrong by."""
    sigma = Long(1) / np.sqrt(Long(query.shape[1])) if scale is None else Long(scale)
    logits = sigma * (longer(query) @ longer(key).T)
    exact = np.exp(logits)
    u, v = longer(factors.u), longer(factors.v)
    error = np.abs(u @ v.T - exact)
    eps = np.finfo(Long).eps
    size = np.abs(u) @ np.abs(v).T
    inner = abs(sigma) * (np.abs(longer(query)) @ np.abs(longer(key)).T)
    doubt = eps * ((u.shape[1] + 4) * size + (query.shape[1] + 4) * (1 + inner) * exact)
    return np.stack([error, exact, doubt])


def inputs(kind: str, seed: int = 0, n: int = 60, m: int = 50, d: int = 4) -> Inputs:
    """Queries and keys, by what is difficult about them."""
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((n, d)), rng.standard_normal((m, d))
    if kind == "offset":
        return 2.0 + 0.3 * q, 2.0 + 0.3 * k
    if kind == "far":
        return 10.0 + 0.1 * q, 0.2 * k - 6.0
    if kind == "peaked":
        rare = rng.random((n, 1)) < 0.05
        return np.where(rare, 0.8, 0.02) * q, 0.5 * k
    if kind == "tiny":
        return 1e-30 * q, 1e-5 * k
    if kind == "duplicated":
        return np.repeat(0.6 * q[:2], n // 2, axis=0), np.repeat(0.6 * k[:1], m, axis=0)
    if kind == "unbalanced":
        return 1e-30 * q, 3e29 * k
    if kind == "zero":
        return 0.0 * q, k
    return 0.5 * q, 0.5 * k


KINDS = ("random", "offset", "far", "peaked", "tiny", "duplicated", "unbalanced", "zero")


@pytest.mark.parametrize("eps", [0.5, 1e-2, 1e-4, 1e-9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_entry_is_further_off_than_is_said(kind: str, dtype: str, eps: float) -> None:
    q, k = (x.astype(dtype) for x in inputs(kind))
    if eps == 1e-9 and dtype == "float32":
        with pytest.raises(ValueError, match="rounding factors to float32: pass float64"):
            factor(q, k, eps=eps)
        return
    factors = factor(q, k, eps=eps)
    assert (factors.u.dtype, factors.v.dtype) == (dtype, dtype)
    error, exact, doubt = errors(q, k, factors)
    assert np.all(error <= factors.error_bound + doubt)
    assert np.all(error <= eps * exact + doubt)
    # And that is not because the bound is of no use.
    if kind in ("random", "offset", "far") and eps > 1e-3:
        assert factors.error_bound <= 10.0 * float(error.max())


@pytest.mark.parametrize("n", [1, 300])
@pytest.mark.parametrize("degree", [3, 5, 8, 24])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bound_of_a_given_degree_holds(n: int, degree: int, dtype: str) -> None:
    q, k = (x.astype(dtype) for x in inputs("random", n=n, m=n, d=2))
    factors = factor(1.5 * q, k, degree=degree, scale=-0.9)
    assert (factors.degree, factors.rank) == (degree, math.comb(2 + degree, degree))
    error, _, doubt = errors(1.5 * q, k, factors, scale=-0.9)
    assert np.all(error <= factors.error_bound + doubt)


@given(
    st.sampled_from(KINDS),
    st.sampled_from(["float32", "float64"]),
    st.floats(0.05, 2.0),
    st.integers(1, 24),
    st.integers(0, 999),
)
def test_the_bound_holds_whatever_is_drawn(
    kind: str, dtype: str, size: float, degree: int, seed: int
) -> None:
    q, k = (x.astype(dtype) for x in inputs(kind, seed, n=7, m=5, d=2))
    try:
        factors = factor(size * q, k, degree=degree)
    except ValueError as err:
        if not str(err).startswith(("`degree` must be", "`query` and `key` must have logits")):
            raise
        return
    error, _, doubt = errors(size * q, k, factors)
    assert np.all(error <= factors.error_bound + doubt)


@pytest.mark.parametrize("head", [(0, 0), (0, 3), (1, 2)])
def test_the_bound_holds_for_real_heads_at_a_high_temperature(head: tuple[int, int]) -> None:
    with np.load(CAPTURE) as capture:
        q, k = (capture[name][head].astype(np.float32) for name in "qk")
    # As they are, their logits are out of reach.
    with pytest.raises(ValueError, match="logits bounded by"):
        factor(q, k, eps=1e-2)
    factors = factor(q, k, degree=2, scale=0.003)
    error, _, doubt = errors(q, k, factors, scale=0.003)
    assert np.all(error <= factors.error_bound + doubt)
    assert factors.error_bound < 30.0 * float(error.max())


def exp_interval(x: Fraction) -> tuple[Fraction, Fraction]:
    with localcontext() as context:
        context.prec = 80
        value = Fraction((Decimal(x.numerator) / Decimal(x.denominator)).exp())
    return value * (1 - Fraction(1, 10**60)), value * (1 + Fraction(1, 10**60))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_holds_in_exact_arithmetic(kind: str, dtype: str) -> None:
    q, k = (x.astype(dtype) for x in inputs(kind, n=4, m=3, d=2))
    for degree in (4, 9, 14):
        factors = factor(q, k, degree=degree, scale=0.7)
        bound = Fraction(factors.error_bound)
        exact_u, exact_v, exact_q, exact_k = (
            [[Fraction(float(x)) for x in row] for row in rows]
            for rows in (factors.u, factors.v, q, k)
        )
        for u, x in zip(exact_u, exact_q, strict=True):
            for v, y in zip(exact_v, exact_k, strict=True):
                product = sum(a * b for a, b in zip(u, v, strict=True))
                logit = Fraction(0.7) * sum(a * b for a, b in zip(x, y, strict=True))
                low, high = exp_interval(logit)
                assert max(abs(product - low), abs(product - high)) <= bound


@pytest.mark.parametrize("eps", [1e-1, 1e-3, 1e-6])
@pytest.mark.parametrize("scale", [None, 0.4, -0.4])
def test_is_as_good_as_the_twin(eps: float, scale: float | None) -> None:
    q, k = 0.7 * np.random.default_rng(4).standard_normal((2, 9, 3))
    ours, theirs = (
        p.factor(q, k[:7], eps=eps, scale=scale) for p in (subquad.polynomial, reference.polynomial)
    )
    x = np.random.default_rng(1).standard_normal((7, 2))
    sums = theirs.row_sums()
    np.testing.assert_allclose(ours.row_sums(), sums, rtol=2 * eps)
    np.testing.assert_allclose(ours.u @ ours.v.T, theirs.u @ theirs.v.T, rtol=2 * eps)
    np.testing.assert_allclose(ours @ x, theirs.matvec(x), atol=2 * eps * float(sums.max()) * 3)
    np.testing.assert_allclose(ours.normalise(x), theirs.normalise(x), atol=12 * eps)
    y = x[:2].T @ np.ones((2, 9))
    np.testing.assert_allclose(
        ours.rmatvec(y.T), theirs.rmatvec(y.T), atol=4 * eps * float(sums.sum()) * abs(y).max()
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_operator_is_the_dense_matrix(dtype: str) -> None:
    q, k = (x.astype(dtype) for x in inputs("offset", n=40, m=30))
    factors = factor(q, k, eps=1e-2)
    dense = factors.u.astype(np.float64) @ factors.v.T.astype(np.float64)
    rng = np.random.default_rng(0)
    tolerance: dict[str, Any] = {
        "rtol": 100 * ROUNDOFF[dtype],
        "atol": 100 * ROUNDOFF[dtype] * float(dense.max()),
    }
    assert (factors.shape, factors.dtype) == ((40, 30), np.dtype(dtype))
    for shape in ((30,), (30, 3), (30, 0)):
        x = rng.standard_normal(shape).astype(dtype)
        found = factors @ x
        assert (found.shape, found.dtype) == ((40, *shape[1:]), np.dtype(dtype))
        np.testing.assert_allclose(found, dense @ x, **tolerance)
        np.testing.assert_array_equal(factors.matvec(x), found)
        shares = dense / dense.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(factors.normalise(x), shares @ x, rtol=1e-4, atol=1e-4)
    y = rng.standard_normal((40, 2)).astype(dtype)
    np.testing.assert_allclose(factors.T @ y, dense.T @ y, **tolerance)
    np.testing.assert_array_equal(factors.rmatvec(y), factors.T @ y)
    np.testing.assert_array_equal(y.T @ factors, (factors.T @ y).T)
    np.testing.assert_array_equal(y[:, 0] @ factors, factors.T @ y[:, 0])
    np.testing.assert_allclose(factors.row_sums(), dense.sum(axis=1), rtol=10 * ROUNDOFF[dtype])
    np.testing.assert_array_equal(factors.T.T @ x, factors @ x)
    assert factors.T.shape == (30, 40)
    assert factors.T.error_bound == factors.error_bound


def test_normalised_it_is_softmax_attention() -> None:
    q, k, v = np.random.default_rng(0).standard_normal((3, 400, 3))
    factors = factor(0.5 * q, k, eps=1e-4)
    exact = subquad.attention(0.5 * q, k, v)
    # What a relative error of the weights does, from the theory.
    error = np.abs(factors.normalise(v) - exact)
    allowed = [
        subquad.theory.polynomial.output_error(1e-4, float(column.max() - column.min()))
        for column in v.T
    ]
    assert np.all(error <= allowed)


def test_scipy_takes_it_as_a_linear_operator() -> None:
    linalg = pytest.importorskip("scipy.sparse.linalg")
    factors = factor(*inputs("random"), eps=1e-2)
    operator = linalg.aslinearoperator(factors)
    dense = factors.u @ factors.v.T
    x, y = np.ones((50, 2)), np.ones(60)
    np.testing.assert_allclose(operator @ x, dense @ x)
    np.testing.assert_allclose(operator.H @ y, dense.T @ y)
    largest = linalg.svds(operator, k=1, return_singular_vectors=False)
    np.testing.assert_allclose(largest, np.linalg.svd(dense)[1][:1], rtol=1e-6)


def test_rows_and_columns_follow_a_permutation() -> None:
    q, k = inputs("offset")
    rng = np.random.default_rng(0)
    rows, columns = rng.permutation(len(q)), rng.permutation(len(k))
    one, other = factor(q, k, eps=1e-3), factor(q[rows], k[columns], eps=1e-3)
    assert one.degree == other.degree
    # Means are summed in another order.
    np.testing.assert_allclose(other.u, one.u[rows], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(other.v, one.v[columns], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(other.error_bound, one.error_bound, rtol=1e-10)


def test_a_common_shift_of_the_keys_costs_no_degree() -> None:
    q, k = inputs("random")
    shift = np.array([3.0, -2.0, 1.0, 4.0])
    near, far = factor(q, k - k.mean(axis=0), eps=1e-3), factor(q, k + shift, eps=1e-3)
    assert near.degree == far.degree
    np.testing.assert_allclose(far.normalise(k), near.normalise(k), atol=1e-2)


def test_scaling_one_side_is_scaling_the_logits() -> None:
    q, k = inputs("random")
    one = factor(q, k, eps=1e-3, scale=0.25)
    other = factor(q * 2.0**80, k * 2.0**-82, eps=1e-3, scale=1.0)
    np.testing.assert_allclose(other.u, one.u, rtol=1e-13)
    np.testing.assert_allclose(other.v, one.v, rtol=1e-13)


def test_a_smaller_budget_takes_a_higher_degree() -> None:
    degrees = [factor(*inputs("random"), eps=10.0**-t).degree for t in range(10)]
    assert degrees == sorted(degrees)
    assert degrees[0] < degrees[-1]
    assert factor(*inputs("zero"), eps=1e-12).rank == 1


@pytest.mark.parametrize(("n", "m"), [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("options", [{"eps": 0.1}, {"degree": 2}])
def test_empty_sides(n: int, m: int, options: dict[str, Any]) -> None:
    factors = factor(np.ones((n, 3)), np.ones((m, 3)), **options)
    assert factors.shape == (n, m)
    assert factors.error_bound == 0.0
    x = np.ones((m, 2))
    np.testing.assert_array_equal(factors @ x, np.zeros((n, 2)))
    np.testing.assert_array_equal(factors.normalise(x), np.zeros((n, 2)))
    np.testing.assert_array_equal(factors.row_sums(), np.zeros(n))


def test_no_coordinates_at_all() -> None:
    factors = factor(np.ones((2, 0)), np.ones((3, 0)), eps=1e-3)
    np.testing.assert_allclose(factors.u @ factors.v.T, np.ones((2, 3)), rtol=1e-15)


def test_types_of_the_factors() -> None:
    q, k = inputs("random")
    for first, second, result in [
        ("float32", "float32", "float32"),
        ("float32", "float64", "float64"),
        ("float16", "float16", "float32"),
        ("float16", "float32", "float32"),
        ("int64", "int64", "float64"),
    ]:
        factors = factor(q.astype(first), k.astype(second), eps=1e-2)
        assert factors.dtype == result
        error, exact, _ = errors(q.astype(first), k.astype(second), factors)
        assert np.all(error <= 1e-2 * exact)
        assert (factors @ np.ones(len(k), np.float16)).dtype == result
        assert (factors @ np.ones(len(k), int)).dtype == "float64"


def test_the_kind_of_the_inputs_comes_back(torch: ModuleType) -> None:
    q, k = inputs("random")
    plain = factor(q, k, eps=1e-2)
    factors = factor(torch.from_numpy(q), torch.from_numpy(k), eps=1e-2)
    assert all(isinstance(x, torch.Tensor) for x in (factors.u, factors.v, factors.row_sums()))
    assert (factors.shape, factors.dtype) == (plain.shape, np.dtype(np.float64))
    x = torch.ones(len(k), dtype=torch.float64)
    for result in (factors @ x, factors.normalise(x), factors.rmatvec(torch.ones(len(q)).double())):
        assert isinstance(result, torch.Tensor)
    np.testing.assert_array_equal((factors @ x).numpy(), plain @ x.numpy())
    half = factor(torch.from_numpy(q).bfloat16(), torch.from_numpy(k).bfloat16(), eps=1e-2)
    assert half.u.dtype is torch.float32
    other: Any = factor(Exchanged(q), Exchanged(k), eps=1e-2)
    assert isinstance(other.u, Exchanged)
    np.testing.assert_array_equal((other @ Exchanged(x.numpy())).array, plain @ x.numpy())


def test_layouts_of_the_input_do_not_matter() -> None:
    q, k = (np.round(4 * x) / 8 for x in inputs("random"))
    plain = factor(q, k, eps=1e-2)
    layouts: list[Any] = [np.asfortranarray(q), q.tolist(), q.astype(">f8"), q[::-1].copy()[::-1]]
    for layout in [*layouts, np.repeat(q, 2, axis=1)[:, ::2]]:
        np.testing.assert_array_equal(factor(layout, k, eps=1e-2).u, plain.u)


def test_they_are_values() -> None:
    factors = factor(*inputs("random"), eps=1e-2)
    assert repr(factors) == (
        f"Factors(shape=(60, 50), rank={factors.rank}, degree={factors.degree}, dtype=float64, "
        f"error_bound={factors.error_bound:.3g})"
    )
    again = pickle.loads(pickle.dumps(factors))
    np.testing.assert_array_equal(again.u, factors.u)
    with pytest.raises(AttributeError):
        factors.error_bound = 0.0  # type: ignore[misc]


ONE: Any = np.ones((3, 2))
# What the types would rightly refuse.
TEXT: Any = "a"
FLOAT: Any = 2.0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: factor(ONE, ONE), ValueError, "`eps` and `degree`.*needed"),
        (lambda: factor(ONE, ONE, eps=0.1, degree=2), ValueError, "eps=0.1, degree=2"),
        (lambda: factor(ONE, np.ones((3, 4)), eps=0.1), ValueError, r"`key`.*d = 2.*\(3, 4\)"),
        (lambda: factor(ONE[0], ONE, eps=0.1), ValueError, r"`query`.*\(n, d\), got \(2,\)"),
        (lambda: factor(ONE, [[1.0, np.nan]], eps=0.1), ValueError, r"`key`.*nan at.*\(0, 1\)"),
        (lambda: factor(1j * ONE, ONE, eps=0.1), TypeError, "`query` must hold real numbers"),
        (lambda: factor(ONE, ONE, eps=0.0), ValueError, "`eps` must be positive"),
        (lambda: factor(ONE, ONE, eps=TEXT), TypeError, "`eps` must be a real number"),
        (lambda: factor(ONE, ONE, degree=FLOAT), TypeError, "`degree` must be an integer"),
        (lambda: factor(ONE, ONE, degree=-1), ValueError, "`degree` must be at least 1"),
        (lambda: factor(ONE, ONE, degree=25), ValueError, "`degree` must be from 0 to 24.*got 25"),
        (lambda: factor(ONE, ONE, eps=0.1, scale=0.0), ValueError, "`scale` must be finite"),
        (
            lambda: factor([[4.0], [-4.0]], [[2.0], [-2.0]], degree=3),
            ValueError,
            "`degree` must be from 6 to 24 for logits bounded by 8.*got 3",
        ),
        (
            lambda: factor([[5.0], [-5.0]], [[5.0], [-5.0]], eps=0.1),
            ValueError,
            "logits bounded by 16.*is 25",
        ),
        (
            lambda: factor([[3.5], [-3.5]], [[3.5], [-3.5]], eps=1e-9),
            ValueError,
            "`eps` must be reached.*got 1e-09.*bounded by 12.25.*degree 2[0-9] has.*the polynomial's",
        ),
        (
            lambda: factor(30.0 * ONE, 30.0 * ONE, eps=0.1),
            ValueError,
            r"exp is in the range of float64, at most 708\.8, got logits of up to 1273",
        ),
        (
            lambda: factor(*np.full((2, 3, 2), 8.0, np.float32), eps=0.1),
            ValueError,
            "exp is in the range of float32",
        ),
        (
            lambda: factor(np.full((2, 2), 1e10), [[1e6, -1e6]], eps=0.1),
            ValueError,
            "logits that float64 tells apart.*may be wrong by",
        ),
        (lambda: factor(1e300 * ONE, 1e300 * ONE, eps=0.1), ValueError, "`query` and `key`"),
        (lambda: factor(np.ones((3, 400)), -np.eye(400), degree=24), MemoryError, "bytes"),
        (lambda: factor(ONE, ONE, eps=0.1) @ np.ones(2), ValueError, r"`x`.*\(3,\) or \(3, c\)"),
        (lambda: factor(ONE, ONE, eps=0.1) @ np.full(3, np.inf), ValueError, "`x` must be finite"),
        (lambda: factor(ONE, ONE, eps=0.1).normalise([1j] * 3), TypeError, "`x` must hold real"),
    ],
)
def test_refusals(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("namespace", [subquad.polynomial, reference.polynomial])
def test_rows_without_a_positive_sum_are_refused(namespace: Any) -> None:
    made = namespace.Factors
    rest = (0.0, 1) if made is Factors else (0.0,)
    u, v = np.array([[1.0, 0.0], [1.0, -2.0], [1.0, -1.0]]), np.ones((4, 2))
    negative, cancelled = made(u, v, *rest), made(u[[0, 2]], v, *rest)
    with pytest.raises(ValueError, match="sum of row 1 is -4, which is not above"):
        negative.normalise(np.ones(4))
    with pytest.raises(ValueError, match="sum of row 1 is 0"):
        cancelled.normalise(np.ones(4))
    np.testing.assert_array_equal(negative.row_sums(), [4.0, -4.0, 0.0])
