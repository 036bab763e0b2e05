"""Settings of a tunnel: valid or not made, and what they cover."""

from __future__ import annotations

import pytest

from towpath.errors import ConfigInvalid
from towpath.kernel.tunnel import make_plan
from towpath.providers import DisconnectCause, DnsSettings, ProxySettings, StopReason, TunnelFailed, TunnelSettings

OWN_DNS = DnsSettings(servers=("192.168.1.1",))


def settings(**more: object) -> TunnelSettings:
    given = {"remote": "vpn.test", "addresses": ("10.0.0.2/32", "fd00::2/128"), **more}
    return TunnelSettings(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"addresses": ()}, "addresses"),
        ({"addresses": ("10.0.0.300/32",)}, "addresses"),
        ({"included": ("10.0.0.1/8",)}, "included"),
        ({"excluded": ("x",)}, "excluded"),
        ({"mtu": 100}, "mtu"),
        ({"overhead": 1000}, "overhead"),
        ({"included": tuple(f"10.{n >> 8}.{n & 255}.0/24" for n in range(5000))}, "included"),
    ],
)
def test_what_cannot_be_is_not_made(more: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        settings(**more)
    assert caught.value.where == where


@pytest.mark.parametrize(
    ("more", "address", "refusal"),
    [
        ({"included": ("10.0.0.0/8",)}, "10.1.2.3", None),
        ({"included": ("10.0.0.0/8",)}, "11.1.2.3", "no route of the tunnel covers 11.1.2.3"),
        ({"included": ("0.0.0.0/0",), "excluded": ("10.0.0.0/8",)}, "10.1.2.3", "10.1.2.3 is excluded from the tunnel"),
        ({"included": ("0.0.0.0/0", "10.1.0.0/16"), "excluded": ("10.0.0.0/8",)}, "10.1.2.3", None),
        ({"include_all": True}, "192.0.2.1", None),
        ({"include_all": True, "exclude_local": True}, "192.168.1.1", "192.168.1.1 is excluded from the tunnel"),
        ({"include_all": True, "exclude_local": True, "dns": OWN_DNS}, "192.168.1.1", None),
        ({"include_all": True, "exclude_local": True, "dns": OWN_DNS}, "192.168.1.2", "192.168.1.2 is excluded"),
        ({"include_all": True}, "::ffff:192.0.2.1", None),
        ({"addresses": ("10.0.0.2/32",), "include_all": True}, "2001:db8::1", "the tunnel has no IPv6 address"),
    ],
)
def test_an_address_is_covered_or_it_is_said_why_not(
    more: dict[str, object], address: str, refusal: str | None
) -> None:
    found = settings(**more).refusal(address)
    assert found == refusal or (refusal is not None and found is not None and found.startswith(refusal))


@pytest.mark.parametrize(
    "routes", [("0.0.0.0/0",), ("0.0.0.0/1", "128.0.0.0/1"), ("0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/2")]
)
def test_halves_of_a_default_route_are_one(routes: tuple[str, ...]) -> None:
    assert settings(included=routes).takes_all(4)
    assert not settings(included=routes).takes_all(6)


def test_the_mtu_wins_over_the_overhead() -> None:
    assert settings(mtu=1300, overhead=60).link_mtu() == 1300
    assert settings(overhead=60).link_mtu(1500) == 1440
    assert settings().link_mtu(1300) == 1280


def test_a_plan_is_text_that_people_read() -> None:
    plan = make_plan(settings(included=("0.0.0.0/1", "128.0.0.0/1", "fd00::/64"), excluded=("10.9.0.0/16",), mtu=1400))
    assert plan.text().splitlines() == [
        "mtu 1400",
        "address 10.0.0.2/32",
        "address fd00::2/128",
        "route 0.0.0.0/0",
        "route fd00::/64",
        "around 10.9.0.0/16",
    ]
    assert make_plan(None).text() == "mtu 1420"


@pytest.mark.parametrize(
    ("more", "held"),
    [
        ({"included": ("10.0.0.0/8",)}, []),
        ({"included": ("10.0.0.0/8",), "enforce_routes": True}, ["held 10.0.0.0/8"]),
        ({"include_all": True}, ["held 0.0.0.0/0", "held ::/0"]),
        ({"include_all": True, "addresses": ("10.0.0.2/32",)}, ["held 0.0.0.0/0", "held ::/0"]),
    ],
)
def test_what_is_held_to_the_tunnel_is_its_routes_or_all_of_both_families(
    more: dict[str, object], held: list[str]
) -> None:
    assert [line for line in make_plan(settings(**more)).text().splitlines() if line.startswith("held")] == held


def test_names_go_to_the_tunnel_by_their_domains() -> None:
    assert DnsSettings(servers=("10.0.0.1",)).takes("anything.test")
    split = DnsSettings(servers=("10.0.0.1",), search=("lab.test",), match_domains=("corp.test",))
    assert split.takes("git.CORP.test")
    assert not split.takes("notcorp.test")
    assert split.search_domains == ("lab.test", "corp.test")
    assert DnsSettings(match_domains=("",)).takes("anything.test")


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"servers": ("dns.test",)}, "dns.servers"),
        ({"search": ("corp.test\nnameserver 192.0.2.66",)}, "dns.search"),
        ({"match_domains": ("corp..test",)}, "dns.match_domains"),
        ({"match_domains": (".corp.test",)}, "dns.match_domains"),
        ({"match_domains": ("a" * 64,)}, "dns.match_domains"),
    ],
)
def test_what_is_no_server_and_no_domain_is_not_made(more: dict[str, tuple[str, ...]], where: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        DnsSettings(**more)  # type: ignore[arg-type]
    assert caught.value.where == where


def test_proxies_are_told_by_the_environment() -> None:
    told = ProxySettings(http="http://proxy.test:3128", exceptions=("corp.test",)).environment()
    assert told == {"http_proxy": "http://proxy.test:3128", "no_proxy": "corp.test", "NO_PROXY": "corp.test"}


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"http": "proxy.test:3128"}, "proxy.http"),
        ({"https": "http://proxy.test:3128\nLD_PRELOAD=x"}, "proxy.https"),
        ({"pac": "javascript:alert(1)"}, "proxy.pac"),
        ({"exceptions": ("corp.test,*",)}, "proxy.exceptions"),
    ],
)
def test_what_is_no_proxy_is_not_made(more: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        ProxySettings(**more)  # type: ignore[arg-type]
    assert caught.value.where == where


def test_reasons_and_causes_are_those_of_the_reference() -> None:
    assert [cause.value for cause in DisconnectCause] == list(range(1, 20))
    assert sorted(StopReason) == list(range(18))
    assert str(TunnelFailed(DisconnectCause.OVERSLEPT)) == "overslept"


def test_what_a_host_leaves_out_is_cut_out_of_its_routes() -> None:
    from towpath.linux.host_tunnel import _without

    parts = _without(("0.0.0.0", 0), (("10.0.0.0", 8), ("fe80::", 10)))
    assert len(parts) == 8
    assert ("10.0.0.0", 8) not in parts
    assert ("11.0.0.0", 8) in parts
    assert _without(("10.1.0.0", 16), (("10.0.0.0", 8),)) == [("10.1.0.0", 16)], "the more specific one holds"
