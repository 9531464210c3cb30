"""The check of the disassembly in .ci/guard.py, on short listings written by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FMA_YMM = "vfmadd231ps (%rsi),%ymm0,%ymm1"
FMA_ZMM = "vfmadd213pd %zmm2,%zmm0,%zmm1"


@pytest.fixture(scope="module")
def guard() -> ModuleType:
    path = Path(__file__).parents[1] / ".ci" / "guard.py"
    spec = importlib.util.spec_from_file_location("guard", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["guard"] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


def listing(name: str, body: list[str], start: int = 0x1000) -> list[str]:
    """A disassembly as objdump prints it; ``@k`` in an instruction is the address of line k."""
    address = [start + 8 * k for k in range(len(body))]
    lines = [f"{start:016x} <{name}>:"]
    for here, text in zip(address, body, strict=True):
        for k in range(len(body) - 1, -1, -1):
            text = text.replace(f"@{k}", f"{address[k]:x} <{name}+{8 * k:#x}>")
        lines.append(f"    {here:x}:\t{text}")
    return [*lines, ""]


def loops(guard: ModuleType, lines: list[str]) -> list[tuple[str, int, tuple[str, ...]]]:
    found = [loop for f in guard.functions(lines) for loop in guard.hot_loops(f)]
    return [(loop.width, loop.count, loop.spills) for loop in found]


def test_a_clean_loop_is_seen_with_its_width(guard: ModuleType) -> None:
    ymm = listing("kernel_v3", ["xor %eax,%eax", *[FMA_YMM] * 48, "jne    @1", "ret"])
    zmm = listing("kernel_v4", [*[FMA_ZMM] * 50, "jb     @0", "ret"], start=0x8000)
    assert loops(guard, ymm + zmm) == [("ymm", 48, ()), ("zmm", 50, ())]


@pytest.mark.parametrize(
    "spill",
    [
        "vmovaps %ymm3,0x40(%rsp)",
        "vfmadd231ps -0x20(%rsp,%rax,4),%ymm0,%ymm1",
    ],
)
def test_a_stack_operand_is_reported(guard: ModuleType, spill: str) -> None:
    lines = listing("kernel", [*[FMA_YMM] * 48, spill, "jne    @0", "ret"])
    assert [found[2] for found in loops(guard, lines)] == [(spill,)]


def test_rbp_counts_only_as_a_frame_pointer(guard: ModuleType) -> None:
    body = ["vmovaps -0x40(%rbp),%ymm3", *[FMA_YMM] * 48]
    plain = listing("kernel", ["mov    %rdi,%rbp", *body, "jne    @1", "ret"])
    framed = listing("kernel", ["mov    %rsp,%rbp", *body, "jne    @1", "ret"])
    assert [found[2] for found in loops(guard, plain)] == [()]
    assert [found[2] for found in loops(guard, framed)] == [(body[0],)]


def test_a_scalar_on_the_stack_is_not_an_accumulator(guard: ModuleType) -> None:
    body = [*[FMA_YMM] * 48, "add    0x30(%rsp),%r15", "jne    @0", "ret"]
    assert [found[2] for found in loops(guard, listing("kernel", body))] == [()]


def test_a_load_into_rbp_does_not_make_it_a_frame_pointer(guard: ModuleType) -> None:
    body = ["mov    0x38(%rsp),%rbp", "vmovaps 0x40(%rbp),%ymm3", *[FMA_YMM] * 48, "jne    @1"]
    assert [found[2] for found in loops(guard, listing("kernel", body))] == [()]


def test_an_index_register_is_not_a_stack_operand(guard: ModuleType) -> None:
    body = ["mov    %rsp,%rbp", "vmovaps (%rdi,%rbp,4),%ymm3", *[FMA_YMM] * 48, "jne    @1"]
    assert [found[2] for found in loops(guard, listing("kernel", body))] == [()]


def test_only_the_innermost_loop_counts(guard: ModuleType) -> None:
    body = ["mov    0x8(%rsp),%rax", *[FMA_YMM] * 48, "jne    @1", "jne    @0", "ret"]
    assert loops(guard, listing("kernel", body)) == [("ymm", 48, ())]


def test_two_jumps_to_one_target_are_one_loop(guard: ModuleType) -> None:
    body = [*[FMA_YMM] * 24, "je     @0", *[FMA_YMM] * 24, "jne    @0", "ret"]
    assert loops(guard, listing("kernel", body)) == [("ymm", 48, ())]


def test_cool_loops_forward_jumps_and_other_functions_are_no_hot_loops(guard: ModuleType) -> None:
    cool = listing("cool", [*[FMA_YMM] * 47, "jne    @0", "ret"])
    forward = listing("forward", ["jne    @50", *[FMA_YMM] * 49, "ret"], start=0x4000)
    elsewhere = listing("elsewhere", [*[FMA_YMM] * 48, "jmp    1000 <cool>"], start=0x8000)
    scalar = listing("scalar", [*["vfmadd231ss %xmm2,%xmm0,%xmm1"] * 48, "jne    @0"], start=0xC000)
    assert loops(guard, cool + forward + elsewhere + scalar) == []


def test_loops_that_multiply_bytes_are_hot_sooner(guard: ModuleType) -> None:
    vnni = listing("vnni", [*["vpdpbusd %zmm1,%zmm2,%zmm3"] * 12, "jne    @0", "ret"])
    pairs = listing("pairs", [*["vpmaddubsw %ymm1,%ymm2,%ymm3"] * 12, "jne    @0"], start=0x4000)
    cool = listing("cool", [*["vpdpbusd %zmm1,%zmm2,%zmm3"] * 11, "jne    @0"], start=0x8000)
    assert loops(guard, vnni + pairs + cool) == [("zmm", 12, ()), ("ymm", 12, ())]


def test_loops_that_multiply_bf16_are_hot(guard: ModuleType) -> None:
    lines = listing("half", [*["vdpbf16ps %zmm1,%zmm2,%zmm3"] * 48, "jne    @0", "ret"])
    assert loops(guard, lines) == [("zmm", 48, ())]
    assert ("bf16 products", "zmm") in guard.EXPECTED


def test_the_verdict_needs_every_kind_and_width_and_no_spill(
    guard: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = [
        guard.Loop("kernel", 0x1000 * i, kind, width, 48, ())
        for i, (kind, width) in enumerate(guard.EXPECTED)
    ]
    spilt = guard.Loop("kernel_v4", 0x9000, "FMA", "zmm", 96, ("vmovaps %zmm3,(%rsp)",))
    assert guard.report([*seen, seen[1]])
    assert "ymm: 1 innermost" in (printed := capsys.readouterr().out)
    assert "zmm: 2 innermost" in printed
    assert not guard.report([])
    for missing in range(len(seen)):
        assert not guard.report(seen[:missing] + seen[missing + 1 :])
    assert not guard.report([*seen, spilt])
    assert "vmovaps %zmm3,(%rsp)" in capsys.readouterr().out
