"""What the layers over pyOpenSSL share: its outgoing buffer, its errors, and what it is shown and told."""

from __future__ import annotations

from OpenSSL import SSL

from towpath.errors import ConfigInvalid
from towpath.protocols.credentials import Files

__all__ = ["drain", "leave_it_to_us", "reason_of", "show"]

_READ = 1 << 16


def drain(connection: SSL.Connection) -> bytes:
    """All that is to be sent."""
    found = b""
    try:
        while True:
            found += connection.bio_read(_READ)
    except SSL.WantReadError:
        return found


def reason_of(error: SSL.Error) -> str:
    """OpenSSL's reason: ``tlsv1 alert unknown ca``."""
    stack = error.args[0] if error.args else ()
    return str(stack[-1][2]) if isinstance(stack, list) and stack else "the handshake failed"


def show(context: SSL.Context, identity: Files) -> None:
    """Lets connections of a context prove themselves with an identity. Raises `ConfigInvalid`."""
    try:
        context.use_certificate_chain_file(str(identity[0]))
        context.use_privatekey_file(str(identity[1]))
        context.check_privatekey()
    except SSL.Error as error:
        words = f"no certificate and key in PEM: {reason_of(error)}"
        raise ConfigInvalid(f"{identity[0]} with {identity[1]}", words) from error


def leave_it_to_us(*facts: object) -> bool:
    """For `set_verify`: OpenSSL's own verdict does not count."""
    return True
