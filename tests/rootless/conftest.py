"""The Lab that the escape tests share. Whoever runs the tests, its owner is an ordinary user."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.rootless import Rootless
from tests.support.rootless_lab import RootlessLab


@pytest.fixture(scope="module")
def lab(rootless: Rootless) -> Iterator[RootlessLab]:
    """A client, a web host, a tracker and a name server."""
    with RootlessLab(rootless) as lab:
        yield lab
