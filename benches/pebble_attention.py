"""Words that schedules of attention move: ``python pebble_attention.py [PART...]``.

    python pebble_attention.py                                      prints all parts
    python pebble_attention.py crossover caches                     prints some
    python pebble_attention.py --gallery ../python/docs/gallery     writes parts of the manual too

Nothing here is timed: all numbers are counts, and the same everywhere. ``executions`` compares closed forms with
executions, ``crossover`` finds where families cross, ``gains`` compares plans with published schedules,
``bounds`` with what must move, ``devices`` lists memories that exist, ``overflow`` follows the published rule for
blocks, and ``caches`` runs a C program with planned blocks on the cache model of cachegrind, which needs gcc and
valgrind. With ``--gallery`` the parts ``crossover``, ``devices`` and ``overflow`` write ``pebble_PART`` there: ``.json`` (all
numbers), ``.inc`` (tables) and ``.svg``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from polynomial_gallery import as_json, csv_table

from subquad import _subquad
from subquad.pebble import attention_plan, devices, sweep

Row = dict[str, Any]

WORDS = [1, 1, 1]
PUBLISHED = {"forward": ("flash-2", "square"), "backward": ("one-pass", "four-phase")}


def problem(n: int, d: int) -> _subquad.PebbleAttention:
    """Return attention of n rows to all of n keys, as the compiled module has it."""
    return _subquad.PebbleAttention(n, n, 1, d, 1.0, causal=False, mask=None, block=1)


def executions() -> Row:
    """Execute the best of every family on a grid of problems, and count what is off."""
    runs = different = 0
    steps = words = 0
    for n in (256, 1024, 4096, 8192):
        for d in (16, 32, 64, 128):
            memories = {d * 4**k for k in range(10) if d * 4**k < n * d}
            memories |= {d * d // 2, d * d, 2 * d * d, n * d}
            core = problem(n, d)
            for direction in ("forward", "backward", "loss"):
                for row in core.plans(sorted(memories), WORDS, direction):
                    for name, best in row:
                        # What has few words in a block takes long: n^2 d steps.
                        if best is None or best[1][3] / max(best[1][2], 1) ** 0.5 > 1e8:
                            continue
                        sizes = [size for _, size in best[0][1]]
                        found = core.count(name, sizes, best[1][2], WORDS, direction)
                        runs += 1
                        different += found[:5] != best[1][:5]
                        steps += found[5]
                        words += sum(found[0]) + sum(found[1])
    return {"runs": runs, "different": different, "steps": steps, "words": words}


def scan(n: int, d: int, ratios: Any, direction: str) -> tuple[Any, Any]:
    """Sweep over M / d^2."""
    memories = np.unique((np.asarray(ratios) * d * d).astype(int))
    found = sweep(n, d, memories[memories > 2], direction=direction)
    return found, found.memories / d**2


def intervals(ratio: Any, names: Any) -> list[tuple[str, float, float]]:
    """Where which family is best; ripples of less than 3 % of a range are left to their neighbours."""
    parts: list[list[Any]] = []
    for x, name in zip(ratio.tolist(), names, strict=True):
        if parts and parts[-1][0] == name:
            parts[-1][2] = x
        else:
            parts.append([name, x, x])
    wide = [part for part in parts if part[2] > 1.03 * part[1]]
    merged: list[list[Any]] = []
    for part in wide:
        if merged and merged[-1][0] == part[0]:
            merged[-1][2] = part[2]
        else:
            merged.append(part)
    return [(name, low, high) for name, low, high in merged]


def crossover() -> Row:
    """Scan M / d^2 finely: published schedules against each other, and all families."""
    ratios = np.geomspace(0.03, 64, 160)
    curves = {}
    for direction in ("forward", "backward"):
        found, ratio = scan(8192, 64, ratios, direction)
        assert found.lower_bound is not None
        square = 8192.0**2
        curves[direction] = {
            "ratio": [round(float(x), 5) for x in ratio],
            "words": {
                name: [None if np.isnan(x) else round(x / square, 5) for x in words]
                for name, words in found.words.items()
            },
            "bound": [round(float(x) / square, 5) for x in found.lower_bound],
        }
    rows = []
    for n in (4096, 65_536):
        for d in (32, 64, 128, 256):
            row: Row = {"n": n, "d": d}
            for direction, (large, small) in PUBLISHED.items():
                fine = np.arange(0.2, 4.0, 0.01)
                found, ratio = scan(n, d, fine, direction)
                better = found.words[large] <= found.words[small]
                first, last = ratio[better][0], ratio[~better][-1]
                row[direction] = [round(float(first), 3), round(float(last), 3)]
                wide, wide_ratio = scan(n, d, np.geomspace(0.03, 64, 300), direction)
                row[f"{direction} parts"] = intervals(wide_ratio, wide.schedules)
            rows.append(row)
    return {"n": 8192, "d": 64, "curves": curves, "rows": rows}


def crossover_tables(found: Row) -> str:
    """Crossovers of published schedules, then where which family is best."""
    header = ["n", "d", "forward: flash-2 / square", "backward: one-pass / four-phase"]
    rows = []
    for row in found["rows"]:
        cells = []
        for direction in ("forward", "backward"):
            first, last = row[direction]
            cells.append(f"{first:.2f}" if last < first else f"{first:.2f} to {last:.2f}")
        rows.append([str(row["n"]), str(row["d"]), *cells])
    title = "M / d^2 from where published schedules for large caches move less"
    text = csv_table(title, header, rows)
    for direction in ("forward", "backward"):
        parts = next(r for r in found["rows"] if (r["n"], r["d"]) == (65_536, 128))
        rows = [
            [name, f"{low:.2f}", f"{high:.2f}"] for name, low, high in parts[f"{direction} parts"]
        ]
        title = f"Which family moves least, {direction}, n = 65536, d = 128"
        text += "\n" + csv_table(title, ["family", "from M / d^2", "to"], rows)
    return text


def gains() -> Row:
    """Compare plans with the better published schedule."""
    rows = []
    for d in (32, 64, 128, 256):
        n = 128 * d
        for direction, names in PUBLISHED.items():
            found, ratio = scan(n, d, np.geomspace(0.1, 16, 400), direction)
            published = np.fmin(*(found.words[name] for name in names))
            gain = published / found.best
            one = found.words[names[0]] / found.best
            at = int(np.argmax(gain))
            row: Row = {"d": d, "n": n, "direction": direction}
            row["largest gain"] = [round(float(gain[at]), 3), round(float(ratio[at]), 3)]
            row["never worse"] = bool((gain >= 1.0).all())
            for x in (0.3, 0.6, 1.0, 1.5, 2.0, 4.0, 8.0, 16.0):
                i = int(np.argmin(np.abs(ratio - x)))
                row[str(x)] = [round(float(1 / gain[i]), 3), round(float(1 / one[i]), 3)]
            rows.append(row)
    return {"rows": rows}


def bounds() -> Row:
    """Compare plans with the proved bound."""
    rows = []
    for n, d in ((1024, 32), (8192, 64), (65_536, 128)):
        for direction in ("forward", "backward"):
            found, ratio = scan(n, d, np.geomspace(0.05, 64, 12), direction)
            assert found.lower_bound is not None
            rows.append({
                "n": n, "d": d, "direction": direction,
                "over bound": [
                    [round(float(x), 3), round(float(best / bound), 3)]
                    for x, best, bound in zip(ratio, found.best, found.lower_bound, strict=True)
                ],
            })  # fmt: skip
    return {"rows": rows}


def device_rows() -> Row:
    """List memories that exist, and what plans gain there."""
    rows = []
    for direction in ("forward", "backward"):
        rows += [
            {
                "direction": direction,
                "device": row.device,
                "kilobytes": row.kilobytes,
                "dtype": row.dtype,
                "d": row.d,
                "ratio": round(row.ratio, 4),
                "schedule": row.schedule,
                "gain": round(row.gain, 4) if np.isfinite(row.gain) else None,
            }
            for row in devices(direction=direction)
        ]
    return {"n": 16_384, "rows": rows}


def device_tables(found: Row) -> str:
    """Write a table for each direction: devices down, widths across."""
    text = ""
    for direction, over in (("forward", "flash-2"), ("backward", "one-pass")):
        rows: dict[tuple[str, int, str], dict[int, str]] = {}
        for row in found["rows"]:
            if row["direction"] == direction:
                key = (row["device"], row["kilobytes"], row["dtype"])
                gain = "" if row["gain"] is None else f" x{row['gain']:.2f}"
                rows.setdefault(key, {})[row["d"]] = f"{row['ratio']:.2f}{gain}"
        widths = (64, 128, 256, 512)
        cells = [
            [f'"{device}"', f"{size} KiB", dtype, *(at[d] for d in widths)]
            for (device, size, dtype), at in rows.items()
        ]
        header = ["device", "memory", "dtype", *(f"d = {d}" for d in widths)]
        title = f"M / d^2, and how many times as many words {over} moves as the plan, {direction}"
        text += csv_table(title, header, cells) + "\n"
    return text.rstrip("\n") + "\n"


def overflow() -> Row:
    """Follow FlashAttention's rule for blocks, and count what is in fast memory."""
    curves, rows = [], []
    n = 4096
    for d in (32, 64, 128):
        core, curve = problem(n, d), []
        for ratio in np.geomspace(0.25, 32, 85):
            memory = int(ratio * d * d)
            curve.append(rule_row(core, d, memory))
        curves.append({"d": d, "rows": curve})
        rows += [{"d": d, **rule_row(core, d, k * d * d)} for k in (1, 2, 4, 8, 16)]
    return {"n": n, "curves": curves, "rows": rows}


