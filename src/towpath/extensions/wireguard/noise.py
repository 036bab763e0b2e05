"""The handshake: Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s with WireGuard's prologue and messages (sections 5.4.1-5)."""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from towpath.errors import PeerViolation

__all__ = [
    "INITIATION", "INITIATION_SIZE", "RESPONSE", "RESPONSE_SIZE", "Initiator", "PrivateKey", "Responder", "hash_of",
    "read_initiation", "tai64n",
]  # fmt: skip

_CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
_IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
INITIATION, RESPONSE = 1, 2
INITIATION_SIZE, RESPONSE_SIZE = 148, 92
_MAC_SIZE = 32
"""Of both MACs, which `cookies` writes."""
_NO_NONCE = bytes(12)
_TAI_OFFSET = (1 << 62) + 10


def hash_of(*parts: bytes) -> bytes:
    """BLAKE2s with 32 bytes of output, of the parts one after the other."""
    made = hashlib.blake2s()
    for part in parts:
        made.update(part)
    return made.digest()


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "blake2s")


def derive(chaining: bytes, material: bytes, count: int) -> list[bytes]:
    """KDFn: HKDF (RFC 5869) with HMAC-BLAKE2s and no info."""
    secret = _hmac(chaining, material)
    found: list[bytes] = []
    for number in range(1, count + 1):
        found.append(_hmac(secret, (found[-1] if found else b"") + bytes([number])))
    return found


_FIRST_CHAINING = hash_of(_CONSTRUCTION)
_FIRST_HASH = hash_of(_FIRST_CHAINING, _IDENTIFIER)


class PrivateKey:
    """A Curve25519 key pair that shows only its public half.

    >>> PrivateKey(bytes(31) + b"\\x40")
    PrivateKey(public=L+V9o0fNYkMVKNqsX7spBzD/9oSvxM/C7ZCZX1jLO3Q=)
    """

    __slots__ = ("_key", "public")

    def __init__(self, secret: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(secret)
        self.public = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, random: Callable[[int], bytes] = os.urandom) -> PrivateKey:
        return cls(random(32))

    def secret(self) -> bytes:
        """The private half, for who speaks in its name elsewhere. To be shown to nobody."""
        return self._key.private_bytes_raw()

    def agree(self, public: bytes) -> bytes:
        """The shared secret. Raises `PeerViolation` for a public key of low order."""
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise PeerViolation("noise-key", "a public key that agrees on nothing") from None

    def __repr__(self) -> str:
        import base64

        return f"PrivateKey(public={base64.b64encode(self.public).decode()})"


