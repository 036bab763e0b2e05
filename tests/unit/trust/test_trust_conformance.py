"""The runner for corpora, on a small corpus of our own, and on a large public one where its place is given."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from towpath.testing.pki import Pki
from towpath.trust import conformance

CORPUS = os.environ.get("TOWPATH_X509_LIMBO")


def case(pki: Pki, id: str, expected: str, **fields: Any) -> dict[str, Any]:
    identity = fields.pop("identity")
    leaf, *above = [pem + "-----END CERTIFICATE-----\n" for pem in _blocks(identity.chain_pem)]
    return {
        "id": id,
        "expected_result": expected,
        "validation_kind": "SERVER",
        "validation_time": pki.at.isoformat(),
        "peer_certificate": leaf,
        "untrusted_intermediates": above,
        "trusted_certs": [pki.root.certificate.public_bytes(Encoding.PEM).decode()],
        "expected_peer_name": {"kind": "DNS", "value": "www.example.com"},
        "max_chain_depth": None,
        "crls": [],
        **fields,
    }


def _blocks(pem: bytes) -> list[str]:
    return pem.decode().split("-----END CERTIFICATE-----\n")[:-1]


def own_corpus() -> list[dict[str, Any]]:
    pki = Pki()
    no_use = pki.broken("no-use").identity
    return [
        case(pki, "webpki::good", "SUCCESS", identity=pki.good()),
        case(pki, "rfc5280::no-use", "SUCCESS", identity=no_use),
        case(pki, "webpki::no-use", "FAILURE", identity=no_use),
        case(pki, "rfc5280::too-deep", "FAILURE", identity=pki.good(), max_chain_depth=0),
        case(pki, "rfc5280::expired", "FAILURE", identity=pki.broken("expired").identity),
        case(
            pki,
            "rfc5280::client",
            "SUCCESS",
            identity=pki.client(),
            validation_kind="CLIENT",
            expected_peer_name=None,
            expected_peer_names=[{"kind": "RFC822", "value": "client@example.com"}],
        ),
    ]


@pytest.mark.parametrize("one", own_corpus(), ids=lambda one: one["id"])
def test_each_case_runs_under_the_profile_of_its_family(one: dict[str, Any]) -> None:
    outcome = conformance.run_case(one)
    assert outcome.agrees, outcome.detail


def test_a_disagreement_without_a_reason_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {**own_corpus()[0], "expected_result": "FAILURE"}
    place = tmp_path / "corpus.json.gz"
    place.write_bytes(gzip.compress(json.dumps({"testcases": [wrong, *own_corpus()]}).encode()))
    assert conformance.main([str(place)]) == 1
    printed = capsys.readouterr().out
    assert "webpki::good: accepted" in printed
    assert "6 of 7 as expected" in printed


@pytest.mark.skipif(CORPUS is None, reason="TOWPATH_X509_LIMBO names no corpus")
def test_the_public_corpus_agrees_but_for_disagreements_with_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert conformance.main([str(CORPUS)]) == 0
    assert "205 of 208 as expected, 3 explained" in capsys.readouterr().out
