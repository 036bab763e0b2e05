"""RFC 6724: the examples of section 10.2, and this machine's own sources."""

from __future__ import annotations

import pytest

from towpath.connection.preference import by_preference, in_order, source_for


@pytest.mark.parametrize(
    ("destinations", "sources", "rule"),
    [
        (["2001:db8:1::1", "198.51.100.121"], ["2001:db8:1::2", "169.254.13.78"], "2"),
        (["198.51.100.121", "2001:db8:1::1"], ["198.51.100.117", "fe80::1"], "2"),
        (["2001:db8:1::1", "10.1.2.3"], ["2001:db8:1::2", "10.1.2.4"], "6"),
        (["fe80::1", "2001:db8:1::1"], ["fe80::2", "2001:db8:1::2"], "8"),
        (["2001:db8:1::1", "2001:db8:3ffe::1"], ["2001:db8:1::2", "2001:db8:3f44::2"], "9"),
        (["2002:c633:6401::1", "2001:db8:1::1"], ["2002:c633:6401::2", "2002:c633:6401::2"], "5"),
        (["2001:db8:1::1", "2002:c633:6401::1"], ["2001:db8:1::2", "2002:c633:6401::2"], "6"),
        (["198.51.100.1", "2001:db8::1"], ["198.51.100.9", None], "1"),
        (["198.51.100.1", "203.0.113.1"], ["198.51.100.9", "198.51.100.9"], "10"),
    ],
)
def test_destinations_are_ordered_by_the_rules(destinations: list[str], sources: list[str | None], rule: str) -> None:
    table = dict(zip(destinations, sources, strict=True))
    for given in (destinations, destinations[::-1]):
        if rule == "10":
            given = destinations
        found = by_preference(given, table.get)
        assert [entry.address for entry in found] == destinations
        assert found[0].rule.startswith(f"rule {rule}:")
        assert found[-1].rule == ""


def test_sources_are_the_ones_the_kernel_would_take() -> None:
    assert source_for("127.0.0.1") == "127.0.0.1"
    assert source_for("fe80::1%no-such-card") is None
    assert in_order(["127.0.0.1", "127.0.0.1"]) == ["127.0.0.1"]
