"""Certificate Transparency logs for tests: keys of our own that sign timestamps."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from towpath.testing.pki import Authority, Identity, Recipe
from towpath.trust import der, load

SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")


@dataclass
class OwnLog:
    name: str
    operator: str
    state: str = "usable"
    since: str = "2020-01-01T00:00:00Z"
    tiled: bool = False
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def spki(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def id(self) -> bytes:
        return sha256(self.spki).digest()

    def entry(self) -> dict[str, Any]:
        return {
            "description": self.name,
            "log_id": base64.b64encode(self.id).decode(),
            "key": base64.b64encode(self.spki).decode(),
            "mmd": 86_400,
            "state": {self.state: {"timestamp": self.since}},
        }

    def sign(self, entry: bytes, at: datetime, *, forged: bool = False) -> bytes:
        stamp = int(at.timestamp() * 1000).to_bytes(8, "big")
        body = b"\x00\x00" + stamp + entry + b"\x00\x00"
        signature = self.key.sign(body + (b"!" if forged else b""), ec.ECDSA(hashes.SHA256()))
        item = b"\x00" + self.id + stamp + b"\x00\x00" + b"\x04\x03" + len(signature).to_bytes(2, "big") + signature
        return len(item).to_bytes(2, "big") + item


def log_list(*logs: OwnLog) -> bytes:
    operators: dict[str, dict[str, Any]] = {}
    for log in logs:
        entry = operators.setdefault(log.operator, {"name": log.operator, "logs": [], "tiled_logs": []})
        entry["tiled_logs" if log.tiled else "logs"].append(log.entry())
    return json.dumps({"version": "1", "operators": list(operators.values())}).encode()


def listed(items: list[bytes]) -> bytes:
    body = b"".join(items)
    return len(body).to_bytes(2, "big") + body


def logged(
    issuer: Authority, recipe: Recipe, logs: list[OwnLog], *, forged: bool = False, after: timedelta = timedelta(0)
) -> Identity:
    """A certificate with timestamps of these logs inside, made as an authority does: sign, log, sign again."""
    serial = 0x1234567890
    fixed = replace(recipe, serial=serial)
    key = ec.generate_private_key(ec.SECP256R1())
    first = issuer.issue(fixed, key=key).certificate
    body = first.tbs_certificate_bytes
    entry = b"\x00\x01" + load(issuer.certificate).spki_hash + len(body).to_bytes(3, "big") + body
    stamps = listed([log.sign(entry, issuer.at - timedelta(minutes=1) + after, forged=forged) for log in logs])
    octets = b"\x04" + _length(stamps) + stamps
    extension = x509.UnrecognizedExtension(SCT_LIST, octets)
    return issuer.issue(replace(fixed, extra=(*fixed.extra, (extension, False))), key=key)


def _length(body: bytes) -> bytes:
    octets = (len(body).bit_length() + 7) // 8
    return bytes([len(body)]) if len(body) < 0x80 else bytes([0x80 | octets]) + len(body).to_bytes(octets, "big")


def delivered(leaf: Identity, logs: list[OwnLog], at: datetime) -> bytes:
    """A list for the TLS extension: the logs sign the certificate itself."""
    der = leaf.chain[0]
    entry = b"\x00\x00" + len(der).to_bytes(3, "big") + der
    return listed([log.sign(entry, at - timedelta(minutes=1)) for log in logs])


def stapled(staple: bytes, signer: Authority, extension: bytes) -> bytes:
    """The OCSP response with a list of timestamps among the extensions of its single answer, signed again."""
    outer = der.element(staple, 0, len(staple))
    octets = der.children(staple, der.children(staple, der.children(staple, outer)[1])[0])[1]
    basic = staple[octets.body : octets.stop]
    tbs, algorithm = der.children(basic, der.element(basic, 0, len(basic)))[:2]
    *before, answers = der.children(basic, tbs)
    single = der.children(basic, answers)[0]
    listed_ = tlv(0x30, bytes.fromhex("060a2b06010401d679020405") + tlv(0x04, tlv(0x04, extension)))
    body = tlv(0x30, basic[single.body : single.stop] + tlv(0xA1, tlv(0x30, listed_)))
    data = tlv(0x30, b"".join(basic[part.start : part.stop] for part in before) + tlv(0x30, body))
    assert isinstance(signer.key, ec.EllipticCurvePrivateKey)
    signature = b"\x00" + signer.key.sign(data, ec.ECDSA(hashes.SHA256()))
    signed = tlv(0x30, data + basic[algorithm.start : algorithm.stop] + tlv(0x03, signature))
    kind = bytes.fromhex("06092b0601050507300101")
    return tlv(0x30, b"\x0a\x01\x00" + tlv(0xA0, tlv(0x30, kind + tlv(0x04, signed))))


def tlv(tag: int, body: bytes) -> bytes:
    return bytes([tag]) + _length(body) + body
