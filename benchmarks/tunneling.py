"""Tunnels between the client and the server of an arena, each with addresses of its own, all up at once."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from benchmarks.peers import program
from benchmarks.rounds import Absent, Party
from benchmarks.world import Arena
from towpath.testing.lab_host import LabHost

__all__ = [
    "RATE", "Tunnel", "bulk", "family", "key_pair", "openvpn", "ping", "plain", "small", "until", "wire_tunnel",
    "wireguard", "wireguard_go",
]  # fmt: skip

RATE = "gigabits_per_second"
_PROGRAM = str(Path(__file__).with_name("programs") / "host_tunnel.py")
_QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
_PATIENCE = 20.0


class Tunnel:
    """The address of the server's end, and the processes that carry it."""

    def __init__(self, address: str, processes: list[int]) -> None:
        self.address = address
        self.processes = processes

    def cpu_seconds(self) -> float:
        """Of its processes and all below them, so far."""
        total = 0
        for pid in family(self.processes):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")


def family(roots: list[int]) -> set[int]:
    """These processes, and all below them."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = set(roots)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def bulk(place: Arena, tunnel: Tunnel, seconds: int, *words: str) -> Party:
    """One TCP stream by iperf3, and the CPU time of both ends for what arrived."""

    def work() -> Mapping[str, float]:
        before = tunnel.cpu_seconds()
        command = [program("iperf3"), "-c", tunnel.address, "-t", str(seconds), "-J", *words]
        text = place.run(command, seconds)
        try:
            end = json.loads(text)["end"]["sum_received"]
            rate, gigabytes = float(end["bits_per_second"]) / 1e9, float(end["bytes"]) / 1e9
        except (ValueError, KeyError) as error:
            raise Absent(f"iperf3 gave no rate: {text[-200:]}") from error
        cpu = {"cpu_seconds_per_gigabyte": (tunnel.cpu_seconds() - before) / gigabytes} if tunnel.processes else {}
        return {RATE: rate, **cpu}

    return work


def small(place: Arena, tunnel: Tunnel, seconds: int) -> Party:
    """Datagrams of 1200 bytes as fast as they go: how many of them arrive."""

    def work() -> Mapping[str, float]:
        command = [program("iperf3"), "-c", tunnel.address, "-u", "-b", "0", "-l", "1200", "-t", str(seconds), "-J"]
        text = place.run([*command, "--get-server-output"], seconds)
        # The server's words come as text within the JSON: from-to, then lost/total.
        found = re.findall(r"0\.00-([\d.]+)\s+sec .*?(\d+)/(\d+) \([\d.e-]+%\)\s+receiver", text)
        if not found:
            raise Absent(f"iperf3 gave no rate: {text[-200:]}")
        seconds_, lost, total = found[-1]
        return {"datagrams_per_second": (int(total) - int(lost)) / float(seconds_)}

    return work


def ping(place: Arena, tunnel: Tunnel, count: int) -> Party:
    """Round trips, one each 5 ms."""

    def work() -> Mapping[str, float]:
        text = place.run([program("ping"), "-c", str(count), "-i", "0.005", "-q", tunnel.address], count * 0.02 + 5)
        return {"median_microseconds": float(re.findall(r"= [\d.]+/([\d.]+)/", text)[0]) * 1000}

    def by_line() -> Mapping[str, float]:
        text = place.run([program("ping"), "-c", str(count), "-i", "0.005", tunnel.address], count * 0.02 + 5)
        each = sorted(float(one) for one in re.findall(r"time=([\d.]+)", text))
        return {"median_microseconds": each[len(each) // 2] * 1000} if each else work()

    return by_line


@contextmanager
def plain(place: Arena) -> Iterator[Tunnel]:
    yield Tunnel(place.server.address4, [])


def key_pair() -> tuple[str, str]:
    """A private key and its public one, in base64."""
    key = X25519PrivateKey.generate()
    secret, public = key.private_bytes_raw(), key.public_key().public_bytes_raw()
    return base64.b64encode(secret).decode(), base64.b64encode(public).decode()


@contextmanager
def _ours(place: Arena, server: str, client: str, address: str, device: str) -> Iterator[Tunnel]:
    with ExitStack() as stack:
        processes = []
        for host, target in ((place.server, server), (place.client, client)):
            command = [sys.executable, _PROGRAM, target, device]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            process = host.popen(command, administrator=True, text=True, **pipes)
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stderr is not None
            if process.stdout.readline() != "up\n":
                raise Absent(f"{target}: {process.stderr.read()[-300:]}")
            processes.append(process.pid)
        yield Tunnel(address, processes)


@contextmanager
def wireguard(place: Arena) -> Iterator[Tunnel]:
    """The extension, at both ends."""
    ours, theirs = key_pair(), key_pair()
    server, client = Path(place.folder, "bench-server.conf"), Path(place.folder, "bench-client.conf")
    server.write_text(
        f"[Interface]\nPrivateKey={theirs[0]}\nAddress=10.91.0.1/24\nListenPort=51821\n"
        f"[Peer]\nPublicKey={ours[1]}\nAllowedIPs=10.91.0.2/32\n"
    )
    client.write_text(
        f"[Interface]\nPrivateKey={ours[0]}\nAddress=10.91.0.2/24\n"
        f"[Peer]\nPublicKey={theirs[1]}\nAllowedIPs=10.91.0.1/32\nEndpoint={place.server.address4}:51821\n"
    )
    with _ours(place, str(server), str(client), "10.91.0.1", "bwg0") as tunnel:
        yield tunnel


@contextmanager
def wire_tunnel(place: Arena) -> Iterator[Tunnel]:
    """The reference protocol, at both ends."""
    ours, theirs = key_pair(), key_pair()
    server, client = Path(place.folder, "bench-server.toml"), Path(place.folder, "bench-client.toml")
    server.write_text(
        f'private_key = "{theirs[0]}"\naddresses = ["10.92.0.1/24"]\nlisten = 51822\n'
        f'[[peers]]\npublic_key = "{ours[1]}"\naddresses = ["10.92.0.2/32"]\n'
    )
    client.write_text(
        f'private_key = "{ours[0]}"\naddresses = ["10.92.0.2/24"]\n'
        f'[[peers]]\npublic_key = "{theirs[1]}"\naddresses = ["10.92.0.1/32"]\n'
        f'endpoint = "{place.server.address4}:51822"\n'
    )
    with _ours(place, f"wire-tunnel:{server}", f"wire-tunnel:{client}", "10.92.0.1", "bwt0") as tunnel:
        yield tunnel


@contextmanager
def wireguard_go(place: Arena) -> Iterator[Tunnel]:
    """Debian's, at both ends."""
    ours, theirs = key_pair(), key_pair()
    ends = (
        (place.server, theirs[0], ours[1], "10.93.0.1", "10.93.0.2/32", ""),
        (place.client, ours[0], theirs[1], "10.93.0.2", "10.93.0.1/32", f"Endpoint={place.server.address4}:51823\n"),
    )
    with ExitStack() as stack:
        processes = []
        for number, (host, secret, public, address, allowed, endpoint) in enumerate(ends):
            name = f"wg{os.urandom(4).hex()}"
            file = Path(place.folder, f"go{number}.conf")
            file.write_text(
                f"[Interface]\nPrivateKey={secret}\nListenPort=51823\n"
                f"[Peer]\nPublicKey={public}\nAllowedIPs={allowed}\n{endpoint}"
            )
            environment = {**os.environ, "WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"}
            command = [program("wireguard-go"), "-f", name]
            process = host.popen(command, administrator=True, env=environment, **_QUIET)
            stack.callback(process.wait)
            stack.callback(process.kill)
            setup = f"wg setconf {name} {file} && ip addr add {address}/24 dev {name} && ip link set {name} up mtu 1420"
            until(lambda host=host, setup=setup: host.run(["sh", "-c", setup], administrator=True).returncode == 0)  # type: ignore[misc]
            processes.append(process.pid)
        until(lambda: _answers(place.client, "10.93.0.1"))
        yield Tunnel("10.93.0.1", processes)


