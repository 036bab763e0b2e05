"""The records of DTLS 1.2 on the wire (RFC 6347 section 4.1): what makes a datagram, and what says no."""

from __future__ import annotations

from collections.abc import Iterator

from towpath.errors import PeerViolation

__all__ = ["alert_record", "datagrams", "records"]

_HEADER = 13
_LENGTH = 11
_ALERT, _FATAL = 21, 2
_VERSION_1_2 = b"\xfe\xfd"
_LATE = 1 << 40
"""A sequence number above all that a handshake uses: a lower one would pass for a replay (section 4.1.2.6)."""


def records(data: bytes) -> Iterator[bytes]:
    """The records that stand one after the other. Raises `PeerViolation` for one that is cut short."""
    at = 0
    while at < len(data):
        end = at + _HEADER + int.from_bytes(data[at + _LENGTH : at + _HEADER], "big")
        if at + _HEADER > len(data) or end > len(data):
            raise PeerViolation("dtls-record", "a record is cut short")
        yield data[at:end]
        at = end


def datagrams(data: bytes, size: int) -> Iterator[bytes]:
    """The same records in datagrams of `size` bytes at most; a record that is longer has one of its own."""
    whole = b""
    for record in records(data):
        if whole and len(whole) + len(record) > size:
            yield whole
            whole = b""
        whole += record
    if whole:
        yield whole


def alert_record(alert: int) -> bytes:
    """A fatal alert in the clear, for a peer that has not been sent anything encrypted."""
    return bytes((_ALERT,)) + _VERSION_1_2 + _LATE.to_bytes(8, "big") + bytes((0, 2, _FATAL, alert))
