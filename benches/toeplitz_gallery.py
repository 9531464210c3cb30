"""Biases that are trained, and when transforms pay: ``python toeplitz_gallery.py FOLDER``.

    python toeplitz_gallery.py ../python/docs/gallery            measures, then writes the pages' parts
    python toeplitz_gallery.py --draw ../python/docs/gallery     writes them from the numbers there
    python toeplitz_gallery.py --only training /tmp              one page: training or pays

``training`` needs torch, whose gradients it compares with; nothing in it is timed. ``pays`` measures ratios
alternated in one process, and says on which class of machine. Writes ``toeplitz_training`` and ``toeplitz_pays``,
each as ``.json`` (all numbers), ``.inc`` (tables of the manual) and ``.svg``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _toeplitz_pictures import draw_pays, draw_training
from numpy.typing import NDArray
from polynomial_gallery import as_json, csv_table, size
from suite import bench_bias_polynomial, bench_toeplitz_attention

import subquad
import subquad._config
from subquad.toeplitz import Bias

Row = dict[str, Any]
Floats = NDArray[np.float32]
Parameters = dict[str, Floats]

STEPS, TOKENS, HEADS, WIDTH, BATCH = 400, 96, 2, 8, 16


def training() -> Row:
    """Train the same model twice, with our gradients and with those of torch."""
    ours, bias = trained(gradients)
    theirs, _ = trained(gradients_of_torch)
    lags = np.arange(1 - TOKENS, TOKENS)
    near = np.abs(lags) <= 24
    return {
        "tokens": TOKENS,
        "heads": HEADS,
        "steps": STEPS,
        "losses": ours,
        "losses of torch": theirs,
        "lags": lags[near].tolist(),
        "bias": bias[:, near].astype(float).tolist(),
    }


def task(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return sequences, and what is to be found: the token five before, and the mean of the last three."""
    x = rng.standard_normal((BATCH, TOKENS, WIDTH), dtype=np.float32)
    wanted = np.zeros_like(x)
    wanted[:, 5:] = x[:, :-5]
    for back in range(3):
        wanted[:, back:] += x[:, : TOKENS - back] / 3
    return x, wanted


def trained(step: Callable[..., tuple[float, Parameters]]) -> tuple[list[float], Floats]:
    """Train by Adam; return losses, and the bias that was found."""
    rng = np.random.default_rng(0)
    start = {
        "in": rng.standard_normal((3, HEADS, WIDTH, WIDTH), dtype=np.float32) / WIDTH**0.5,
        "out": rng.standard_normal((HEADS, WIDTH, WIDTH), dtype=np.float32) / WIDTH**0.5,
        "bias": np.zeros((HEADS, 2 * TOKENS - 1), np.float32),
    }
    parameters, losses = dict(start), []
    first = {name: np.zeros_like(x) for name, x in start.items()}
    second = {name: np.zeros_like(x) for name, x in start.items()}
    for count in range(1, STEPS + 1):
        loss, grads = step(parameters, *task(rng))
        losses.append(loss)
        for name, grad in grads.items():
            first[name] = 0.9 * first[name] + 0.1 * grad
            second[name] = 0.99 * second[name] + 0.01 * grad**2
            mean = first[name] / (1 - 0.9**count)
            root = np.sqrt(second[name] / (1 - 0.99**count)) + 1e-8
            parameters[name] = parameters[name] - np.float32(0.03) * mean / root
    return losses, parameters["bias"]


def gradients(parameters: Parameters, x: Floats, wanted: Floats) -> tuple[float, Parameters]:
    """Loss and gradients by `attention_grad`; there is no array of queries by keys."""
    q, k, v = np.einsum("bnd,phde->pbhne", x, parameters["in"])
    options: dict[str, Any] = {"bias": Bias.learned(parameters["bias"]), "is_causal": True}
    out, lse = subquad.attention(q, k, v, return_lse=True, **options)
    error = np.einsum("bhne,hed->bnd", out, parameters["out"]) - wanted
    upstream = 2 * error / error.size
    of_out = np.einsum("bnd,hed->bhne", upstream, parameters["out"])
    grads = subquad.attention_grad(of_out, q, k, v, forward=(out, lse), **options)
    rows = np.stack([grads.query, grads.key, grads.value])
    return float((error**2).mean()), {
        "in": np.einsum("bnd,pbhne->phde", x, rows),
        "out": np.einsum("bhne,bnd->hed", out, upstream),
        "bias": grads.bias,
    }


