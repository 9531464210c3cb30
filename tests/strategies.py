"""Problems for the tests: every shape, option and layout that attention accepts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import subquad

FIXTURES = Path(__file__).parent / "data" / "fixtures"
# Those of softmax attention.
ATTENTION = (
    "softmax_plain",
    "softmax_causal",
    "softmax_scale",
    "softmax_peaked",
    "softmax_gqa_causal",
    "bias_lag_shared",
    "bias_lag_heads_causal",
    "bias_alibi_causal",
)

Draw = Any
Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """Arguments of one call of `attention`."""

    query: Array
    key: Array
    value: Array
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def arrays(self) -> tuple[Array, Array, Array]:
        return self.query, self.key, self.value

    def __repr__(self) -> str:  # shapes say more than numbers when an example fails
        shapes = ", ".join(f"{a.dtype}{a.shape} strides {a.strides}" for a in self.arrays)
        options = {
            name: f"{x.dtype}{x.shape}" if isinstance(x, np.ndarray) else x
            for name, x in self.options.items()
        }
        return f"Case({shapes}, {options})"


@st.composite
def cases(
    draw: Draw,
    dtypes: Sequence[str] = ("float32", "float64"),
    lengths: tuple[int, int] = (0, 40),
    layouts: bool = True,
) -> Case:
    """Draw shapes, masks, windows, biases, groups, scales, dtypes and strides, alone and combined."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    length = st.integers(*lengths)
    queries, keys = draw(length), draw(length)
    width, value_width = draw(st.integers(0, 20)), draw(st.integers(0, 20))
    batch = draw(st.lists(st.integers(1, 2), max_size=2))
    kv_heads = draw(st.sampled_from([1, 1, 2, 3]))
    group = draw(st.sampled_from([1, 1, 2, 3]))
    heads = kv_heads * group
    grouped = kv_heads > 1 and group > 1
    lead_q, lead_k, lead_v = (
        _leading(draw, [*batch, n], keep_heads=grouped) for n in (heads, kv_heads, kv_heads)
    )

    dtype = st.sampled_from(list(dtypes))
    one = draw(dtype)
    mixed = draw(st.integers(0, 4)) == 0

    def array(*shape: int) -> Array:
        numbers = rng.standard_normal(shape).astype(draw(dtype) if mixed else one)
        return _laid_out(draw, numbers) if layouts else numbers

    q = array(*lead_q, queries, width)
    k = array(*lead_k, keys, width)
    v = array(*lead_v, keys, value_width)

    lead: tuple[int, ...] = np.broadcast_shapes(lead_q[:-1], lead_k[:-1], lead_v[:-1])
    if lead_q or lead_k or lead_v:
        widest = max((s[-1] for s in (lead_q, lead_k, lead_v) if s), default=1)
        lead = (*lead, widest)
    options = {"enable_gqa": True} if grouped else {}
    options |= _options(draw, rng, lead, queries, keys, layouts)
    return Case(q, k, v, options)


def _leading(draw: Draw, full: list[int], keep_heads: bool) -> tuple[int, ...]:
    """Some leading axes that broadcast to `full`: sizes of 1, or axes left out."""
    sizes = [n if draw(st.booleans()) else 1 for n in full[:-1]]
    sizes.append(full[-1] if keep_heads or draw(st.booleans()) else 1)
    return tuple(sizes[draw(st.integers(0, len(full) - keep_heads)) :])


def _options(
    draw: Draw,
    rng: np.random.Generator,
    lead: tuple[int, ...],
    queries: int,
    keys: int,
    layouts: bool,
) -> dict[str, Any]:
    options: dict[str, Any] = {}
    causal = draw(st.sampled_from([False, True, "upper_left", "lower_right"]))
    if causal is not False:
        options["is_causal"] = causal
        if draw(st.booleans()):
            options["window"] = draw(st.integers(1, keys + 3))
    if draw(st.booleans()):
        shape = _over_logits(draw, lead, queries, keys)
        mask = rng.random(shape) < draw(st.sampled_from([0.1, 0.7, 1.0]))
        options["mask"] = _laid_out(draw, mask) if layouts else mask
    if draw(st.booleans()):
        shape = _over_logits(draw, lead, queries, keys)
        bias = 2.0 * rng.standard_normal(shape)
        if draw(st.booleans()):
            bias = np.where(rng.random(shape) < 0.3, -np.inf, bias)
        bias = bias.astype(draw(st.sampled_from(["float16", "float32", "float64"])))
        options["bias"] = _laid_out(draw, bias) if layouts else bias
    scale = draw(st.sampled_from([None, None, 0.3, 2.5, -0.7]))
    if scale is not None:
        options["scale"] = scale
    return options


