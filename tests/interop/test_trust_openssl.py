"""Verdicts beside `openssl verify`: alike on generated chains, and every other difference has a reason."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from towpath.testing.pki import CLIENT, SERVER, Identity, Pki, Recipe
from towpath.testing.pki_broken import BROKEN
from towpath.trust import Anchors, Policy, evaluate

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
HOST = "www.example.com"
DAY = timedelta(days=1)
PKI = Pki()

# Broken certificates that one side alone refuses, with the reason; path validation and the name are compared, so
# what our profiles demand beyond them is OpenSSL's alone here.
OURS_ALONE = {
    "too-deep": "x509.depth: OpenSSL follows 100 intermediates, we eight",
    "policy-required": "x509.certificate-policies: OpenSSL looks at policies only with -policy_check",
    "must-staple": "x509.must-staple: a file shows no handshake, so OpenSSL never demands a staple",
    "common-name-only": "server.name: OpenSSL reads the common name where there is no alternative name",
    "partial-wildcard": "server.name: OpenSSL takes w*.example.com, which RFC 9525 forbids",
}
OPENSSL_ALONE = {
    "sha-1": "below OpenSSL's security level; policy.signature-hash refuses it",
    "any-use": "RFC 5280 lets an application accept anyExtendedKeyUsage; web.usage and apple.usage refuse it",
    "authority-as-leaf": "its names are critical beside a subject; policy.leaf-authority refuses it",
    "web-version-1": "web.version refuses it",
    "no-authority-key-id": "rfc5280.authority-key-id refuses it",
    "no-subject-key-id": "rfc5280.subject-key-id refuses it",
    "critical-key-id": "rfc5280.criticality refuses it",
    "leaf-with-cert-sign": "rfc5280.key-usage-consistent refuses it",
    "nameless-authority": "rfc5280.names refuses it",
}


def openssl(folder: Path, identity: Identity, anchor: x509.Certificate, host: str) -> bool:
    leaf, anchors, others = folder / "leaf.pem", folder / "anchor.pem", folder / "others.pem"
    leaf.write_bytes(identity.certificate.public_bytes(Encoding.PEM))
    anchors.write_bytes(anchor.public_bytes(Encoding.PEM))
    others.write_bytes(b"".join(found.public_bytes(Encoding.PEM) for found in identity.above))
    name = ["-verify_ip" if host[0].isdigit() else "-verify_email" if "@" in host else "-verify_hostname", host]
    words = ["verify", "-x509_strict", "-purpose", "sslserver", "-auth_level", "1", "-no-CApath", "-no-CAstore"]
    words += [*name, "-CAfile", str(anchors)]
    if identity.above:
        words += ["-untrusted", str(others)]
    done = subprocess.run([str(OPENSSL), *words, str(leaf)], capture_output=True, text=True, check=False)
    return done.returncode == 0


def test_the_good_certificate_is_good_for_both(tmp_path: Path) -> None:
    assert openssl(tmp_path, PKI.good(), PKI.root.certificate, HOST)


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_certificate_is_judged_alike_or_the_difference_has_a_reason(tmp_path: Path, name: str) -> None:
    broken = PKI.broken(name)
    anchor = broken.anchor or PKI.root.certificate
    theirs = openssl(tmp_path, broken.identity, anchor, broken.reference)
    ours = evaluate(broken.identity.chain, broken.reference, Policy.basic, PKI.at, Anchors.of(anchor))
    if name in OURS_ALONE:
        assert theirs
        assert [failure.id for failure in ours.failures] == [OURS_ALONE[name].partition(":")[0]]
    elif name in OPENSSL_ALONE:
        assert not theirs
        assert ours.accepted
    else:
        assert theirs is ours.accepted, ours.failures


NAMES = ("www.example.com", "example.com", "*.example.com", "a.b.example.com", "www.example.org", "192.0.2.1")
SUBTREES = ("example.com", "example.org", "www.example.com", "com")


@st.composite
def constraints(draw: st.DrawFn) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    permitted = draw(st.lists(st.sampled_from(SUBTREES), max_size=2))
    excluded = draw(st.lists(st.sampled_from(SUBTREES), max_size=1))
    if not permitted and not excluded:
        return ()
    value = x509.NameConstraints(
        [x509.DNSName(name) for name in permitted] or None, [x509.DNSName(name) for name in excluded] or None
    )
    return ((value, True),)


@st.composite
def authorities(draw: st.DrawFn, number: int) -> Recipe:
    return replace(
        PKI.authority_recipe(f"generated authority {number}"),
        path_length=draw(st.sampled_from([None, 0, 1])),
        signs=draw(st.sampled_from([True] * 6 + [False])),
        usages=draw(st.sampled_from([None, None, None, (SERVER,), (SERVER, CLIENT), (CLIENT,)])),
        starts=draw(st.sampled_from([-30 * DAY] * 6 + [DAY])),
        lasts=draw(st.sampled_from([3650 * DAY] * 6 + [20 * DAY])),
        extra=draw(constraints()),
    )


@st.composite
def chains(draw: st.DrawFn) -> tuple[Identity, str]:
    last = PKI.root
    for number in range(draw(st.integers(0, 3))):
        last = last.intermediate(draw(authorities(number)))
    leaf = Recipe(
        names=tuple(draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))),
        usages=draw(st.sampled_from([(SERVER,), (SERVER,), (SERVER, CLIENT), (CLIENT,), None])),
        starts=draw(st.sampled_from([-DAY] * 5 + [-100 * DAY, DAY])),
    )
    identity = last.issue(leaf)
    if identity.above and draw(st.integers(0, 9)) == 0:
        identity = replace(identity, above=identity.above[1:])
    return identity, draw(st.sampled_from([name for name in NAMES if "*" not in name]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=chains())
def test_generated_chains_are_judged_alike(tmp_path: Path, case: tuple[Identity, str]) -> None:
    identity, host = case
    ours = evaluate(identity.chain, host, Policy.basic, PKI.at, Anchors.of(PKI.root.certificate))
    theirs = openssl(tmp_path, identity, PKI.root.certificate, host)
    if theirs and not ours.accepted:
        # OpenSSL compares a wildcard with an excluded name as text: *.example.com escapes www.example.com.
        assert {(found.id, found.observed) for found in ours.failures} == {
            ("x509.name-constraints", "DNSName *.example.com")
        }
    else:
        assert theirs is ours.accepted, ours.failures
