"""Softmax attention by polynomials with a bias of relative positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from approximations import problem, wide
from numpy.typing import NDArray

import subquad
from subquad._approximate.lags import planning
from subquad.toeplitz import Bias

Array = NDArray[Any]

DECAY, BAND, BLOCKS, FFT = (
    "rank-1 decay",
    "exact band and constant tail",
    "separable blocks",
    "Toeplitz products by FFT",
)
TOKENS, HEADS = 1500, 2


def learned(queries: int, keys: int, tail: int | None = None) -> Bias:
    """Draw a bias that is rough, or constant from a lag on."""
    lags = np.arange(1 - keys, queries)
    values = np.random.default_rng(5).standard_normal((HEADS, lags.size))
    if tail is not None:
        values[:, lags >= tail] = 0.4
        values[:, lags <= -tail] = -0.3
    return Bias.learned(values)


def bias_of(name: str, queries: int = TOKENS, keys: int = TOKENS) -> Bias:
    rng = np.random.default_rng(6)
    if name == "alibi":
        return Bias.alibi(np.array([0.02, 0.3]))
    if name == "t5":
        return Bias.t5(rng.standard_normal((32, HEADS)), max_distance=100)
    if name.startswith("kerple"):
        numbers = {"kerple log": [[1.0, 0.6], [0.5, 2.0]], "kerple power": [[0.2, 0.1], [0.3, 0.4]]}
        return Bias.kerple(np.array(numbers[name]), kind=name.split()[1])
    return learned(queries, keys, 120 if name == "plateau" else None)


ROUTES = {
    "alibi": DECAY,
    "t5": BAND,
    "kerple log": BLOCKS,
    "kerple power": BLOCKS,
    "plateau": BAND,
    "learned": FFT,
}
Heads = tuple[Array, Array, Array]


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count as if there were so many tokens that every way saves operations, a split the most."""
    monkeypatch.setattr(planning, "_operations", lambda route, cost, features: 1.0)
    monkeypatch.setattr(planning, "_transforms", lambda lags: 1e4)
    monkeypatch.setattr(planning, "_PER_TOKEN", 0.0)


def heads(queries: int = TOKENS, keys: int = TOKENS, seed: int = 0) -> Heads:
    return problem(HEADS, sizes=(queries, keys, 3, 4), size=0.15, seed=seed)


@pytest.mark.parametrize("name", ROUTES)
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_are_within_their_bounds(name: str, is_causal: bool, dtype: str) -> None:
    q, k, v = (x.astype(dtype) for x in heads())
    bias = bias_of(name)
    eps = 1e-2
    out, lse, info = subquad.attention(
        q, k, v, bias=bias, is_causal=is_causal, eps=eps, method="polynomial", return_lse=True,
        return_info=True,
    )  # fmt: skip
    exact, exact_lse = subquad.reference.attention(
        wide(q), wide(k), wide(v), bias=bias, is_causal=is_causal, return_lse=True
    )
    assert {head.route for head in info.plan.heads} == {ROUTES[name]}
    assert ROUTES[name] in info.reason
    error = np.linalg.norm(wide(out) - exact, axis=-1)
    assert (error <= info.error_bound).all()
    least = 2.0**-23 * np.linalg.norm(exact, axis=-1)
    assert (info.error_bound <= eps * info.spread[:, np.newaxis] + least).all()
    assert np.abs(wide(lse) - exact_lse).max() <= -np.log1p(-eps) + 1e-4
    assert info.stats["flops"] > 0
    # Not all rows were computed from all keys.
    assert info.stats["rows_recomputed"] < 0.1 * error.size


@pytest.mark.parametrize("name", ROUTES)
@pytest.mark.parametrize(("queries", "keys"), [(1100, 1500), (1500, 1100)])
@pytest.mark.parametrize("is_causal", [False, True])
def test_as_many_queries_as_keys_are_not_needed(
    name: str, queries: int, keys: int, is_causal: bool
) -> None:
    q, k, v = heads(queries, keys)
    bias = bias_of(name, queries, keys)
    options: dict[str, Any] = {"bias": bias, "is_causal": is_causal}
    out, info = subquad.attention(
        q, k, v, eps=1e-2, method="polynomial", return_info=True, **options
    )
    exact = subquad.reference.attention(q, k, v, **options)
    assert info.method == "polynomial"
    assert (np.linalg.norm(out - exact, axis=-1) <= info.error_bound).all()


