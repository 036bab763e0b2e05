"""What is said when a handshake ends badly: the alert for the peer, the words for people."""

from __future__ import annotations

import ssl

__all__ = ["alert_record", "reason_of"]

_ALERT_RECORD, _FATAL = 21, 2


def alert_record(alert: int) -> bytes:
    """A fatal alert in the clear (RFC 8446 section 5.1).

    Only for a side that has not sent anything encrypted: the peer still reads records in the clear then.
    """
    return bytes((_ALERT_RECORD, 3, 3, 0, 2, _FATAL, alert))


def reason_of(error: ssl.SSLError) -> str:
    """OpenSSL's reason in plain words: ``tlsv1 alert unknown ca``."""
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else str(error)
