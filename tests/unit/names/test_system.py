"""resolv.conf and hosts as the C library reads them, and names that are not asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from towpath.errors import Misuse
from towpath.names.client import QuerySettings, Server
from towpath.names.special import is_local, known_answer, normal
from towpath.names.system import SystemFiles, parse_hosts, parse_resolver_configuration


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("", ["127.0.0.1"]),
        ("nameserver 192.0.2.1\nnameserver 2001:DB8::1", ["192.0.2.1", "2001:db8::1"]),
        ("nameserver fe80::1%eth0", ["fe80::1%eth0"]),
        ("nameserver 192.0.2.1 # ours\n; nameserver 192.0.2.2\n#nameserver 192.0.2.3", ["192.0.2.1"]),
        ("nameserver dns.test\nnameserver 192.0.2.1%eth0\nnameserver", ["127.0.0.1"]),
        ("".join(f"nameserver 192.0.2.{at}\n" for at in range(1, 6)), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
    ],
)
def test_name_servers(text: str, servers: list[str]) -> None:
    assert parse_resolver_configuration(text).servers == tuple(Server(address) for address in servers)


@pytest.mark.parametrize(
    ("text", "search"),
    [
        ("search a.test B.Test.", ("a.test", "b.test")),
        ("domain a.test\nsearch b.test c.test", ("b.test", "c.test")),
        ("search a.test\ndomain b.test", ("b.test",)),
        ("search .", ()),
    ],
)
def test_search_domains(text: str, search: tuple[str, ...]) -> None:
    assert parse_resolver_configuration(text).search == search


def test_options() -> None:
    found = parse_resolver_configuration("options ndots:2 timeout:1 attempts:3 rotate edns0 trust-ad\noptions what")
    assert (found.ndots, found.rotate) == (2, True)
    assert found.query == QuerySettings(timeout=1.0, attempts=3, trust_ad=True)
    beyond = parse_resolver_configuration("options ndots:99 timeout:0 attempts:99 timeout:x ndots:-1")
    assert (beyond.ndots, beyond.query.timeout, beyond.query.attempts) == (15, 1.0, 5)
    assert not parse_resolver_configuration("options no-edns0").query.edns


def test_hosts_have_aliases_and_several_addresses() -> None:
    found = parse_hosts("192.0.2.1 WWW.a.test. www # b\n2001:DB8::1 www\n\n192.0.2.1 www\nnonsense x\n192.0.2.9\n")
    assert found.addresses == {"www.a.test": ("192.0.2.1",), "www": ("192.0.2.1", "2001:db8::1")}


def test_files_are_read_again_when_they_are_others(tmp_path: Path) -> None:
    resolver, hosts = tmp_path / "resolv.conf", tmp_path / "hosts"
    files = SystemFiles(resolver, hosts)
    assert files.configuration.servers == (Server("127.0.0.1"),)
    resolver.write_text("nameserver 192.0.2.1\n")
    hosts.write_text("192.0.2.7 one\n")
    assert files.configuration.servers == (Server("192.0.2.1"),)
    assert files.hosts.addresses["one"] == ("192.0.2.7",)
    replacement = tmp_path / "new"
    replacement.write_text("nameserver 192.0.2.2\n")
    os.replace(replacement, resolver)
    assert files.configuration.servers == (Server("192.0.2.2"),)
    resolver.unlink()
    assert files.configuration.servers == (Server("127.0.0.1"),)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("WWW.Good.Test.", "www.good.test"), ("bücher.test", "xn--bcher-kva.test"), ("_443._https.x", "_443._https.x")],
)
def test_names_as_they_go_onto_the_wire(name: str, expected: str) -> None:
    assert normal(name) == expected


@pytest.mark.parametrize("name", ["a..b", "fe80::1%eth0", "x" * 64, "\u2028.test", ".".join(["x" * 60] * 5)])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(Misuse):
        normal(name)


@pytest.mark.parametrize(
    ("name", "kind", "status", "addresses"),
    [
        ("localhost", "A", "found", ["127.0.0.1"]),
        ("deep.localhost", "AAAA", "found", ["::1"]),
        ("localhost", "HTTPS", "empty", []),
        ("nothing.invalid", "A", "unknown", []),
        ("hidden.onion", "AAAA", "unknown", []),
        ("192.0.2.1", "A", "found", ["192.0.2.1"]),
        ("192.0.2.1", "AAAA", "empty", []),
        ("2001:db8::1", "AAAA", "found", ["2001:db8::1"]),
    ],
)
def test_names_that_need_no_asking(name: str, kind: str, status: str, addresses: list[str]) -> None:
    answer = known_answer(name, kind)
    assert answer is not None
    assert (answer.status, [found.address for found in answer.addresses]) == (status, addresses)


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("printer.local", True),
        ("local", False),
        ("notlocal", False),
        ("local.test", False),
        ("1.2.254.169.in-addr.arpa", True),
        ("1.8.e.f.ip6.arpa", True),
        ("1.c.e.f.ip6.arpa", False),
    ],
)
def test_names_of_the_link(name: str, local: bool) -> None:
    assert is_local(name) is local
