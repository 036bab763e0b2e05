"""A server with very many peers: each has its session, all are told, and they cost little."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.netns.test_host_tunnel import status, tunnel
from tests.support.processes import descendants
from tests.support.running import TOWPATH
from tests.support.tunnel_lab import Key, eventually

from towpath.testing import Lab, LabHost
from towpath.testing.plan import LabPlan

PROGRAM = str(Path(__file__).parents[2] / "benchmarks" / "programs" / "idle_peers.py")
PEERS = 100
Make = Callable[[Path, Key, list[Key]], tuple[str, int, str]]
"""Writes a server's file: gives its target, its port, and what stands before each message, in hexadecimal."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be opened by this user")
    with Lab(LabPlan().host("clients").host("server")) as lab:
        yield lab


@contextmanager
def idle(lab: Lab, port: int, server: Key, prefix: str, keys: list[Key]) -> Iterator[None]:
    words = [sys.executable, PROGRAM, lab["server"].address4, str(port), server.public, prefix, "25"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with lab["clients"].popen(words, text=True, **pipes) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("".join(f"{key.secret}\n" for key in keys) + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "up\n"
            yield
        finally:
            process.kill()


def kilobytes(pid: int) -> int:
    """What its processes have for themselves."""
    total = 0
    for each in (pid, *descendants(pid)):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith(("Private_Dirty:", "Private_Clean:")):
                total += int(line.split()[1])
    return total


def wireguard(folder: Path, server: Key, keys: list[Key]) -> tuple[str, int, str]:
    path = folder / "server.conf"
    path.write_text(
        f"[Interface]\nPrivateKey = {server.secret}\nAddress = 10.80.0.1/16\nListenPort = 51820\n"
        + "".join(
            f"[Peer]\nPublicKey = {key.public}\nAllowedIPs = 10.80.{1 + at // 250}.{1 + at % 250}/32\n"
            for at, key in enumerate(keys)
        )
    )
    return str(path), 51820, ""


def wire_tunnel(folder: Path, server: Key, keys: list[Key]) -> tuple[str, int, str]:
    path = folder / "server.toml"
    path.write_text(
        f'private_key = "{server.secret}"\naddresses = ["10.90.0.1/16"]\nlisten = 4500\n'
        + "".join(
            f'[[peers]]\npublic_key = "{key.public}"\naddresses = ["10.90.{1 + at // 250}.{1 + at % 250}/32"]\n'
            for at, key in enumerate(keys)
        )
    )
    return f"wire-tunnel:{path}", 4500, "ffffffff"


@pytest.mark.parametrize("make", [wireguard, wire_tunnel], ids=["wireguard", "wire-tunnel"])
def test_a_hundred_idle_peers_have_a_session_each_and_cost_little_memory(lab: Lab, tmp_path: Path, make: Make) -> None:
    server, keys = Key.make(), [Key.make() for _ in range(PEERS)]
    target, port, prefix = make(tmp_path, server, keys)
    with tunnel(lab["server"], target, "t0") as held:
        assert status(held)["state"] == "connected"
        before = kilobytes(held.pid)
        with idle(lab, port, server, prefix, keys):
            eventually(lambda: [peer["handshakes"] for peer in status(held)["peers"]] == [1] * PEERS)  # type: ignore[attr-defined]
            after = kilobytes(held.pid)
            assert status(held)["drops"] == {}
        assert after - before < 100 * PEERS, f"{after - before} KB for {PEERS} peers"


def test_the_status_of_a_thousand_peers_is_told_whole_and_costs_no_worker(lab: Lab, tmp_path: Path) -> None:
    host: LabHost = lab["server"]
    keys = [Key.make() for _ in range(1200)]
    target, _port, _prefix = wireguard(tmp_path, Key.make(), keys)
    with tunnel(host, target, "t0") as held:
        for _ in range(3):
            done = host.run([TOWPATH, "tunnel", "status", "--json"], administrator=True, timeout=120)
            (one,) = json.loads(done.stdout)
            assert {peer["public_key"] for peer in one["peers"]} == {key.public for key in keys}
        assert status(held)["starts"] == 1


def test_a_file_that_is_too_long_for_a_worker_is_refused_by_its_size(lab: Lab, tmp_path: Path) -> None:
    target, _port, _prefix = wireguard(tmp_path, Key.make(), [Key.make() for _ in range(2000)])
    done = lab["clients"].run([TOWPATH, "run", "--tunnel", target, "--", "true"], timeout=120)
    assert done.returncode == 125
    assert "KB, and 150 KB is the most of a config" in done.stderr
