"""Softmax attention by polynomials: what is not finite, what is empty, and where results go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from approximations import cast, problem

import subquad

SIZES = (180, 200, 3, 2)
NAMES = ("query", "key", "value")
Options = dict[str, Any]
BY_POLYNOMIALS: Options = {"eps": 1e-2, "method": "polynomial"}


@pytest.mark.parametrize("number", [np.nan, -np.inf])
@pytest.mark.parametrize("certificate", ["deterministic", "statistical", "none"])
@pytest.mark.parametrize("name", NAMES)
def test_the_first_number_that_is_not_finite_is_named(
    name: str, certificate: str, number: float
) -> None:
    for dtype in ("float32", "float64"):
        for is_causal in (False, True):
            arrays = cast(problem(1, 2, sizes=SIZES), dtype)
            arrays[NAMES.index(name)][0, 0, 33, 1] = number
            arrays[NAMES.index(name)][0, 1, 2, 0] = np.nan
            options = {**BY_POLYNOMIALS, "certificate": certificate, "is_causal": is_causal}
            message = rf"`{name}` must be finite, got {number} at index \(0, 0, 33, 1\)"
            with pytest.raises(ValueError, match=message):
                subquad.attention(*arrays, **options)
            g = np.ones((1, 2, 180, 2), dtype)
            with pytest.raises(ValueError, match=message):
                subquad.attention_grad(g, *arrays, **options)


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_an_upstream_gradient_that_is_not_finite_is_named(dtype: str, number: float) -> None:
    arrays = cast(problem(2, sizes=SIZES), dtype)
    g = np.ones((2, 180, 2), dtype)
    g[1, 5, 0] = number
    for is_causal in (False, True):
        for wrt in (None, ("key",)):
            options = {**BY_POLYNOMIALS, "is_causal": is_causal, "wrt": wrt}
            with pytest.raises(ValueError, match=rf"`grad_out`.*{number} at index \(1, 5, 0\)"):
                subquad.attention_grad(g, *arrays, **options)
            # Silently, where nobody wants to know: warnings are errors here.
            subquad.attention_grad(g, *arrays, **options, check_finite=False)


@pytest.mark.parametrize("certificate", ["deterministic", "statistical", "none"])
@pytest.mark.parametrize("name", NAMES)
def test_without_the_check_nothing_else_is_touched(name: str, certificate: str) -> None:
    for number, is_causal in ((np.nan, False), (np.inf, True), (np.inf, False)):
        arrays = problem(2, sizes=SIZES)
        arrays[NAMES.index(name)][1, 33, 1] = number
        options = {
            **BY_POLYNOMIALS,
            "certificate": certificate,
            "is_causal": is_causal,
            "check_finite": False,
        }
        with np.errstate(all="ignore"):
            out = subquad.attention(*arrays, **options)
            grads = subquad.attention_grad(np.ones((2, 180, 2)), *arrays, **options)
        # The other head is as it was.
        clean = [a[:1] for a in arrays]
        options["check_finite"] = True
        expected = subquad.attention(*clean, **options)
        if certificate != "statistical":
            np.testing.assert_array_equal(out[:1], expected)
        assert grads.query.shape == arrays[0].shape


@pytest.mark.parametrize("certificate", ["deterministic", "statistical", "none"])
@pytest.mark.parametrize(
    "sizes", [(0, 9, 3, 2), (9, 0, 3, 2), (0, 0, 3, 2), (9, 8, 0, 2), (9, 8, 3, 0), (1, 1, 1, 1)]
)
def test_empty_arrays_have_defined_results(
    sizes: tuple[int, int, int, int], certificate: str
) -> None:
    queries, keys, _, columns = sizes
    for lead in ((), (2,), (0,)):
        for is_causal in (False, True, "lower_right"):
            arrays = problem(*lead, sizes=sizes)
            options: Options = {**BY_POLYNOMIALS, "certificate": certificate}
            options |= {"is_causal": is_causal, "return_info": True}
            out, lse, info = subquad.attention(*arrays, return_lse=True, **options)
            assert out.shape == (*lead, queries, columns)
            assert lse.shape == (*lead, queries)
            exact = subquad.attention(*arrays, is_causal=is_causal)
            np.testing.assert_allclose(out, exact, atol=1e-12)
            if keys == 0:
                assert not out.any()
                assert np.isneginf(lse).all()
            repr(info)
            grads, _ = subquad.attention_grad(np.ones_like(out), *arrays, **options)
            assert grads.key.shape == arrays[1].shape
            assert not np.isnan(grads.key).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_query_that_sees_no_key_gives_zeros(dtype: str) -> None:
    q, k, v = cast(problem(2, sizes=(300, 200, 3, 2)), dtype)
    options: Options = {**BY_POLYNOMIALS, "is_causal": "lower_right"}
    out, lse, info = subquad.attention(q, k, v, return_lse=True, return_info=True, **options)
    assert info.method == "polynomial"
    assert all(np.isfinite(head.bound) for head in info.plan.heads)
    assert not out[:, :100].any()
    assert np.isneginf(lse[:, :100]).all()
    assert not info.error_bound[:, :100].any()
    assert np.isfinite(lse[:, 100:]).all()
    grads = subquad.attention_grad(np.ones_like(out), q, k, v, **options)
    assert not grads.query[:, :100].any()
    assert grads.query[:, 101:].any(axis=-1).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_result_is_written_where_it_is_asked_for(dtype: str) -> None:
    arrays = cast(problem(2, sizes=SIZES), dtype)
    for is_causal in (False, True):
        options = {**BY_POLYNOMIALS, "is_causal": is_causal}
        expected = subquad.attention(*arrays, **options)
        out = np.full((2, 180, 2), np.nan, dtype)
        found, lse = subquad.attention(*arrays, out=out, return_lse=True, **options)
        assert found is out
        np.testing.assert_array_equal(out, expected)
        assert np.isfinite(lse).all()


def test_integers_are_computed_in_float64() -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.integers(-2, 3, (n, 3)) for n in (180, 200, 200))
    out, info = subquad.attention(q, k, v, **BY_POLYNOMIALS, scale=0.02, return_info=True)
    assert out.dtype == np.float64
    assert info.method == "polynomial"
    exact = subquad.reference.attention(q, k, v, scale=0.02)
    assert np.all(np.linalg.norm(out - exact, axis=-1) <= info.error_bound)
    grads = subquad.attention_grad(np.ones_like(out), q, k, v, **BY_POLYNOMIALS, scale=0.02)
    assert grads.key.dtype == np.float64


@pytest.mark.parametrize(
    ("centres", "error", "message"),
    [
        (
            (np.zeros(2), np.zeros(3)),
            ValueError,
            r"`centres\[0\]` must broadcast to \(\.\.\., H, E",
        ),
        ((np.zeros(3), np.zeros((5, 3))), ValueError, r"`centres\[1\]`.*Hkv, E.*got \(5, 3\)"),
        ((np.full(3, np.nan), np.zeros(3)), ValueError, r"`centres\[0\]` must be finite, got nan"),
        ((np.zeros(3), np.full(3, np.inf)), ValueError, r"`centres\[1\]` must be finite, got inf"),
        ((np.zeros(3),) * 3, ValueError, "two arrays .*, got 3"),
        (-1, ValueError, "`centres`"),
        (0, ValueError, "`centres` must be at least 1, got 0"),
        ("mean", ValueError, '`centres` must be "auto"'),
        (1.5, TypeError, "`centres`"),
        (True, TypeError, "`centres`"),
        ((np.zeros(3, complex), np.zeros(3)), TypeError, r"`centres\[0\]` must hold real"),
    ],
)
def test_centres_that_are_none_are_refused(centres: Any, error: Any, message: str) -> None:
    arrays = problem(2, sizes=SIZES)
    for call in (subquad.attention, subquad.plan, subquad.reference.attention):
        with pytest.raises(error, match=message):
            call(*arrays, **BY_POLYNOMIALS, centres=centres)
        with pytest.raises(error, match=message):
            call(*arrays, centres=centres)
