"""Rows turned by their positions: definition, exactness, layouts, positions, dtypes."""

from __future__ import annotations

import json
import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from exchange import Exchanged
from hypothesis import given
from hypothesis import strategies as st
from rotations import LAYOUTS, Array, exact_turn, exactly_turned
from running import assert_same_bits, task_order
from strategies import FIXTURES, bfloat16_bits

import subquad
from subquad.rope import frequencies, rotate

YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
SCALINGS: list[Any] = [
    None,
    {"type": "linear", "factor": 2.0},
    {"rope_type": "ntk", "factor": 3.0},
    YARN,
]


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def test_one_pair_by_hand() -> None:
    # A quarter of a turn takes the first axis to the second.
    quarter = [math.pi / 2]
    np.testing.assert_allclose(rotate([[1.0, 0.0]], positions=quarter), [[0, 1]], atol=1e-15)
    np.testing.assert_allclose(rotate([[0.0, 1.0]], positions=quarter), [[-1, 0]], atol=1e-15)


def test_layouts_and_signs_by_hand() -> None:
    x = np.array([[1.0, 2.0, 4.0, 8.0]])
    c, s, d, t = math.cos(3), math.sin(3), math.cos(0.03), math.sin(0.03)
    half = [[c - 4 * s, 2 * d - 8 * t, 4 * c + s, 8 * d + 2 * t]]
    np.testing.assert_allclose(rotate(x, positions=[3]), half, rtol=1e-15)
    interleaved = [[c - 2 * s, 2 * c + s, 4 * d - 8 * t, 8 * d + 4 * t]]
    found = rotate(x, positions=[3], layout="interleaved")
    np.testing.assert_allclose(found, interleaved, rtol=1e-15)
    two = [[c - 2 * s, 2 * c + s, 4.0, 8.0]]
    for layout in LAYOUTS:  # the same for a single pair
        found = rotate(x, positions=[3], layout=layout, rotary_dim=2)
        np.testing.assert_allclose(found, two, rtol=1e-15)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rotary_dim", [4, 8])
def test_equals_the_fixtures(layout: str, rotary_dim: int) -> None:
    with np.load(FIXTURES / f"rope_{layout}_{rotary_dim}.npz", allow_pickle=False) as archive:
        options = json.loads(str(archive["options"]))
        positions = np.arange(archive["query"].shape[-2]) + options["first_position"]
        for function in (rotate, subquad.reference.rope.rotate):
            found = function(
                archive["query"],
                theta=options["theta"],
                layout=options["layout"],
                rotary_dim=options["rotary_dim"],
                positions=positions,
            )
            np.testing.assert_allclose(found, archive["rotated_query"], rtol=1e-13, atol=1e-14)