def _over_logits(draw: Draw, lead: tuple[int, ...], queries: int, keys: int) -> tuple[int, ...]:
    """A shape that broadcasts to (*lead, queries, keys)."""
    full = (*lead, queries, keys)
    sizes = tuple(n if draw(st.booleans()) else 1 for n in full)
    return sizes[draw(st.integers(0, len(sizes))) :] if draw(st.booleans()) else sizes


def _laid_out(draw: Draw, array: Array) -> Array:
    """The same numbers in another layout."""
    kind = draw(st.sampled_from(["as is", "permuted", "reversed", "spread", "fortran", "expanded"]))
    if kind == "permuted" and array.ndim > 2:
        # (batch, length, head, width) in memory, seen as (batch, head, length, width).
        return np.swapaxes(np.ascontiguousarray(np.swapaxes(array, -2, -3)), -2, -3)
    if kind == "reversed" and array.ndim:
        axis = draw(st.integers(0, array.ndim - 1))
        return np.flip(np.ascontiguousarray(np.flip(array, axis)), axis)
    if kind == "spread" and array.ndim > 1:
        wide = np.zeros((*array.shape[:-2], 2 * array.shape[-2], array.shape[-1]), array.dtype)
        wide[..., ::2, :] = array
        return wide[..., ::2, :]
    if kind == "fortran":
        return np.asfortranarray(array)
    if kind == "expanded" and array.ndim > 2 and array.shape[0]:
        return np.broadcast_to(array[:1], array.shape)
    return array


def fixture(name: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays of a fixture, and its options as keywords of `attention`."""
    with np.load(FIXTURES / f"{name}.npz", allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files if key != "options"}
        options = json.loads(str(archive["options"]))
    keywords = {k: options[k] for k in ("is_causal", "scale", "enable_gqa") if k in options}
    lag = np.subtract.outer(
        np.arange(arrays["query"].shape[-2]), np.arange(arrays["key"].shape[-2])
    )
    if "slopes" in options:
        keywords["bias"] = -np.array(options["slopes"])[:, None, None] * np.maximum(lag, 0)
    if "bias" in arrays:
        keywords["bias"] = arrays["bias"][..., lag + lag.shape[0] - 1]
    return arrays, keywords


def sum_by_lag(full: Array) -> Array:
    """Sum a gradient of shape (heads, n, n) over pairs of the same lag i - j."""
    n = full.shape[-1]
    return np.stack(
        [np.trace(full, offset=-lag, axis1=-2, axis2=-1) for lag in range(1 - n, n)], axis=-1
    )


def bfloat16_bits(array: Array) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16, through exact arithmetic on the leading 8 bits."""
    mantissa, exponent = np.frexp(np.asarray(array, np.float64))
    nearest = np.ldexp(np.rint(mantissa * 256.0), exponent - 8).astype(np.float32)
    bits: NDArray[np.uint16] = (nearest.view(np.uint32) >> 16).astype(np.uint16)
    return bits


def spread_of(value: Array) -> Array:
    """R per head, by its definition."""
    value = np.asarray(value, np.float64)
    if value.shape[-2] == 0:
        return np.zeros(value.shape[:-2])
    spread: Array = np.linalg.norm(value - value.mean(axis=-2, keepdims=True), axis=-1).max(-1)
    return spread


def max_logit(case: Case) -> float:
    """The largest visible |logit|, bias included."""
    scale = case.options.get("scale")
    if scale is None:
        scale = max(case.query.shape[-1], 1) ** -0.5
    largest = 0.0
    q, k = case.query.astype(np.float64), case.key.astype(np.float64)
    if q.size and k.size:
        q_norm = np.linalg.norm(q, axis=-1).max()
        largest = abs(scale) * q_norm * np.linalg.norm(k, axis=-1).max()
    bias = case.options.get("bias")
    if bias is not None and bias.size:
        largest += np.abs(np.where(np.isfinite(bias), bias, 0.0)).astype(np.float64).max()
    return float(largest)


ROUNDOFF = {"float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}


def assert_close_to_reference(out: Array, case: Case) -> None:
    """Compare with the definition, in the Euclidean norm of rows, relative to the spread."""
    expected = subquad.reference.attention(*case.arrays, **case.options)
    assert out.shape == expected.shape
    logit, dtype = max_logit(case), out.dtype.name
    # The spread over all heads and the largest value bound those of each head.
    spread = float(np.max(spread_of(case.value), initial=0.0))
    largest = float(np.max(np.abs(case.value.astype(np.float64)), initial=0.0))
    largest *= case.value.shape[-1] ** 0.5
    if dtype == "float64":
        allowed = 1e-12 * max(1.0, logit) * largest
    else:
        allowed = max(2e-6, 2.0**-22 * logit) * spread + 2.0**-21 * largest
        if dtype == "float16":
            allowed += ROUNDOFF[dtype] * largest + 2.0**-24
    error = np.linalg.norm(out.astype(np.float64) - expected, axis=-1)
    assert np.max(error, initial=0.0) <= allowed
