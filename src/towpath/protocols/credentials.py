"""What a side proves itself with: a chain and the key of its leaf, from PEM files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from towpath.errors import ConfigInvalid

__all__ = ["Credentials"]


@dataclass(frozen=True)
class Credentials:
    """A chain and the key of its leaf."""

    certificates: tuple[x509.Certificate, ...]
    key: Any

    @classmethod
    def load(cls, chain: Path, key: Path) -> Credentials:
        """From PEM files. Raises `ConfigInvalid` for files that hold something else, `OSError`."""
        try:
            certificates = tuple(x509.load_pem_x509_certificates(chain.read_bytes()))
            return cls(certificates, load_pem_private_key(key.read_bytes(), None))
        except (ValueError, TypeError) as error:
            raise ConfigInvalid(f"{chain} with {key}", f"no certificate and key in PEM: {error}") from error

    @property
    def chain(self) -> list[bytes]:
        return [certificate.public_bytes(Encoding.DER) for certificate in self.certificates]