def rule_row(core: Any, d: int, memory: int) -> Row:
    """Blocks by the rule, what is in memory at the most, by execution, and what is where."""
    keys, rows = core.flash_rule(memory)
    peak = core.predict("flash-1", [keys, rows], WORDS, "forward")[2]
    found = core.count("flash-1", [keys, rows], peak, WORDS, "forward")
    assert found[2] == peak
    fits = dict(core.plans([memory], WORDS, "forward")[0])["flash-1"]
    return {
        "ratio": round(memory / d**2, 4),
        "memory": memory,
        "keys": keys,
        "rows": rows,
        "peak": peak / memory,
        "with rows kept": (peak + rows * d) / memory,
        "keys and values": 2 * keys * d / memory,
        "scores": rows * keys / memory,
        "outputs": rows * d / memory,
        "fitting keys": None if fits is None else fits[0][1][0][1],
    }


def overflow_tables(found: Row) -> str:
    """Shares of the memory, by what is in it."""
    header = ["d", "M / d^2", "keys c", "rows r", "K and V", "scores", "O", "peak / M",
              "rows kept"]  # fmt: skip
    rows = [
        [
            str(row["d"]),
            f"{row['ratio']:g}",
            str(row["keys"]),
            str(row["rows"]),
            *(f"{row[name]:.3f}" for name in ("keys and values", "scores", "outputs", "peak",
                                              "with rows kept")),
        ]
        for row in found["rows"]
    ]  # fmt: skip
    return csv_table("Blocks by the rule, and shares of M", header, rows)


