"""Decisions: what passes, what is looked at, what is refused, and what is said about it."""

from __future__ import annotations

import pytest

from towpath.policy.policy import Policy

A = "192.0.2.1"


def policy(allow: str = "", deny: str = "") -> Policy:
    return Policy.load(allow.split(), deny.split(), [])


@pytest.mark.parametrize(
    ("allow", "deny", "name", "verdict"),
    [
        ("", "", "any.test", "allow"),
        ("good.test", "", "good.test", "allow"),
        ("good.test:22", "", "good.test", "allow"),
        ("udp://good.test:53", "", "good.test", "allow"),
        ("good.test", "", "a.good.test", "deny"),
        ("*.good.test", "", "a.b.good.test", "allow"),
        ("*.good.test", "", "good.test", "deny"),
        ("*.good.test", "", "notgood.test", "deny"),
        ("*", "", "any.test", "allow"),
        ("10.0.0.0/8", "", "any.test", "deny"),
        ("", "bad.test", "bad.test", "deny"),
        ("", "bad.test", "any.test", "allow"),
        ("", "bad.test:443", "bad.test", "allow"),
        ("", "tls://bad.test", "bad.test", "allow"),
        ("*.test", "bad.test", "bad.test", "deny"),
        ("bad.test", "*.test", "bad.test", "deny"),
        ("*", "*.bad.test", "a.bad.test", "deny"),
        ("", "*", "any.test", "deny"),
        ("", "10.0.0.0/8", "any.test", "allow"),
        ("*", "", "", "allow"),
        ("good.test", "", "", "deny"),
    ],
)
def test_a_dns_question_needs_a_rule_for_its_name(allow: str, deny: str, name: str, verdict: str) -> None:
    assert policy(allow, deny).decide_name(name).verdict == verdict


