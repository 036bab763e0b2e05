"""Which flows a filter is asked about: rules in order, the first wins, loopback only by name."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import ConfigInvalid, Misuse
from towpath.providers import MOST_RULES, FilterSettings, NetworkRule


@pytest.mark.parametrize(
    ("rules", "ip", "port", "action"),
    [
        ([], "192.0.2.7", 1, "filter"),
        ([], "127.0.0.1", 1, "allow"),
        ([], "::1", 1, "allow"),
        ([NetworkRule("drop")], "192.0.2.7", 1, "drop"),
        ([NetworkRule("drop")], "127.0.0.1", 1, "allow"),
        ([NetworkRule("drop", "0.0.0.0/0")], "127.0.0.1", 1, "allow"),
        ([NetworkRule("drop", "0.0.0.0/1")], "127.0.0.1", 1, "allow"),
        ([NetworkRule("drop", "0.0.0.0/0")], "2001:db8::1", 1, "filter"),
        ([NetworkRule("drop", "::/0")], "2001:db8::1", 1, "drop"),
        ([NetworkRule("drop", "::/0")], "::1", 1, "allow"),
        ([NetworkRule("filter", "127.0.0.0/8")], "127.9.9.9", 1, "filter"),
        ([NetworkRule("drop", "::1")], "::1", 1, "drop"),
        ([NetworkRule("drop", "127.0.0.1")], "::ffff:127.0.0.1", 1, "drop"),
        ([NetworkRule("drop", "::ffff:192.0.2.0/120")], "192.0.2.7", 1, "drop"),
        ([NetworkRule("drop", "192.0.2.0/24")], "192.0.3.1", 1, "filter"),
        ([NetworkRule("drop", "192.0.2.7")], "192.0.2.7", 1, "drop"),
        ([NetworkRule("drop", port=53)], "192.0.2.7", 53, "drop"),
        ([NetworkRule("drop", port=53)], "192.0.2.7", 54, "filter"),
        ([NetworkRule("drop", transport="udp")], "192.0.2.7", 1, "filter"),
        ([NetworkRule("drop", transport="tcp")], "192.0.2.7", 1, "drop"),
        ([NetworkRule("drop", direction="inbound")], "192.0.2.7", 1, "filter"),
        ([NetworkRule("drop", direction="outbound")], "192.0.2.7", 1, "drop"),
        ([NetworkRule("allow", "192.0.2.7"), NetworkRule("drop")], "192.0.2.7", 1, "allow"),
        ([NetworkRule("drop"), NetworkRule("allow", "192.0.2.7")], "192.0.2.7", 1, "drop"),
    ],
)
def test_the_first_rule_that_matches_wins(rules: list[NetworkRule], ip: str, port: int, action: str) -> None:
    assert FilterSettings(tuple(rules)).decide("tcp", "outbound", ip, port) == action


def test_what_no_rule_matches_has_the_default() -> None:
    settings = FilterSettings((NetworkRule("filter", port=443),), "drop")
    assert [settings.decide("tcp", "outbound", "192.0.2.7", port) for port in (443, 80)] == ["filter", "drop"]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (NetworkRule("drop", "192.0.2.1/24"), "remote: 192.0.2.1/24 has host bits set"),
        (NetworkRule("drop", "news.test"), "remote: 'news.test' does not appear"),
        (NetworkRule("drop", port=65536), "port is 65536"),
        (NetworkRule("drop", port=-1), "port is -1"),
        (NetworkRule("deny"), "action is 'deny'"),  # type: ignore[arg-type]
        (NetworkRule("drop", transport="icmp"), "transport is 'icmp'"),  # type: ignore[arg-type]
        (NetworkRule("drop", direction="out"), "direction is 'out'"),  # type: ignore[arg-type]
    ],
)
def test_a_rule_that_cannot_be_used_is_named_by_its_index(rule: NetworkRule, reason: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        FilterSettings((NetworkRule("allow"), rule))
    assert caught.value.where == "rules[1]"
    assert caught.value.reason.startswith(reason)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("rules", "default", "reason"),
    [
        (0, "drop", "needs at least one rule"),
        (0, "allow", "needs at least one rule"),
        (MOST_RULES + 1, "filter", "1000 is the most"),
        (1, "deny", "default is one of allow, drop, filter"),
    ],
)
def test_settings_that_mean_nothing_are_misuse(rules: int, default: Any, reason: str) -> None:
    with pytest.raises(Misuse, match=reason):
        FilterSettings((NetworkRule("allow"),) * rules, default)


def test_an_address_is_an_address() -> None:
    with pytest.raises(Misuse, match="'news.test' is not an IP address"):
        FilterSettings().decide("tcp", "outbound", "news.test", 1)


_ADDRESSES = st.sampled_from(("192.0.2.7", "192.0.2.130", "10.0.0.1", "127.0.0.1", "::1", "2001:db8::1", "fe80::1"))
_PREFIXES = st.sampled_from(
    ("", "192.0.2.0/24", "192.0.2.128/25", "10.0.0.1", "0.0.0.0/0", "127.0.0.0/8", "::/0", "::1")
)
_ACTIONS = st.sampled_from(("allow", "drop", "filter"))
_RULES = st.builds(
    NetworkRule,
    _ACTIONS,
    _PREFIXES,
    st.sampled_from((0, 53, 443)),
    st.sampled_from(("any", "tcp", "udp")),
    st.sampled_from(("any", "outbound", "inbound")),
)


@given(
    st.lists(_RULES, max_size=8),
    st.sampled_from(("tcp", "udp")),
    st.sampled_from(("outbound", "inbound")),
    _ADDRESSES,
    st.sampled_from((53, 80, 443)),
)
def test_decisions_are_those_of_a_plain_reading_of_the_rules(
    rules: list[NetworkRule], transport: Any, direction: Any, ip: str, port: int
) -> None:
    address = ip_address(ip)
    loopback = address.is_loopback and direction == "outbound"
    expected = "allow" if loopback else "filter"
    for rule in reversed(rules):
        network = ip_network(rule.remote) if rule.remote else None
        if (
            (network is None or address in network)
            and (not loopback or (network is not None and network.is_loopback))
            and rule.port in (0, port)
            and rule.transport in ("any", transport)
            and rule.direction in ("any", direction)
        ):
            expected = rule.action
    assert FilterSettings(tuple(rules)).decide(transport, direction, ip, port) == expected