@pytest.mark.parametrize("name", ROUTES)
@pytest.mark.parametrize("is_causal", [False, True])
def test_gradients_are_those_of_what_was_computed(name: str, is_causal: bool) -> None:
    """By central differences along random directions, with the plan held fixed."""
    q, k, v = heads(seed=1)
    bias = bias_of(name)
    rng = np.random.default_rng(2)
    g = rng.standard_normal((HEADS, TOKENS, 4))
    zeros = (np.zeros((HEADS, 3)), np.zeros((HEADS, 3)))
    options: dict[str, Any] = {"is_causal": is_causal, "centres": zeros, "eps": 1e-2}
    _, info = subquad.attention_grad(
        g, q, k, v, bias=bias, method="polynomial", return_info=True, **options
    )
    wanted = FFT if name == "plateau" else ROUTES[name]
    assert {head.route for head in info.plan.heads} == {wanted}
    grads = subquad.attention_grad(g, q, k, v, bias=bias, plan=info.plan, **options)

    def loss(given: dict[str, Any]) -> float:
        bias = Bias(info_bias.form, info_bias.operand) if "bias" not in given else given["bias"]
        arrays = [given.get(name, x) for name, x in (("query", q), ("key", k), ("value", v))]
        return float((subquad.attention(*arrays, bias=bias, plan=info.plan, **options) * g).sum())

    info_bias = bias
    for which, x in (("query", q), ("key", k), ("value", v)):
        step = 1e-5 * rng.standard_normal(x.shape)
        change = (loss({which: x + step}) - loss({which: x - step})) / 2.0
        assert np.isclose(change, (getattr(grads, which) * step).sum(), rtol=2e-4, atol=1e-9)
    if name != "plateau":
        step = 1e-5 * rng.standard_normal(bias.parameters.shape)
        ahead, behind = (_moved(name, bias, s) for s in (step, -step))
        change = (loss({"bias": ahead}) - loss({"bias": behind})) / 2.0
        assert np.isclose(change, (grads.bias * step).sum(), rtol=2e-4, atol=1e-9)


def _moved(name: str, bias: Bias, step: Array) -> Bias:
    parameters = bias.parameters + step
    if name == "alibi":
        return Bias.alibi(parameters)
    if name == "t5":
        return Bias.t5(parameters, max_distance=100)
    if name.startswith("kerple"):
        return Bias.kerple(parameters, kind=name.split()[1])
    return Bias.learned(parameters)


@pytest.mark.parametrize("name", ROUTES)
def test_gradients_are_close_to_the_exact_ones(name: str) -> None:
    q, k, v = heads(seed=3)
    bias = bias_of(name)
    g = np.random.default_rng(4).standard_normal((HEADS, TOKENS, 4))
    exact = subquad.attention_grad(g, q, k, v, bias=bias, is_causal=True)
    found = subquad.attention_grad(
        g, q, k, v, bias=bias, is_causal=True, eps=1e-5, method="polynomial"
    )
    for which in ("query", "key", "value", "bias"):
        a, b = getattr(exact, which), getattr(found, which)
        assert np.abs(a - b).max() <= 1e-3 * np.abs(a).max()


