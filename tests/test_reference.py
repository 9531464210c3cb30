"""The twins: same names, same signatures, and right by hand-worked examples."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subquad

# Names of parameters that hold arrays, in any family.
ARRAYS = {"query", "queries", "key", "keys", "value", "outs", "x", "ids", "coefficients"}
ARRAYS |= {"weights", "dag_weights", "A1"}


def takes_arrays(thing: Any) -> bool:
    own = inspect.isfunction(thing) and thing.__module__.startswith("subquad.")
    return own and bool(ARRAYS & inspect.signature(thing).parameters.keys())


def functions_of_arrays(
    namespace: Any = subquad, prefix: str = ""
) -> dict[str, Callable[..., Any]]:
    """Functions, and constructors and methods of classes, by qualified name."""
    found: dict[str, Callable[..., Any]] = {}
    for name in namespace.__all__:
        thing = getattr(namespace, name)
        if inspect.ismodule(thing) and thing is not subquad.reference:
            found |= functions_of_arrays(thing, f"{prefix}{name}.")
        elif takes_arrays(thing):
            found[prefix + name] = thing
        elif inspect.isclass(thing):
            methods = {n: f for n, f in inspect.getmembers(thing, takes_arrays) if n[0] != "_"}
            if methods:
                # One that callers use; results are made by functions.
                if takes_arrays(thing.__init__):
                    methods["__init__"] = thing.__init__
                found |= {f"{prefix}{name}.{n}": f for n, f in methods.items()}
    return found


def test_the_search_finds_what_it_should() -> None:
    names = functions_of_arrays().keys()
    assert {"attention", "attention_grad", "merge", "plan"} <= names
    assert {"halfspace.report", "halfspace.Index.__init__", "halfspace.Index.topk"} <= names
    assert {"polynomial.factor", "polynomial.Factors.normalise"} <= names
    assert not {"Gradients.__init__", "polynomial.Factors.__init__"} & names


@pytest.mark.parametrize(("name", "function"), functions_of_arrays().items())
def test_every_function_of_arrays_has_a_twin_of_the_same_signature(
    name: str, function: Callable[..., Any]
) -> None:
    namespace: Any = subquad.reference
    for part in name.split("."):
        if hasattr(namespace, "__all__"):
            assert part in namespace.__all__
        namespace = getattr(namespace, part)
    assert inspect.signature(namespace) == inspect.signature(function)
    assert inspect.getdoc(namespace)


def test_two_keys_by_hand() -> None:
    # Weights 3/4 and 1/4: the logits differ by log 3.
    out, lse = subquad.reference.attention(
        [[1.0]], [[np.log(3.0)], [0.0]], [[4.0], [8.0]], scale=1.0, return_lse=True
    )
    np.testing.assert_allclose(out, [[5.0]], rtol=1e-15)
    np.testing.assert_allclose(lse, [np.log(4.0)], rtol=1e-15)


def test_causal_alignments_by_hand() -> None:
    v = np.array([[1.0], [2.0], [4.0]])
    zeros = np.zeros((2, 1)), np.zeros((3, 1)), v
    attend = subquad.reference.attention
    np.testing.assert_allclose(attend(*zeros, is_causal=True)[:, 0], [1.0, 1.5])
    np.testing.assert_allclose(attend(*zeros, is_causal="upper_left")[:, 0], [1.0, 1.5])
    np.testing.assert_allclose(attend(*zeros, is_causal="lower_right")[:, 0], [1.5, 7 / 3])
    np.testing.assert_allclose(attend(*zeros, is_causal="lower_right", window=1)[:, 0], [2.0, 4.0])
    np.testing.assert_allclose(attend(*zeros, is_causal=True, window=2)[:, 0], [1.0, 1.5])
    hidden = np.array([True, False, True])
    np.testing.assert_allclose(attend(*zeros, mask=hidden)[:, 0], [2.5, 2.5])


def test_gradient_by_hand() -> None:
    # out = w v1 + (1 - w) v2 with w = sigmoid(s1 - s2): d out / d s1 = w (1 - w) (v1 - v2).
    q, k, v = np.array([[2.0]]), np.array([[np.log(3.0) / 2], [0.0]]), np.array([[4.0], [8.0]])
    grads = subquad.reference.attention_grad([[1.0]], q, k, v, scale=1.0, bias=np.zeros((1, 2)))
    slope = 0.75 * 0.25 * (4.0 - 8.0)
    np.testing.assert_allclose(grads.bias, [[slope, -slope]], rtol=1e-14)
    np.testing.assert_allclose(grads.query, [[slope * np.log(3.0) / 2]], rtol=1e-14)
    np.testing.assert_allclose(grads.key, [[2 * slope], [-2 * slope]], rtol=1e-14)
    np.testing.assert_allclose(grads.value, [[0.75], [0.25]], rtol=1e-14)


def test_groups_by_hand() -> None:
    q = np.zeros((4, 1, 1))
    v = np.array([1.0, 2.0]).reshape(2, 1, 1)
    out = subquad.reference.attention(q, np.zeros((2, 1, 1)), v, enable_gqa=True)
    np.testing.assert_array_equal(out[:, 0, 0], [1.0, 1.0, 2.0, 2.0])
    grads = subquad.reference.attention_grad(
        np.arange(4.0).reshape(4, 1, 1), q, np.zeros((2, 1, 1)), v, enable_gqa=True
    )
    np.testing.assert_array_equal(grads.value[:, 0, 0], [0.0 + 1.0, 2.0 + 3.0])


def test_the_twin_fills_out_and_reports() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    out = np.empty_like(x)
    returned, info = subquad.reference.attention(x, x, x, out=out, return_info=True)
    assert returned is out
    np.testing.assert_allclose(out, subquad.reference.attention(x, x, x), rtol=1e-6)
    assert (info.method, info.error_bound) == ("reference", None)
    assert "reference" in repr(info)


def test_half_spaces_by_hand() -> None:
    keys = np.array([[1, 0], [0, 1], [2, -1], [0, 0], [1, 1]], np.float32)
    index = subquad.reference.halfspace.Index(keys)
    query = np.array([1, 2], np.float32)  # scores 1, 2, 0, 0, 3
    ids, scores = index.report(query, 0.0, strict=True, return_scores=True)
    assert (ids.tolist(), scores.tolist()) == ([0, 1, 4], [1.0, 2.0, 3.0])
    assert index.topk(query, 5).tolist() == [4, 1, 0, 2, 3]
    assert index.add(keys[:1]).tolist() == [5]
    index.remove([0])
    index.compact()
    lims, ids = index.report_batch(np.stack([query, -query]), [1.0, -1.0])
    assert (lims.tolist(), ids.tolist()) == ([0, 3, 6], [1, 4, 5, 2, 3, 5])
    lims, scores, ids = index.range_search(query[np.newaxis], 2.0)
    assert (lims.tolist(), scores.tolist(), ids.tolist()) == ([0, 1], [3.0], [4])
    found, info = subquad.reference.halfspace.report(keys, query, 3.0, return_info=True)
    assert (found.tolist(), info.engine, info.exact, info.reported) == ([4], "reference", 5, 1)


def test_half_spaces_are_exact_by_hand() -> None:
    # 2**60 and 1 are float32; their sum is neither that nor a float64, and cancels to 1.
    keys = np.array([[2.0**60, 1.0], [2.0**60, 0.0]], np.float32)
    one, tiny = np.ones(2, np.float32), np.float32(2.0**-149)
    index = subquad.reference.halfspace.Index(keys)
    assert index.report(one, 2.0**60).tolist() == [0, 1]
    assert index.report(one, 2.0**60, strict=True).tolist() == [0]
    assert index.topk(one, 2).tolist() == [0, 1]
    # The smallest products there are.
    index = subquad.reference.halfspace.Index(np.array([[tiny], [0], [-tiny]], np.float32))
    query = np.array([tiny])
    assert index.report(query, 0.0).tolist() == [0, 1]
    assert index.report(query, 2.0**-298).tolist() == [0]
    assert index.report(query, 2.0**-298, strict=True).tolist() == []
    _, scores = index.report(query, -1.0, return_scores=True)
    assert np.signbit(scores).tolist() == [False, False, True]
    assert (scores == 0).all()
