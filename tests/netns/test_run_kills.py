"""Whoever of a run is killed, and whenever: no process, namespace, mount, file or port of it stays."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.support.processes import descendants, wait_for_end
from tests.support.running import TOWPATH, python

from towpath.testing import Lab

_ROUNDS = 60
_TRAFFIC = """
import os, signal, socket, subprocess, sys, threading
signal.signal(signal.SIGINT, signal.SIG_DFL)
WEB, SERVICES = sys.argv[1:3]
def tcp():
    while True:
        try:
            with socket.create_connection((WEB, 80), 2) as s:
                s.sendall(b"GET / HTTP/1.1\\r\\nHost: web.test\\r\\n\\r\\n"); s.recv(1000)
        except OSError:
            pass
def udp():
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.5)
            try:
                s.sendto(b"x", (SERVICES, 9000)); s.recv(100)
            except OSError:
                pass
def names():
    while True:
        try:
            socket.getaddrinfo("web.test", 80)
        except OSError:
            pass
print("begun", flush=True)
subprocess.Popen(["setsid", "sleep", "600"], stdout=-3)
for work in (tcp, udp, names):
    threading.Thread(target=work, daemon=True).start()
threading.Event().wait()
"""


def test_sixty_random_kills_under_traffic_leave_nothing(world: Lab, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    before = _traces(world)
    for number in range(_ROUNDS):
        _kill_one(world, chance, tmp_path, number)
    assert _traces(world) == before
    assert list(tmp_path.iterdir()) == []


def _kill_one(world: Lab, chance: random.Random, folder: Path, number: int) -> None:
    """Starts a run, lets it work for a moment, sends a signal to one of its processes, and sees all of them end.

    With the last process its namespaces end too, unless a mount holds one, which `_traces` would show. Their numbers
    cannot be looked for: the kernel gives them out again at once.
    """
    options = ["--allow", "*.test:80", "--allow", f"udp://{world['services'].address4}:9000"]
    words = [*python(_TRAFFIC), world["web"].address4, world["services"].address4]
    with world["client"].popen(
        [TOWPATH, "run", "--quiet", *options, "--", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=os.environ | {"TMPDIR": str(folder), "HOME": str(folder)},
    ) as shadow:
        assert shadow.stdout is not None
        assert shadow.stdout.readline() == "begun\n"
        everyone = descendants(shadow.pid)
        manager, first, command = _chain(shadow.pid, everyone)
        victims = {"manager": manager, "first process": first, "command": command, "any": chance.choice([*everyone])}
        name = chance.choice(["manager", "manager", *victims])
        sent = chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL]) if name == "manager" else signal.SIGKILL
        handles = [os.pidfd_open(pid) for pid in everyone]
        threading.Event().wait(chance.random() * 0.1)  # any moment of the traffic, not its beginning
        os.kill(victims[name], sent)
        if victims[name] not in (manager, first, command):
            os.kill(manager, signal.SIGTERM)  # some child of the command: the run goes on without it
        left = wait_for_end(handles, 60)
        for handle in handles:
            os.close(handle)
        assert left == 0, f"round {number}: {left} processes outlive {sent.name} to {name}"
        _, errors = shadow.communicate(timeout=120)
        assert "Traceback" not in errors, f"round {number}: {sent.name} to {name}: {errors}"


def _chain(shadow: int, everyone: dict[int, set[str]]) -> tuple[int, int, int]:
    """The manager, the first process and the command of the run under `shadow`."""
    found = []
    parent = shadow
    for _ in range(3):
        parent = next(pid for pid in everyone if _parent(pid) == parent)
        found.append(parent)
    manager, first, command = found
    return manager, first, command


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _traces(world: Lab) -> list[object]:
    """What a run could leave behind on its host: mounts, rules, routes, links, listeners, temporary files."""
    client = world["client"]

    def read(path: str) -> list[str]:
        return sorted(line.split("shared:")[0] for line in Path(path).read_text().splitlines())

    rules = client.run(["nft", "list", "ruleset"], administrator=True).stdout
    links = client.run(["ip", "-o", "link"]).stdout.count("\n")
    table = client.run(["ip", "route", "show", "table", "all"]).stdout.splitlines()
    # The kernel adds its own routes when a link of the Lab has settled, which is nothing of a run's.
    routes = sorted(line for line in table if not any(word in line for word in ("proto kernel", "multicast", "fe80")))
    listeners = sorted(line.split()[4] for line in client.run(["ss", "-Hlntu"]).stdout.splitlines())
    return [read("/proc/self/mountinfo"), client.call(read, "/proc/self/mountinfo"), rules, links, routes, listeners]