@pytest.mark.parametrize("name", ROUTES)
def test_rows_out_of_reach_are_exact_in_value_and_gradient(name: str) -> None:
    q, k, v = heads(seed=7)
    some = [3, 4, 700, 701, 1499]
    q[:, some] *= 300.0
    bias = bias_of(name)
    options: dict[str, Any] = {"bias": bias, "is_causal": True}
    out, info = subquad.attention(
        q, k, v, eps=1e-3, method="polynomial", return_info=True, **options
    )
    exact = subquad.reference.attention(q, k, v, **options)
    assert info.method == "polynomial"
    assert np.abs(out - exact)[:, some].max() <= 1e-12
    assert (np.linalg.norm(out - exact, axis=-1) <= info.error_bound).all()
    g = np.zeros_like(out)
    g[:, some] = 1.0
    wanted = subquad.attention_grad(g, q, k, v, **options)
    found = subquad.attention_grad(g, q, k, v, eps=1e-3, method="polynomial", **options)
    for which in ("query", "key", "value", "bias"):
        np.testing.assert_allclose(
            getattr(found, which), getattr(wanted, which), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("name", ROUTES)
def test_workers_change_nothing(name: str) -> None:
    q, k, v = (x.astype(np.float32) for x in heads(seed=8))
    bias = bias_of(name)
    options: dict[str, Any] = {"bias": bias, "eps": 1e-2, "method": "polynomial"}
    one, two = (subquad.attention(q, k, v, workers=n, **options) for n in (1, 2))
    assert (one == two).all()
    of_one, of_two = (subquad.attention_grad(v, q, k, v, workers=n, **options) for n in (1, 2))
    for which in ("query", "key", "value", "bias"):
        assert (getattr(of_one, which) == getattr(of_two, which)).all()


def test_a_plan_serves_other_numbers_and_is_not_trusted() -> None:
    q, k, v = heads(seed=9)
    bias = bias_of("alibi")
    options: dict[str, Any] = {"bias": bias, "eps": 1e-2, "is_causal": True}
    plan = subquad.plan(q, k, v, method="polynomial", **options)
    other = heads(seed=10)
    out, info = subquad.attention(*other, plan=plan, return_info=True, **options)
    exact = subquad.reference.attention(*other, bias=bias, is_causal=True)
    assert (np.linalg.norm(out - exact, axis=-1) <= info.error_bound).all()
    far = (40.0 * other[0], *other[1:])
    out, info = subquad.attention(*far, plan=plan, return_info=True, **options)
    exact = subquad.reference.attention(*far, bias=bias, is_causal=True)
    assert (np.linalg.norm(out - exact, axis=-1) <= info.error_bound).all()
    assert info.stats["rows_recomputed"] > TOKENS


def test_large_logits_are_quadratic_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    q, k, v = heads()
    plan = subquad.plan(40.0 * q, k, v, bias=bias_of("t5"), eps=1e-2, method="polynomial")
    assert plan.method == "exact"
    assert plan.reason.startswith("quadratic: d = 3, max|s| <= ")


# Which way is cheapest for the steeper of the two power kernels is a close call.
@pytest.mark.parametrize("name", [name for name in ROUTES if name != "kerple power"])
def test_the_cheapest_way_is_taken(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.undo()
    queries, keys, values = problem(1, sizes=(60_000, 60_000, 4, 8), size=0.05)
    bias = bias_of(name, 60_000, 60_000) if name in ("plateau", "learned") else bias_of(name)
    q, k, v = (np.repeat(x.astype(np.float32), HEADS, axis=0) for x in (queries, keys, values))
    plan = subquad.plan(q, k, v, bias=bias, eps=2e-2, is_causal=True)
    assert {head.route for head in plan.heads} == {ROUTES[name]}
    exact, chosen = plan.candidates
    assert chosen.flops < 0.5 * exact.flops


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"is_causal": True, "window": 9}, "`window` is given"),
        ({"certificate": "statistical"}, "by what is proved alone"),
        ({"is_causal": "lower_right"}, "from lag 0 on"),
    ],
)
def test_what_is_not_split_is_exact_and_says_so(options: dict[str, Any], reason: str) -> None:
    q, k, v = heads(1100, 1500)
    bias = bias_of("learned", 1100, 1500)
    plan = subquad.plan(q, k, v, bias=bias, eps=1e-2, method="polynomial", **options)
    assert plan.method == "exact"
    assert reason in plan.reason


def test_lags_that_are_hidden_stay_hidden() -> None:
    q, k, v = heads(seed=11)
    values = np.zeros(2 * TOKENS - 1)
    values[TOKENS - 1 + 3 :] = -np.inf
    values[: TOKENS - 1 - 40] = -np.inf
    bias = Bias.learned(values)
    out, info = subquad.attention(
        q, k, v, bias=bias, eps=1e-2, method="polynomial", return_info=True
    )
    exact = subquad.reference.attention(q, k, v, bias=bias)
    assert (np.linalg.norm(out - exact, axis=-1) <= info.error_bound).all()


