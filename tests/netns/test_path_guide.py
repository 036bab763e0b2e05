"""The guide to interfaces says what is true: its programs run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from towpath.testing import Lab, LabPlan

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "interfaces.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(LabPlan().host("client")) as made:
        yield made


def test_the_guide_has_programs() -> None:
    assert len(PROGRAMS) == 4


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_of_the_guide_runs(lab: Lab, program: str) -> None:
    done = lab["client"].run([sys.executable, "-W", "error", "-c", program], timeout=120)
    assert done.returncode == 0, done.stderr