KERNEL = r"""
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
/* Attention of n rows to n keys of width d, block rows at a time, key by key; or only the inputs. */
int main(int count, char **given) {
    int n = atoi(given[1]), d = atoi(given[2]), block = atoi(given[3]), run = atoi(given[4]);
    size_t size = (size_t)n * d;
    float *q = aligned_alloc(4096, sizeof(float) * (4 * size + 3 * 4096));
    float *k = q + size, *v = k + size, *o = v + size, *s = o + size;
    float *top = s + block, *sum = top + block, total = 0;
    for (size_t i = 0; i < 3 * size; i++) q[i] = (float)(i * 2654435761u >> 20 & 4095) / 4096 - 0.5f;
    for (int first = 0; run && first < n; first += block) {
        int rows = block < n - first ? block : n - first;
        for (int i = 0; i < rows; i++) {
            top[i] = -INFINITY, sum[i] = 0;
            for (int c = 0; c < d; c++) o[(first + i) * d + c] = 0;
        }
        for (int j = 0; j < n; j++) {
            for (int i = 0; i < rows; i++) {
                float score = 0;
                for (int c = 0; c < d; c++) score += q[(first + i) * d + c] * k[j * d + c];
                s[i] = score;
            }
            for (int i = 0; i < rows; i++) {
                float most = s[i] > top[i] ? s[i] : top[i];
                float before = expf(top[i] - most), weight = expf(s[i] - most);
                sum[i] = sum[i] * before + weight, top[i] = most;
                for (int c = 0; c < d; c++) {
                    float *out = &o[(first + i) * d + c];
                    *out = *out * before + weight * v[j * d + c];
                }
            }
        }
        for (int i = 0; i < rows; i++)
            for (int c = 0; c < d; c++) o[(first + i) * d + c] /= sum[i];
    }
    for (size_t i = 0; run && i < size; i++) total += o[i];
    printf("%f\n", total);
    return 0;
}
"""


