"""Sums with polynomial weights and their gradients: by the definition, and as the compiled module has them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.polynomial.polynomial import polyder, polyval2d
from numpy.typing import NDArray

from subquad import _subquad

Array = NDArray[Any]
Arrays = dict[str, Array]

INPUTS = ("query", "key", "value", "masses")
DTYPES = [np.float64, np.float32]


def problem(
    sizes: tuple[int, int, int, int, int] = (2, 130, 210, 6, 17),
    dtype: Any = np.float64,
    seed: int = 0,
) -> Arrays:
    """Draw inputs for heads, queries, keys, a width, and that of the values; and cotangents."""
    heads, queries, keys, width, value_width = sizes
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> Array:
        return rng.standard_normal((heads, *shape)).astype(dtype)

    return {
        "query": draw(queries, width),
        "key": draw(keys, width),
        # A mean that nothing may take off.
        "value": draw(keys, value_width) + dtype(3),
        "masses": draw(keys),
        "grad_rows": draw(queries, value_width),
        "grad_sums": draw(queries),
    }


def definition(
    x: Arrays, c: Array, shift: int | None, scale: float, lead: int | None = None
) -> tuple[Arrays, Arrays]:
    """Return sums and gradients key by key, and how large they would be if nothing cancelled."""

    def evaluate(x: Arrays, c: Array, scale: float) -> Arrays:
        cut = x["query"].shape[2] if lead is None else lead
        blocks = [slice(cut), slice(cut, None)]
        queries = [x["query"][:, :, block] for block in blocks]
        keys = [x["key"][:, :, block] for block in blocks]
        v, w = (scale * (queries[b] @ keys[b].swapaxes(1, 2)) for b in (0, 1))
        # Powers of the first part, then of the second.
        table = np.atleast_2d(c).T
        visible = np.ones(v.shape[1:], bool)
        if shift is not None:
            visible = np.arange(v.shape[2]) <= np.arange(v.shape[1])[:, None] + shift
        weights = np.where(visible, polyval2d(v, w, table), 0.0)
        upstream = x["grad_rows"] @ x["value"].swapaxes(1, 2)
        upstream = upstream + x["grad_sums"][:, :, None] * x["masses"][:, None, :]
        of_parts = [polyval2d(v, w, polyder(table, axis=axis)) for axis in (0, 1)]
        slopes = [scale * upstream * np.where(visible, of_part, 0.0) for of_part in of_parts]
        return {
            "rows": weights @ x["value"],
            "sums": np.einsum("hls,hs->hl", weights, x["masses"]),
            "query": np.concatenate([slopes[b] @ keys[b] for b in (0, 1)], axis=2),
            "key": np.concatenate([slopes[b].swapaxes(1, 2) @ queries[b] for b in (0, 1)], axis=2),
            "value": weights.swapaxes(1, 2) @ x["grad_rows"],
            "masses": np.einsum("hls,hl->hs", weights, x["grad_sums"]),
        }

    exact = {name: array.astype(np.float64) for name, array in x.items()}
    positive = {name: np.abs(array) for name, array in exact.items()}
    return evaluate(exact, c, scale), evaluate(positive, np.abs(c), abs(scale))


def compute(
    x: Arrays,
    c: Array,
    shift: int | None = None,
    scale: float = 0.3,
    workers: int = 1,
    wanted: tuple[str, ...] = INPUTS,
    lead: int | None = None,
) -> tuple[Arrays, bool]:
    """Call the compiled functions; also whether either found something that is not finite."""
    call: dict[str, Any] = {name: x[name] for name in INPUTS} | {"coefficients": c, "scale": scale}
    call |= {"shift": shift, "workers": workers, "lead": lead}
    # Sums are written; gradients are added.
    out = {"rows": np.full_like(x["grad_rows"], np.nan), "sums": np.full_like(x["grad_sums"], 7)}
    bad, counts = _subquad.polynomial_sums(**(call | out))
    assert set(counts) == {"tasks", "tiles", "flops", "bytes_read"}
    grads = {name: np.zeros_like(x[name]) for name in wanted}
    call |= {f"grad_{name}": grads.get(name) for name in INPUTS}
    call |= {name: x[name] for name in ("grad_rows", "grad_sums")}
    worse, counts = _subquad.polynomial_sums_grad(**call)
    assert set(counts) == {"tasks", "tiles", "flops", "bytes_read"}
    return out | grads, bad or worse


def assert_is_the_definition(
    x: Arrays, c: Array, shift: int | None, scale: float = 0.3, lead: int | None = None
) -> None:
    found, bad = compute(x, c, shift, scale, lead=lead)
    assert not bad
    expected, size = definition(x, c, shift, scale, lead)
    unit = 1e-12 if x["query"].dtype == np.float64 else 2e-5
    for name, array in expected.items():
        assert found[name].dtype == x["query"].dtype
        largest = np.max(size[name], initial=0.0)
        np.testing.assert_allclose(found[name], array, rtol=0, atol=unit * largest, err_msg=name)
