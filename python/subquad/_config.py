"""What this build is, what machine it runs on, and what that machine can do at best."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import numpy as np

from . import _subquad
from ._table import text_table

__all__ = ["info_text", "machine_class", "measure", "show_config"]

Config: TypeAlias = dict[str, dict[str, Any]]

_CPUINFO = Path("/proc/cpuinfo")

# What kernels or limits make use of, as the kernel of the operating system spells it.
_FEATURES = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16")

# Key, what it measures, unit: the figures of `_subquad.measure_limits` in the order of a page.
_LIMITS = (
    ("fma_f32", "multiply-add float32, 1 thread", "GF/s"),
    ("fma_f32_all", "multiply-add float32, all threads", "GF/s"),
    ("fma_f64", "multiply-add float64, 1 thread", "GF/s"),
    ("int8", "products of bytes, 1 thread", "Gop/s"),
    ("stream", "read from memory, 1 thread", "GB/s"),
    ("stream_all", "read from memory, all threads", "GB/s"),
)


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> Config: ...
def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> Config | None:
    """Show versions, build, machine, instruction set, threads and settings.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        Whether to print them or to return them, as `numpy.show_config` does.

    Returns
    -------
    config : dict of dict, or None
        With ``mode="dicts"``: ``versions``; ``build`` (``profile``); ``machine`` (``class``,
        ``model``, the best ``instruction_set`` and the ``features`` of its processor); ``runtime``
        (the ``instruction_set`` in use, the limit of ``threads``, the ``cores`` this process may
        use); ``environment`` (the variables ``SUBQUAD_*`` that are set).

    Raises
    ------
    ValueError
        If `mode` is anything else.

    Notes
    -----
    The class of machine says which figures of a benchmark apply: Z5 (Zen 5, AVX-512 at full rate),
    Z4 (Zen 4, AVX-512 at half rate), Z3 (Zen 3, AVX2 only) or other.
    """
    if mode == "stdout":
        print(info_text())
        return None
    if mode == "dicts":
        return _config()
    raise ValueError(f'`mode` must be "stdout" or "dicts", got {mode!r}')


def info_text(measured: dict[str, float] | None = None) -> str:
    """Return what `show_config` prints, and below it what `measure` returned, if given.

    Parameters
    ----------
    measured : dict of float, optional
        Figures to show, under the keys of `measure`.

    Returns
    -------
    text : str
        Aligned lines without a final newline.
    """
    limit, cores = _subquad.get_num_threads(), _subquad.cores()
    settings = [f"{name}={value}" for name, value in _environment().items()]
    rows = [
        ("subquad", f"{_subquad.__version__}, {_subquad.profile} build"),
        ("python", f"{platform.python_version()}, numpy {np.__version__}"),
        ("machine", f"class {machine_class()}, {_model()}"),
        ("features", " ".join(_features()) or "unknown"),
        ("instruction set", f"{_subquad.isa} in use, {_subquad.best_isa} at best"),
        ("threads", f"{limit} at most, {cores} {'core' if cores == 1 else 'cores'}"),
        ("environment", " ".join(settings) or "no SUBQUAD_* variable is set"),
    ]
    text = text_table(rows, indent="")
    if measured is None:
        return text
    limits = [(what, f"{measured[key]:7.1f} {unit}") for key, what, unit in _LIMITS]
    return f"{text}\n\nAt best, with {_subquad.isa}:\n{text_table(limits)}"


def measure(seconds: float = 1.6) -> dict[str, float]:
    """Measure what this machine can do at best with the instruction set in use.

    Parameters
    ----------
    seconds : float
        Time to spend, more than 0 and at most 60. Takes 256 MiB of memory meanwhile.

    Returns
    -------
    limits : dict of float
        ``fma_f32``, ``fma_f64`` (multiply-add peak of one thread, GF/s), ``fma_f32_all`` (of all
        threads), ``int8`` (products of bytes added up, one thread, Gop/s), ``stream`` and
        ``stream_all`` (reading main memory with one and with all threads, GB/s).

    Raises
    ------
    ValueError
        If `seconds` is out of range.
    TypeError
        If `seconds` is not a real number.
    """
    try:
        fits = math.isfinite(seconds) and 0 < seconds <= 60
    except TypeError:
        kind = type(seconds).__name__
        raise TypeError(
            f"`seconds` must be a real number, got {seconds!r} of type {kind}"
        ) from None
    if not fits:
        raise ValueError(f"`seconds` must satisfy 0 < seconds <= 60, got {seconds}")
    return _subquad.measure_limits(float(seconds))


def machine_class() -> str:
    """Return the class of this machine.

    Returns
    -------
    name : {"Z5", "Z4", "Z3", "other"}
        Z5: Zen 5, full-rate AVX-512; Z4: Zen 4, AVX-512 at half rate; Z3: Zen 3, AVX2 only.
    """
    cpu = _cpu()
    family, flags = cpu.get("cpu family"), cpu.get("flags", "").split()
    if family == "26":
        return "Z5"
    if family == "25" and "avx2" in flags:
        return "Z4" if "avx512_vnni" in flags else "Z3"
    return "other"


def _config() -> Config:
    return {
        "versions": {
            "subquad": _subquad.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "build": {"profile": _subquad.profile},
        "machine": {
            "class": machine_class(),
            "model": _model(),
            "instruction_set": _subquad.best_isa,
            "features": _features(),
        },
        "runtime": {
            "instruction_set": _subquad.isa,
            "threads": _subquad.get_num_threads(),
            "cores": _subquad.cores(),
        },
        "environment": dict(_environment()),
    }


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in sorted(os.environ) if name.startswith("SUBQUAD_")}


def _model() -> str:
    """Return the name of the processor, as the operating system tells it."""
    return _cpu().get("model name") or platform.processor() or platform.machine() or "unknown"


def _features() -> list[str]:
    flags = _cpu().get("flags", "").split()
    return [name for name in _FEATURES if name in flags]


def _cpu() -> dict[str, str]:
    """Return what Linux says about the first processor; other systems say nothing."""
    try:
        first = _CPUINFO.read_text().partition("\n\n")[0]
    except OSError:
        return {}
    lines = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}