@pytest.mark.parametrize("slope", [0.0, 1e-6, 5.0, 200.0])
def test_slopes_of_any_size(slope: float) -> None:
    q, k, v = (x.astype(np.float32) for x in heads(seed=12))
    bias = Bias.alibi(np.float64(slope))
    for is_causal in (True, False):
        out, info = subquad.attention(
            q, k, v, bias=bias, eps=1e-2, is_causal=is_causal, method="polynomial", return_info=True
        )
        exact = subquad.reference.attention(
            wide(q), wide(k), wide(v), bias=bias, is_causal=is_causal
        )
        assert (np.linalg.norm(wide(out) - exact, axis=-1) <= info.error_bound).all()
        g = subquad.attention_grad(
            out, q, k, v, bias=bias, eps=1e-2, is_causal=is_causal, method="polynomial"
        )
        assert np.isfinite(g.bias).all()


def test_hidden_lags_say_nothing_of_seen_ones() -> None:
    """All that a row sees may be far below the rest, and rounded as such."""
    q, k, v = (x.astype(np.float32) for x in heads(seed=13))
    lags = np.arange(1 - TOKENS, TOKENS)
    values = np.where(lags < 0, 0.0, -1e6)
    values[np.abs(lags) < 150] += np.random.default_rng(14).standard_normal(299)
    bias = Bias.learned(values)
    out, info = subquad.attention(
        q, k, v, bias=bias, eps=1e-3, is_causal=True, method="polynomial", return_info=True
    )
    exact = subquad.reference.attention(wide(q), wide(k), wide(v), bias=bias, is_causal=True)
    assert (np.linalg.norm(wide(out) - exact, axis=-1) <= info.error_bound).all()


@pytest.mark.parametrize("size", [1e-12, 1e-8, 1e8])
def test_products_do_not_depend_on_which_side_is_large(size: float) -> None:
    """Terms of all degrees share transforms, whose rounding is that of the largest."""
    q, k, v = (x.astype(np.float32) for x in heads(500, 500, seed=15))
    q, k = q * np.float32(size), k / np.float32(size)
    bias = bias_of("learned", 500, 500)
    options: dict[str, Any] = {"bias": bias, "eps": 1e-2, "method": "polynomial"}
    out, info = subquad.attention(q, k, v, return_info=True, **options)
    exact = subquad.reference.attention(wide(q), wide(k), wide(v), bias=bias)
    assert {head.route for head in info.plan.heads} == {FFT}
    assert (np.linalg.norm(wide(out) - exact, axis=-1) <= info.error_bound).all()
    assert info.stats["rows_recomputed"] < 0.05 * out.shape[0] * out.shape[1]
    found = subquad.attention_grad(v, q, k, v, **options)
    wanted = subquad.attention_grad(v, q, k, v, bias=bias)
    for which in ("query", "key", "value", "bias"):
        a, b = getattr(wanted, which), getattr(found, which)
        assert np.abs(a - b).max() <= 0.03 * np.abs(a).max()


def test_a_kernel_whose_parameters_act_alike_has_a_gradient() -> None:
    q, k, v = heads(seed=16)
    bias = Bias.kerple(np.array([1.0, 1e-30]))
    options: dict[str, Any] = {"bias": bias, "is_causal": True}
    found = subquad.attention_grad(v, q, k, v, eps=1e-4, method="polynomial", **options).bias
    np.testing.assert_allclose(found, subquad.attention_grad(v, q, k, v, **options).bias, rtol=1e-2)


def test_sums_round_by_norms_whatever_logits_are() -> None:
    """Queries that are nearly orthogonal to long keys: terms cancel."""
    rng = np.random.default_rng(17)
    q = rng.standard_normal((1, TOKENS, 2))
    q[..., 0] = 0.01 * q[..., 0] - q[..., 1]
    k = 300.0 + 0.1 * rng.standard_normal((1, TOKENS, 2))
    v = rng.standard_normal((1, TOKENS, 3))
    single = [x.astype(np.float32) for x in (0.2 * q, k, v)]
    bias = Bias.alibi(np.array([1e-4]))
    out, lse, info = subquad.attention(
        *single, bias=bias, is_causal=True, eps=2e-2, method="polynomial", centres=None,
        return_lse=True, return_info=True,
    )  # fmt: skip
    exact, exact_lse = subquad.reference.attention(
        *map(wide, single), bias=bias, is_causal=True, return_lse=True
    )
    assert (np.linalg.norm(wide(out) - exact, axis=-1) <= info.error_bound).all()
    assert np.abs(lse - exact_lse).max() <= 0.03


