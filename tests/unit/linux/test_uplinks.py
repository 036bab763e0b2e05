"""Which of a host's routes the kernel's WireGuard is left for its own datagrams."""

from __future__ import annotations

import ipaddress

import pytest

from towpath.kernel.tunnel import TunnelPlan
from towpath.linux import host_tunnel, uplinks
from towpath.linux.host_tunnel import HostTunnelDevice

ROUTES = [
    ("0.0.0.0/0", "eth0", 100),
    ("0.0.0.0/1", "wg0", 0),
    ("192.168.1.0/24", "eth0", 100),
    ("192.168.1.0/28", "eth1", 0),
    ("::/0", "eth0", 100),
    ("2001:db8::/64", "eth0", 100),
]


@pytest.fixture(autouse=True)
def _routes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [
        uplinks._Route(net.version, int(net.network_address), net.prefixlen, metric, interface)
        for net, interface, metric in ((ipaddress.ip_network(text), name, metric) for text, name, metric in ROUTES)
    ]
    monkeypatch.setattr(uplinks, "_routes", lambda version: [one for one in made if one.version == version])
    monkeypatch.setattr(uplinks, "is_running", lambda name: name != "eth1")


@pytest.mark.parametrize(
    ("address", "around"),
    [
        ("198.51.100.7", ("198.51.100.7", 32)),
        ("192.168.1.9", ("192.168.1.0", 24)),
        ("2001:db8::7", ("2001:db8::", 64)),
        ("2001:db8:1::7", ("2001:db8:1::7", 128)),
    ],
)
def test_a_server_is_reached_by_a_route_of_its_network_or_by_the_default(address: str, around: tuple[str, int]) -> None:
    assert uplinks.network_around(address, "wg0") == around


@pytest.mark.parametrize(
    ("places", "routes", "holes"),
    [
        (("198.51.100.7",), (("0.0.0.0", 0), ("::", 0)), (("198.51.100.7", 32),)),
        (("192.168.1.9", "192.168.1.8"), (("0.0.0.0", 0),), (("192.168.1.0", 24),)),
        (("192.168.1.9",), (("192.168.1.0", 24),), (("192.168.1.9", 32),)),
        (("192.168.1.9",), (("10.0.0.0", 8),), (("192.168.1.0", 24),)),
        (("2001:db8::7",), (("0.0.0.0", 0), ("::", 0)), (("2001:db8::", 64),)),
        ((), (("0.0.0.0", 0),), ()),
    ],
)
def test_what_leads_to_the_servers_is_cut_out_of_the_tunnel_s_routes(
    places: tuple[str, ...], routes: tuple[tuple[str, int], ...], holes: tuple[tuple[str, int], ...]
) -> None:
    device = object.__new__(HostTunnelDevice)
    device.name, device._own_places = "wg0", list(places)
    assert device._holes(TunnelPlan(routes=routes)) == holes
    kept = [part for route in routes for part in host_tunnel._without(route, holes)]
    networks = [ipaddress.ip_network(f"{address}/{prefix}") for address, prefix in kept]
    for place in places:
        assert not any(ipaddress.ip_address(place) in network for network in networks)
