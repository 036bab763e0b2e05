"""Where Towpath itself may find itself: in other sandboxes, and on systems that forbid what it needs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.support.peers import need
from tests.support.rootless import Rootless
from tests.support.running import TOWPATH


def test_it_works_under_bubblewrap(rootless: Rootless) -> None:
    need("bwrap")
    wrap = ["bwrap", "--dev-bind", "/", "/", "--proc", "/proc", "--unshare-pid", "--unshare-user", "--unshare-net"]
    done = rootless.run([*wrap, rootless.towpath, "run", "--", "sh", "-c", "id -u; exit 7"])
    assert (done.returncode, done.stdout) == (7, f"{1000 if not os.getuid() else os.getuid()}\n"), done.stderr


def test_runs_nest_for_an_ordinary_user(rootless: Rootless) -> None:
    run = [rootless.towpath, "run", "--"]
    done = rootless.run([*run, *run, *run, "sh", "-c", "ls /proc | grep -c '^[0-9]'; exit 5"])
    assert done.returncode == 5, done.stderr
    assert int(done.stdout) < 10, "each has a /proc of its own"


@pytest.mark.parametrize("how", ["ordinary", "root"])
def test_a_system_without_user_namespaces_is_told_with_the_settings_name(rootless: Rootless, how: str) -> None:
    """A limit set in a user namespace of the test's own holds below it, as the system's does."""
    towpath = rootless.towpath if how == "ordinary" else TOWPATH
    forbid = f"echo 0 > /proc/sys/user/max_user_namespaces; {towpath} run -- true"
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", forbid]
    done = rootless.run(command) if how == "ordinary" else subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 125
    assert "user.max_user_namespaces" in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_entered_any_more_is_left_for_the_root(rootless: Rootless) -> None:
    gone = Path(rootless.run(["mktemp", "-d"]).stdout.strip())
    command = f"cd {gone} && rmdir {gone} && {rootless.towpath} run -- pwd"
    done = rootless.run(["sh", "-c", command])
    assert done.returncode == 0, done.stderr
    assert done.stdout == "/\n"


def test_closed_standard_streams_do_not_confuse_it(rootless: Rootless) -> None:
    done = rootless.run(["sh", "-c", f"exec <&- ; {rootless.towpath} run -- sh -c 'echo out'"])
    assert done.stdout == "out\n", done.stderr
    done = rootless.run(["sh", "-c", f"exec <&- >&- 2>&-; {rootless.towpath} run -- sh -c 'exit 3'"])
    assert done.returncode == 3
