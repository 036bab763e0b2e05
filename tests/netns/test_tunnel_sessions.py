"""Sessions of a host's tunnel with real workers: many starts, providers that hang, sleep told or seen, no network.

What the state machine does in every order is in tests/unit/hosting/test_tunnel_machine.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.processes import descendants
from tests.support.running import TOWPATH
from tests.support.tunnel_lab import eventually
from tests.unit.linux.test_metering import BUS

from towpath.testing import Lab, LabHost
from towpath.testing.plan import LabPlan, UdpEcho

ROOT = Path(__file__).resolve().parents[2]
PLAN = LabPlan().host("one").host("server", serves=[UdpEcho(port=9000)])
_PROVIDER = """\
# /// script
# [tool.towpath.extension]
# id = "told"
# kind = "packet-tunnel"
# capabilities = ["packet-tunnel-provider"]
# ///
import asyncio

import msgspec
from towpath.providers import PacketTunnelProvider, TunnelSettings


class Config(msgspec.Struct):
    server: str
    does: str


class Told(PacketTunnelProvider[Config]):
    async def start(self, options):
        self.link = await self.connect(self.config.server, 9000)
        await self.set_settings(TunnelSettings(remote="x", addresses=("10.70.0.2/32",), included=("10.70.0.0/24",)))
        if self.config.does == "start slowly":
            await asyncio.sleep(1)
        if self.config.does == "hang in start":
            await asyncio.sleep(3600)
        self.log("told: start")

    async def stop(self, reason):
        self.log(f"told: stop {reason.name}")
        if self.config.does == "hang in stop":
            await asyncio.sleep(3600)
        while self.config.does == "spin in stop":
            pass

    def sleep(self):
        self.log("told: sleep")

    def wake(self):
        self.log("told: wake")

    def network_changed(self):
        self.log("told: network_changed")

    def status(self):
        if self.config.does != "tell nonsense":
            return {}
        deep = []
        for _ in range(20_000 * (self.links_asked > 0)):
            deep = [deep]
        self.links_asked += 1
        own = {"state": 7, "tunnel": "\\x1b[31mred", "implementation": "magic"}
        return {**own, "peers": [1, {"a": "\\x1b[31m"}, deep], "drops": [1], "since": "x"}

    links_asked = 0
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be opened by this user")
    with Lab(PLAN) as lab:
        yield lab