@pytest.mark.parametrize(
    ("allow", "deny", "flow", "verdict", "evidence"),
    [
        ("", "", ("tcp", A, 22, []), "allow", ""),
        # Names at ports where the bytes say nothing stand on DNS.
        ("good.test:22", "", ("tcp", A, 22, ["good.test"]), "allow", "name: dns only"),
        ("good.test:22", "", ("tcp", A, 22, ["other.test", "good.test"]), "allow", "name: dns only"),
        ("good.test:22", "", ("tcp", A, 22, ["other.test"]), "deny", ""),
        ("good.test:22", "", ("tcp", A, 22, []), "deny", ""),
        ("good.test:22", "", ("udp", A, 22, ["good.test"]), "deny", ""),
        ("good.test:22", "", ("tcp", A, 23, ["good.test"]), "deny", ""),
        ("udp://good.test:53", "", ("udp", A, 53, ["good.test"]), "allow", "name: dns only"),
        ("icmp://good.test", "", ("icmp", A, 0, ["good.test"]), "allow", "name: dns only"),
        ("good.test", "", ("icmp", A, 0, ["good.test"]), "deny", ""),
        ("tcp://good.test", "", ("tcp", A, 443, ["good.test"]), "allow", "name: dns only"),
        # Names at ports where the bytes say one are looked at.
        ("good.test", "", ("tcp", A, 443, ["good.test"]), "look", ""),
        ("good.test", "", ("udp", A, 443, ["good.test"]), "look", ""),
        ("good.test", "", ("tcp", A, 80, ["good.test"]), "look", ""),
        ("good.test", "", ("tcp", A, 22, ["good.test"]), "allow", "name: dns only"),
        ("good.test", "", ("udp", A, 80, ["good.test"]), "deny", ""),
        ("tls://good.test:22", "", ("tcp", A, 22, ["good.test"]), "look", ""),
        ("good.test:443", "", ("tcp", A, 443, []), "deny", ""),
        # Addresses need no name.
        ("192.0.2.0/24:22", "", ("tcp", A, 22, []), "allow", "address"),
        ("192.0.2.0/24:22", "", ("tcp", "192.0.3.1", 22, []), "deny", ""),
        ("192.0.2.1", "", ("tcp", A, 443, []), "look", ""),
        ("10.0.0.1:22", "", ("tcp", "::ffff:10.0.0.1", 22, []), "allow", "address"),
        ("10.0.0.1:22", "", ("tcp", "64:ff9b::10.0.0.1", 22, []), "deny", ""),
        ("[2001:db8::/32]:22", "", ("tcp", "2001:db8::7", 22, []), "allow", "address"),
        ("*:22", "", ("tcp", A, 22, []), "allow", ""),
        ("*", "", ("tcp", A, 443, []), "look", ""),
        # Denials.
        ("", "10.0.0.0/8", ("tcp", "10.1.1.1", 22, []), "deny", "address"),
        ("", "10.0.0.0/8", ("icmp", "10.1.1.1", 0, []), "deny", "address"),
        ("", "10.0.0.0/8:22", ("icmp", "10.1.1.1", 0, []), "allow", ""),
        ("", "10.0.0.0/8", ("tcp", "64:ff9b::10.1.1.1", 22, []), "deny", "address"),
        ("*", "10.0.0.0/8", ("tcp", "2002:a01:101::1", 22, []), "deny", "address"),
        ("", "bad.test", ("tcp", A, 22, ["bad.test"]), "deny", "name: dns only"),
        ("", "bad.test", ("tcp", A, 22, []), "allow", ""),
        ("", "bad.test", ("tcp", A, 443, []), "look", ""),
        ("", "bad.test", ("tcp", A, 443, ["good.test"]), "look", ""),
        ("", "bad.test", ("tcp", A, 443, ["good.test", "bad.test"]), "look", ""),
        ("", "bad.test", ("tcp", A, 443, ["bad.test"]), "deny", "name: dns only"),
        ("", "bad.test", ("udp", A, 443, []), "look", ""),
        ("", "bad.test", ("udp", A, 80, []), "allow", ""),
        ("", "bad.test:8080", ("tcp", A, 8080, []), "allow", ""),
        ("", "bad.test:8080", ("tcp", A, 443, []), "allow", ""),
        ("", "tls://bad.test:8443", ("tcp", A, 8443, []), "look", ""),
        ("", "tls://bad.test:8443", ("tcp", A, 443, []), "allow", ""),
        ("", "tcp://bad.test", ("tcp", A, 443, []), "allow", ""),
        ("good.test:22", "bad.test", ("tcp", A, 443, []), "deny", ""),
        ("*:443", "bad.test", ("tcp", A, 443, []), "look", ""),
        ("*.test:22", "bad.test", ("tcp", A, 22, ["bad.test"]), "deny", "name: dns only"),
    ],
)
def test_a_flow_is_decided_before_any_byte_when_that_is_possible(
    allow: str, deny: str, flow: tuple[str, str, int, list[str]], verdict: str, evidence: str
) -> None:
    decision = policy(allow, deny).decide_flow(*flow)
    assert (decision.verdict, decision.evidence) == (verdict, evidence)


