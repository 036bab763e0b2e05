"""What a process calls itself is shown to people: all of it is to be seen."""

from __future__ import annotations

import subprocess
import sys

import pytest

from towpath.linux.processes import Processes

_NAMED = "import sys; open('/proc/self/comm', 'w').write(sys.argv[1]); print(flush=True); sys.stdin.read()"


@pytest.mark.parametrize(
    ("name", "shown"),
    [("ㄱcurl", "ㄱcurl"), ("a\x1b[2J", "a?[2J"), *((blank + "a", "?a") for blank in "\u115f\u1160\u2800\u3164\uffa0")],
    ids=ascii,
)
def test_nothing_in_a_programs_name_is_unseen(name: str, shown: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _NAMED, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        assert Processes("/proc").describe(process.pid).program == shown
        process.kill()
