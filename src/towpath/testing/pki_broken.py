"""The broken certificates of the test PKI: one entry for each way in which a rule can refuse."""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from towpath.testing.pki import CLIENT, SERVER, Authority, Broken, Identity, Maker, Pki, Recipe

__all__ = ["BROKEN", "patched"]

HOST = "www.example.com"
GOOD = Recipe(names=(HOST,))
DAY = timedelta(days=1)


def _leaf(pki: Pki, rule: str, *, policy: str = "apple", reference: str = HOST, **changes: object) -> Broken:
    recipe = replace(GOOD, **changes)  # type: ignore[arg-type]
    return Broken(pki.intermediate.issue(recipe), rule, policy, reference)


def _below(pki: Pki, rule: str, *, policy: str = "apple", leaf: Recipe = GOOD, **changes: object) -> Broken:
    """A good leaf below an intermediate with these changes."""
    recipe = replace(pki.authority_recipe("broken intermediate"), **changes)  # type: ignore[arg-type]
    return Broken(pki.root.intermediate(recipe).issue(leaf), rule, policy)


def _under(pki: Pki, rule: str, *, policy: str = "web", **changes: object) -> Broken:
    """A good leaf below a root with these changes, which is trusted."""
    root = pki.new_root("broken root", **changes)
    middle = root.intermediate(pki.authority_recipe("intermediate of a broken root"))
    return Broken(middle.issue(GOOD), rule, policy, anchor=root.certificate)


def patched(
    certificate: x509.Certificate,
    issuer: Authority,
    old: bytes,
    new: bytes,
    *,
    digest: hashes.HashAlgorithm | None = None,
) -> x509.Certificate:
    """The certificate with the `old` octets of its body replaced by `new` ones, signed again.

    Lengths inside the body stay, so a patch that changes the length must be of a whole field.
    With another `digest` the patch must be that of the algorithm identifier, which then stands outside as well.
    """
    body = certificate.tbs_certificate_bytes
    if body.count(old) != 1:
        raise AssertionError("a patch replaces one place")
    whole = certificate.public_bytes(Encoding.DER)
    algorithm = whole[whole.index(body) + len(body) : whole.rindex(certificate.signature)]
    algorithm = algorithm[: algorithm[1] + 2]
    header = 2 + (body[1] & 0x7F if body[1] & 0x80 else 0)
    body = _tlv(0x30, body[header:].replace(old, new))
    used = digest or hashes.SHA256()
    if digest is not None:
        algorithm = algorithm.replace(old, new)
    if isinstance(issuer.key, ec.EllipticCurvePrivateKey):
        signature = issuer.key.sign(body, ec.ECDSA(used))
    else:
        signature = issuer.key.sign(body, padding.PKCS1v15(), used)
    return _quietly(_tlv(0x30, body + algorithm + _tlv(0x03, b"\x00" + signature)))


def _quietly(der: bytes) -> x509.Certificate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return x509.load_der_x509_certificate(der)


def _tlv(tag: int, body: bytes) -> bytes:
    if len(body) < 0x80:
        return bytes((tag, len(body))) + body
    octets = (len(body).bit_length() + 7) // 8
    return bytes((tag, 0x80 | octets)) + len(body).to_bytes(octets, "big") + body


def _patched(pki: Pki, rule: str, old: bytes, new: bytes, *, policy: str, **changes: object) -> Broken:
    made = pki.intermediate.issue(replace(GOOD, **changes))  # type: ignore[arg-type]
    certificate = patched(made.certificate, pki.intermediate, old, new)
    return Broken(replace(made, certificate=certificate), rule, policy)


def _missing_intermediate(pki: Pki) -> Broken:
    return Broken(replace(pki.good(HOST), above=()), "x509.anchor")


def _self_signed(pki: Pki) -> Broken:
    lone = pki.new_root(HOST, names=(HOST,), authority=False, usages=(SERVER,), lasts=90 * DAY)
    return Broken(Identity(lone.certificate, lone.key), "x509.anchor")


def _untrusted_root(pki: Pki) -> Broken:
    stranger = pki.new_root("someone else's root")
    identity = stranger.intermediate(pki.authority_recipe("someone else's intermediate")).issue(GOOD)
    return Broken(replace(identity, above=(*identity.above, stranger.certificate)), "x509.anchor")


def _wrong_key(pki: Pki) -> Broken:
    impostor = pki.root.intermediate(pki.authority_recipe("Towpath test intermediate"))
    return Broken(replace(pki.good(HOST), above=(impostor.certificate,)), "x509.signature")


def _leaf_as_issuer(pki: Pki) -> Broken:
    shop = pki.intermediate.issue(replace(GOOD, common_name="shop.example.com"))
    forger = Authority(shop.certificate, shop.key, shop.above, pki.at)
    return Broken(forger.issue(GOOD), "x509.basic-constraints")


