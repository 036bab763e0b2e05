"""Name constraints: each form compared as RFC 5280 has it, wildcards for all they could be, work bounded."""

from __future__ import annotations

import ipaddress
import time
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from towpath.testing.pki import Pki, Recipe
from towpath.trust import Anchors, Policy, Verdict, evaluate


def directory(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.DirectoryName:
    return x509.DirectoryName(x509.Name([x509.NameAttribute(kind, value) for kind, value in parts]))


def network(text: str) -> x509.IPAddress:
    return x509.IPAddress(ipaddress.ip_network(text))


DNS, URI, MAIL = x509.DNSName, x509.UniformResourceIdentifier, x509.RFC822Name
ORGANIZATION, COUNTRY = NameOID.ORGANIZATION_NAME, NameOID.COUNTRY_NAME


@pytest.mark.parametrize(
    ("subtree", "name", "within"),
    [
        (DNS("example.com"), DNS("example.com"), True),
        (DNS("example.com"), DNS("a.b.EXAMPLE.com"), True),
        (DNS("example.com"), DNS("badexample.com"), False),
        (DNS(""), DNS("anything.example"), True),
        (DNS("example.com"), DNS("*.example.com"), True),
        (MAIL("example.com"), MAIL("me@example.com"), True),
        (MAIL("example.com"), MAIL("me@sub.example.com"), False),
        (MAIL(".example.com"), MAIL("me@sub.example.com"), True),
        (MAIL(".example.com"), MAIL("me@example.com"), False),
        (MAIL("me@example.com"), MAIL("me@EXAMPLE.com"), True),
        (MAIL("me@example.com"), MAIL("Me@example.com"), False),
        (URI("example.com"), URI("https://example.com/path"), True),
        (URI("example.com"), URI("https://www.example.com/"), False),
        (URI(".example.com"), URI("https://www.example.com:8443/"), True),
        (URI(".example.com"), URI("https://example.com/"), False),
        (network("192.0.2.0/24"), x509.IPAddress(ipaddress.ip_address("192.0.2.9")), True),
        (network("192.0.2.0/24"), x509.IPAddress(ipaddress.ip_address("192.0.3.9")), False),
        (network("2001:db8::/32"), x509.IPAddress(ipaddress.ip_address("2001:db8::9")), True),
        (network("192.0.2.0/24"), x509.IPAddress(ipaddress.ip_address("2001:db8::9")), False),
        (directory((COUNTRY, "UT")), directory((COUNTRY, "UT"), (ORGANIZATION, "x")), True),
        (directory((ORGANIZATION, "Some  Shop")), directory((ORGANIZATION, "some shop")), True),
        (directory((COUNTRY, "UT"), (ORGANIZATION, "x")), directory((COUNTRY, "UT")), False),
    ],
)
def test_a_name_is_permitted_or_excluded_by_its_form(
    pki: Pki, anchors: Anchors, subtree: x509.GeneralName, name: x509.GeneralName, within: bool
) -> None:
    names = x509.SubjectAlternativeName([name])
    for permitted, excluded, good in (([subtree], None, within), (None, [subtree], not within)):
        constrained = (x509.NameConstraints(permitted, excluded), True)
        authority = pki.root.intermediate(replace(pki.authority_recipe("constrained"), extra=(constrained,)))
        leaf = authority.issue(Recipe(extra=((names, True),)))
        verdict = evaluate(leaf.chain, None, Policy.basic, pki.at, anchors)["x509.name-constraints"].verdict
        assert (verdict is Verdict.PASS) is good, (permitted, excluded)


@pytest.mark.parametrize(
    ("permitted", "excluded", "good"),
    [
        ("www.example.com", None, False),
        ("example.com", None, True),
        ("sub.example.com", None, False),
        (None, "www.example.com", False),
        (None, "example.com", False),
        (None, "a.b.example.com", True),
        (None, "example.org", True),
    ],
)
def test_a_wildcard_stands_for_every_name_it_can_match(
    pki: Pki, anchors: Anchors, permitted: str | None, excluded: str | None, good: bool
) -> None:
    value = x509.NameConstraints([DNS(permitted)] if permitted else None, [DNS(excluded)] if excluded else None)
    authority = pki.root.intermediate(replace(pki.authority_recipe("constrained"), extra=((value, True),)))
    leaf = authority.issue(Recipe(names=("*.example.com",)))
    assert evaluate(leaf.chain, None, Policy.basic, pki.at, anchors).accepted is good


def test_self_issued_authorities_are_free_of_constraints_and_self_issued_leaves_are_not(
    pki: Pki, anchors: Anchors
) -> None:
    only = x509.NameConstraints([DNS("example.com")], None)
    recipe = replace(pki.authority_recipe("key rollover"), extra=((only, True),))
    old = pki.root.intermediate(recipe)
    new = old.intermediate(replace(recipe, names=("outside.test",), extra=()))
    inside = new.issue(Recipe(names=("www.example.com",)))
    assert evaluate(inside.chain, None, Policy.basic, pki.at, anchors).accepted
    leaf = old.issue(Recipe(names=("outside.test",), common_name="key rollover"))
    failure = evaluate(leaf.chain, None, Policy.basic, pki.at, anchors).failure
    assert failure is not None
    assert failure.id == "x509.name-constraints"


def test_many_names_and_constraints_end_in_a_refusal_and_soon(pki: Pki, anchors: Anchors) -> None:
    huge = directory(*[(ORGANIZATION, f"part {number}") for number in range(3000)])
    cases: list[tuple[list[x509.GeneralName], list[x509.GeneralName]]] = [
        ([DNS(f"{number}.example.com") for number in range(1500)], [DNS(f"x{number}.test") for number in range(1500)]),
        ([huge] * 15, [huge] * 15),
        ([directory((ORGANIZATION, f"{number}")) for number in range(2000)], [huge]),
    ]
    for names, excluded in cases:
        constrained = (x509.NameConstraints(None, excluded), True)
        authority = pki.root.intermediate(replace(pki.authority_recipe("constrained"), extra=(constrained,)))
        leaf = authority.issue(Recipe(extra=((x509.SubjectAlternativeName(names), True),)))
        began = time.process_time()
        evaluate(leaf.chain, None, Policy.basic, pki.at, anchors)
        assert time.process_time() - began < 20
