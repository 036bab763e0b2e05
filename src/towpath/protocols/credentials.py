"""What a side proves itself with: a chain and the key of its leaf, from PEM files; and which of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from towpath.errors import ConfigInvalid
from towpath.trust.identities import choose

__all__ = ["Credentials", "Files", "Identities", "choose_files"]

Files = tuple[Path, Path]
"""A chain, leaf first, and the key of its leaf, in PEM."""
Identities = Sequence[Files] | Callable[[list[x509.Name]], Files | None]
"""What a client chooses from, or who chooses: called with the authorities that the server accepts (none: any)."""


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


def choose_files(offered: Identities, acceptable: Sequence[bytes]) -> Files | None:
    """The identity for a server that accepts these authorities, in DER.

    Raises what the chooser raises, `ConfigInvalid` and `OSError` for files that cannot be used.
    """
    if callable(offered):
        return offered([x509.Name.from_bytes(name) for name in acceptable])
    loaded = [(Credentials.load(*files), files) for files in offered]
    chosen = choose([credentials for credentials, _ in loaded], acceptable, datetime.now(UTC))
    return next((files for credentials, files in loaded if credentials is chosen), None)