def _path_length(pki: Pki) -> Broken:
    short = pki.root.intermediate(replace(pki.authority_recipe("authority of path length 0"), path_length=0))
    return Broken(short.intermediate(pki.authority_recipe("one authority too many")).issue(GOOD), "x509.path-length")


def _too_deep(pki: Pki) -> Broken:
    last = pki.root
    for number in range(9):
        last = last.intermediate(pki.authority_recipe(f"intermediate {number + 1} of 9"))
    return Broken(last.issue(GOOD), "x509.depth")


def _name_constraints(pki: Pki) -> Broken:
    only = x509.NameConstraints([x509.DNSName("example.org")], None)
    return _below(pki, "x509.name-constraints", extra=((only, True),))


def _policy_required(pki: Pki) -> Broken:
    demand = x509.PolicyConstraints(0, None)
    return _below(pki, "x509.certificate-policies", extra=((demand, True),))


def _revoked(pki: Pki) -> Broken:
    identity = pki.good(HOST)
    listed = pki.intermediate.crl(identity.certificate.serial_number)
    return Broken(identity, "x509.revocation-lists", crl=listed)


def _unusable_list(pki: Pki) -> Broken:
    return Broken(pki.good(HOST), "x509.revocation-lists", crl=pki.intermediate.crl(number=None))


def _weak_hash(pki: Pki, algorithm: str, digest: hashes.HashAlgorithm, rule: str) -> Broken:
    """Signed with RSA and another hash, whose identifier is as long as that of SHA-256."""
    signer = pki.root.intermediate(replace(pki.authority_recipe("intermediate with an RSA key"), rsa_bits=2048))
    made = signer.issue(GOOD)
    sha256, other = bytes.fromhex("06092a864886f70d01010b"), bytes.fromhex(algorithm)
    return Broken(replace(made, certificate=patched(made.certificate, signer, sha256, other, digest=digest)), rule)


def _tiny_key(pki: Pki) -> Broken:
    """No library makes such keys any more; the modulus is a number nobody has the factors of."""
    made = pki.intermediate.issue(replace(GOOD, rsa_bits=1024))
    whole = made.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    numbers = _tlv(0x02, b"\x00" + b"\xc5" * 64) + bytes.fromhex("0203010001")
    rsa_algorithm = bytes.fromhex("300d06092a864886f70d0101010500")
    tiny = _tlv(0x30, rsa_algorithm + _tlv(0x03, b"\x00" + _tlv(0x30, numbers)))
    return Broken(replace(made, certificate=patched(made.certificate, pki.intermediate, whole, tiny)), "x509.strength")


def _same_name_constraint(pki: Pki, name: str, critical: bool, rule: str) -> Broken:
    value = x509.NameConstraints([x509.DNSName(name)], None)
    return _below(pki, rule, policy="rfc5280", extra=((value, critical),))


_UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55738.1"), b"\x05\x00")
_TWIN = x509.UnrecognizedExtension(
    x509.ObjectIdentifier("2.5.29.99"), bytes.fromhex("3011820f7777772e6578616d706c652e636f6d")
)
_TAGS_OF_SERIAL_ONE = bytes.fromhex("a003020102020101")

