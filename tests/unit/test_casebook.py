"""Every page of the casebook has a case that runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs" / "casebook").glob("*.md"))
LINK = re.compile(r"\]\(([^)#:]+)\)")


def programs(page: Path, language: str) -> list[str]:
    """The blocks of one language on a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


CASES = [
    pytest.param(program, id=f"{page.stem}-{at}")
    for page in PAGES
    for at, program in enumerate(programs(page, "python"))
]


@pytest.mark.parametrize("program", CASES)
def test_a_case_runs(program: str) -> None:
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_a_case_and_leads_to_pages_that_exist(page: Path) -> None:
    assert programs(page, "python") or programs(page, "sh")
    for link in LINK.findall(page.read_text()):
        assert (page.parent / link).exists(), link
