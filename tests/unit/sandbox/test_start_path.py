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
    """The modules of the manager of a whole run without anything extra."""
    # Its standard output is the command's alone by then.
    code = (
        "import sys; from towpath.cli import main\n"
        "main(['run', '--allow', 'example.test:80', '--', 'true'])\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("name", HEAVY)
def test_a_run_does_not_load_what_only_some_runs_need(loaded: set[str], name: str) -> None:
    assert "towpath.sandbox.services" in loaded, "this was no run"
    assert name not in loaded
