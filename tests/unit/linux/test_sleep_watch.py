"""logind's word that the machine sleeps is heard, and waited for until all is prepared. The bus is a real one."""

from __future__ import annotations

import queue
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.linux.test_metering import BUS, ROOT

from towpath.linux.sleep_watch import SleepWatch


@pytest.fixture
def logind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    if shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon: not installed (make peers)")
    (tmp_path / "bus.conf").write_text(BUS.format(folder=tmp_path))
    command = ["dbus-daemon", f"--config-file={tmp_path}/bus.conf", "--nofork", "--print-address=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as daemon:
        assert daemon.stdout is not None
        address = daemon.stdout.readline().strip()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        service = [sys.executable, "-m", "tests.support.logind_service", address]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(service, text=True, cwd=ROOT, **pipes) as process:  # type: ignore[call-overload]
            assert process.stdout.readline() == "ready\n"
            try:
                yield process
            finally:
                process.kill()
                daemon.kill()


def test_sleep_waits_until_all_is_prepared_and_waking_is_told(logind: subprocess.Popen[str]) -> None:
    heard: queue.Queue[str | Callable[[], object]] = queue.Queue()
    watch = SleepWatch(heard.put, lambda: heard.put("wake"))
    assert watch.following.wait(60)
    assert logind.stdin is not None
    assert logind.stdout is not None
    for _ in range(2):
        logind.stdin.write("sleep\n")
        logind.stdin.flush()
        prepared = heard.get(timeout=60)
        assert callable(prepared)
        prepared()
        assert logind.stdout.readline() == "let go\n"
        logind.stdin.write("wake\n")
        logind.stdin.flush()
        assert heard.get(timeout=60) == "wake"
    watch.close()


def test_without_a_bus_nobody_tells_and_nothing_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    watch = SleepWatch(lambda prepared: prepared(), lambda: None)
    assert not watch.following.wait(0.2)
    watch.close()
