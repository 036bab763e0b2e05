"""The guide to WebSocket says what is true: its programs run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "websocket.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
SAID = ("TEXT hello", "you said hello", "", "feed.v2 101")


@pytest.mark.parametrize(("program", "said"), list(zip(PROGRAMS, SAID, strict=True)))
def test_a_program_of_the_guide_runs(program: str, said: str) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "never reached" not in done.stdout
    assert said in done.stdout
