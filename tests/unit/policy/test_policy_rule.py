"""The rule language: what is read, and what is said of what cannot be read."""

from __future__ import annotations

import pytest

from towpath.errors import ConfigInvalid
from towpath.policy.rule import SCHEMES, parse_rule, scheme_at


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port"),
    [
        ("good.test", None, "good.test", None),
        ("Good.TEST.", None, "good.test", None),
        ("good.test.:443", None, "good.test", 443),
        ("localhost:8080", None, "localhost", 8080),
        ("my_host.test:22", None, "my_host.test", 22),
        ("*.good.test:443", None, "*.good.test", 443),
        ("*", None, "*", None),
        ("*:443", None, "*", 443),
        ("tls://good.test", "tls", "good.test", None),
        ("TLS://good.test:8443", "tls", "good.test", 8443),
        ("icmp://*", "icmp", "*", None),
        ("udp://192.0.2.1:53", "udp", "192.0.2.1", 53),
        ("192.0.2.1", None, "192.0.2.1", None),
        ("10.0.0.0/8", None, "10.0.0.0/8", None),
        ("10.0.0.0/8:22", None, "10.0.0.0/8", 22),
        ("0.0.0.0/0", None, "0.0.0.0/0", None),
        ("192.0.2.1/32", None, "192.0.2.1", None),
        ("2001:DB8::1", None, "2001:db8::1", None),
        ("[2001:db8::1]", None, "2001:db8::1", None),
        ("[2001:db8::1]:443", None, "2001:db8::1", 443),
        ("2001:db8::/32", None, "2001:db8::/32", None),
        ("[2001:db8::]/32", None, "2001:db8::/32", None),
        ("[2001:db8::/32]:22", None, "2001:db8::/32", 22),
        ("quic://[::/0]:443", "quic", "::/0", 443),
        ("bücher.test:443", None, "xn--bcher-kva.test", 443),
        ("*.Bücher.test", None, "*.xn--bcher-kva.test", None),
        ("xn--bcher-kva.test", None, "xn--bcher-kva.test", None),
    ],
)
def test_a_rule_is_read(text: str, scheme: str | None, host: str, port: int | None) -> None:
    rule = parse_rule(text, "allow", "--allow")
    assert (rule.schemes, rule.host.text, rule.port) == (None if scheme is None else {scheme}, host, port)
    assert (rule.action, rule.text, rule.where) == ("allow", text, "--allow")


@pytest.mark.parametrize(
    ("text", "column", "says", "hint"),
    [
        ("", 1, "a host is missing", "[SCHEME://]HOST[:PORT]"),
        ("tls://", 7, "a host is missing", "example.test:443"),
        (":443", 1, "a host is missing", "* stands for any host"),
        ("https://x/", 1, "not 'https'", "tls://x for TLS only, or x:443 for TLS and QUIC"),
        ("https://x:8443/y", 1, "not 'https'", "tls://x:8443"),
        ("ws://x", 1, "not 'ws'", "http://x"),
        ("ping://x", 1, "not 'ping'", "icmp://x"),
        ("ftp://x", 1, "tls, quic, http, tcp, udp, icmp", None),
        ("x.test/path", 7, "only http rules have a path", "http://x.test/path"),
        ("x.test:443/path", 11, "only http rules have a path", "http://x.test:443/path"),
        ("tls://x.test/", 13, "only http rules have a path", "tls://x.test"),
        ("user@x.test", 5, "no user name", "before the @"),
        ("a.test b.test", 7, "no spaces", "one rule each"),
        ("a.test\n", 7, "no spaces", "one rule each"),
        ("x.test:0", 8, "0 is out of range", None),
        ("x.test:99999", 8, "99999 is out of range", None),
        ("x.test:https", 8, "a number from 1 to 65535, not 'https'", None),
        ("x.test:", 8, "not ''", None),
        ("x.test:*", 8, "a port is a number", "every port is meant: x.test"),
        ("x.test:٣", 8, "not '٣'", None),
        ("a.*.test", 3, "* stands alone or first", None),
        ("*.a.*.test", 5, "* stands alone or first", None),
        ("*a.test", 1, "* stands alone or first", None),
        ("a..test", 3, "no empty label", "two dots"),
        (".a.test", 1, "no empty label", "a dot at an end"),
        ("*.", 3, "no empty label", "a dot at an end"),
        ("a.-b.test", 3, "'-b' is no label", None),
        ("a.b!.test", 4, "'!' cannot stand", None),
        ("a." + "b" * 64, 3, "is no label", None),
        (".".join(["abcdefg"] * 33), 1, "at most 253 characters", None),
        ("1.2.3", 1, "'1.2.3' is not an IPv4 address", None),
        ("1.2.3.256:22", 1, "not an IPv4 address", None),
        ("0x7f.1", 1, "not an IPv4 address", None),
        ("*.1", 3, "neither a name nor an address", None),
        ("10.0.0.1/8", 1, "bits set behind the first 8", "10.0.0.0/8, or 10.0.0.1 for the one address"),
        ("10.0.0.0/33", 10, "from 0 to 32, not '33'", None),
        ("10.0.0.0/", 10, "not ''", None),
        ("10.0.0.0/8/9", 10, "not '8/9'", None),
        ("2001:db8::1/32", 1, "bits set behind the first 32", "2001:db8::/32"),
        ("2001:db8::/129", 12, "from 0 to 128", None),
        ("fe80::1%eth0", 8, "no zone", "fe80::1"),
        ("[fe80::1%eth0]:22", 9, "no zone", "fe80::1"),
        ("2001:db8::1:x", 1, "not an IPv6 address", "[2001:db8::1]:443"),
        ("[2001:db8::1", 1, "not closed", "[2001:db8::1]:443"),
        ("[2001:db8::1]x", 14, "a port was expected", None),
        ("[1.2.3.4]:22", 2, "not an IPv6 address", None),
        ("icmp://x.test:1", 14, "icmp has no ports", "icmp://x.test"),
        ("bü\u2024cher..test", 1, "internationalized name", None),
    ],
)
def test_a_mistake_is_shown_where_it_is_with_what_to_write(text: str, column: int, says: str, hint: str | None) -> None:
    with pytest.raises(ConfigInvalid) as raised:
        parse_rule(text, "allow", "--allow")
    assert raised.value.where == "--allow"
    assert f", column {column}: " in raised.value.reason
    assert says in raised.value.reason
    if hint is None:
        assert raised.value.hint is None or "IPv6" in raised.value.reason
    else:
        assert hint in (raised.value.hint or "")


