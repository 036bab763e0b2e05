"""The Lab that tests of `towpath run` share: nothing in it is changed for longer than a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.filters import Author
from tests.support.running import Runner
from tests.support.tunnel_lab import TunnelLab, tunnels_in

from towpath.testing import Lab
from towpath.testing.plan import Banner, Dns, Http, Https, LabPlan, TcpEcho, UdpEcho

PLAN = (
    LabPlan()
    .host("client")
    .host(
        "web",
        serves=[
            Http(names=("web.test", "www.web.test")),
            Https(names=("web.test", "www.web.test")),
            Http(port=8080, names=("web.test",)),
        ],
    )
    .host("tracker", serves=[Http(names=("tracker.test",)), Https(names=("tracker.test",))])
    .host(
        "services",
        serves=[
            Banner(names=("git.test",)),
            TcpEcho(port=7, names=("echo.test",)),
            UdpEcho(port=9000, names=("time.test",)),
        ],
    )
    .host("dns", serves=[Dns()])
    .record("internal.test", "A", "10.1.2.3")
    .record("rebind.test", "A", "127.0.0.1")
    .record("rebind.test", "A", "198.51.100.3")
    .record("metadata.test", "A", "169.254.169.254")
    .record("mapped.test", "AAAA", "::ffff:10.0.0.1")
    .record("alias.test", "CNAME", "web.test")
    .record("modern.test", "HTTPS", "1 . alpn=h2 ech=AEX+DQBBzQAgACA=")
)


@pytest.fixture(scope="module")
def world() -> Iterator[Lab]:
    """A Lab with a client, a web host, a tracker, plain services and a name server."""
    with Lab(PLAN) as lab:
        yield lab


@pytest.fixture
def run(world: Lab, tmp_path: Path) -> Runner:
    """`towpath run` on the Lab's client."""
    return Runner(world, "client", tmp_path)


@pytest.fixture
def author(tmp_path: Path) -> Author:
    """Writes extensions for the test."""
    return Author(tmp_path)


@pytest.fixture(scope="module")
def tunnels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TunnelLab]:
    """A Lab with a WireGuard server that runs."""
    with tunnels_in(tmp_path_factory.mktemp("tunnel")) as tunnels:
        yield tunnels
