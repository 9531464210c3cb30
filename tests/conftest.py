"""Settings for the whole suite: hypothesis profiles, and the state of the library that tests change."""

from __future__ import annotations

import os
from collections.abc import Iterator

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
