"""Noise_IKpsk2 once more, word for word after the Noise specification (revision 34), to judge the product's by."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

__all__ = ["Handshake", "public_of"]


def public_of(secret: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def dh(secret: bytes, public: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))


def hkdf(chaining: bytes, material: bytes, outputs: int) -> list[bytes]:
    temporary = hmac.new(chaining, material, hashlib.blake2s).digest()
    found = [b""]
    for number in range(outputs):
        found.append(hmac.new(temporary, found[-1] + bytes([number + 1]), hashlib.blake2s).digest())
    return found[1:]


@dataclass
class Handshake:
    """One side. Tokens of the pattern: -> e es s ss; <- e ee se psk, with the responder's static key known before."""

    initiator: bool
    prologue: bytes
    psk: bytes
    s: bytes
    e: bytes
    rs: bytes = b""
    re: bytes = b""
    k: bytes | None = None
    n: int = 0
    ck: bytes = field(init=False)
    h: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.h = self.ck = hashlib.blake2s(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s").digest()
        self.mix_hash(self.prologue)
        self.mix_hash(self.rs if self.initiator else public_of(self.s))

    def mix_hash(self, data: bytes) -> None:
        self.h = hashlib.blake2s(self.h + data).digest()

    def mix_key(self, material: bytes) -> None:
        self.ck, self.k = hkdf(self.ck, material, 2)
        self.n = 0

    def encrypt(self, plain: bytes) -> bytes:
        assert self.k is not None
        sealed = ChaCha20Poly1305(self.k).encrypt(bytes(4) + self.n.to_bytes(8, "little"), plain, self.h)
        self.n += 1
        self.mix_hash(sealed)
        return sealed

    def decrypt(self, sealed: bytes) -> bytes:
        assert self.k is not None
        plain = ChaCha20Poly1305(self.k).decrypt(bytes(4) + self.n.to_bytes(8, "little"), sealed, self.h)
        self.n += 1
        self.mix_hash(sealed)
        return plain

    def write_first(self, payload: bytes) -> bytes:
        own = public_of(self.e)
        self.mix_hash(own)
        self.mix_key(own)
        self.mix_key(dh(self.e, self.rs))
        static = self.encrypt(public_of(self.s))
        self.mix_key(dh(self.s, self.rs))
        return own + static + self.encrypt(payload)

    def read_first(self, message: bytes) -> bytes:
        self.re = message[:32]
        self.mix_hash(self.re)
        self.mix_key(self.re)
        self.mix_key(dh(self.s, self.re))
        self.rs = self.decrypt(message[32:80])
        self.mix_key(dh(self.s, self.rs))
        return self.decrypt(message[80:])

    def write_second(self, payload: bytes) -> bytes:
        own = public_of(self.e)
        self.mix_hash(own)
        self.mix_key(own)
        self.mix_key(dh(self.e, self.re))
        self.mix_key(dh(self.e, self.rs))
        self._mix_psk()
        return own + self.encrypt(payload)

    def _mix_psk(self) -> None:
        self.ck, temporary, self.k = hkdf(self.ck, self.psk, 3)
        self.mix_hash(temporary)
        self.n = 0

    def split(self) -> list[bytes]:
        return hkdf(self.ck, b"", 2)
