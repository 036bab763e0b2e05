"""RFC 9525: which certificate is for which name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from towpath.errors import ConfigInvalid, Misuse
from towpath.testing.pki import Pki, Recipe
from towpath.trust import Anchors, Policy, Reference, Verdict, evaluate
from towpath.trust.reference import dns_matches, dns_syntax_fault
from towpath.trust.suffixes import PublicSuffixes


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("www.example.com", "www.example.com", True),
        ("WWW.Example.COM", "www.example.com", True),
        ("www.example.com", "example.com", False),
        ("*.example.com", "www.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.b.example.com", False),
        ("*.*.example.com", "a.b.example.com", False),
        ("w*.example.com", "www.example.com", False),
        ("*w.example.com", "www.example.com", False),
        ("www.*.com", "www.example.com", False),
        ("*.com", "example.com", False),
        ("*", "com", False),
        ("*.", "com", False),
        ("", "example.com", False),
        ("xn--*-1b3c148a.example.com", "xn--bliss-1b3c148a.example.com", False),
        ("bücher.example", "xn--bcher-kva.example", False),
    ],
)
def test_a_presented_name_matches_as_rfc_9525_has_it(pattern: str, name: str, matches: bool) -> None:
    assert dns_matches(pattern, name) is matches


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("www.Example.com", "www.example.com"),
        ("www.example.com.", "www.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:db8:0::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("user@Example.com", "user@Example.com"),
    ],
)
def test_a_reference_is_read_into_one_form(text: str, value: str) -> None:
    assert Reference.parse(text).value == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        "-a.example",
        "a b",
        "a" * 64,
        "x." * 127 + "toolong",
        "a@b@c",
        "a\x00b",
        "192.0.2.300",
        "1.2.3",
        "42",
    ],
)
def test_what_is_no_name_is_a_misuse(text: str) -> None:
    with pytest.raises(Misuse):
        Reference.parse(text)


@pytest.mark.parametrize(
    ("names", "reference", "accepted"),
    [
        (("192.0.2.1",), "192.0.2.1", True),
        (("192.0.2.2",), "192.0.2.1", False),
        (("2001:db8::1",), "2001:0db8::0001", True),
        (("*.0.2.1",), "192.0.2.1", False),
        (("a.example", "b.example"), "b.example", True),
        (("user@example.com",), "user@EXAMPLE.com", True),
        (("user@example.com",), "User@example.com", False),
    ],
)
def test_addresses_and_mailboxes_match_exactly(
    pki: Pki, anchors: Anchors, names: tuple[str, ...], reference: str, accepted: bool
) -> None:
    chain = pki.intermediate.issue(Recipe(names=names)).chain
    assert evaluate(chain, reference, Policy.basic, pki.at, anchors).accepted is accepted


SUFFIXES = PublicSuffixes("// the private part counts\ncom\nuk\nco.uk\n*.ck\n!www.ck\nhosting.example\nxn--p1ai\nрф\n")


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("com", True),
        ("example.com", False),
        ("co.uk", True),
        ("anything.ck", True),
        ("www.ck", False),
        ("hosting.example", True),
        ("unlisted", True),
    ],
)
def test_public_suffixes_are_read_with_wildcards_and_exceptions(name: str, suffix: bool) -> None:
    assert SUFFIXES(name) is suffix


def test_a_wildcard_over_a_public_suffix_identifies_no_one_below_it(pki: Pki, anchors: Anchors) -> None:
    chain = pki.intermediate.issue(Recipe(names=("*.hosting.example", "hosting.example"))).chain
    policy = replace(Policy.web, public_suffix=SUFFIXES)
    below = evaluate(chain, "me.hosting.example", policy, pki.at, anchors)
    assert [finding.id for finding in below.failures] == ["web.wildcards"]
    assert evaluate(chain, "hosting.example", policy, pki.at, anchors)["web.wildcards"].verdict is Verdict.PASS


def test_a_suffix_list_that_is_not_there_says_where_to_get_it(tmp_path: object) -> None:
    from pathlib import Path

    with pytest.raises(ConfigInvalid) as caught:
        PublicSuffixes.read(Path("/nonexistent/list"))
    assert "publicsuffix" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["a_b.example", ".example", "a..b", "-a.example", "192.0.2.1", "a.*.example", ""])
def test_names_that_break_the_preferred_syntax_are_told_apart(name: str) -> None:
    assert dns_syntax_fault(name)
