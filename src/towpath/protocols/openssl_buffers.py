"""What the layers over pyOpenSSL share: its outgoing buffer, and its errors in plain words."""

from __future__ import annotations

from OpenSSL import SSL

__all__ = ["drain", "reason_of"]

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
