"""Initial packets of QUIC: the keys that everybody can derive, and opening a packet (RFC 9001 section 5, RFC 9369)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from towpath.errors import PeerViolation

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["INITIAL_TYPES", "ClientKeys", "LongHeader", "header_at", "variable", "whole_number"]

VERSION_1, VERSION_2 = 1, 0x6B3343CF
INITIAL_TYPES = {VERSION_1: 0, VERSION_2: 1}
"""Version to the packet type that is an Initial."""
_RETRY_TYPES = {VERSION_1: 3, VERSION_2: 0}
_SALTS = {
    VERSION_1: bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"),
    VERSION_2: bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"),
}
_LABELS = {VERSION_1: "quic", VERSION_2: "quicv2"}


class LongHeader(NamedTuple):
    """A long header packet in a datagram. `number_at` is where its protected packet number begins, `end` its end."""

    version: int
    initial: bool
    destination: bytes
    start: int
    number_at: int
    end: int


def variable(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer (RFC 9000 section 16) and the offset after it."""
    if at >= len(data):
        raise PeerViolation("quic-length", "cut off")
    size = 1 << (data[at] >> 6)
    if at + size > len(data):
        raise PeerViolation("quic-length", "cut off")
    return int.from_bytes(data[at : at + size], "big") & (1 << (8 * size - 2)) - 1, at + size


def header_at(datagram: bytes, start: int) -> LongHeader:
    """The long header at an offset. Raises `PeerViolation` for unknown versions, Retry, and lengths that lie."""
    at = start + 6
    if at > len(datagram):
        raise PeerViolation("quic-length", "header cut off")
    version = int.from_bytes(datagram[start + 1 : start + 5], "big")
    initial_type = INITIAL_TYPES.get(version)
    if initial_type is None:
        raise PeerViolation("quic-version", f"{version:#x}")
    kind = datagram[start] >> 4 & 3
    if kind == _RETRY_TYPES[version]:
        raise PeerViolation("quic-retry", "from a client")
    size = datagram[at - 1]
    destination = datagram[at : at + size]
    at += size
    if size > 20 or at >= len(datagram) or datagram[at] > 20:
        raise PeerViolation("quic-connection-id", "too long")
    at += 1 + datagram[at]
    if kind == initial_type:
        token, at = variable(datagram, at)
        at += token
    length, at = variable(datagram, at)
    if length > len(datagram) - at:
        raise PeerViolation("quic-length", f"packet of {length} bytes at {at} of {len(datagram)}")
    return LongHeader(version, kind == initial_type, destination, start, at, at + length)


class ClientKeys:
    """What protects a client's Initial packets, from the version and the first Destination Connection ID it chose.

    >>> ClientKeys(1, bytes.fromhex("8394c8f03e515708")).key.hex()
    '1f369613dd76d5467730efcbe3b1a22d'
    """

    __slots__ = ("_aead", "_mask", "iv", "key", "protection")

    def __init__(self, version: int, destination: bytes) -> None:
        import hmac

        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        initial = hmac.digest(_SALTS[version], destination, "sha256")
        client = _expand(initial, "client in", 32)
        self.key = _expand(client, f"{_LABELS[version]} key", 16)
        self.iv = _expand(client, f"{_LABELS[version]} iv", 12)
        self.protection = _expand(client, f"{_LABELS[version]} hp", 16)
        self._aead: AESGCM = AESGCM(self.key)
        self._mask: CipherContext = Cipher(algorithms.AES(self.protection), modes.ECB()).encryptor()

    def open(self, datagram: bytes, header: LongHeader, expected: int) -> tuple[int, bytes] | None:
        """The packet number and the frames of an Initial, or `None` when these keys do not open it.

        `expected` is the number after the highest one seen, 0 at first (RFC 9000 appendix A.3).
        """
        from cryptography.exceptions import InvalidTag

        sample = datagram[header.number_at + 4 : header.number_at + 20]
        if len(sample) < 16 or header.number_at + 20 > header.end:
            return None
        mask = self._mask.update(sample)
        first = datagram[header.start] ^ mask[0] & 0x0F
        width = 1 + (first & 3)
        payload_at = header.number_at + width
        number_bytes = bytes(
            byte ^ key for byte, key in zip(datagram[header.number_at : payload_at], mask[1:], strict=False)
        )
        number = whole_number(int.from_bytes(number_bytes, "big"), 8 * width, expected)
        nonce = (int.from_bytes(self.iv, "big") ^ number).to_bytes(12, "big")
        associated = bytes((first,)) + datagram[header.start + 1 : header.number_at] + number_bytes
        try:
            return number, self._aead.decrypt(nonce, datagram[payload_at : header.end], associated)
        except InvalidTag:
            return None


def load() -> None:
    """Imports what opening a packet takes, for programs that must import nothing later on."""
    import hmac  # noqa: F401

    from cryptography.exceptions import InvalidTag  # noqa: F401
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: F401
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: F401


def _expand(secret: bytes, label: str, length: int) -> bytes:
    """HKDF-Expand-Label with an empty context (RFC 8446 section 7.1), for up to one SHA-256 block."""
    import hmac

    name = b"tls13 " + label.encode("ascii")
    info = length.to_bytes(2, "big") + bytes((len(name),)) + name + b"\0"
    return hmac.digest(secret, info + b"\x01", "sha256")[:length]


def whole_number(truncated: int, bits: int, expected: int) -> int:
    """The packet number nearest to the expected one that ends in these bits (RFC 9000 appendix A.3)."""
    window = 1 << bits
    candidate = expected & ~(window - 1) | truncated
    if candidate <= expected - window // 2 and candidate < (1 << 62) - window:
        return candidate + window
    if candidate > expected + window // 2 and candidate >= window:
        return candidate - window
    return candidate
