"""A certificate authority for tests, and every broken certificate by name.

Nothing here is secret or meant to last: keys are made anew, P-256 unless a case is about keys.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority", "Identity", "Pki", "Recipe"]

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


def new_key(bits: int | None = None) -> Key:
    """A P-256 key, or an RSA key of so many bits."""
    return ec.generate_private_key(ec.SECP256R1()) if bits is None else rsa.generate_private_key(65537, bits)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a certificate is made; the defaults make a good one for `names`, valid for 90 days around `Pki.at`."""

    names: tuple[str, ...] = ()
    """DNS names, IP addresses and mailboxes of the alternative names."""
    common_name: str = ""
    authority: bool = False
    path_length: int | None = None
    starts: timedelta = timedelta(days=-1)
    lasts: timedelta = timedelta(days=90)
    """From start to ``notAfter``, both ends included: a second more than the difference."""
    usages: tuple[x509.ObjectIdentifier, ...] | None = (SERVER,)
    signs: bool = True
    """An authority's key usage has keyCertSign and cRLSign."""
    rsa_bits: int | None = None
    serial: int | None = None
    without: frozenset[type[x509.ExtensionType]] = frozenset()
    critical: frozenset[type[x509.ExtensionType]] = frozenset()
    """Extensions whose critical mark is the opposite of the proper one."""
    extra: tuple[tuple[x509.ExtensionType, bool], ...] = ()


@dataclass(frozen=True)
class Identity:
    """A certificate with its key and what a server would send after it. ::

    context.load_cert_chain(*identity.write(folder))
    """

    certificate: x509.Certificate
    key: Key
    above: tuple[x509.Certificate, ...] = ()
    """The intermediates, nearest first; no root."""

    @property
    def chain(self) -> list[bytes]:
        """DER, leaf first."""
        return [certificate.public_bytes(Encoding.DER) for certificate in (self.certificate, *self.above)]

    @property
    def chain_pem(self) -> bytes:
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in (self.certificate, *self.above))

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, folder: Path, name: str = "server") -> tuple[Path, Path]:
        """Writes ``name.pem`` and ``name.key`` (mode 0600) and gives both paths."""
        folder.mkdir(parents=True, exist_ok=True)
        chain, key = folder / f"{name}.pem", folder / f"{name}.key"
        chain.write_bytes(self.chain_pem)
        descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as stream:
            stream.write(self.key_pem)
        return chain, key


