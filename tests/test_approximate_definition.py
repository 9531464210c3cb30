"""Softmax attention by polynomials: what is computed, row by row, by its formula in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from approximations import Array, cast, division_of, problem
from numpy.polynomial.polynomial import polyval

import subquad
from subquad._approximate.division import Division

CAUSAL: tuple[Any, ...] = (False, "upper_left", "lower_right")
SIZES = (180, 200, 3, 2)


def by_formula(division: Division, shift: int | None) -> tuple[Array, Array, Array]:
    """Rows, log-sum-exps and which rows are meant, from the polynomials of a division."""
    centred, kept = division.measures.centred, division.measures.kept
    head = centred.head
    q, k, v = (a.astype(np.float64) for a in (head.query, head.key, head.value))
    m, n = (c.astype(np.float64) for c in (centred.centres.query, centred.centres.key))
    x, y = q - m, k - n
    logits = head.scale * (x @ y.T)
    exponents = head.scale * (y @ m)
    masses = np.exp(exponents - exponents.max())
    out, lse = np.full((len(q), v.shape[1]), np.nan), np.full(len(q), np.nan)
    for group in division.groups:
        powers = np.where(kept, polyval(logits, np.array(group.p.c)), np.exp(logits))
        weights = masses * powers
        if shift is not None:
            weights *= np.tri(len(q), len(k), shift)
        total = weights.sum(axis=1, keepdims=True)
        rows = group.rows
        out[rows] = (weights @ v / total)[rows]
        lse[rows] = (np.log(total[:, 0]) + exponents.max() + head.scale * (q @ n))[rows]
    return out, lse, np.isfinite(lse)


@pytest.mark.parametrize("is_causal", CAUSAL)
@pytest.mark.parametrize("centres", [None, "auto", 20, "given"])
@pytest.mark.parametrize("eps", [1e-1, 1e-3])
def test_rows_are_quotients_of_sums_of_polynomials(
    is_causal: Any, centres: Any, eps: float
) -> None:
    q, k, v = arrays = problem(sizes=SIZES, size=0.2)
    if centres is not None:
        q, k, v = arrays = q + 1, k + 2, v + 5
    if centres == "given":
        centres = (np.array([1.1, 0.9, 1.0]), np.array([2.0, 2.1, 1.9]))
    options: dict[str, Any] = {"is_causal": is_causal, "centres": centres}
    division = division_of(arrays, eps, **options)
    shift = {False: None, "upper_left": 0, "lower_right": len(k) - len(q)}[is_causal]
    out, lse, info = subquad.attention(
        *arrays, eps=eps, method="polynomial", return_lse=True, return_info=True, **options
    )
    expected, expected_lse, meant = by_formula(division, shift)
    # Rows whose bound turned out too large were computed anew.
    anew = np.isclose(out, subquad.attention(*arrays, is_causal=is_causal), rtol=1e-13, atol=0)
    rows = meant & ~anew.all(axis=1)
    assert rows.mean() > 0.3
    np.testing.assert_allclose(out[rows], expected[rows], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(lse[rows], expected_lse[rows], rtol=1e-12, atol=1e-12)
    assert info.stats["degree"] == max(group.p.degree for group in division.groups)


def test_weights_of_keys_apart_are_exponentials() -> None:
    q, k, v = problem(sizes=SIZES)
    k[11] *= 60
    options = {"eps": 1e-2, "method": "polynomial"}
    division = division_of((q, k, v), 1e-2)
    assert division.measures.apart == 16
    assert not division.measures.kept[11]
    out, lse = subquad.attention(q, k, v, return_lse=True, **options)  # type: ignore[arg-type]
    expected, expected_lse, meant = by_formula(division, None)
    anew = np.isclose(out, subquad.attention(q, k, v), rtol=1e-13, atol=0).all(axis=1)
    rows = meant & ~anew
    assert rows.mean() > 0.9
    np.testing.assert_allclose(out[rows], expected[rows], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(lse[rows], expected_lse[rows], rtol=1e-12)


@pytest.mark.parametrize("is_causal", CAUSAL)
def test_groups_of_heads_take_their_own_keys(is_causal: Any) -> None:
    q = problem(4, sizes=SIZES, size=0.2)[0]
    _, k, v = problem(2, sizes=SIZES, seed=1)
    options: dict[str, Any] = {"eps": 1e-2, "method": "polynomial", "is_causal": is_causal}
    out = subquad.attention(q, k, v, enable_gqa=True, **options)
    apart = [subquad.attention(q[h], k[h // 2], v[h // 2], **options) for h in range(4)]
    np.testing.assert_array_equal(out, apart)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_logarithm_of_the_sum_is_close_to_the_exact_one(dtype: str) -> None:
    q, k, v = cast(problem(2, sizes=SIZES, size=0.2), dtype)
    for is_causal in CAUSAL:
        for eps in (1e-1, 1e-2, 1e-3):
            options: dict[str, Any] = {"is_causal": is_causal, "return_lse": True}
            _, lse, info = subquad.attention(
                q, k + 1, v, eps=eps, method="polynomial", return_info=True, **options
            )
            _, exact = subquad.attention(q, k + 1, v, **options)
            assert lse.dtype == exact.dtype
            if info.method == "polynomial":
                np.testing.assert_allclose(lse, exact, atol=2 * eps)
