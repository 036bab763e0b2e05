"""A Lab starts in a process whose libraries have threads of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import threading
import numpy
from towpath.testing import Lab, LabPlan
numpy.ones((300, 300)) @ numpy.ones((300, 300))
with Lab(LabPlan().host("one").host("two")) as lab:
    print(lab["one"].run(["echo", "up"]).stdout, end="")
"""


def test_a_lab_starts_beside_numpy() -> None:
    """OpenBLAS waits in fork(3) for threads that a copy of the process does not have."""
    pytest.importorskip("numpy")
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.stderr) == ("up\n", "")
