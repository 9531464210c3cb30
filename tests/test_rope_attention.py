"""Attention of turned rows: definition, gradients, positions, real captures, every method."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rotations import LAYOUTS, Array
from strategies import FIXTURES, Case, cases

import subquad
from subquad import rope

FOLDER = os.environ.get("SUBQUAD_DATA")
SMALL = Path(subquad.__file__).parent / "data"
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
NAMES = ("query", "key", "value")


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rotary_dim", [4, 8])
def test_equals_the_fixtures(layout: str, rotary_dim: int) -> None:
    with np.load(FIXTURES / f"rope_{layout}_{rotary_dim}.npz", allow_pickle=False) as archive:
        z = dict(archive)
    given = json.loads(str(z["options"]))
    options = {
        name: given[name] for name in ("is_causal", "scale", "layout", "rotary_dim", "theta")
    }
    options["positions"] = np.arange(z["query"].shape[-2]) + given["first_position"]
    arrays = [z[name] for name in NAMES]
    for family in (rope, subquad.reference.rope):
        out = family.attention(*arrays, **options)
        np.testing.assert_allclose(out, z["out"], rtol=1e-12, atol=1e-13)
        grads = family.attention_grad(z["grad_out"], *arrays, **options)
        for name in NAMES:
            expected = z[f"grad_{name}"]
            np.testing.assert_allclose(getattr(grads, name), expected, rtol=1e-11, atol=1e-12)
    # The fixture can tell the layouts and the signs apart.
    other = options | {"layout": LAYOUTS[layout == "half"]}
    assert abs(rope.attention(*arrays, **other) - z["out"]).max() > 1e-3
    back = rope.attention(*arrays, **options | {"key_positions": -options["positions"]})
    assert abs(back - z["out"]).max() > 1e-3


def turned_options(data: Any, case: Case) -> dict[str, Any]:
    """Options of the rotation, and those of the case."""
    width, queries = case.query.shape[-1], case.query.shape[-2]
    assume(width >= 2)
    options: dict[str, Any] = {
        "rotary_dim": 2 * data.draw(st.integers(1, width // 2)),
        "layout": data.draw(st.sampled_from(LAYOUTS)),
        "scaling": data.draw(st.sampled_from([None, YARN])),
    }
    if data.draw(st.booleans()):
        options["positions"] = 30 * drawn(queries)
        options["key_positions"] = np.arange(case.key.shape[-2]) + 3
    return options | case.options


@given(st.data(), cases(lengths=(0, 24)))
def test_equals_the_definition(data: Any, case: Case) -> None:
    options = turned_options(data, case)
    out, lse = rope.attention(*case.arrays, **options, return_lse=True)
    expected, logs = subquad.reference.rope.attention(*case.arrays, **options, return_lse=True)
    assert out.dtype == np.result_type(*case.arrays)
    loose = out.dtype == np.float32
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-4 if loose else 1e-11)
    np.testing.assert_allclose(lse, logs, rtol=1e-4 if loose else 1e-11, atol=1e-4)


@given(st.data(), cases(dtypes=("float64",), lengths=(0, 20)))
def test_gradients_equal_the_definition(data: Any, case: Case) -> None:
    options = turned_options(data, case)
    out, lse = rope.attention(*case.arrays, **options, return_lse=True)
    grad_out = np.cos(out)
    expected = subquad.reference.rope.attention_grad(grad_out, *case.arrays, **options)
    forward = data.draw(st.sampled_from([None, (out, lse)]))
    grads = rope.attention_grad(grad_out, *case.arrays, **options, forward=forward)
    for name in (*NAMES, "bias"):
        found, wanted = getattr(grads, name), getattr(expected, name)
        assert (found is None) == (wanted is None)
        if found is not None and name != "bias":
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)
        elif found is not None:
            np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-2)  # maybe float16


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scaling", [None, YARN])
def test_gradients_equal_central_differences(layout: str, scaling: Any) -> None:
    arrays: dict[str, Any] = {
        "query": drawn(4, 5, 6),
        "key": drawn(2, 7, 6, seed=1),
        "value": drawn(2, 7, 3),
    }
    options: dict[str, Any] = {
        "layout": layout,
        "scaling": scaling,
        "rotary_dim": 4,
        "is_causal": "lower_right",
        "enable_gqa": True,
        "scale": 0.7,
    }
    grad_out = drawn(4, 5, 3, seed=2)
    grads = rope.attention_grad(grad_out, **arrays, **options)
    for name, array in arrays.items():
        expected = np.zeros(array.shape)
        for index in np.ndindex(*array.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = array.copy()
                moved[index] += step
                ends.append((rope.attention(**arrays | {name: moved}, **options) * grad_out).sum())
            expected[index] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(getattr(grads, name), expected, rtol=1e-6, atol=1e-8)


def test_only_what_is_asked_for_is_differentiated() -> None:
    q, k, v = drawn(3, 2, 9, 4)
    whole = rope.attention_grad(v, q, k, v)
    some = rope.attention_grad(v, q, k, v, wrt=("key",))
    assert some.query is some.value is None
    np.testing.assert_array_equal(some.key, whole.key)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_positions_may_be_moved(layout: str) -> None:
    q, k, v = drawn(3, 2, 40, 8)
    options: dict[str, Any] = {"layout": layout, "is_causal": True}
    out = rope.attention(q, k, v, **options)
    later = rope.attention(q, k, v, **options, positions=np.arange(40) + 5000.25)
    np.testing.assert_allclose(out, later, rtol=0, atol=1e-12)
    apart = rope.attention(
        q, k, v, **options, positions=np.arange(40), key_positions=np.arange(40) + 1
    )
    assert abs(out - apart).max() > 1e-3


def test_decoding_goes_on_where_the_prompt_ended() -> None:
    q, k, v = drawn(3, 2, 40, 8)
    whole = rope.attention(q, k, v, is_causal=True)
    for first in (0, 17, 39):
        tail = rope.attention(q[:, first:], k, v, is_causal="lower_right")
        np.testing.assert_allclose(tail, whole[:, first:], rtol=0, atol=1e-13)
    # With "upper_left" and without a mask queries begin where keys do.
    head = rope.attention(q[:, :5], k, v, is_causal="upper_left")
    np.testing.assert_allclose(head, whole[:, :5], rtol=0, atol=1e-13)
    full = rope.attention(q[:, :5], k, v)
    np.testing.assert_allclose(full, rope.attention(q, k, v)[:, :5], rtol=0, atol=1e-13)


def test_positions_of_a_batch() -> None:
    # Left padding: every sequence has its own zero, and hides what is before it.
    q, k, v = drawn(3, 2, 3, 12, 8)
    padding = np.array([0, 4])
    places = np.arange(12) - padding[:, np.newaxis]
    seen = (places >= 0)[:, np.newaxis, np.newaxis]
    places = np.maximum(places, 0)[:, np.newaxis]
    out = rope.attention(q, k, v, is_causal=True, positions=places, mask=seen)
    for b, first in enumerate(padding):
        rows = (slice(None), slice(first, None))
        one = rope.attention(q[b][rows], k[b][rows], v[b][rows], is_causal=True)
        np.testing.assert_allclose(out[b][rows], one, rtol=0, atol=1e-13)


def test_either_positions_stand_for_both_where_lengths_agree() -> None:
    q, k, v = drawn(3, 9, 4)
    places = np.arange(9) * 2
    both = rope.attention(q, k, v, positions=places, key_positions=places)
    np.testing.assert_array_equal(rope.attention(q, k, v, positions=places), both)
    np.testing.assert_array_equal(rope.attention(q, k, v, key_positions=places), both)


@pytest.mark.parametrize(
    "name", ["rope_n1024", "rope_n2048", "rope_gqa_n2048", "rope_n8192_window"]
)
def test_reproduces_real_layers(name: str) -> None:
    folder = SMALL if name == "rope_n1024" else Path(FOLDER or ".") / "captures"
    if not (folder / f"{name}.npz").exists():
        pytest.skip("SUBQUAD_DATA does not name the folder of the larger captures")
    with np.load(folder / f"{name}.npz") as archive:
        z = {n: archive[n] for n in archive.files}
    rows, grouped = z["check_rows"], len(z["q"]) != len(z["k"])
    heads = slice(None) if grouped else slice(0, 2)
    q, k, v, do = (z[n][heads].astype(np.float64) for n in ("q", "k", "v", "do"))
    if grouped:
        group = len(q) // len(k)
        np.testing.assert_array_equal(z["kv_of_q"], np.repeat(np.arange(len(k)), group))
    options: dict[str, Any] = {
        "theta": float(z["theta"]),
        "scale": float(z["scale"]),
        "is_causal": True,
        "window": int(z["window"]) or None,
        "enable_gqa": grouped,
    }
    out, lse = rope.attention(q, k, v, **options, return_lse=True)
    grads = rope.attention_grad(do, q, k, v, **options, forward=(out, lse))
    found = {"o": out, "dq": grads.query, "dk": grads.key, "dv": grads.value}
    for which, array in found.items():
        exact = z[f"check_{which}"][heads]
        off = np.linalg.norm(array[:, rows] - exact, axis=-1).max()
        assert off <= 1e-11 * np.linalg.norm(exact, axis=-1).max(), which


def test_16_bits_are_not_rounded_between() -> None:
    q, k, v = (drawn(2, 20, 8, seed=seed).astype(np.float16) for seed in range(3))
    wide = [x.astype(np.float32) for x in (q, k, v)]
    out, lse = rope.attention(q, k, v, return_lse=True)
    expected, logs = rope.attention(*wide, return_lse=True)
    np.testing.assert_array_equal(out, expected.astype(np.float16))
    np.testing.assert_array_equal(lse, logs)
    grads = rope.attention_grad(v, q, k, v)
    exact = rope.attention_grad(wide[2], *wide)
    for name in NAMES:
        found, other = getattr(grads, name), getattr(exact, name)
        assert found.dtype == np.float16
        np.testing.assert_array_equal(found, other.astype(np.float16))


def test_torch_in_torch_out(torch: ModuleType) -> None:
    arrays = [drawn(2, 20, 8, seed=seed).astype(np.float32) for seed in range(3)]
    q, k, v = (torch.from_numpy(x).to(torch.bfloat16) for x in arrays)
    out, lse = rope.attention(q, k, v, positions=torch.arange(20), return_lse=True)
    assert (out.dtype, lse.dtype) == (torch.bfloat16, torch.float32)
    wide = [x.float().numpy() for x in (q, k, v)]
    expected = torch.from_numpy(rope.attention(*wide)).to(torch.bfloat16)
    assert torch.equal(out, expected)
    target = torch.empty_like(out)
    assert rope.attention(q, k, v, out=target) is target
    assert torch.equal(target, out)
    grads = rope.attention_grad(v, q, k, v)
    theirs = rope.attention_grad(wide[2], *wide)
    for name in NAMES:
        found = getattr(grads, name)
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, torch.from_numpy(getattr(theirs, name)).to(torch.bfloat16))


def test_repeated_heads_are_as_if_written_out() -> None:
    q, k, v = drawn(3, 4, 30, 8)
    repeated = np.broadcast_to(k[:1], k.shape)
    out = rope.attention(q, repeated, v)
    np.testing.assert_array_equal(out, rope.attention(q, repeated.copy(), v))
    places = np.arange(30) + 5 * np.arange(4)[:, np.newaxis]
    out = rope.attention(q, repeated, v, positions=places)
    np.testing.assert_array_equal(out, rope.attention(q, repeated.copy(), v, positions=places))


@pytest.mark.usefixtures("thread_state")
def test_threads_change_nothing() -> None:
    q, k, v = (drawn(3, 1500, 16, seed=seed).astype(np.float32) for seed in range(3))
    one, three = (
        rope.attention_grad(v, q, k, v, is_causal=True, workers=workers) for workers in (1, 3)
    )
    for name in NAMES:
        np.testing.assert_array_equal(getattr(one, name), getattr(three, name))
    out = rope.attention(q, k, v, workers=1)
    np.testing.assert_array_equal(out, rope.attention(q, k, v, workers=3))
