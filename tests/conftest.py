"""Fixtures of all tests."""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
"""Before numpy is imported: its threads would be in this process when a Lab forks from it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.rootless import Rootless, installed


@pytest.fixture(scope="session")
def rootless() -> Iterator[Rootless]:
    """An ordinary user with Towpath installed; see `tests.support.rootless.Rootless`."""
    yield from installed(Path(tempfile.mkdtemp(prefix="towpath-rootless-", dir="/tmp")))
