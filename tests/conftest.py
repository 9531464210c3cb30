"""Settings and fixtures for the whole suite."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import settings

import subquad

settings.register_profile("fast", max_examples=60, deadline=None)
settings.register_profile("slow", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture
def thread_state() -> Iterator[None]:
    """Put the thread limit back after a test that sets it."""
    before = subquad.num_threads()
    yield
    subquad.set_num_threads(before)


@pytest.fixture(scope="session")
def torch() -> ModuleType:
    """Skip where torch is not installed, unless it ought to be."""
    if importlib.util.find_spec("torch") is None:
        assert os.environ.get("CI_TORCH") != "1", "CI_TORCH=1, but torch is not installed"
        pytest.skip("torch is not installed: its interoperability is not tested")
    return importlib.import_module("torch")
