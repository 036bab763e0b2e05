"""The example of the reference tunnel runs, and says what its text says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_the_walk_through_runs() -> None:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be opened by this user")
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "examples.tunnel"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "anna reads through the tunnel" in done.stdout
    assert "ben reads through the tunnel" in done.stdout
