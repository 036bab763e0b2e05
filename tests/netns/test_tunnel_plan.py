"""A tunnel's plan is brought about as a whole: replaced without a gap, or refused with the old one in force."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from towpath.errors import HostFault
from towpath.kernel.tunnel import NOTHING, TunnelPlan
from towpath.linux.tun import open_tun
from towpath.linux.tunnel_device import TunnelLink
from towpath.testing import Lab
from towpath.testing.plan import LabPlan

FIRST = TunnelPlan((("10.3.0.1", 24), ("fd03::1", 64)), (("10.4.0.0", 16), ("fd04::", 32)), (), 1400)
SECOND = TunnelPlan((("10.3.0.1", 24), ("10.5.0.1", 32)), (("10.4.0.0", 16), ("10.6.0.0", 16)), (), 1300)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be opened by this user")
    with Lab(LabPlan().host("one")) as lab:
        yield lab


def _shown() -> str:
    words = "ip -o addr show dev t0 scope global | awk '{print $4}'; ip route show dev t0; ip -6 route show dev t0; "
    words += "ip link show dev t0 | grep -o 'mtu [0-9]*'"
    return subprocess.run(["sh", "-c", words], capture_output=True, text=True, check=False).stdout


def _apply(*plans: TunnelPlan) -> list[tuple[str, str]]:
    """What the system shows after each plan, and what was refused."""
    device = open_tun("t0")
    link = TunnelLink(device.name)
    found = []
    for plan in plans:
        fault = ""
        try:
            link.apply(plan)
        except HostFault as refused:
            fault = str(refused)
        found.append((_shown(), fault))
    link.close()
    os.close(device.queue)
    return found


def test_a_plan_is_replaced_by_what_differs(lab: Lab) -> None:
    first, second, nothing = lab["one"].call(_apply, FIRST, SECOND, NOTHING)
    for words in ("10.3.0.1/24", "fd03::1/64", "10.4.0.0/16", "fd04::/32", "mtu 1400"):
        assert words in first[0]
    for words in ("10.3.0.1/24", "10.5.0.1/32", "10.4.0.0/16", "10.6.0.0/16", "mtu 1300"):
        assert words in second[0]
    assert "fd03::1" not in second[0]
    assert "10.4.0.0" not in nothing[0]
    assert "10.3.0.1" not in nothing[0]


def _beside_another() -> list[str]:
    """The routes to a network that another device has as well: with a tunnel's, and after it."""

    def shown() -> str:
        words = ["ip", "route", "show", "root", "10.60.0.0/16"]
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout

    subprocess.run(["ip", "route", "add", "10.60.0.0/16", "dev", "eth0"], check=True)
    found = [shown()]
    device = open_tun("t0")
    link = TunnelLink(device.name)
    link.apply(TunnelPlan((("10.60.0.9", 32),), (("10.60.0.0", 16),)))
    found.append(shown())
    link.apply(NOTHING)
    found.append(shown())
    link.apply(TunnelPlan((("10.60.0.9", 32),), (("10.60.0.0", 16),)))
    link.close()
    os.close(device.queue)
    found.append(shown())
    return found


def test_a_network_that_another_device_has_is_taken_by_its_halves_and_given_back(lab: Lab) -> None:
    before, during, after, ended = lab["one"].call(_beside_another)
    assert before == after == ended
    for route in ("10.60.0.0/17 dev t0", "10.60.128.0/17 dev t0", "10.60.0.0/16 dev eth0"):
        assert route in during


@pytest.mark.parametrize(
    "refused",
    [
        SECOND._replace(mtu=100_000),
        SECOND._replace(addresses=(*SECOND.addresses, ("10.7.0.1", 40))),
        SECOND._replace(routes=(*SECOND.routes, ("10.8.0.1", 16))),
    ],
    ids=["mtu", "address", "route"],
)
def test_a_plan_that_is_refused_leaves_the_old_one_in_force(lab: Lab, refused: TunnelPlan) -> None:
    before, after = lab["one"].call(_apply, FIRST, refused)
    assert after[1], "the kernel refuses it"
    assert after[0] == before[0]
