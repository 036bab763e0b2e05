"""A server with a hundred peers that have nothing to say: its memory, and its CPU time while they keep alive."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import tunneling
from benchmarks.form import Measured
from benchmarks.peers import program
from benchmarks.rounds import Absent
from benchmarks.world import Arena, arena

PEERS = 100
_KEEPALIVE = 5
_FIGURE = "cpu_milliseconds_per_second"
_PROGRAMS = Path(__file__).with_name("programs")
_QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def run(seconds: float) -> Measured:
    """Keepalives every 5 s of each peer, so that a short run has enough of them; handshakes are over by then."""
    measured = Measured(f"{PEERS} peers with a session each that send a keepalive every {_KEEPALIVE} s, and no packet")
    with arena() as place:
        for name, made in (("wireguard", _wireguard), ("wire_tunnel", _wire_tunnel), ("wireguard_go", _wireguard_go)):
            keys = [tunneling.key_pair() for _ in range(PEERS)]
            own = tunneling.key_pair()
            try:
                with made(place, own[0], [public for _secret, public in keys]) as (pid, port, prefix):
                    alone = _kilobytes(pid, "Private_Dirty:")
                    with _idle(place, port, own[1], prefix, [secret for secret, _public in keys]):
                        grown = _kilobytes(pid, "Private_Dirty:") - alone
                        measured.results[name] = {**_watched(pid, seconds), "kilobytes_per_peer": grown / PEERS}
            except Absent as reason:
                measured.missing.append((name, str(reason)))
    measured.compare("vs_wireguard_go", "wireguard", "wireguard_go", _FIGURE, less_is_better=True)
    return measured


def _watched(pid: int, seconds: float) -> dict[str, float | list[float]]:
    before, begun = _nanoseconds(pid), time.monotonic()
    time.sleep(seconds)
    used, lasted = _nanoseconds(pid) - before, time.monotonic() - begun
    return {_FIGURE: used / 1e6 / lasted, "kilobytes": _kilobytes(pid, "Pss:")}


def _nanoseconds(pid: int) -> int:
    """CPU time of a process, all below it and all their threads (Documentation/scheduler/sched-stats.rst)."""
    total = 0
    for each in tunneling.family([pid]):
        for thread in Path(f"/proc/{each}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
    return total


def _kilobytes(pid: int, kind: str) -> float:
    """Memory of a process and all below it, by a line of smaps_rollup (proc(5)): pages shared with others in parts
    ("Pss:"), or what they have written for themselves alone ("Private_Dirty:").
    """
    total = 0
    for each in tunneling.family([pid]):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith(kind):
                total += int(line.split()[1])
    return float(total)


@contextmanager
def _idle(place: Arena, port: int, public: str, prefix: str, secrets: list[str]) -> Iterator[None]:
    command = [sys.executable, str(_PROGRAMS / "idle_peers.py"), place.server.address4, str(port), public, prefix]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with place.client.popen([*command, str(_KEEPALIVE)], text=True, **pipes) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n".join([*secrets, "", ""]))
            process.stdin.flush()
            if process.stdout.readline() != "up\n":
                raise Absent("not every peer got a session")
            yield
        finally:
            process.kill()


@contextmanager
def _ours(place: Arena, target: str) -> Iterator[int]:
    command = [sys.executable, str(_PROGRAMS / "host_tunnel.py"), target, "bidle0"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with place.server.popen(command, administrator=True, text=True, **pipes) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "up\n":
                raise Absent("the server did not start")
            yield process.pid
        finally:
            process.kill()


@contextmanager
def _wireguard(place: Arena, secret: str, peers: list[str]) -> Iterator[tuple[int, int, str]]:
    path = Path(place.folder, "idle.conf")
    path.write_text(f"[Interface]\nPrivateKey={secret}\nAddress=10.95.0.1/24\nListenPort=51831\n" + _peers(peers))
    with _ours(place, str(path)) as pid:
        yield pid, 51831, ""


@contextmanager
def _wire_tunnel(place: Arena, secret: str, peers: list[str]) -> Iterator[tuple[int, int, str]]:
    path = Path(place.folder, "idle.toml")
    members = "".join(
        f'[[peers]]\npublic_key = "{public}"\naddresses = ["10.96.0.{at + 2}/32"]\n' for at, public in enumerate(peers)
    )
    path.write_text(f'private_key = "{secret}"\naddresses = ["10.96.0.1/24"]\nlisten = 51832\n{members}')
    with _ours(place, f"wire-tunnel:{path}") as pid:
        yield pid, 51832, "ffffffff"


@contextmanager
def _wireguard_go(place: Arena, secret: str, peers: list[str]) -> Iterator[tuple[int, int, str]]:
    name = f"wg{os.urandom(4).hex()}"
    path = Path(place.folder, "idle-go.conf")
    path.write_text(f"[Interface]\nPrivateKey={secret}\nListenPort=51833\n" + _peers(peers))
    environment = {**os.environ, "WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"}
    with ExitStack() as stack:
        command = [program("wireguard-go"), "-f", name]
        process = place.server.popen(command, administrator=True, env=environment, **_QUIET)
        stack.callback(process.wait)
        stack.callback(process.kill)
        setup = f"wg setconf {name} {path} && ip link set {name} up"
        tunneling.until(lambda: place.server.run(["sh", "-c", setup], administrator=True).returncode == 0)
        yield process.pid, 51833, ""


def _peers(peers: list[str]) -> str:
    return "".join(f"[Peer]\nPublicKey={public}\nAllowedIPs=10.95.0.{at + 2}/32\n" for at, public in enumerate(peers))
