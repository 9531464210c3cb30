"""Fail when the compiler has spilled registers inside the inner loops of the kernels.

An innocent change of unrolling once made LLVM keep accumulators on the stack, and the kernel lost
a third of its speed without any test noticing. So the release build is disassembled: an innermost
loop with at least 48 vector FMA instructions or such that multiply bf16, or 12 that multiply bytes,
must not have a vector instruction with an operand on the stack (a scalar one, such as the stride of
an outer loop, is not an accumulator). Finding no such loop fails too, or a change of symbols or of
the disassembler would switch the check off unseen.

    python .ci/guard.py path/to/_subquad.abi3.so
"""

from __future__ import annotations

import argparse
import itertools
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

# Instructions in a loop: 6 x 2 accumulators, times the unrolling by 4 with FMA, for the smallest tile.
HOT = {"FMA": 48, "bf16 products": 48, "byte products": 12}
WIDTHS = ("ymm", "zmm")  # one copy of every kernel per instruction set, all in one library

HEADER = re.compile(r"^[0-9a-f]+ <(?P<name>.+)>:$")
LINE = re.compile(r"^\s*(?P<address>[0-9a-f]+):\s+(?P<text>\S.*)$")
JUMP = re.compile(r"^(?:notrack\s+)?j[a-z]+(?:,p[nt])?\s+(?:0x)?(?P<target>[0-9a-f]+)(?:\s|$)")
KINDS = {
    "FMA": re.compile(r"^(?:\{\w+\}\s+)?vfn?m(?:add|sub|addsub|subadd)(?:132|213|231)p[sdh]\s"),
    "bf16 products": re.compile(r"^(?:\{\w+\}\s+)?vdpbf16ps\s"),
    "byte products": re.compile(r"^(?:\{\w+\}\s+)?(?:vpdpbusds?|vpmaddubsw)\s"),
}
# Products of bf16 exist for AVX-512 only.
EXPECTED = [pair for pair in itertools.product(KINDS, WIDTHS) if pair != ("bf16 products", "ymm")]
VECTOR = re.compile(r"%[xyz]mm\d")
FRAME = re.compile(r"^(?:mov\s+%rsp|lea\s+\S*\(%rsp\)),%rbp$")  # makes rbp a second stack pointer


@dataclass(frozen=True)
class Instruction:
    """One line of the disassembly, in AT&T syntax."""

    address: int
    text: str

    @property
    def jump(self) -> int | None:
        """Target of a direct jump."""
        match = JUMP.match(self.text)
        return int(match["target"], 16) if match else None


@dataclass
class Function:
    """A symbol and its instructions in order of address."""

    name: str
    code: list[Instruction] = field(default_factory=list)


@dataclass(frozen=True)
class Loop:
    """An innermost loop with many instructions of a kind."""

    function: str
    start: int
    kind: str
    width: str
    count: int
    spills: tuple[str, ...]


def functions(lines: Iterable[str]) -> Iterator[Function]:
    """Split the output of ``objdump -d --no-show-raw-insn`` at its symbols."""
    function: Function | None = None
    for line in lines:
        if header := HEADER.match(line.rstrip()):
            if function:
                yield function
            function = Function(header["name"])
        elif function and (match := LINE.match(line)):
            text = match["text"].split("#")[0].strip()
            function.code.append(Instruction(int(match["address"], 16), text))
    if function:
        yield function


def innermost(function: Function) -> list[tuple[int, int]]:
    """Address ranges, ends included, of the loops that hold no other loop.

    A loop is what a backward jump spans. Several jumps to one target (a ``continue``) are one loop.
    """
    ends: dict[int, int] = {}
    for instruction in function.code:
        target = instruction.jump
        if target is not None and function.code[0].address <= target <= instruction.address:
            ends[target] = max(ends.get(target, 0), instruction.address)
    return [
        (start, end)
        for start, end in ends.items()
        if not any(start < other <= end and ends[other] <= end for other in ends)
    ]


def hot_loops(function: Function) -> Iterator[Loop]:
    """Yield the innermost loops of a function that are `HOT`."""
    if not function.code:
        return
    pointers = "rsp|rbp" if any(FRAME.match(i.text) for i in function.code) else "rsp"
    stack = re.compile(rf"\(%(?:{pointers})[,)]")
    for start, end in innermost(function):
        body = [i.text for i in function.code if start <= i.address <= end]
        for kind, pattern in KINDS.items():
            hot = [text for text in body if pattern.match(text)]
            if len(hot) >= HOT[kind]:
                width = max(w for w in ("xmm", *WIDTHS) if any(f"%{w}" in text for text in hot))
                spills = tuple(t for t in body if stack.search(t) and VECTOR.search(t))
                yield Loop(function.name, start, kind, width, len(hot), spills)


def report(loops: Iterable[Loop]) -> bool:
    """Print what was seen; True when all that is expected was seen and no loop spills."""
    loops = list(loops)
    good = True
    for loop in loops:
        if loop.spills:
            good = False
            where = f"{loop.function} at {loop.start:#x} ({loop.count} {loop.kind}, {loop.width})"
            print(f"{where}: {len(loop.spills)} stack operands, the first in `{loop.spills[0]}`")
    for kind, width in EXPECTED:
        seen = sum((loop.kind, loop.width) == (kind, width) for loop in loops)
        print(f"{width}: {seen} innermost loops with {HOT[kind]} or more instructions: {kind}")
        good = good and seen > 0
    return good


def main() -> int:
    """Check one library."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("library")
    parser.add_argument("--symbols", default="subquad", help="names of functions to look at")
    options = parser.parse_args()
    disassembly = subprocess.run(
        ["objdump", "-d", "-M", "att", "--no-show-raw-insn", options.library],
        check=True,
        capture_output=True,
        text=True,
    )
    ours = re.compile(options.symbols)
    lines = disassembly.stdout.splitlines()
    kernels = (function for function in functions(lines) if ours.search(function.name))
    return 0 if report(loop for kernel in kernels for loop in hot_loops(kernel)) else 1


if __name__ == "__main__":
    sys.exit(main())