@given(st.data())
def test_equals_the_definition(data: Any) -> None:
    width = data.draw(st.integers(2, 150), "E")
    options: dict[str, Any] = {
        "rotary_dim": 2 * data.draw(st.integers(1, width // 2)),
        "layout": data.draw(st.sampled_from(LAYOUTS)),
        "theta": data.draw(st.sampled_from([100.0, 1e4, 5e5])),
        "scaling": data.draw(st.sampled_from(SCALINGS)),
        "inverse": data.draw(st.booleans()),
    }
    lead = data.draw(st.lists(st.integers(0, 3), max_size=2))
    rows = data.draw(st.integers(0, 40), "L")
    dtype = data.draw(st.sampled_from(["float16", "float32", "float64", "int8"]))
    x = (3 * drawn(*lead, rows, width)).astype(dtype)
    if data.draw(st.booleans()):
        x = x[..., ::-1, :]
    if data.draw(st.booleans()):
        x = np.asfortranarray(x)
    if data.draw(st.booleans()):
        axes = [n if data.draw(st.booleans()) else 1 for n in lead]
        options["positions"] = 1000 * drawn(*axes, rows, seed=1)
        if data.draw(st.booleans()):
            options["positions"] = options["positions"].astype(np.int32)
    found = rotate(x, **options)
    expected = subquad.reference.rope.rotate(x, **options)
    assert found.dtype == (np.float64 if dtype == "int8" else x.dtype)
    tolerance = {"float16": 1e-2, "float32": 4e-6}.get(dtype, 1e-11)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("dtype", "units"), [("float32", 2.0**-22), ("float64", 20 * 2.0**-53)])
def test_a_row_is_off_by_a_few_units_of_its_norm_wherever_it_is(
    layout: str, dtype: str, units: float
) -> None:
    positions: list[float] = [0, 1, 255, 256, 999_999, 10**6, 123_456_789, 2**53 - 1, -1, -(10**6)]
    positions += [0.5, 1e6 + 1 / 3, -777.125]
    x = drawn(len(positions), 24).astype(dtype)
    w = frequencies(24)
    found = rotate(x, positions=np.array(positions), layout=layout).astype(np.float64)
    exact = exactly_turned(x, np.array(positions, np.float64), w, layout)
    off = np.linalg.norm(found - exact, axis=1) / np.linalg.norm(x.astype(np.float64), axis=1)
    assert off.max() <= units
    # One turn after another would be off by more than a float32 has digits.
    assert abs(exact_turn(1e6, float(w[1])) - exact_turn(1e6, float(np.float32(w[1])))) > 1e-3


def test_the_largest_error_found_is_near_the_bound() -> None:
    # A bound that nothing comes near to would hide a mistake in its proof or in this test.
    rng = np.random.default_rng(3)
    x = rng.standard_normal((4000, 2)).astype(np.float32)
    positions = rng.integers(0, 10**6, 4000)
    found = rotate(x, positions=positions).astype(np.float64)
    exact = exactly_turned(x, positions, np.ones(1), "half")
    off = np.linalg.norm(found - exact, axis=1) / np.linalg.norm(x.astype(np.float64), axis=1)
    assert 2.0**-25 < off.max() <= 2.0**-22


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("width", [6, 64])
def test_a_position_gives_the_same_bits_in_every_call(layout: str, width: int) -> None:
    x = drawn(3, 700, width).astype(np.float32)
    whole = rotate(x, layout=layout)
    for rows in (slice(0, 1), slice(1, 3), slice(300, 400), slice(None, None, -7)):
        part = rotate(x[:, rows], positions=np.arange(700)[rows], layout=layout)
        np.testing.assert_array_equal(part, whole[:, rows])
    order = np.random.default_rng(0).permutation(700)
    shuffled = rotate(x[:, order], positions=order, layout=layout)
    np.testing.assert_array_equal(shuffled, whole[:, order])
    for head in range(3):
        np.testing.assert_array_equal(rotate(x[head], layout=layout), whole[head])


@pytest.mark.usefixtures("thread_state")
def test_threads_and_the_order_of_tasks_change_nothing() -> None:
    x = drawn(3, 5000, 64).astype(np.float32)
    places = np.arange(5000) + 7 * np.arange(3)[:, np.newaxis]
    results = [rotate(x, positions=places, workers=workers) for workers in (1, 2, 5)]
    for order in ("reverse", "shuffled"):
        with task_order(order):
            results.append(rotate(x, positions=places, workers=3))
    for other in results[1:]:
        assert_same_bits([other], results[:1])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scaling", SCALINGS)
def test_the_inverse_undoes_and_norms_stay(layout: str, scaling: Any) -> None:
    x = drawn(2, 50, 20)
    options: dict[str, Any] = {"layout": layout, "scaling": scaling, "rotary_dim": 12}
    turned = rotate(x, **options)
    np.testing.assert_allclose(rotate(turned, **options, inverse=True), x, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(turned[..., 12:], x[..., 12:])
    factor = 1 + 0.1 * math.log(4) if scaling is YARN else 1.0
    norms = np.linalg.norm(turned[..., :12], axis=-1)
    np.testing.assert_allclose(norms, factor * np.linalg.norm(x[..., :12], axis=-1), rtol=1e-14)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_products_depend_on_the_difference_of_positions(layout: str) -> None:
    q, k = drawn(2, 30, 16)

    def products(shift: float) -> Array:
        options: dict[str, Any] = {"layout": layout, "positions": np.arange(30) + shift}
        return np.asarray(rotate(q, **options) @ rotate(k, **options).T)

    np.testing.assert_allclose(products(0), products(1234.5), rtol=0, atol=1e-12)
    assert abs(products(0) - q @ k.T).max() > 0.1


def test_axes_of_positions_broadcast() -> None:
    x = drawn(2, 3, 10, 8)
    of_batch = np.arange(10) + np.array([[0], [50]])
    found = rotate(x, positions=of_batch[:, np.newaxis])
    of_heads = rotate(x, positions=np.arange(10) * np.array([[1], [2], [3]]))
    for b in range(2):
        for h in range(3):
            np.testing.assert_array_equal(found[b, h], rotate(x[b, h], positions=of_batch[b]))
            one = rotate(x[b, h], positions=np.arange(10) * (h + 1))
            np.testing.assert_array_equal(of_heads[b, h], one)
    np.testing.assert_array_equal(rotate(x), rotate(x, positions=np.arange(10.0)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_results_are_those_of_small_calls(dtype: str) -> None:
    # From 16 MiB on they are written in another way, if they are laid out for that.
    x = drawn(70_000, 64).astype(dtype)
    memory = np.empty(x.size + 1, dtype)[1:].reshape(x.shape)
    for layout in LAYOUTS:
        whole = rotate(x, layout=layout)
        assert rotate(x, layout=layout, out=memory) is memory
        np.testing.assert_array_equal(memory, whole)
        for first in (0, 33_333, 69_990):
            rows = slice(first, first + 10)
            part = rotate(x[rows], positions=np.arange(70_000)[rows], layout=layout)
            np.testing.assert_array_equal(part, whole[rows])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_out_is_filled(dtype: str) -> None:
    x = drawn(2, 9, 6).astype(dtype)
    for function in (rotate, subquad.reference.rope.rotate):
        out = np.full(x.shape, 7, dtype)
        assert function(x, out=out) is out
        np.testing.assert_allclose(out, rotate(x), rtol=1e-3, atol=1e-3)


def test_16_bits_are_rounded_once() -> None:
    x = drawn(40, 16).astype(np.float16)
    np.testing.assert_array_equal(rotate(x), rotate(x.astype(np.float32)).astype(np.float16))


def test_torch_in_torch_out(torch: ModuleType) -> None:
    x = drawn(2, 9, 6).astype(np.float32)
    found = rotate(torch.from_numpy(x), positions=torch.arange(9) + 3)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_array_equal(found.numpy(), rotate(x, positions=np.arange(9) + 3))
    brain = torch.from_numpy(x).to(torch.bfloat16)
    found = rotate(brain)
    assert found.dtype == torch.bfloat16
    expected = bfloat16_bits(rotate(brain.float().numpy()))
    np.testing.assert_array_equal(found.view(torch.int16).numpy().view(np.uint16), expected)
    out = torch.empty_like(brain)
    assert rotate(brain, out=out) is out
    assert torch.equal(out, found)


def test_other_libraries_get_their_own_arrays() -> None:
    x = drawn(5, 4)
    found = rotate(Exchanged(x))
    assert isinstance(found, Exchanged)
    np.testing.assert_array_equal(found.array, rotate(x))


def test_frequencies_by_hand() -> None:
    np.testing.assert_allclose(frequencies(6, theta=1000.0), [1, 0.1, 0.01], rtol=1e-14)
    linear = frequencies(6, theta=1000.0, scaling={"type": "linear", "factor": 4})
    np.testing.assert_allclose(linear, [0.25, 0.025, 0.0025], rtol=1e-14)
    ntk = frequencies(6, theta=1000.0, scaling={"type": "ntk", "factor": 4})
    np.testing.assert_allclose(ntk, [1, 0.05, 0.0025], rtol=1e-14)
    np.testing.assert_array_equal(frequencies(2, scaling={"type": "ntk", "factor": 4}), [1])
    np.testing.assert_array_equal(frequencies(8, scaling={"rope_type": "default"}), frequencies(8))
    assert frequencies(8, scaling={"type": "default", "rope_theta": 1e4})[-1] == 1e-3


def test_yarn_by_hand() -> None:
    # 2 pi 10^4 positions: pair i turns 10^4 times w_i, w = 10^(-i / 2).
    scaling = {
        "type": "yarn",
        "factor": 10.0,
        "original_max_position_embeddings": 2 * math.pi * 1e4,
        "beta_fast": 1000,
        "beta_slow": 10,
    }
    plain = 10.0 ** (-np.arange(8) / 2)
    ramp = np.clip((np.arange(8) - 2) / 4, 0, 1)  # from pair 2, which turns 1000 times, to pair 6
    found = frequencies(16, scaling=scaling | {"truncate": False})
    np.testing.assert_allclose(found, plain * (1 - ramp) + plain / 10 * ramp, rtol=1e-12)
    between = scaling | {"beta_fast": 900, "beta_slow": 11}
    # Ends rounded outwards are pairs 2 and 6 again.
    np.testing.assert_allclose(frequencies(16, scaling=between), found, rtol=1e-12)
    assert abs(frequencies(16, scaling=between | {"truncate": False}) - found).max() > 1e-5

    def factor(**more: Any) -> float:
        return float(rotate([[1.0, 0.0]], positions=[0], scaling=YARN | more)[0, 0])

    assert factor() == pytest.approx(1 + 0.1 * math.log(4), rel=1e-15)
    assert factor(attention_factor=0.75) == 0.75
    assert factor(attention_factor=None) == factor()
    ratio = (1 + 0.2 * math.log(4)) / (1 + 0.3 * math.log(4))
    assert factor(mscale=2.0, mscale_all_dim=3.0) == pytest.approx(ratio, rel=1e-15)