@contextmanager
def openvpn(place: Arena) -> Iterator[Tunnel]:
    """Debian's, over UDP with AES-256-GCM, without its kernel module."""
    prints = {}
    for name in ("server", "client"):
        path = Path(place.folder, f"vpn-{name}")
        subprocess.run(
            [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
            + ["-days", "2", "-subj", f"/CN={name}", "-keyout", f"{path}.key", "-out", f"{path}.pem"],
            check=True,
            capture_output=True,
        )
        shown = subprocess.run(
            [program("openssl"), "x509", "-in", f"{path}.pem", "-noout", "-fingerprint", "-sha256"],
            check=True,
            capture_output=True,
            text=True,
        )
        prints[name] = shown.stdout.strip().partition("=")[2]
    ends = (
        (place.server, "server", "client", ["--tls-server", "--dh", "none", "--lport", "1194"], "10.94.0.1 10.94.0.2"),
        (
            place.client,
            "client",
            "server",
            ["--tls-client", "--nobind", "--remote", place.server.address4, "1194"],
            "10.94.0.2 10.94.0.1",
        ),
    )
    with ExitStack() as stack:
        processes = []
        for host, name, other, words, addresses in ends:
            path = Path(place.folder, f"vpn-{name}")
            command = [program("openvpn"), "--dev", "tunvpn", "--dev-type", "tun", "--proto", "udp", "--disable-dco"]
            command += ["--cert", f"{path}.pem", "--key", f"{path}.key", "--peer-fingerprint", prints[other]]
            command += ["--ifconfig", *addresses.split(), "--data-ciphers", "AES-256-GCM", "--verb", "1", *words]
            process = host.popen(command, administrator=True, **_QUIET)
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process.pid)
        until(lambda: _answers(place.client, "10.94.0.1"))
        yield Tunnel("10.94.0.1", processes)


def _answers(host: LabHost, address: str) -> bool:
    return host.run([program("ping"), "-c", "1", "-W", "1", address]).returncode == 0


def until(condition: Callable[[], bool]) -> None:
    """Waits for it. Raises `Absent`."""
    end = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise Absent(f"not ready after {_PATIENCE:g} s")
        time.sleep(0.1)