class Held:
    """A host tunnel in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def say(self, line: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self.line()

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.say("status")))

    def told(self) -> str:
        """The next hook that was called."""
        assert self._process.stderr is not None
        while "told: " not in (line := self._process.stderr.readline()):
            assert line, "it has ended"
        return line.partition("told: ")[2].strip()

    def workers(self) -> list[int]:
        return [pid for pid in descendants(self.pid) if _name(pid) == "towpath-worker"]


def _name(pid: int) -> str:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    return "" if state.rpartition(") ")[2][:1] == "Z" else state.partition("(")[2].rpartition(")")[0]


@contextmanager
def held(lab: Lab, folder: Path, does: str = "", *words: str, **environment: str) -> Iterator[Held]:
    (folder / "told.py").write_text(_PROVIDER)
    (folder / "told.toml").write_text(f'server = "{lab["server"].address4}"\ndoes = "{does}"\n')
    target = f"{folder}/told.py:{folder}/told.toml"
    command = [sys.executable, "-m", "tests.support.host_tunnel_program", target, "t0", *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    given = {**os.environ, **environment}
    with lab["one"].popen(command, administrator=True, text=True, cwd=ROOT, env=given, **pipes) as process:
        try:
            yield Held(process)
        finally:
            process.kill()


def test_a_thousand_starts_by_eight_threads_are_one(lab: Lab, tmp_path: Path) -> None:
    with held(lab, tmp_path, "start slowly", "idle") as one:
        assert one.say("starts") == "1000 starts, {'None'}"
        assert one.status()["starts"] == 1
        assert len(one.workers()) == 1


@pytest.mark.parametrize("does", ["hang in stop", "spin in stop", "be stopped"])
def test_a_provider_that_does_not_stop_is_killed(lab: Lab, tmp_path: Path, does: str) -> None:
    with held(lab, tmp_path, does) as one:
        assert one.line() == "up"
        (worker,) = one.workers()
        if does == "be stopped":
            os.kill(worker, signal.SIGSTOP)
        assert one.say("stop") == "stopped"
        eventually(lambda: not one.workers())
        assert one.status()["state"] == "disconnected"
        if does != "be stopped":
            assert one.say("start") == "up"
            assert one.workers() != [worker], "with a new process"


def test_figures_of_a_provider_that_mean_nothing_harm_nobody_who_looks(lab: Lab, tmp_path: Path) -> None:
    with held(lab, tmp_path, "tell nonsense") as one:
        assert one.line() == "up"
        for _ in range(2):  # the second time deeper than any parser goes
            done = lab["one"].run([TOWPATH, "tunnel", "status"], administrator=True, timeout=120)
            assert done.returncode == 0, done.stderr
            assert "told: connected" in done.stdout
            assert "\x1b" not in done.stdout
            assert done.stderr == ""
        assert one.status()["state"] == "connected"
        assert one.status()["implementation"] == "userspace"


def test_a_start_that_hangs_is_given_up_with_its_process_and_the_next_has_a_new_one(lab: Lab, tmp_path: Path) -> None:
    with held(lab, tmp_path, "hang in start", "hurry", "idle") as one:
        for starts in (1, 2):
            assert one.say("begin") == "begun"

            def ended(starts: int = starts) -> bool:
                now = one.status()
                return (now["starts"], now["state"]) == (starts, "disconnected")

            eventually(ended)
            eventually(lambda: not one.workers())
            assert one.status()["last_error"]["reason"] == "it has not started in 2 s"
            assert one.status()["last_error"]["cause"] == "server not responding"


def test_a_start_that_hangs_can_be_stopped(lab: Lab, tmp_path: Path) -> None:
    with held(lab, tmp_path, "hang in start", "idle") as one:
        assert one.say("begin") == "begun"
        eventually(lambda: one.status()["state"] == "connecting" and one.workers())
        assert one.say("stop") == "stopped"
        eventually(lambda: not one.workers())
        assert one.status()["state"] == "disconnected"


def test_sleep_is_told_by_logind_and_the_machine_waits_for_the_provider(lab: Lab, tmp_path: Path) -> None:
    if shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon: not installed (make peers)")
    host: LabHost = lab["one"]
    (tmp_path / "bus.conf").write_text(BUS.format(folder=tmp_path))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    daemon = ["dbus-daemon", f"--config-file={tmp_path}/bus.conf", "--nofork", "--print-address=1"]
    with host.popen(daemon, administrator=True, stderr=subprocess.DEVNULL, **pipes) as bus:
        assert bus.stdout is not None
        address = bus.stdout.readline().strip()
        service = [sys.executable, "-m", "tests.support.logind_service", address]
        with host.popen(service, administrator=True, cwd=ROOT, **pipes) as logind:
            assert logind.stdout is not None
            assert logind.stdin is not None
            assert logind.stdout.readline() == "ready\n"
            with held(lab, tmp_path, DBUS_SYSTEM_BUS_ADDRESS=address) as one:
                assert one.line() == "up"
                assert one.told() == "start"
                for _ in range(2):
                    logind.stdin.write("sleep\n")
                    logind.stdin.flush()
                    assert one.told() == "sleep"
                    assert logind.stdout.readline() == "let go\n"
                    logind.stdin.write("wake\n")
                    logind.stdin.flush()
                    assert one.told() == "wake"
                assert (one.status()["state"], one.status()["starts"]) == ("connected", 1)
            logind.kill()
        bus.kill()


def test_sleep_that_nobody_tells_is_seen_by_the_clocks(lab: Lab, tmp_path: Path) -> None:
    with held(lab, tmp_path, DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={tmp_path}/none") as one:
        assert one.line() == "up"
        assert one.told() == "start"
        assert one.say("jump") == "jumped"
        assert one.told() == "wake"
        assert one.status()["state"] == "connected"


def test_without_a_network_nothing_is_started_and_with_one_it_is_once(lab: Lab, tmp_path: Path) -> None:
    with held(lab, tmp_path, "", "on-demand") as one:
        assert one.line() == "up"
        with lab["one"].fault("link-down"):
            eventually(lambda: one.status()["network"] is False)
            (worker,) = one.workers()
            os.kill(worker, signal.SIGKILL)
            eventually(lambda: one.status()["state"] == "disconnected")
            ended = time.monotonic()
            eventually(lambda: time.monotonic() - ended > 2.5)  # retries would come after 1 s and 2 s more
            assert one.status()["starts"] == 1
        eventually(lambda: one.status()["state"] == "connected")
        assert one.status()["starts"] == 2
        assert len(one.workers()) == 1


def test_another_network_is_told_once_for_all_that_changed(lab: Lab, tmp_path: Path) -> None:
    host = lab["one"]
    with held(lab, tmp_path) as one:
        assert one.line() == "up"
        assert one.told() == "start"
        prefix = "203.0.113"
        words = f"ip addr add {prefix}.9/32 dev eth0; ip route add {lab['server'].address4} dev eth0 src {prefix}.9"
        host.run(["sh", "-c", words], administrator=True, check=True)
        try:
            assert one.told() == "network_changed"
            assert one.status()["paths"][0]["from"] == f"{prefix}.9"
        finally:
            words = f"ip route del {lab['server'].address4} dev eth0; ip addr del {prefix}.9/32 dev eth0"
            host.run(["sh", "-c", words], administrator=True, check=True)
        assert one.told() == "network_changed"
        assert one.status()["paths"][0]["from"] == host.address4