@pytest.mark.parametrize(
    ("allow", "deny", "transport", "port", "names", "scheme", "name", "verdict", "evidence"),
    [
        ("", "", "tcp", 443, [], "other", None, "allow", ""),
        ("good.test", "", "tcp", 443, ["good.test"], "tls", "good.test", "allow", "sni"),
        ("good.test", "", "udp", 443, ["good.test"], "quic", "good.test", "allow", "quic sni"),
        ("good.test", "", "tcp", 80, ["good.test"], "http", "good.test", "allow", "host"),
        ("good.test", "", "tcp", 443, ["good.test"], "tls", "evil.test", "deny", ""),
        ("good.test", "", "tcp", 443, ["good.test"], "tls", None, "deny", ""),
        ("good.test", "", "tcp", 443, ["good.test"], "http", "good.test", "deny", ""),
        ("good.test", "", "tcp", 443, ["good.test"], "other", None, "deny", ""),
        ("good.test", "", "tcp", 443, ["evil.test"], "tls", "good.test", "deny", ""),
        ("good.test", "", "tcp", 443, [], "tls", "good.test", "deny", ""),
        ("*.good.test", "", "tcp", 443, ["a.good.test"], "tls", "b.good.test", "allow", "sni"),
        ("good.test tcp://good.test:443", "", "tcp", 443, ["good.test"], "other", None, "allow", "name: dns only"),
        ("192.0.2.1", "", "tcp", 443, [], "tls", "any.test", "allow", "address"),
        ("192.0.2.1", "", "tcp", 443, [], "tls", None, "allow", "address"),
        ("192.0.2.1", "", "tcp", 443, [], "other", None, "deny", ""),
        ("*", "", "tcp", 443, [], "tls", "any.test", "allow", ""),
        ("*", "", "tcp", 443, [], "other", None, "deny", ""),
        ("", "bad.test", "tcp", 443, [], "tls", "bad.test", "deny", "sni"),
        ("", "bad.test", "tcp", 80, [], "http", "bad.test", "deny", "host"),
        ("", "bad.test", "udp", 443, [], "quic", "bad.test", "deny", "quic sni"),
        ("", "bad.test", "tcp", 443, [], "tls", "good.test", "allow", ""),
        ("", "bad.test", "tcp", 443, ["good.test", "bad.test"], "tls", "good.test", "allow", ""),
        ("", "bad.test", "tcp", 443, ["good.test", "bad.test"], "tls", None, "deny", "name: dns only"),
        ("", "bad.test", "tcp", 443, ["good.test", "bad.test"], "other", None, "deny", "name: dns only"),
        ("", "tls://bad.test", "tcp", 443, [], "tls", "bad.test", "deny", "sni"),
        ("", "tls://bad.test", "tcp", 443, [], "http", "bad.test", "allow", ""),
        ("", "tls://bad.test", "tcp", 443, ["bad.test"], "tls", None, "deny", "name: dns only"),
        ("", "tls://10.0.0.0/8", "tcp", 443, [], "tls", None, "allow", ""),
        ("*.test", "bad.test", "tcp", 443, ["bad.test"], "tls", "bad.test", "deny", "sni"),
        ("*.test", "bad.test", "tcp", 443, ["good.test"], "tls", "good.test", "allow", "sni"),
    ],
)
def test_a_flow_is_decided_by_what_its_bytes_ask_for(
    allow: str, deny: str, transport: str, port: int, names: list[str], scheme: str, name: str | None,
    verdict: str, evidence: str,
) -> None:  # fmt: skip
    decision = policy(allow, deny).decide_seen(transport, A, port, names, scheme, name)
    assert (decision.verdict, decision.evidence) == (verdict, evidence)


@pytest.mark.parametrize(
    ("flow", "reason", "hint"),
    [
        (
            ("tcp", A, 22, ["good.test"]),
            "no rule allows tcp to good.test port 22; good.test is allowed for tls port 443 and quic port 443",
            "--allow good.test:22",
        ),
        (
            ("udp", A, 53, ["good.test"]),
            "no rule allows udp to good.test port 53; good.test is allowed for tls port 443 and quic port 443",
            "--allow udp://good.test:53",
        ),
        (
            ("icmp", A, 0, ["good.test"]),
            "no rule allows icmp to good.test; good.test is allowed for tls port 443 and quic port 443",
            "--allow icmp://good.test",
        ),
        (("tcp", A, 443, ["other.test"]), "no rule allows tcp to other.test port 443", "--allow other.test:443"),
        (
            ("udp", "2001:db8::1", 443, []),
            "no rule allows udp to 2001:db8::1 port 443: no rule names this address, and no DNS answer in this run "
            "gave it to a name",
            "--allow [2001:db8::1]:443",
        ),
    ],
)
def test_a_refused_flow_says_what_was_missing_and_what_would_allow_it(
    flow: tuple[str, str, int, list[str]], reason: str, hint: str
) -> None:
    decision = policy("good.test:443").decide_flow(*flow)
    assert (decision.verdict, decision.rule, decision.reason, decision.hint) == ("deny", None, reason, hint)