def caches() -> Row:
    """Count misses of a program with planned blocks, on cachegrind's model of a cache with lines of 64 bytes."""
    if shutil.which("gcc") is None or shutil.which("valgrind") is None:
        return {"skipped": "gcc and valgrind are needed"}
    n, d, rows = 512, 64, []
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "kernel.c", Path(folder) / "kernel"
        source.write_text(KERNEL)
        subprocess.run(["gcc", "-O2", "-o", program, source, "-lm"], check=True)
        for kilobytes in (32, 64, 128, 256):
            memory = 1024 * kilobytes
            plan = attention_plan(n, d, memory, unit="bytes", cache="lru")
            assert plan.schedule == "flash-2"
            full = (memory // 4 - 1) // (2 * d + 3)
            lines, start = plan.words // 16, misses(program, n, d, 1, 0, memory)
            measured = misses(program, n, d, plan.blocks["rows"], 1, memory) - start
            thrash = misses(program, n, d, min(full, n), 1, memory) - start
            rows.append({
                "kilobytes": kilobytes, "rows": plan.blocks["rows"], "rows that fill": full,
                "planned lines": lines, "measured lines": measured,
                "measured / planned": round(measured / lines, 3), "lines if filled": thrash,
            })  # fmt: skip
    return {"n": n, "d": d, "rows": rows}


def misses(program: Path, n: int, d: int, block: int, run: int, memory: int) -> int:
    """Return misses of the last level, reads and writes."""
    cachegrind = ["valgrind", "--tool=cachegrind", "--cache-sim=yes", f"--LL={memory},16,64",
                  "--cachegrind-out-file=/dev/null"]  # fmt: skip
    arguments = [str(x) for x in (program, n, d, block, run)]
    run_of = subprocess.run([*cachegrind, *arguments], check=True, capture_output=True, text=True)
    line = next(line for line in run_of.stderr.splitlines() if "LLd misses" in line)
    return int(line.split(":")[1].split("(")[0].replace(",", ""))


PARTS: dict[str, Callable[[], Row]] = {
    "executions": executions,
    "crossover": crossover,
    "gains": gains,
    "bounds": bounds,
    "devices": device_rows,
    "overflow": overflow,
    "caches": caches,
}
TABLES: dict[str, Callable[[Row], str]] = {
    "crossover": crossover_tables,
    "devices": device_tables,
    "overflow": overflow_tables,
}


def main() -> None:
    """Compute parts, print them, and write those of the manual."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--gallery", type=Path, metavar="DIR", help="write parts of the manual")
    arguments = parser.parse_args()
    wanted = arguments.parts or list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    for name in wanted:
        found = PARTS[name]()
        if name in TABLES:
            print(TABLES[name](found))
        else:
            print(f"{name}\n{as_json(found)}\n")
        if arguments.gallery is not None and name in TABLES:
            from _pebble_pictures import DRAW

            path = arguments.gallery / f"pebble_{name}.json"
            path.write_text(as_json(found) + "\n")
            path.with_suffix(".inc").write_text(TABLES[name](found))
            DRAW[name](json.loads(path.read_text()), path.with_suffix(".svg"))


if __name__ == "__main__":
    main()
