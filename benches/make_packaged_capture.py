"""Cut the capture that comes with the package out of a larger one.

    python make_packaged_capture.py CAPTURES OUT.npz

CAPTURES is the folder that holds `rope_n2048.npz`. Three of its heads and the first 1024 positions
stay: a flat head, one that looks at the previous token, and an induction head. The forward pass of
those positions is unchanged, since later keys were never seen; the gradients of keys and values
lose what later queries sent, so all check values are computed anew, in float64, and those that
both files share are compared.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SOURCE = "rope_n2048.npz"
HEADS = [0, 1, 2]
LENGTH = 1024
CHECK_ROWS = 16
# The stored check values of both files come from sums in different orders.
AGREE = 1e-11

Array = NDArray[np.float64]


def turn(x: Array, theta: float, sign: float) -> Array:
    """Rotary positions, half-split: forward for `sign` 1, back for -1."""
    half = x.shape[1] // 2
    angle = np.outer(np.arange(x.shape[0]), theta ** (-np.arange(half) / half))
    cos, sin = np.cos(angle), sign * np.sin(angle)
    return np.hstack((x[:, :half] * cos - x[:, half:] * sin, x[:, half:] * cos + x[:, :half] * sin))


def causal(q: Array, k: Array, v: Array, do: Array, scale: float, theta: float) -> list[Array]:
    """Output and gradients of one head of causal attention; `q` and `k` before rotation."""
    turned_q, turned_k = turn(q, theta, 1), turn(k, theta, 1)
    logits = scale * (turned_q @ turned_k.T)
    logits[np.triu_indices(len(q), 1)] = -np.inf
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    out = weights @ v
    flow = weights * (do @ v.T - np.sum(do * out, axis=1, keepdims=True)) * scale
    dq, dk = turn(flow @ turned_k, theta, -1), turn(flow.T @ turned_q, theta, -1)
    return [out, dq, dk, weights.T @ do]


def main() -> None:
    """Read the larger capture, check and write the small one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("captures", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    with np.load(arguments.captures / SOURCE, allow_pickle=False) as archive:
        source = {name: archive[name] for name in archive.files}
    if not np.array_equal(source["kv_of_q"][HEADS], HEADS):
        raise SystemExit(f"{SOURCE}: heads {HEADS} do not have keys of their own")

    cut = {name: source[name][HEADS, :LENGTH] for name in ("q", "k", "v", "do")}
    theta, scale = float(source["theta"]), float(source["scale"])
    shared = source["check_rows"][source["check_rows"] < LENGTH]
    others = np.setdiff1d(np.linspace(0, LENGTH - 1, CHECK_ROWS, dtype=np.int64), shared)
    spread = others[np.linspace(0, others.size - 1, CHECK_ROWS - shared.size, dtype=np.int64)]
    rows = np.sort(np.concatenate((shared, spread)))

    results = []
    for head in range(len(HEADS)):
        q, k, v, do = (cut[name][head].astype(np.float64) for name in ("q", "k", "v", "do"))
        results.append(causal(q, k, v, do, scale, theta))
    checks = {
        f"check_{name}": np.stack([result[i][rows] for result in results])
        for i, name in enumerate(("o", "dq", "dk", "dv"))
    }
    for name in ("check_o", "check_dq"):
        old = source[name][HEADS][:, np.isin(source["check_rows"], shared)]
        new = checks[name][:, np.isin(rows, shared)]
        difference = np.linalg.norm(old - new) / np.linalg.norm(old)
        print(f"{name}: {len(shared)} rows of both files differ by {difference:.1e}")
        if not difference < AGREE:
            raise SystemExit(f"{name} does not agree with {SOURCE}")

    kept = ("theta", "scale", "window", "causal", "do_scale", "document")
    np.savez_compressed(
        arguments.out,
        allow_pickle=False,
        **cut,
        layer=source["layer"][HEADS],
        head=source["head"][HEADS],
        kv_of_q=np.arange(len(HEADS)),
        **{name: source[name] for name in kept},
        ids=source["ids"][: LENGTH + 1],
        check_rows=rows,
        **checks,
    )
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
