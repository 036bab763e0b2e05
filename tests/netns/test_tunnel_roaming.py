"""A tunnel follows the best path: from one uplink to another and back, with less than a second of silence."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.netns.test_host_tunnel import status, tunnel, wireguard_files
from tests.support.peers import need
from tests.support.running import Runner, python
from tests.support.timing import best_of_several, within
from tests.support.tunnel_lab import INNER4, TunnelLab, eventually

from towpath.testing import Lab, LabHost
from towpath.testing.plan import Dns, LabPlan, TcpEcho, UdpEcho

PLAN = (
    LabPlan()
    .router("home")
    .router("mobile")
    .host("client", on=("home", "mobile"))
    .host("vpn", serves=[TcpEcho(port=7), UdpEcho(port=9000), Dns()])
)
# Asks and is answered a hundred times a second; for each line of its input it says how long the longest silence was.
_STEADY = """
import select, socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], 9000)); s.settimeout(0.02)
longest, last, answered = 0.0, time.monotonic(), 0
while True:
    try:
        s.send(b"x"); s.recv(10)
        now = time.monotonic(); longest = max(longest, now - last); last = now; answered += 1
        if answered == 1:
            print("up", flush=True)
    except OSError:
        pass
    if select.select([sys.stdin], [], [], 0.01)[0]:
        if not sys.stdin.readline():
            break
        print(max(longest, time.monotonic() - last), answered, flush=True)
        longest, answered = 0.0, 1
"""


class Steady:
    """Traffic that goes on."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"

    def silence(self) -> tuple[float, int]:
        """The longest since the last time, and how often there was an answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        seconds, answered = self._process.stdout.readline().split()
        return float(seconds), int(answered)

    def settled(self) -> float:
        """The longest silence until it goes on again."""
        longest, answered = self.silence()
        while answered < 20:
            more, now = self.silence()
            longest, answered = max(longest, more), answered + now - 1
        return longest


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be opened by this user")
    with Lab(PLAN) as lab:
        yield lab


def used(client: LabHost, there: str) -> str:
    """The card by which the client sends now."""
    shown = client.run(["ip", "route", "get", there], administrator=True).stdout
    return str(shown.split(" dev ")[1].split()[0])


@contextmanager
def without(client: LabHost, card: str) -> Iterator[None]:
    """An uplink is switched off, and its routes with it; afterwards it is as it was."""
    routes = client.run(["ip", "route", "show", "dev", card], administrator=True).stdout.splitlines()
    client.run(["ip", "link", "set", card, "down"], administrator=True, check=True)
    try:
        yield
    finally:
        client.run(["ip", "link", "set", card, "up"], administrator=True, check=True)
        # What leads to the gateway comes before what leads by it.
        for route in sorted(routes, key=lambda line: " via " in line):
            words = f"ip route add {route.replace(' linkdown', '')} dev {card}"
            client.run(["sh", "-c", words], administrator=True)


@best_of_several
def test_there_and_back_each_cost_less_than_a_second(lab: Lab, tmp_path: Path) -> None:
    need("wireguard-go", "wg")
    tunnels = TunnelLab(lab, tmp_path)
    run, client, vpn = Runner(lab, "client", tmp_path), lab["client"], lab["vpn"].address4
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        tunnels.serving(),
        run.popen("--tunnel", tunnels.file(), command=[*python(_STEADY), INNER4], **pipes) as process,
    ):
        steady = Steady(process)
        first = used(client, vpn)
        with without(client, first):
            away = steady.settled()
            second = used(client, vpn)
            assert second != first, "there is another way"
        eventually(lambda: used(client, vpn) == first)
        with without(client, second):
            back = steady.settled()
            assert used(client, vpn) == first
        process.kill()
    within(1.0, away)
    within(1.0, back)


@best_of_several
def test_a_cable_that_is_pulled_while_its_route_stays_is_no_way_any_more(lab: Lab, tmp_path: Path) -> None:
    """The kernel goes on sending by a route whose link has no carrier, until somebody takes the route away."""
    need("wireguard-go", "wg")
    tunnels = TunnelLab(lab, tmp_path)
    run, client, vpn = Runner(lab, "client", tmp_path), lab["client"], lab["vpn"].address4
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    first = used(client, vpn)
    card = next(one for one in lab.layout.cards("client") if one.device == first)
    with (
        tunnels.serving(),
        run.popen("--tunnel", tunnels.file(), command=[*python(_STEADY), INNER4], **pipes) as process,
    ):
        steady = Steady(process)
        lab.world.set_card("client", card.device, up=False)
        try:
            silence = steady.settled()
            assert used(client, vpn) == first, "the kernel has not noticed"
        finally:
            lab.world.set_card("client", card.device, up=True)
        process.kill()
    within(1.0, silence)


def test_a_server_follows_a_client_that_has_another_address(lab: Lab, tmp_path: Path) -> None:
    there, here, _ours, _theirs = wireguard_files(tmp_path, lab["vpn"])
    client, vpn = lab["client"], lab["vpn"].address4
    addresses = {card.device: str(card.address4.ip) for card in lab.layout.cards("client")}
    with tunnel(lab["vpn"], there, "wg0") as server, tunnel(client, here, "wg0"):

        def peer() -> dict[str, Any]:
            client.run(["ping", "-c", "1", "-W", "1", "10.80.0.1"])
            return dict(status(server)["peers"][0])  # type: ignore[index]

        first = used(client, vpn)
        assert peer()["endpoint"].rpartition(":")[0] == addresses[first]
        with without(client, first):
            eventually(lambda: peer()["endpoint"].rpartition(":")[0] != addresses[first])
            assert peer()["handshakes"] == 1, "in the same session"
