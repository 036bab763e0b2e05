"""A tunnel follows the best path: from one uplink to another and back, with less than a second of silence."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.support.peers import need
from tests.support.running import Runner, python
from tests.support.timing import best_of_several, within
from tests.support.tunnel_lab import INNER4, TunnelLab

from towpath.testing import Lab
from towpath.testing.plan import Dns, LabPlan, TcpEcho, UdpEcho

_STEADY = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], 9000)); s.settimeout(0.02)
print("up", flush=True)
end, last, longest = time.monotonic() + float(sys.argv[2]), time.monotonic(), 0.0
while time.monotonic() < end:
    try:
        s.send(b"x"); s.recv(10)
        now = time.monotonic(); longest = max(longest, now - last); last = now
    except OSError:
        pass
    time.sleep(0.01)
print(max(longest, time.monotonic() - last), flush=True)
"""


@pytest.mark.timeout(100)
@best_of_several
def test_an_uplink_that_goes_costs_less_than_a_second(tmp_path: Path) -> None:
    need("wireguard-go", "wg")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be opened by this user")
    plan = (
        LabPlan()
        .router("home")
        .router("mobile")
        .host("client", on=("home", "mobile"))
        .host("vpn", serves=[TcpEcho(port=7), UdpEcho(port=9000), Dns()])
    )
    with Lab(plan) as lab:
        tunnels = TunnelLab(lab, tmp_path)
        run = Runner(lab, "client", tmp_path)
        client = lab["client"]
        with tunnels.serving():
            with run.popen(
                "--tunnel", tunnels.file(), command=[*python(_STEADY), INNER4, "4"], stdout=subprocess.PIPE
            ) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "up\n"
                used = client.run(["ip", "route", "get", lab["vpn"].address4], administrator=True).stdout
                card = used.split(" dev ")[1].split()[0]
                client.run(["ip", "link", "set", card, "down"], administrator=True, check=True)
                silence = float(process.stdout.readline())
            after = client.run(["ip", "route", "get", lab["vpn"].address4], administrator=True).stdout
            assert f" dev {card} " not in after, "there is another way"
            within(1.0, silence)
