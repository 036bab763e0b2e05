"""Initial packets of a QUIC client, sealed by hand, so that anything can be put into them."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from towpath.wire.quic_keys import VERSION_1, ClientKeys

__all__ = ["ID", "crypto", "hello", "seal"]

ID = b"12345678"
"""The connection ID that a client chooses first."""


def hello(name: str = "good.test", padding: int = 0) -> bytes:
    """The handshake bytes of a small ClientHello."""
    host = name.encode()
    extensions = b"\0\0" + (len(host) + 5).to_bytes(2, "big") + (len(host) + 3).to_bytes(2, "big")
    extensions += b"\0" + len(host).to_bytes(2, "big") + host
    extensions += b"\0\x15" + padding.to_bytes(2, "big") + bytes(padding)
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + len(extensions).to_bytes(2, "big") + extensions
    return b"\1" + len(body).to_bytes(3, "big") + body


def crypto(data: bytes, offset: int = 0) -> bytes:
    return b"\6" + (0x80000000 | offset).to_bytes(4, "big") + (0x4000 | len(data)).to_bytes(2, "big") + data


def seal(
    frames: bytes,
    *,
    number: int = 0,
    destination: bytes = ID,
    origin: bytes | None = None,
    version: int = VERSION_1,
    token: bytes = b"",
) -> bytes:
    """An Initial packet; `origin` is the ID that the keys come from when it is not the destination."""
    keys = ClientKeys(version, destination if origin is None else origin)
    frames = frames.ljust(20, b"\0")
    first = 0xC3 if version == VERSION_1 else 0xD3
    header = bytes((first,)) + version.to_bytes(4, "big") + bytes((len(destination),)) + destination + b"\0"
    header += bytes((len(token),)) + token + (0x4000 | 4 + len(frames) + 16).to_bytes(2, "big")
    number_bytes = number.to_bytes(4, "big")
    nonce = (int.from_bytes(keys.iv, "big") ^ number).to_bytes(12, "big")
    sealed = AESGCM(keys.key).encrypt(nonce, frames, header + number_bytes)
    mask = Cipher(algorithms.AES(keys.protection), modes.ECB()).encryptor().update(sealed[:16])
    masked = bytes(byte ^ key for byte, key in zip(number_bytes, mask[1:5], strict=True))
    return bytes((first ^ mask[0] & 0x0F,)) + header[1:] + masked + sealed
