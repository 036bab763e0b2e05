"""MACs of handshake messages, and the cookies that a peer under load demands (sections 5.4.4, 5.4.7).

`mac1` proves that the sender knows whom it talks to; `mac2`, where a cookie was sent before, that it can be reached at
its address. A cookie travels sealed by XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha), of which the library has only the
half with short nonces: the rest is HChaCha20, here.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from towpath.errors import PeerViolation
from towpath.extensions.wireguard.noise import hash_of

__all__ = ["COOKIE_REPLY", "COOKIE_REPLY_SIZE", "CookieJar", "CookieMaker", "hchacha20"]

COOKIE_REPLY, COOKIE_REPLY_SIZE = 3, 64
COOKIE_SECONDS = 120.0
"""How long a cookie is good, and how often the secret behind it changes."""
_LABEL_MAC1, _LABEL_COOKIE = b"mac1----", b"cookie--"
_CONSTANTS = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)
_ROUNDS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15), (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13),
           (3, 4, 9, 14))  # fmt: skip


def _mac(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2s(data, digest_size=16, key=key).digest()


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """A key of 32 bytes from a key of 32 and a nonce of 16 (draft-irtf-cfrg-xchacha section 2.2)."""
    state = [*_CONSTANTS, *struct.unpack("<8I", key), *struct.unpack("<4I", nonce)]
    for _ in range(10):
        for a, b, c, d in _ROUNDS:
            for first, second, third, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                state[first] = (state[first] + state[second]) & 0xFFFFFFFF
                mixed = state[third] ^ state[first]
                state[third] = (mixed << turn | mixed >> 32 - turn) & 0xFFFFFFFF
    return struct.pack("<8I", *state[:4], *state[12:])


def _xchacha(key: bytes, nonce: bytes) -> tuple[ChaCha20Poly1305, bytes]:
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])), bytes(4) + nonce[16:]


class CookieJar:
    """Writes the MACs of our messages to one peer, and keeps the cookie that it sent."""

    def __init__(self, peer: bytes) -> None:
        self._mac1_key = hash_of(_LABEL_MAC1, peer)
        self._cookie_key = hash_of(_LABEL_COOKIE, peer)
        self._last_mac1 = b""
        self._cookie = b""
        self._until = 0.0

    def close(self, message: bytes, now: float) -> bytes:
        """`message` with both MACs behind it."""
        self._last_mac1 = _mac(self._mac1_key, message)
        message += self._last_mac1
        return message + (_mac(self._cookie, message) if now < self._until else bytes(16))

    def take(self, reply: bytes, now: float) -> None:
        """A cookie reply to the message that was closed last. Raises `PeerViolation`."""
        if len(reply) != COOKIE_REPLY_SIZE or not self._last_mac1:
            raise PeerViolation("cookie-unasked", "a cookie that answers nothing")
        cipher, nonce = _xchacha(self._cookie_key, reply[8:32])
        try:
            self._cookie = cipher.decrypt(nonce, reply[32:], self._last_mac1)
        except InvalidTag:
            raise PeerViolation("cookie-authentication", "a cookie that is not the peer's") from None
        self._last_mac1 = b""
        self._until = now + COOKIE_SECONDS - 5


class CookieMaker:
    """Checks the MACs of messages to us, and makes cookies."""

    def __init__(self, own_public: bytes, random: Callable[[int], bytes] = os.urandom) -> None:
        self._mac1_key = hash_of(_LABEL_MAC1, own_public)
        self._cookie_key = hash_of(_LABEL_COOKIE, own_public)
        self._random = random
        self._secret = b""
        self._changed = 0.0

    def knows_us(self, message: bytes) -> bool:
        """Whether `mac1` is right; without it nothing is computed and nothing answered."""
        return hmac.compare_digest(message[-32:-16], _mac(self._mac1_key, message[:-32]))

    def is_reachable(self, message: bytes, source: bytes, now: float) -> bool:
        """Whether `mac2` is right for a sender at `source`, the packed address and port."""
        return hmac.compare_digest(message[-16:], _mac(self._cookie(source, now), message[:-16]))

    def reply(self, message: bytes, source: bytes, now: float) -> bytes:
        """A cookie for the sender of `message`."""
        nonce = self._random(24)
        cipher, short = _xchacha(self._cookie_key, nonce)
        sealed = cipher.encrypt(short, self._cookie(source, now), message[-32:-16])
        return struct.pack("<I", COOKIE_REPLY) + message[4:8] + nonce + sealed

    def _cookie(self, source: bytes, now: float) -> bytes:
        if not self._secret or now - self._changed >= COOKIE_SECONDS:
            self._secret, self._changed = self._random(32), now
        return _mac(self._secret, source)