@dataclass(frozen=True)
class Authority(Identity):
    """A certificate that issues others."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def issue(self, recipe: Recipe, *, key: Key | None = None) -> Identity:
        """A certificate by that recipe; its chain leads up to the root, which is left out."""
        made, key = _make(recipe, self, self.at, key)
        return Identity(made, key, self._chain())

    def intermediate(self, recipe: Recipe, *, key: Key | None = None) -> Authority:
        """An authority below this one."""
        made, key = _make(replace(recipe, authority=True), self, self.at, key)
        return Authority(made, key, self._chain(), self.at)

    def _chain(self) -> tuple[x509.Certificate, ...]:
        is_root = not self.above and self.certificate.issuer == self.certificate.subject
        return () if is_root else (self.certificate, *self.above)

    def crl(
        self,
        *serials: int,
        days: int = 7,
        number: int | None = 1,
        extra: tuple[tuple[x509.ExtensionType, bool], ...] = (),
        owner: x509.CertificateIssuer | None = None,
    ) -> bytes:
        """A DER revocation list of those serial numbers, from an hour ago, for so many days.

        `owner` is whose certificates they are, where the list is indirect.
        """
        issued = self.at - timedelta(hours=1)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(issued).next_update(issued + timedelta(days=days))
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False
        )
        if number is not None:
            builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        for value, critical in extra:
            builder = builder.add_extension(value, critical)
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(issued)
            if owner is not None:
                entry = entry.add_extension(owner, critical=True)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def staple(
        self,
        leaf: x509.Certificate,
        *,
        revoked: bool = False,
        age: timedelta = timedelta(hours=1),
        signer: Identity | None = None,
    ) -> bytes:
        """A DER OCSP response about `leaf`, `age` old and good for a week, signed by this authority or by `signer`."""
        made = self.at - age
        status = ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD
        who = signer or self
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=leaf,
            issuer=self.certificate,
            algorithm=hashes.SHA256(),
            cert_status=status,
            this_update=made,
            next_update=made + timedelta(days=7),
            revocation_time=made if revoked else None,
            revocation_reason=None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, who.certificate)
        if signer is not None:
            builder = builder.certificates([signer.certificate])
        return builder.sign(who.key, hashes.SHA256()).public_bytes(Encoding.DER)


def _make(recipe: Recipe, issuer: Authority | None, at: datetime, key: Key | None) -> tuple[x509.Certificate, Key]:
    key = key or new_key(recipe.rsa_bits)
    starts = (at + recipe.starts).replace(microsecond=0)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, recipe.common_name)] if recipe.common_name else [])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(recipe.serial or x509.random_serial_number())
        .not_valid_before(starts)
        .not_valid_after(starts + recipe.lasts - timedelta(seconds=1))
    )
    for value, critical in _extensions(recipe, key, issuer):
        if type(value) not in recipe.without:
            builder = builder.add_extension(value, critical != (type(value) in recipe.critical))
    return builder.sign(issuer.key if issuer else key, hashes.SHA256()), key


def _extensions(recipe: Recipe, key: Key, issuer: Authority | None) -> Iterable[tuple[x509.ExtensionType, bool]]:
    yield x509.BasicConstraints(recipe.authority, recipe.path_length if recipe.authority else None), True
    yield x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False
    signer = issuer.key if issuer else key
    yield x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
    yield _key_usage(certificates=recipe.authority and recipe.signs, handshakes=not recipe.authority), True
    if recipe.names:
        yield x509.SubjectAlternativeName([_general_name(name) for name in recipe.names]), not recipe.common_name
    if recipe.usages is not None and not (recipe.authority and recipe.usages == (SERVER,)):
        yield x509.ExtendedKeyUsage(recipe.usages), False
    yield from recipe.extra


def _key_usage(*, certificates: bool, handshakes: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=handshakes,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.RFC822Name(text) if "@" in text else x509.DNSName(text)


class Pki:
    """A root, an intermediate and certificates of every kind, all for one moment.

    ::

        pki = Pki()
        pki.good("www.example.com").write(folder)
        pki.broken("expired").identity.chain
    """

    def __init__(self, at: datetime | None = None) -> None:
        """`at` is the moment at which the good ones are valid; now by default."""
        self.at = (at or datetime.now(UTC)).replace(microsecond=0)

    @cached_property
    def root(self) -> Authority:
        return self.new_root("Towpath test root")

    @cached_property
    def intermediate(self) -> Authority:
        return self.root.intermediate(self.authority_recipe("Towpath test intermediate"))

    def new_root(self, name: str, **changes: object) -> Authority:
        """Another root; `changes` are fields of `Recipe`."""
        recipe = replace(self.authority_recipe(name), **changes)  # type: ignore[arg-type]
        made, key = _make(recipe, None, self.at, None)
        return Authority(made, key, (), self.at)

    def authority_recipe(self, name: str) -> Recipe:
        """The recipe of an authority, ten years long."""
        years = timedelta(days=3650)
        return Recipe(common_name=name, authority=True, starts=timedelta(days=-30), lasts=years, usages=None)

    def good(self, *names: str) -> Identity:
        """A server's certificate that every policy accepts, for ``www.example.com`` by default."""
        return self.intermediate.issue(Recipe(names=names or ("www.example.com",)))

    def client(self, *names: str) -> Identity:
        """A client's certificate."""
        return self.intermediate.issue(Recipe(names=names or ("client@example.com",), usages=(CLIENT,)))

    def broken(self, name: str) -> Broken:
        """One of the broken by its name, with what is wrong; `KeyError` for a name that is not in `Pki.names()`."""
        from towpath.testing.pki_broken import BROKEN

        return BROKEN[name](self)

    @staticmethod
    def names() -> list[str]:
        """The names of the broken ones."""
        from towpath.testing.pki_broken import BROKEN

        return list(BROKEN)

    def write(self, folder: Path) -> None:
        """Writes the root, a good server and every broken one as PEM files, each with its key."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "root.pem").write_bytes(self.root.certificate.public_bytes(Encoding.PEM))
        self.good().write(folder, "good")
        for name in self.names():
            self.broken(name).identity.write(folder, name)


@dataclass(frozen=True)
class Broken:
    """A broken certificate: the rule that refuses it, under which policy, and the name to ask for."""

    identity: Identity
    rule: str
    policy: str = "apple"
    reference: str = "www.example.com"
    anchor: x509.Certificate | None = None
    """The anchor to trust instead of the test root."""
    crl: bytes | None = None
    """A revocation list that belongs to the case."""


Maker = Callable[[Pki], Broken]