BROKEN: dict[str, Maker] = {
    # Path validation
    "missing-intermediate": _missing_intermediate,
    "self-signed": _self_signed,
    "untrusted-root": _untrusted_root,
    "wrong-intermediate-key": _wrong_key,
    "expired": lambda pki: _leaf(pki, "x509.validity", starts=-91 * DAY),
    "not-yet-valid": lambda pki: _leaf(pki, "x509.validity", starts=DAY),
    "expired-intermediate": lambda pki: _below(pki, "x509.validity", starts=-100 * DAY, lasts=99 * DAY),
    "expired-root": lambda pki: _under(pki, "x509.validity", policy="apple", starts=-100 * DAY, lasts=99 * DAY),
    "leaf-as-issuer": _leaf_as_issuer,
    "issuer-may-not-sign": lambda pki: _below(pki, "x509.key-usage", signs=False),
    "path-too-long": _path_length,
    "too-deep": _too_deep,
    "outside-name-constraints": _name_constraints,
    "md5": lambda pki: _weak_hash(pki, "06092a864886f70d010104", hashes.MD5(), "x509.signature"),
    "rsa-512": _tiny_key,
    "unknown-critical-extension": lambda pki: _leaf(pki, "x509.critical-extensions", extra=((_UNKNOWN, True),)),
    "policy-required": _policy_required,
    "duplicate-extension": lambda pki: _patched(
        pki, "x509.parse", b"\x06\x03\x55\x1d\x63", b"\x06\x03\x55\x1d\x11", policy="apple", extra=((_TWIN, False),)
    ),
    # Revocation
    "revoked": _revoked,
    "unusable-revocation-list": _unusable_list,
    "must-staple": lambda pki: _leaf(
        pki, "x509.must-staple", extra=((x509.TLSFeature([x509.TLSFeatureType.status_request]), False),)
    ),
    # Names and use
    "wrong-name": lambda pki: _leaf(pki, "server.name", names=("shop.example.com",)),
    "common-name-only": lambda pki: _leaf(pki, "server.name", names=(), common_name=HOST),
    "wildcard-too-deep": lambda pki: _leaf(pki, "server.name", names=("*.example.com",), reference="a.b.example.com"),
    "wildcard-not-apex": lambda pki: _leaf(pki, "server.name", names=("*.example.com",), reference="example.com"),
    "partial-wildcard": lambda pki: _leaf(pki, "server.name", names=("w*.example.com",)),
    "address-as-name": lambda pki: _leaf(pki, "server.name", names=("192.0.2.1.example.com",), reference="192.0.2.1"),
    "client-use": lambda pki: _leaf(pki, "server.usage", usages=(CLIENT,)),
    "intermediate-for-clients": lambda pki: _below(pki, "server.usage-nesting", usages=(CLIENT,)),
    # Apple
    "no-use": lambda pki: _leaf(pki, "apple.usage", usages=None),
    "any-use": lambda pki: _leaf(pki, "apple.usage", usages=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)),
    "900-days": lambda pki: _leaf(pki, "policy.lifetime", lasts=900 * DAY),
    "825-days-and-a-second": lambda pki: _leaf(pki, "policy.lifetime", lasts=825 * DAY + timedelta(seconds=1)),
    "rsa-1024": lambda pki: _leaf(pki, "apple.keys", rsa_bits=1024),
    "sha-1": lambda pki: _weak_hash(pki, "06092a864886f70d010105", hashes.SHA1(), "policy.signature-hash"),
    "authority-as-leaf": lambda pki: _leaf(pki, "policy.leaf-authority", authority=True, usages=(SERVER, CLIENT)),
    "mail-only": lambda pki: _leaf(
        pki, "apple.alternative-names", names=("www@example.com",), reference="www@example.com"
    ),
    # Baseline Requirements
    "web-rsa-2052": lambda pki: _leaf(pki, "web.keys", policy="web", rsa_bits=2052),
    "web-no-use": lambda pki: _leaf(pki, "web.usage", policy="web", usages=None),
    "web-critical-use": lambda pki: _leaf(pki, "web.usage", policy="web", critical=frozenset({x509.ExtendedKeyUsage})),
    "web-stray-common-name": lambda pki: _leaf(pki, "web.common-name", policy="web", common_name="other.example.com"),
    "web-critical-names": lambda pki: _leaf(
        pki,
        "web.alternative-names",
        policy="web",
        common_name=HOST,
        critical=frozenset({x509.SubjectAlternativeName}),
    ),
    "web-root-with-use": lambda pki: _under(pki, "web.anchor-form", usages=(SERVER, CLIENT)),
    "web-version-1": lambda pki: _patched(
        pki, "web.version", _TAGS_OF_SERIAL_ONE, bytes.fromhex("020101"), policy="web", serial=1
    ),
    # RFC 5280's profile
    "serial-zero": lambda pki: _patched(
        pki, "rfc5280.serial", _TAGS_OF_SERIAL_ONE, bytes.fromhex("a003020102020100"), policy="rfc5280", serial=1
    ),
    "no-authority-key-id": lambda pki: _leaf(
        pki, "rfc5280.authority-key-id", policy="rfc5280", without=frozenset({x509.AuthorityKeyIdentifier})
    ),
    "no-subject-key-id": lambda pki: _below(
        pki, "rfc5280.subject-key-id", policy="rfc5280", without=frozenset({x509.SubjectKeyIdentifier})
    ),
    "critical-key-id": lambda pki: _leaf(
        pki, "rfc5280.criticality", policy="rfc5280", critical=frozenset({x509.AuthorityKeyIdentifier})
    ),
    "uncritical-name-constraints": lambda pki: _same_name_constraint(
        pki, "example.com", False, "rfc5280.name-constraints-critical"
    ),
    "period-in-name-constraints": lambda pki: _same_name_constraint(
        pki, ".example.com", True, "rfc5280.name-constraints-form"
    ),
    "leaf-with-cert-sign": lambda pki: _leaf(
        pki,
        "rfc5280.key-usage-consistent",
        policy="rfc5280",
        without=frozenset({x509.BasicConstraints}),
        authority=True,
        usages=(SERVER, CLIENT),
    ),
    "nameless-authority": lambda pki: _below(pki, "rfc5280.names", policy="rfc5280", common_name=""),
    "underscore-in-name": lambda pki: _leaf(
        pki, "rfc5280.alternative-names", policy="rfc5280", names=("a_b.example.com",), reference="a_b.example.com"
    ),
}
"""Name to maker. The rule is the first that fails under the case's policy."""