FLOWS = [("tcp", 443), ("udp", 443), ("tcp", 80), ("udp", 80), ("tcp", 22), ("udp", 22), ("icmp", 0)]


@pytest.mark.parametrize(
    ("action", "text", "meant"),
    [
        ("allow", "x.test", ["tls", "quic", "http", "", "tcp", "", ""]),
        ("allow", "x.test:443", ["tls", "quic", "", "", "", "", ""]),
        ("allow", "x.test:80", ["", "", "http", "", "", "", ""]),
        ("allow", "x.test:22", ["", "", "", "", "tcp", "", ""]),
        ("allow", "tls://x.test", ["tls", "", "", "", "", "", ""]),
        ("allow", "tls://x.test:22", ["", "", "", "", "tls", "", ""]),
        ("allow", "quic://x.test", ["", "quic", "", "", "", "", ""]),
        ("allow", "http://x.test:443", ["http", "", "", "", "", "", ""]),
        ("allow", "tcp://x.test", ["tcp", "", "tcp", "", "tcp", "", ""]),
        ("allow", "udp://x.test", ["", "udp", "", "udp", "", "udp", ""]),
        ("allow", "icmp://x.test", ["", "", "", "", "", "", "icmp"]),
        ("deny", "x.test", ["tcp", "udp", "tcp", "udp", "tcp", "udp", "icmp"]),
        ("deny", "x.test:443", ["tcp", "udp", "", "", "", "", ""]),
        ("deny", "tls://x.test", ["tls", "", "", "", "", "", ""]),
    ],
)
def test_what_a_rule_is_about_at_a_port(action: str, text: str, meant: list[str]) -> None:
    rule = parse_rule(text, action, "--rule")
    assert [scheme_at(rule, *flow) for flow in FLOWS] == meant


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_can_be_written(scheme: str) -> None:
    assert parse_rule(f"{scheme}://*", "deny", "--deny").schemes == frozenset((scheme,))


@pytest.mark.parametrize(
    ("action", "text", "meaning"),
    [
        ("allow", "x.test", "tls and quic port 443, http port 80, every other tcp port, x.test"),
        ("allow", "x.test:443", "tls port 443 and quic port 443, x.test"),
        ("allow", "*.x.test:22", "tcp port 22, every name below x.test"),
        ("allow", "udp://*", "every udp port, any host"),
        ("allow", "icmp://10.0.0.0/8", "icmp, 10.0.0.0/8"),
        ("deny", "x.test", "everything, x.test"),
        ("deny", "x.test:53", "tcp port 53 and udp port 53, x.test"),
    ],
)
def test_a_rule_is_said_in_words(action: str, text: str, meaning: str) -> None:
    assert parse_rule(text, action, "--rule").meaning == meaning
