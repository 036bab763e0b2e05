"""The examples of the casebook's pages on a host's filter run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

_CASEBOOK = Path(__file__).parents[2] / "docs" / "casebook"


@pytest.mark.parametrize(
    "page",
    ["17-switching-a-filter-off-never-completes.md", "19-installing-over-a-running-filter-cuts-the-network.md"],
)
def test_the_example_of_a_page_runs(page: str) -> None:
    examples = re.findall(r"```python\n(.*?)```", (_CASEBOOK / page).read_text(), re.DOTALL)
    assert examples
    for example in examples:
        done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
