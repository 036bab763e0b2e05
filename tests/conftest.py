"""Fixtures of all tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.rootless import Rootless, installed

# Before a test imports numpy: its threads would be in this process when a Lab forks from it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def rootless() -> Iterator[Rootless]:
    """An ordinary user with Towpath installed; see `tests.support.rootless.Rootless`."""
    yield from installed(Path(tempfile.mkdtemp(prefix="towpath-rootless-", dir="/tmp")))