@pytest.mark.parametrize("factor", [3e3, 1e4, 1e12])
@pytest.mark.parametrize("name", ["alibi", "plateau", "kerple log", "learned"])
def test_long_queries_do_not_leave_the_range(name: str, factor: float) -> None:
    q, k, v = (x.astype(np.float32) for x in heads(seed=18))
    q[:, [7, 900]] *= np.float32(factor)
    bias = bias_of(name)
    wanted = subquad.attention_grad(v, q, k, v, bias=bias).value
    for eps in (1e-1, 1e-2, 1e-3):
        found = subquad.attention_grad(v, q, k, v, bias=bias, eps=eps, method="polynomial").value
        assert np.abs(wanted - found).max() <= (2.0 * eps + 1e-3) * np.abs(wanted).max()


def hostile(name: str) -> Heads:
    """Numbers that bounds are easily wrong about."""
    q, k, v = heads(500, 500, seed=20)
    if name == "ties":
        q, k = np.round(4.0 * q) / 4.0, np.round(k)
    elif name == "duplicates":
        k[:], v[:] = k[:, :1], v[:, :1]
    elif name == "zero rows":
        q[:, ::2], k[:, ::3], v[:, ::5] = 0.0, 0.0, 0.0
    elif name == "denormals":
        q, v = 1e-41 * q, 1e-40 * v
    elif name == "large values":
        v = 1e30 * v
    elif name == "large queries and small keys":
        q, k = 1e15 * q, 1e-15 * k
    elif name == "offset values":
        v = v + 1e4
    return q, k, v


@pytest.mark.parametrize("name", ROUTES)
@pytest.mark.parametrize(
    "numbers",
    [
        "ties",
        "duplicates",
        "zero rows",
        "denormals",
        "large values",
        "large queries and small keys",
        "offset values",
    ],
)
def test_bounds_hold_for_hostile_numbers(name: str, numbers: str) -> None:
    q, k, v = (x.astype(np.float32) for x in hostile(numbers))
    bias = bias_of(name, 500, 500)
    for is_causal in (False, True):
        out, lse, info = subquad.attention(
            q, k, v, bias=bias, is_causal=is_causal, eps=1e-2, method="polynomial",
            return_lse=True, return_info=True,
        )  # fmt: skip
        exact, exact_lse = subquad.reference.attention(
            wide(q), wide(k), wide(v), bias=bias, is_causal=is_causal, return_lse=True
        )
        slack = 1e-13 * np.abs(exact).max()
        error = np.linalg.norm(wide(out) - exact, axis=-1)
        assert (error <= info.error_bound + slack).all()
        least = 2.0**-23 * np.linalg.norm(exact, axis=-1)
        least += 4.0 * np.finfo(np.float32).smallest_subnormal
        assert (info.error_bound <= 1e-2 * info.spread[:, np.newaxis] + least).all() or (
            "even in float64" in info.reason
        )
        assert np.abs(wide(lse) - exact_lse).max() <= -np.log1p(-1e-2) + 1e-4


@pytest.mark.parametrize("name", ["alibi", "t5", "kerple log", "kerple power", "learned"])
@pytest.mark.parametrize(("queries", "keys"), [(0, 5), (1, 1), (1, 7), (7, 1)])
def test_few_tokens_with_a_budget(name: str, queries: int, keys: int) -> None:
    q, k, v = heads(queries, keys, seed=21)
    options: dict[str, Any] = {"bias": bias_of(name, queries, keys), "eps": 1e-2}
    out = subquad.attention(q, k, v, method="polynomial", **options)
    exact = subquad.reference.attention(q, k, v, bias=options["bias"])
    np.testing.assert_allclose(out, exact, atol=1e-2 * 2.0 * np.abs(v).max())
    grads = subquad.attention_grad(out, q, k, v, method="polynomial", **options)
    assert grads.bias.shape == options["bias"].parameters.shape
    assert np.isfinite(grads.bias).all()