def gradients_of_torch(
    parameters: Parameters, x: Floats, wanted: Floats
) -> tuple[float, Parameters]:
    """Compute the same by autograd, through the array that the bias stands for."""
    import torch

    given = {name: torch.from_numpy(p).requires_grad_() for name, p in parameters.items()}
    q, k, v = torch.einsum("bnd,phde->pbhne", torch.from_numpy(x), given["in"])
    index = torch.arange(TOKENS)
    lag = index[:, None] - index[None]
    mask = given["bias"][:, lag + TOKENS - 1].masked_fill(lag < 0, -torch.inf)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    found = torch.einsum("bhne,hed->bnd", out, given["out"])
    loss = ((found - torch.from_numpy(wanted)) ** 2).mean()
    loss.backward()
    return loss.item(), {name: p.grad.numpy() for name, p in given.items()}


def training_table(found: Row) -> str:
    """Losses of both, and how far they are apart."""
    rows = []
    for step in (1, 10, 50, 100, 200, STEPS):
        ours, theirs = (found[name][step - 1] for name in ("losses", "losses of torch"))
        apart = abs(ours - theirs) / theirs
        rows.append([str(step), f"{ours:.5f}", f"{theirs:.5f}", f"{apart:.0e}"])
    header = ["step", "subquad", "torch autograd", "difference / loss"]
    return csv_table("Mean square error", header, rows)


def pays() -> Row:
    """Measure exact attention over polynomials by transforms, and by splits of the bias."""
    general = []
    for shape in bench_toeplitz_attention.Forward.params[0]:
        benchmark = bench_toeplitz_attention.Forward()
        benchmark.setup(shape)
        n, entries, degree = shape
        ratio = 1 / benchmark.track_ratio_to_exact(shape)
        general.append({"n": n, "entries": entries, "degree": degree, "ratio": ratio})
    biases = []
    for kind in bench_bias_polynomial.ROUTES:
        for n in (4096, 8192, 16_384, 32_768, 65_536):
            benchmark = bench_bias_polynomial.Forward()
            # Nothing where the plan takes exact attention.
            pays = benchmark.prepare(kind, n)
            ratio = 1 / benchmark.track_ratio_to_exact(kind, n) if pays else None
            route = bench_bias_polynomial.ROUTES[kind]
            biases.append({"kind": kind, "route": route, "n": n, "ratio": ratio})
    return {"class": subquad._config.machine_class(), "general": general, "biases": biases}


def pays_tables(found: Row) -> str:
    """Write the time of exact attention over that of polynomials."""
    rows = [
        [size(row["n"]), str(row["entries"]), str(row["degree"]), f"{row['ratio']:.2g}"]
        for row in found["general"]
    ]
    header = ["n", "entries of W", "degree", "exact / polynomial"]
    text = csv_table("A matrix for every lag: time of exact over polynomial", header, rows)
    counts = sorted({row["n"] for row in found["biases"]})
    rows = []
    for kind, route in bench_bias_polynomial.ROUTES.items():
        at = {row["n"]: row["ratio"] for row in found["biases"] if row["kind"] == kind}
        rows.append([kind, route, *("exact" if at[n] is None else f"{at[n]:.2g}" for n in counts)])
    header = ["bias", "way", *map(size, counts)]
    title = "A bias, d = 16, degree 2: time of exact over polynomial, bounds included"
    return f"{text}\n{csv_table(title, header, rows)}"


PARTS = {
    "training": (training, training_table, draw_training),
    "pays": (pays, pays_tables, draw_pays),
}


def main() -> None:
    """Measure, or read what was measured; write tables and pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draw", action="store_true", help="do not measure")
    parser.add_argument("--only", choices=PARTS, help="one page")
    arguments = parser.parse_args()
    for name, (measure, tables, draw) in PARTS.items():
        if arguments.only not in (None, name):
            continue
        path = arguments.folder / f"toeplitz_{name}.json"
        if not arguments.draw:
            path.write_text(as_json(measure()) + "\n")
        found = json.loads(path.read_text())
        path.with_suffix(".inc").write_text(tables(found))
        draw(found, path.with_suffix(".svg"))


if __name__ == "__main__":
    main()
