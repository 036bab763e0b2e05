"""The guides to connections say what is true: their programs run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDES = [Path(__file__).parents[3] / "docs" / "guides" / name for name in ("connections.md", "quic.md")]
PROGRAMS = [
    program
    for guide in GUIDES
    for program in re.findall(r"^```python\n(.*?)^```", guide.read_text(), re.DOTALL | re.MULTILINE)
]


def test_the_guides_have_programs() -> None:
    assert len(PROGRAMS) == 4


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_of_the_guide_runs(program: str) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_package_is_imported_lightly() -> None:
    """What a program does not use must not slow its start: no sandbox, no event loop, no cryptography."""
    code = "import sys, towpath; towpath.TowpathError; print(*[m for m in sys.modules if m.startswith('towpath.')])"
    done = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["towpath.errors"]


def test_connections_pull_in_no_sandbox() -> None:
    code = "import sys, towpath; towpath.Connection; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True, check=True)
    unwanted = {"towpath.sandbox", "towpath.policy", "towpath.cli", "cryptography", "towpath.linux.scope"}
    assert not unwanted & set(done.stdout.split())