def tai64n(seconds: float) -> bytes:
    """A TAI64N label of Unix time, as a peer compares it: later is greater. Its resolution here is a microsecond."""
    microseconds = round(seconds * 1_000_000)
    return struct.pack(">QI", _TAI_OFFSET + microseconds // 1_000_000, microseconds % 1_000_000 * 1000)


class _State:
    """The symmetric state of a handshake (Noise, section 5.2)."""

    __slots__ = ("chaining", "hash", "key")

    def __init__(self, responder: bytes) -> None:
        self.chaining = _FIRST_CHAINING
        self.hash = hash_of(_FIRST_HASH, responder)
        self.key = b""

    def copy(self) -> _State:
        other = _State.__new__(_State)
        other.chaining, other.hash, other.key = self.chaining, self.hash, self.key
        return other

    def mix_hash(self, data: bytes) -> None:
        self.hash = hash_of(self.hash, data)

    def mix_ephemeral(self, public: bytes) -> None:
        self.mix_hash(public)
        self.chaining = derive(self.chaining, public, 1)[0]

    def mix_key(self, secret: bytes) -> None:
        self.chaining, self.key = derive(self.chaining, secret, 2)

    def mix_preshared(self, key: bytes) -> None:
        self.chaining, temporary, self.key = derive(self.chaining, key, 3)
        self.mix_hash(temporary)

    def seal(self, plain: bytes) -> bytes:
        sealed = ChaCha20Poly1305(self.key).encrypt(_NO_NONCE, plain, self.hash)
        self.mix_hash(sealed)
        return sealed

    def open(self, sealed: bytes) -> bytes:
        try:
            plain = ChaCha20Poly1305(self.key).decrypt(_NO_NONCE, sealed, self.hash)
        except InvalidTag:
            raise PeerViolation("noise-authentication", "a part of a handshake is not what its sender sealed") from None
        self.mix_hash(sealed)
        return plain

    def transport_keys(self) -> tuple[bytes, bytes]:
        """What the initiator sends with, and what it receives with."""
        first, second = derive(self.chaining, b"", 2)
        return first, second


class Initiator:
    """The side that begins. `message` is the initiation without its MACs, 116 bytes."""

    def __init__(
        self,
        own: PrivateKey,
        peer: bytes,
        preshared: bytes,
        index: int,
        timestamp: bytes,
        ephemeral: PrivateKey | None = None,
    ) -> None:
        self._own = own
        self._preshared = preshared
        self._ephemeral = ephemeral or PrivateKey.generate()
        state = self._state = _State(peer)
        state.mix_ephemeral(self._ephemeral.public)
        state.mix_key(self._ephemeral.agree(peer))
        static = state.seal(own.public)
        state.mix_key(own.agree(peer))
        stamp = state.seal(timestamp)
        self.index = index
        self.message = struct.pack("<II", INITIATION, index) + self._ephemeral.public + static + stamp

    def finish(self, response: bytes) -> tuple[int, bytes, bytes]:
        """The peer's index, the key to send with and the one to receive with. Raises `PeerViolation`.

        A response that fails leaves the handshake as it was: another may still come.
        """
        if len(response) != RESPONSE_SIZE:
            raise PeerViolation("noise-length", f"a response of {len(response)} bytes")
        kind, sender, receiver = struct.unpack_from("<III", response)
        if kind != RESPONSE or receiver != self.index:
            raise PeerViolation("noise-index", "a response to another handshake")
        ephemeral = response[12:44]
        state = self._state.copy()
        state.mix_ephemeral(ephemeral)
        state.mix_key(self._ephemeral.agree(ephemeral))
        state.mix_key(self._own.agree(ephemeral))
        state.mix_preshared(self._preshared)
        state.open(response[44:60])
        send, receive = state.transport_keys()
        return sender, send, receive


class Responder:
    """The side that answers an initiation that `read_initiation` has read."""

    def __init__(self, state: _State, peer: bytes, peer_index: int, ephemeral: bytes, timestamp: bytes) -> None:
        self._state = state
        self._ephemeral = ephemeral
        self.peer = peer
        self.peer_index = peer_index
        self.timestamp = timestamp

    def respond(self, index: int, preshared: bytes, ephemeral: PrivateKey | None = None) -> tuple[bytes, bytes, bytes]:
        """The response without its MACs (60 bytes), the key to send with and the one to receive with."""
        made = ephemeral or PrivateKey.generate()
        state = self._state
        state.mix_ephemeral(made.public)
        state.mix_key(made.agree(self._ephemeral))
        state.mix_key(made.agree(self.peer))
        state.mix_preshared(preshared)
        nothing = state.seal(b"")
        receive, send = state.transport_keys()
        return struct.pack("<III", RESPONSE, index, self.peer_index) + made.public + nothing, send, receive


def read_initiation(own: PrivateKey, message: bytes) -> Responder:
    """Reads an initiation, MACs included. Raises `PeerViolation` for one that is not for `own`, or not whole."""
    if len(message) != INITIATION_SIZE:
        raise PeerViolation("noise-length", f"an initiation of {len(message)} bytes")
    kind, sender = struct.unpack_from("<II", message)
    if kind != INITIATION:
        raise PeerViolation("noise-type", f"type {kind}")
    ephemeral = message[8:40]
    state = _State(own.public)
    state.mix_ephemeral(ephemeral)
    state.mix_key(own.agree(ephemeral))
    peer = state.open(message[40:88])
    state.mix_key(own.agree(peer))
    timestamp = state.open(message[88:116])
    return Responder(state, peer, sender, ephemeral, timestamp)
