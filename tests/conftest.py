"""Fixtures of all tests."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.support.rootless import CURL_HOME, Rootless, installed, shared_site

# How fast examples are made says something of the machine and what else it does, and nothing of the code.
settings.register_profile("towpath", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("towpath")

# So that a page is one connection, however slow the machine.
os.environ["CURL_HOME"] = str(CURL_HOME)

# What a shell starts in the background, or under nohup, ignores these, and so would every program of a test.
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(scope="session")
def rootless(testrun_uid: str) -> Iterator[Rootless]:
    """An ordinary user with Towpath installed; see `tests.support.rootless.Rootless`."""
    with shared_site(Path("/tmp", f"towpath-site-{testrun_uid}")) as modules:
        yield from installed(Path(tempfile.mkdtemp(prefix="towpath-rootless-", dir="/tmp")), modules)
