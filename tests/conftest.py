"""Fixtures of all tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.support.rootless import Rootless, installed

# How fast examples are made says something of the machine and what else it does, and nothing of the code.
settings.register_profile("towpath", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("towpath")


@pytest.fixture(scope="session")
def rootless() -> Iterator[Rootless]:
    """An ordinary user with Towpath installed; see `tests.support.rootless.Rootless`."""
    yield from installed(Path(tempfile.mkdtemp(prefix="towpath-rootless-", dir="/tmp")))
