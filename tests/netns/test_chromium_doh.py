"""Chromium's own encrypted DNS in a run: refused without a rule, no evidence for names with one, and not needed."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.encrypted_dns import NAME, Certificates, unbound
from tests.support.peers import need
from tests.support.running import Finished, Runner

from towpath.testing import Lab, LabPlan
from towpath.testing.plan import Dns, Http

RESOLVER, WEB = "198.51.100.53", "198.51.100.80"
PAGE = "http://hidden.test/"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def world(certificates: Certificates) -> Iterator[Lab]:
    """Only the server that speaks HTTPS knows the page's name."""
    need("unbound", "chromium")
    plan = (
        LabPlan()
        .host("client")
        .host("resolver", ipv4=RESOLVER, serves=[unbound(certificates, RESOLVER, f"hidden.test. 60 IN A {WEB}")])
        .host("web", ipv4=WEB, serves=[Http()])
        .host("dns", serves=[Dns()])
        .record(NAME, "A", RESOLVER)
    )
    with Lab(plan) as lab:
        yield lab


def browse(world: Lab, certificates: Certificates, folder: Path, options: list[str], *, own: bool) -> Finished:
    """Loads the page, with or without encrypted DNS of Chromium's own."""
    profile = folder / "profile"
    profile.mkdir()
    if own:
        template = f"https://{NAME}/dns-query"
        (profile / "Local State").write_text(json.dumps({"dns_over_https": {"mode": "secure", "templates": template}}))
    certificate = x509.load_pem_x509_certificate((certificates.folder / "certificate.pem").read_bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    accepted = base64.b64encode(hashlib.sha256(key).digest()).decode()
    words = [
        *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}"),
        *(f"--ignore-certificate-errors-spki-list={accepted}", "--virtual-time-budget=5000", "--dump-dom", PAGE),
    ]
    return Runner(world, "client", folder)(*options, command=words, timeout=120)


def test_without_a_rule_for_its_server_nothing_is_resolved(
    world: Lab, certificates: Certificates, tmp_path: Path
) -> None:
    done = browse(world, certificates, tmp_path, ["--allow", "hidden.test:80", "--allow", WEB], own=True)
    assert "This is web." not in done.out
    assert f"-> {NAME} (dns): no rule allows the name {NAME}" in done.err


def test_with_a_rule_it_resolves_and_what_it_finds_is_held_to_rules_by_address(
    world: Lab, certificates: Certificates, tmp_path: Path
) -> None:
    rules = ["--allow", f"{NAME}:443", "--allow", "hidden.test:80"]
    done = browse(world, certificates, tmp_path, rules, own=True)
    assert "This is web." not in done.out  # nobody but Chromium knows whose address that is
    assert f"{WEB}:80" in done.err
    (tmp_path / "again").mkdir()
    done = browse(
        world, certificates, tmp_path / "again", [*rules, "--allow", f"http://{WEB}", "--allow", WEB], own=True
    )
    assert "This is web." in done.out, done.err


def test_a_proxy_encrypts_for_it_and_rules_by_name_hold(world: Lab, certificates: Certificates, tmp_path: Path) -> None:
    config = tmp_path / "private.toml"
    config.write_text(
        f'servers = ["https://{NAME}@{RESOLVER}/dns-query"]\ncertificate_authority = "{certificates.authority}"\n'
    )
    options = ["--dns", f"secure_dns:{config}", "--allow", "hidden.test:80"]
    done = browse(world, certificates, tmp_path, options, own=False)
    assert "This is web." in done.out, done.err