@pytest.mark.parametrize(
    ("names", "scheme", "name", "reason", "hint"),
    [
        (
            ["good.test"], "tls", "evil.test",
            "the ClientHello asks for evil.test, which --allow good.test:443 does not cover, and the address is "
            "good.test's",
            None,
        ),
        (
            ["good.test"], "tls", None,
            "the ClientHello names no server (no SNI), which --allow good.test:443 needs",
            "--allow tcp://good.test:443",
        ),
        (
            ["good.test"], "http", "good.test",
            "the bytes are HTTP, and --allow good.test:443 is for TLS at port 443",
            "--allow http://good.test:443",
        ),
        (
            ["good.test"], "other", None,
            "the bytes are none of TLS, HTTP and QUIC, and --allow good.test:443 is for TLS at port 443",
            "--allow tcp://good.test:443",
        ),
        (["two.test"], "tls", "good.test", "192.0.2.1 was resolved for two.test, not for good.test", None),
        ([], "tls", "good.test", "no DNS answer in this run ties 192.0.2.1 to good.test", None),
    ],
)  # fmt: skip
def test_refused_bytes_say_what_was_missing(
    names: list[str], scheme: str, name: str | None, reason: str, hint: str | None
) -> None:
    decision = policy("good.test:443 two.test:443").decide_seen("tcp", A, 443, names, scheme, name)
    assert (decision.verdict, decision.reason, decision.hint) == ("deny", reason, hint)


@pytest.mark.parametrize(
    ("allow", "flow"),
    [
        ("good.test:443", ("tcp", A, 22, ["other.test"])),
        ("good.test:443", ("udp", A, 443, ["good.test2.test"])),
        ("good.test:443", ("udp", A, 53, ["other.test"])),
        ("good.test:443", ("icmp", A, 0, ["other.test"])),
        ("good.test:443", ("tcp", "2001:db8::1", 22, [])),
    ],
)
def test_the_hint_does_allow_what_was_refused(allow: str, flow: tuple[str, str, int, list[str]]) -> None:
    hint = policy(allow).decide_flow(*flow).hint
    assert hint is not None
    assert policy(f"{allow} {hint.removeprefix('--allow ')}").decide_flow(*flow).verdict in ("allow", "look")


def test_a_refused_question_says_so() -> None:
    decision = policy("good.test").decide_name("bad.test")
    assert (decision.reason, decision.hint) == ("no rule allows the name bad.test", "--allow bad.test")
    decision = policy("*", "bad.test").decide_name("bad.test")
    assert decision.reason == "--deny bad.test refuses it"
    assert decision.rule is not None
    assert decision.hint is None


def test_the_default_is_deny_once_anything_is_allowed() -> None:
    assert (policy().empty, policy().default) == (True, "allow")
    assert (policy(deny="bad.test").empty, policy(deny="bad.test").default) == (False, "allow")
    assert (policy("good.test").empty, policy("good.test").default) == (False, "deny")


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("127.0.0.1", "127.0.0.1:8080"),
        ("::ffff:127.0.0.1", "127.0.0.1:8080"),
        ("10.1.2.3", "10.0.0.0/8"),
        ("fe80::1", "tcp://[fe80::/10]:22"),
        ("127.0.0.2", None),
        ("192.0.2.1", None),
        ("::1", None),
        ("nonsense", None),
    ],
)
def test_the_dial_guard_asks_which_rule_names_an_address(address: str, rule: str | None) -> None:
    asked = policy("127.0.0.1:8080 10.0.0.0/8 tcp://[fe80::/10]:22 * 0.0.0.0/0 good.test", "10.0.0.0/9")
    found = asked.names_address(address)
    assert (found.text if found else None) == rule
