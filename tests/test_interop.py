"""Arrays of other libraries: torch for real where it is installed, DLPack and ml_dtypes."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from exchange import Exchanged

import subquad
from subquad._arrays import take

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 20, 8))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_torch_in_torch_out(torch: ModuleType, dtype: str) -> None:
    q, k, v = (torch.from_numpy(RNG.standard_normal((2, 3, 20, 8)).astype(dtype)) for _ in "qkv")
    out, lse = subquad.attention(q, k, v, is_causal=True, return_lse=True)
    expected = subquad.attention(q.numpy(), k.numpy(), v.numpy(), is_causal=True)
    assert isinstance(out, torch.Tensor)
    assert isinstance(lse, torch.Tensor)
    assert out.dtype == getattr(torch, dtype)
    assert lse.dtype == (torch.float64 if dtype == "float64" else torch.float32)
    np.testing.assert_array_equal(out.numpy(), expected)
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    tolerance = {"float64": 1e-12, "float32": 1e-5, "float16": 5e-3}[dtype]
    torch.testing.assert_close(out, theirs, rtol=tolerance, atol=tolerance)


def test_torch_is_read_in_place(torch: ModuleType) -> None:
    x = torch.from_numpy(X)
    for view in (x, x.transpose(1, 2), x[:, ::2], x[:1].expand(5, 3, 20, 8)):
        assert take("x", view).array.__array_interface__["data"][0] == view.data_ptr()
    half = x.to(torch.bfloat16)
    assert take("x", half).array.__array_interface__["data"][0] == half.data_ptr()


def test_torch_bfloat16_is_widened_and_given_back(torch: ModuleType) -> None:
    q, k, v, g = (torch.from_numpy(RNG.standard_normal((2, 20, 8))).bfloat16() for _ in "qkvg")
    out, info = subquad.attention(q, k, v, return_info=True)
    exact = subquad.reference.attention(q, k, v)
    wide = subquad.reference.attention(*(x.double().numpy() for x in (q, k, v)))
    np.testing.assert_array_equal(exact, wide)
    assert out.dtype == torch.bfloat16
    error = np.linalg.norm(out.double().numpy() - exact, axis=-1)
    assert np.all(error <= info.error_bound)
    assert np.all(error <= 2.0**-8 * np.linalg.norm(exact, axis=-1) + 1e-5)
    grads = subquad.attention_grad(g, q, k, v)
    expected = subquad.reference.attention_grad(g, q, k, v)
    assert grads.key.dtype == torch.bfloat16
    np.testing.assert_allclose(grads.key.double().numpy(), expected.key, rtol=2.0**-8, atol=1e-5)
    # Beside another dtype it counts as float32.
    assert subquad.attention(q.float(), k, v).dtype == torch.float32
    assert subquad.attention(q, k.half(), v).dtype == torch.float32
    assert subquad.attention(q, k, v.double()).dtype == torch.float64
    transposed = q.transpose(0, 1).contiguous().transpose(0, 1)
    np.testing.assert_array_equal(
        subquad.attention(transposed, k, v).float().numpy(), out.float().numpy()
    )


def test_torch_masks_biases_and_kinds_may_mix(torch: ModuleType) -> None:
    x = torch.from_numpy(X)
    mask = torch.rand(20, 20) < 0.7
    bias = torch.randn(3, 1, 20)
    out = subquad.attention(x, X, X, mask=mask, bias=bias)
    expected = subquad.attention(X, x, x, mask=mask.numpy(), bias=bias.numpy())
    assert isinstance(out, torch.Tensor)
    assert type(expected) is np.ndarray
    np.testing.assert_array_equal(out.numpy(), expected)
    grads = subquad.attention_grad(X, x, X, X, bias=bias)
    assert isinstance(grads.value, torch.Tensor)
    assert (grads.bias.shape, grads.bias.dtype) == ((3, 1, 20), torch.float32)


def test_torch_out_and_merge(torch: ModuleType) -> None:
    x = torch.from_numpy(X)
    for dtype in (torch.float64, torch.bfloat16):
        y = x.to(dtype)
        out = torch.full(x.shape, torch.nan, dtype=dtype)
        assert subquad.attention(y, y, y, out=out) is out
        assert torch.equal(out, subquad.attention(y, y, y))
    with pytest.raises(TypeError, match=r"`out` must be a torch tensor.*ndarray"):
        subquad.attention(x, x, x, out=np.empty(X.shape))
    with pytest.raises(TypeError, match=r"`out` must be a numpy array.*Tensor"):
        subquad.attention(X, X, X, out=torch.empty(X.shape))
    parts = [
        subquad.attention(x, x[..., s, :], x[..., s, :], return_lse=True)
        for s in (slice(5), slice(5, 20))
    ]
    merged, lse = subquad.merge(*zip(*parts, strict=True))
    torch.testing.assert_close(merged, subquad.attention(x, x, x))
    assert lse.dtype == torch.float64


def test_torch_refusals(torch: ModuleType) -> None:
    x = torch.from_numpy(X)
    leaf = x.clone().requires_grad_()
    with pytest.raises(TypeError, match=r"`key` requires grad.*`key.detach\(\)`.*`subquad.torch`"):
        subquad.attention(x, leaf, x)
    assert subquad.attention(x, leaf.detach(), x).shape == x.shape
    with pytest.raises(TypeError, match="`query` is on device meta"):
        subquad.attention(x.to("meta"), x, x)
    with pytest.raises(TypeError, match=r"`value`.*complex128"):
        subquad.attention(x, x, x.to(torch.complex128))
    with pytest.raises(TypeError, match=r"`value`.*torch.sparse_coo"):
        subquad.attention(x, x, x.to_sparse())
    with pytest.raises(TypeError, match=r"`query`.*float8_e4m3fn"):
        subquad.attention(x.to(torch.float8_e4m3fn), x, x)
    bad = x.clone().bfloat16()
    bad[0, 1, 2, 3] = torch.nan
    with pytest.raises(ValueError, match=r"`key` must be finite, got nan at index \(0, 1, 2, 3\)"):
        subquad.attention(x, bad, x)


def test_torch_gradients_agree_with_autograd(torch: ModuleType) -> None:
    leaves = [torch.from_numpy(RNG.standard_normal((2, 3, 20, 8))).requires_grad_() for _ in "qkv"]
    bias = torch.randn(3, 20, 20, dtype=torch.float64, requires_grad=True)
    theirs = torch.nn.functional.scaled_dot_product_attention(*leaves, attn_mask=bias)
    upstream = torch.randn_like(theirs)
    expected = torch.autograd.grad(theirs, (*leaves, bias), upstream)
    q, k, v = (leaf.detach() for leaf in leaves)
    ours = subquad.attention_grad(upstream, q, k, v, bias=bias.detach())
    for grad, exact in zip((ours.query, ours.key, ours.value, ours.bias), expected, strict=True):
        torch.testing.assert_close(grad, exact, rtol=1e-11, atol=1e-12)


def test_frameworks_are_not_imported_on_spec() -> None:
    code = "import sys, subquad; x = [[1.0]]; subquad.attention(x, x, x); print(*sys.modules)"
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    loaded = {name.partition(".")[0] for name in child.stdout.split()}
    assert not loaded & {"torch", "jax", "cupy", "ml_dtypes", "scipy", "matplotlib", "tqdm"}


def test_numpy_bfloat16_is_widened_and_given_back() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    q, k, v = RNG.standard_normal((3, 2, 20, 8)).astype(ml_dtypes.bfloat16)
    out = subquad.attention(q, k, v)
    exact = subquad.reference.attention(q, k, v)
    assert out.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(
        exact, subquad.reference.attention(*(x.astype(np.float64) for x in (q, k, v)))
    )
    np.testing.assert_allclose(out.astype(np.float64), exact, rtol=2.0**-8, atol=1e-5)
    target = np.zeros_like(q)
    assert subquad.attention(q, k, v, out=target) is target
    np.testing.assert_array_equal(target, out)
    grads = subquad.attention_grad(q, q.astype(np.float32), k, v)
    assert (grads.query.dtype, grads.key.dtype) == (np.float32, ml_dtypes.bfloat16)
    with pytest.raises(TypeError, match=r"`key`.*float8_e5m2"):
        subquad.attention(q, k.astype(ml_dtypes.float8_e5m2), v)
    bad = np.array(k)
    bad[1, 2, 3] = -np.inf
    with pytest.raises(ValueError, match=r"`key` must be finite, got -inf at index \(1, 2, 3\)"):
        subquad.attention(q, bad, v)


def test_dlpack_in_and_out_without_a_copy() -> None:
    mine = Exchanged(X)
    assert np.shares_memory(take("x", mine).array, X)
    out, lse = subquad.attention(mine, X, mine, return_lse=True)
    assert isinstance(out, Exchanged)
    assert isinstance(lse, Exchanged)
    np.testing.assert_array_equal(out.array, subquad.attention(X, X, X))
    with pytest.raises(TypeError, match=r"`out` must be None.*Exchanged"):
        subquad.attention(mine, X, X, out=mine)


@pytest.mark.parametrize(
    ("device", "name"), [((2, 1), "CUDA device 1"), ((8, 0), "Metal device 0"), ((77, 0), "77")]
)
def test_dlpack_of_another_device_is_refused(device: tuple[int, int], name: str) -> None:
    with pytest.raises(TypeError, match=f"`value` is on .*{name}"):
        subquad.attention(X, X, Exchanged(X, device))


def test_dlpack_of_a_type_that_numpy_lacks_is_refused_by_name() -> None:
    class Unreadable(Exchanged):
        def __dlpack__(self, **keywords: Any) -> Any:
            raise BufferError("no such type")

    array = Unreadable(X)
    array.dtype = np.dtype("V2")
    with pytest.raises(TypeError, match=r"`key` of dtype \|V2.*DLPack.*no such type"):
        subquad.attention(X, array, X)


def test_memory_of_a_gpu_is_refused_by_name() -> None:
    class OnGpu:
        __cuda_array_interface__: dict[str, Any] = {}  # noqa: RUF012

    with pytest.raises(TypeError, match="`query` is on a CUDA device"):
        subquad.attention(OnGpu(), X, X)  # type: ignore[arg-type]
