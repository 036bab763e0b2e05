"""`towpath trust diagnose`: sixteen probes against live servers, the smallest exception, the cure."""

from __future__ import annotations

import json
import ssl
import warnings
from pathlib import Path

import pytest
from tests.unit.trust.tls_server import scripted, server_context, serving

from towpath.cli import main
from towpath.testing.pki import Identity, Pki, Recipe
from towpath.trust.probes import PROBES
from towpath.trust.transport import TransportPolicy

HOST = "www.example.com"


def test_there_are_sixteen_probes_and_their_exceptions_read_back() -> None:
    assert [probe.number for probe in PROBES] == list(range(1, 17))
    for probe in PROBES:
        text = probe.as_toml(HOST)
        needed = TransportPolicy.parse(text).for_host(HOST)
        wanted = probe.requirements(HOST)
        assert (needed.cleartext, needed.minimum_tls, needed.forward_secrecy, needed.enforced) == (
            wanted.cleartext,
            wanted.minimum_tls,
            wanted.forward_secrecy,
            wanted.enforced,
        )


def no_forward_secrecy(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA256:@SECLEVEL=0")


def only_tls_1_1(context: ssl.SSLContext) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1


def as_it_is(context: ssl.SSLContext) -> None:
    pass


def rsa(pki: Pki) -> Identity:
    return pki.intermediate.issue(Recipe(names=(HOST,), rsa_bits=2048))


@pytest.mark.parametrize(
    ("name", "setting", "smallest", "remedy"),
    [
        ("good", as_it_is, 1, ""),
        ("rsa-2048", no_forward_secrecy, 7, "ECDHE"),
        ("good", only_tls_1_1, 5, "TLS 1.2"),
        ("rsa-1024", as_it_is, 7, "RSA 2048"),
        ("no-use", as_it_is, 2, "extendedKeyUsage=serverAuth"),
        ("900-days", as_it_is, 2, "824 days"),
        ("expired", as_it_is, None, "renew"),
        ("missing-intermediate", as_it_is, None, "must send the certificate"),
    ],
)
def test_the_smallest_exception_and_the_cure_are_named(
    pki: Pki,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    setting: object,
    smallest: int | None,
    remedy: str,
) -> None:
    pki.write(tmp_path)
    identity = {"good": pki.good, "rsa-2048": lambda: rsa(pki)}.get(name, lambda: pki.broken(name).identity)()
    context = server_context(identity, tmp_path / "served")
    assert callable(setting)
    setting(context)
    with serving(context) as port:
        words = ["trust", "diagnose", f"https://127.0.0.1:{port}/", "--name", HOST, "--json"]
        code = main([*words, "--anchors", str(tmp_path / "root.pem")])
    answer = json.loads(capsys.readouterr().out)
    assert answer["smallest"] == smallest, [probe for probe in answer["probes"] if not probe["passed"]]
    assert code == (0 if smallest == 1 else 1)
    assert remedy in " ".join(answer["remedies"])
    assert len(answer["probes"]) == 16


def test_cleartext_needs_the_exception_for_http(tmp_path: Path, pki: Pki, capsys: pytest.CaptureFixture[str]) -> None:
    pki.write(tmp_path)
    with serving(None, scripted((b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"))) as port:
        words = ["trust", "diagnose", f"http://127.0.0.1:{port}/", "--anchors", str(tmp_path / "root.pem")]
        assert main([*words, "--name", HOST]) == 1
    printed = capsys.readouterr().out
    assert "smallest exception that passes: probe 8, http" in printed
    assert "insecure_http = true" in printed
    assert "forward_secrecy" not in printed
    assert "https, and redirect" in printed


def test_a_server_that_is_not_there_could_not_be_asked(tmp_path: Path, pki: Pki) -> None:
    pki.write(tmp_path)
    for url in ("https://127.0.0.1:1/", "ftp://127.0.0.1/", "127.0.0.1"):
        assert main(["trust", "diagnose", url, "--anchors", str(tmp_path / "root.pem")]) == 2
