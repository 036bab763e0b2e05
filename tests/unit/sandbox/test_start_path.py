"""What a run loads before its command starts: little, because everybody waits for it (decision 0006)."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "aioquic",
    "asyncio",
    "cryptography",
    "dns",
    "idna",
    "ipaddress",
    "msgspec",
    "rich",
    "ssl",
    "subprocess",
    "tempfile",
    "textual",
    "tomllib",
    "towpath.hosting.session",
    "towpath.live",
)


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The modules of the command line and the manager of a run without anything extra."""
    code = "import sys, towpath.cli.run, towpath.sandbox.run, towpath.sandbox.manager; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("name", HEAVY)
def test_a_run_does_not_load_what_only_some_runs_need(loaded: set[str], name: str) -> None:
    assert name not in loaded
