"""Where trust begins: the certificates a path may end at, and whether they are the system's or someone's own."""

from __future__ import annotations

import ssl
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509

from towpath.errors import ConfigInvalid, PeerViolation
from towpath.trust.certificate import Certificate, NameKey, encoded_blocks, load
from towpath.trust.signatures import issued_fault

__all__ = ["Anchors"]

MAX_STORE = 64 << 20
MAX_REMEMBERED = 1024


class Anchors:
    """A set of trust anchors; each is public (it comes with the system) or private (a person added it).

    Public authorities are held to more: lifetimes by issue date, transparency. ::

        Anchors.system() | Anchors.pem("corporate-ca.pem")      # the system's, and our own beside them
    """

    def __init__(self, public: Iterable[Certificate] = (), private: Iterable[Certificate] = ()) -> None:
        self._public: dict[bytes, Certificate] = {anchor.fingerprint: anchor for anchor in public}
        self._private: dict[bytes, Certificate] = {anchor.fingerprint: anchor for anchor in private}
        self._by_subject: dict[NameKey, list[Certificate]] = defaultdict(list)
        for anchor in {**self._public, **self._private}.values():
            self._by_subject[anchor.subject_key].append(anchor)
        self._signatures: dict[tuple[bytes, bytes], str] = {}

    @classmethod
    def of(cls, *certificates: bytes | x509.Certificate | Certificate, public: bool = False) -> Anchors:
        """An explicit list; private unless said otherwise."""
        found = [load(certificate) for certificate in certificates]
        return cls(public=found) if public else cls(private=found)

    @classmethod
    def system(cls) -> Anchors:
        """The store of this host, where OpenSSL looks for it (``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` apply)."""
        paths = ssl.get_default_verify_paths()
        for place in (
            paths.cafile,
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/pki/tls/certs/ca-bundle.crt",
            paths.capath,
        ):
            if place and Path(place).exists():
                return cls.pem(place, public=True)
        raise ConfigInvalid(
            "anchors", "this host has no certificate store", "install the package ca-certificates, or give a PEM file"
        )

    @classmethod
    def certifi(cls) -> Anchors:
        """The store of the `certifi` package; raises `ConfigInvalid` where it is not installed."""
        try:
            import certifi
        except ImportError as error:
            raise ConfigInvalid("anchors", "certifi is not installed", "pip install certifi") from error
        return cls.pem(certifi.where(), public=True)

    @classmethod
    def pem(cls, place: str | Path, *, public: bool = False) -> Anchors:
        """Every certificate of a PEM file, or of the ``.pem``, ``.crt`` and ``.cer`` files of a folder.

        A certificate that cannot be read is left out of a folder and of a public store, which are others' work, and
        refused (`ConfigInvalid`) in a file of your own.
        """
        path = Path(place)
        try:
            files = sorted(_folder_files(path)) if path.is_dir() else [path]
            found = [certificate for file in files for certificate in _read(file, lenient=public or path.is_dir())]
        except OSError as error:
            raise ConfigInvalid(
                str(place), error.strerror or str(error), "give a PEM file or a folder of them"
            ) from error
        if not found:
            raise ConfigInvalid(str(place), "holds no certificate", "give a PEM file or a folder of them")
        return cls(public=found) if public else cls(private=found)

    def __or__(self, other: Anchors) -> Anchors:
        """Both sets. A certificate that is public in one and private in the other is private: a person added it."""
        private = {**self._private, **other._private}
        public = {**self._public, **other._public}
        return Anchors([anchor for key, anchor in public.items() if key not in private], private.values())

    def __len__(self) -> int:
        return len(self._public.keys() | self._private.keys())

    def __contains__(self, certificate: object) -> bool:
        return isinstance(certificate, Certificate) and (
            certificate.fingerprint in self._public or certificate.fingerprint in self._private
        )

    def is_public(self, certificate: Certificate) -> bool:
        """Whether the anchor comes with the system."""
        return certificate.fingerprint in self._public

    def with_subject(self, subject: NameKey) -> list[Certificate]:
        """The anchors of that name, in the order they were given."""
        return self._by_subject.get(subject, [])

    def issued_fault(self, child: Certificate, anchor: Certificate) -> str:
        """`signatures.issued_fault()`, remembered: most chains come through a few intermediates of each anchor.

        What is remembered is whether a key made a signature, which no time and no policy changes.
        """
        key = child.fingerprint, anchor.spki_hash
        fault = self._signatures.get(key)
        if fault is None:
            fault = issued_fault(child, anchor)
            if len(self._signatures) >= MAX_REMEMBERED:
                self._signatures.clear()
            self._signatures[key] = fault
        return fault

    @property
    def has_private(self) -> bool:
        """Whether someone added an anchor of their own: it loosens what the system alone would accept."""
        return bool(self._private)

    def certificates(self) -> tuple[Certificate, ...]:
        return tuple({**self._public, **self._private}.values())


def _folder_files(folder: Path) -> Iterable[Path]:
    return (file for file in folder.iterdir() if file.suffix in {".pem", ".crt", ".cer"} and file.is_file())


def _read(file: Path, *, lenient: bool) -> list[Certificate]:
    if file.stat().st_size > MAX_STORE:
        raise ConfigInvalid(str(file), f"is larger than {MAX_STORE >> 20} MiB")
    found: list[Certificate] = []
    try:
        for block in encoded_blocks(file.read_bytes()):
            try:
                found.append(Certificate(block))
            except PeerViolation:
                if not lenient:
                    raise
    except PeerViolation as error:
        if lenient:
            return []
        raise ConfigInvalid(
            str(file), str(error), "a PEM file of CERTIFICATE blocks, or one DER certificate"
        ) from error
    return found
