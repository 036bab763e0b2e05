"""The guide to WebSocket and the casebook page on framers say what is true: their programs run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
PROGRAMS = [
    pytest.param(program, id=f"{page}-{at}")
    for page in ("guides/websocket.md", "casebook/01-a-framer-above-websocket.md")
    for at, program in enumerate(
        re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    )
]
SAID = {
    "guides/websocket.md-0": "TEXT hello",
    "guides/websocket.md-1": "you said hello",
    "guides/websocket.md-3": "feed.v2 101",
}


def test_the_pages_have_programs() -> None:
    assert len(PROGRAMS) == 5


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_of_a_page_runs(program: str, request: pytest.FixtureRequest) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], timeout=30, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "never reached" not in done.stdout
    assert SAID.get(request.node.callspec.id, "") in done.stdout
