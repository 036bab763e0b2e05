"""Addresses nobody dials by accident, also in disguise, and names that everybody may resolve."""

from __future__ import annotations

import pytest

from towpath.policy.guard import is_public_name, local_kind, private_kind


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("febf::1", "link-local"),
        ("224.0.0.251", "multicast"),
        ("239.255.255.255", "multicast"),
        ("ff02::fb", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::127.0.0.1", "loopback"),
        ("::ffff:0:127.0.0.1", "loopback"),
        ("64:ff9b::127.0.0.1", "loopback"),
        ("64:ff9b::169.254.169.254", "link-local"),
        ("64:ff9b:1:7f00:0:100::", "loopback"),
        ("64:ff9b:1::127.0.0.1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("2002:a9fe:a9fe::1", "link-local"),
        ("2001:0:7f00:1::", "loopback"),
        ("2001::80ff:fffe", "loopback"),
        ("192.0.2.1", None),
        ("10.0.0.1", None),
        ("2001:db8::1", None),
        ("64:ff9b::192.0.2.1", None),
        ("64:ff9b:1::192.0.2.1", None),
        ("2002:c000:201::", None),
        ("128.0.0.1", None),
        ("fec0::1", None),
        ("not an address", None),
    ],
)
def test_local_addresses_are_known_in_every_form(address: str, kind: str | None) -> None:
    assert local_kind(address) == kind


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("172.32.0.1", None),
        ("192.168.0.1", "private"),
        ("100.64.0.1", "shared"),
        ("100.127.255.255", "shared"),
        ("100.128.0.1", None),
        ("fd00::1", "unique local"),
        ("fc00::1", "unique local"),
        ("fec0::1", "site-local"),
        ("::ffff:10.0.0.1", "private"),
        ("64:ff9b::10.0.0.1", "private"),
        ("2002:a00:1::", "private"),
        ("127.0.0.1", None),
        ("192.0.2.1", None),
        ("198.51.100.1", None),
        ("203.0.113.1", None),
        ("2001:db8::1", None),
    ],
)
def test_private_addresses_are_known_and_documentation_is_public(address: str, kind: str | None) -> None:
    assert private_kind(address) == kind


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("good.test", True),
        ("example.com", True),
        ("a.b.example", True),
        ("localhost", False),
        ("a.localhost", False),
        ("printer", False),
        ("", False),
        ("printer.local", False),
        ("db.internal", False),
        ("nas.lan", False),
        ("x.home", False),
        ("x.corp", False),
        ("x.private", False),
        ("x.intranet", False),
        ("router.home.arpa", False),
        ("home.arpa", False),
        ("1.0.0.127.in-addr.arpa", True),
        ("LOCAL.example.com", True),
    ],
)
def test_public_names_are_told_from_local_ones(name: str, public: bool) -> None:
    assert is_public_name(name) is public
