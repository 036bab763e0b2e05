"""Whom to ask for which name beside a tunnel, and by which network."""

from __future__ import annotations

import pytest

from towpath.dns_proxy.groups import Group, Groups
from towpath.hosting.tunnel_names import plan_names
from towpath.providers import DnsSettings, TunnelSettings

OWN = "10.1.0.53"
SPLIT = DnsSettings(servers=(OWN,), match_domains=("corp.test",))
EVERYWHERE = ("0.0.0.0/0",)


def settings(dns: DnsSettings | None, *included: str, **more: object) -> TunnelSettings:
    given = {"remote": "vpn.test", "addresses": ("10.1.0.2/32",), "included": included, "dns": dns, **more}
    return TunnelSettings(**given)  # type: ignore[arg-type]


def asked(found: Group | None) -> list[str]:
    return [str(upstream) for upstream in found.upstreams] if found else []


@pytest.mark.parametrize(
    ("given", "system", "inside", "outside", "by_host"),
    [
        # All names are the tunnel's.
        (settings(DnsSettings(servers=(OWN,)), *EVERYWHERE), ["192.0.2.53"], [OWN], [OWN], []),
        (settings(DnsSettings(servers=(OWN,), match_domains=("",)), "10.1.0.0/16"), ["192.0.2.53"], [OWN], [OWN], []),
        # Some are; a tunnel for some networks leaves the others to the host.
        (settings(SPLIT, "10.1.0.0/16"), ["192.0.2.53"], [OWN], ["192.0.2.53"], ["192.0.2.53"]),
        (settings(SPLIT, "10.1.0.0/16"), ["127.0.0.1"], [OWN], ["127.0.0.1"], ["127.0.0.1"]),
        (settings(SPLIT, "10.1.0.0/16"), ["10.1.0.99"], [OWN], ["10.1.0.99"], []),
        # A tunnel to everywhere carries the others' questions too, and never the host.
        (settings(SPLIT, *EVERYWHERE), ["192.0.2.53"], [OWN], ["192.0.2.53"], []),
        (settings(SPLIT, "0.0.0.0/1", "128.0.0.0/1"), ["127.0.0.1"], [OWN], [OWN], []),
        (settings(SPLIT, include_all=True), ["192.168.1.1"], [OWN], [OWN], []),
        (settings(SPLIT, exclude_local=True, include_all=True), ["192.168.1.1", "1.1.1.1"], [OWN], ["1.1.1.1"], []),
        (settings(SPLIT, include_all=True), ["2001:db8::53"], [OWN], [OWN], []),
        # Nobody is named: the host's are, where the tunnel leads to them and not to a namesake.
        (settings(None, *EVERYWHERE), ["192.0.2.53"], ["192.0.2.53"], ["192.0.2.53"], []),
        (settings(None, *EVERYWHERE), ["192.168.1.1"], [], [], []),
        (settings(None, "0.0.0.0/0", "192.168.1.0/24"), ["192.168.1.1"], ["192.168.1.1"], ["192.168.1.1"], []),
        (settings(None, *EVERYWHERE), ["127.0.0.1"], [], [], []),
        (settings(None, "::/0"), ["fe80::1%eth0"], [], [], []),
        (None, ["192.0.2.53"], [], [], []),
    ],
)  # fmt: skip
def test_each_name_has_its_servers_and_they_their_network(
    given: TunnelSettings | None, system: list[str], inside: list[str], outside: list[str], by_host: list[str]
) -> None:
    plan = plan_names(given, system)
    groups = Groups([*plan.domains, plan.rest])
    assert asked(groups.of("git.corp.test")) == inside
    assert asked(groups.of("web.test")) == outside
    assert sorted(plan.by_host) == by_host
    assert bool(plan.warning) is (not outside and given is not None)


def test_servers_that_the_tunnel_does_not_lead_to_are_told() -> None:
    beyond = DnsSettings(servers=("192.0.2.53", "2001:db8::53"))
    assert "(192.0.2.53, 2001:db8::53)" in plan_names(settings(beyond, "10.1.0.0/16"), ["127.0.0.1"]).warning
    assert plan_names(settings(beyond, "10.1.0.0/16", "192.0.2.0/24"), ["127.0.0.1"]).warning == ""


def test_the_most_specific_domain_wins_and_a_proxy_s_own_before_the_tunnel_s() -> None:
    plan = plan_names(settings(SPLIT, "10.1.0.0/16"), ["192.0.2.53"])
    proxy = Group(plan.rest.upstreams, ("corp.test",)), Group(plan.rest.upstreams, ("lab.corp.test",))
    assert asked(Groups([proxy[1], *plan.domains, plan.rest]).of("a.lab.corp.test")) == ["192.0.2.53"]
    assert asked(Groups([proxy[1], *plan.domains, plan.rest]).of("a.corp.test")) == [OWN]
    assert asked(Groups([proxy[0], *plan.domains, plan.rest]).of("a.corp.test")) == ["192.0.2.53"]
