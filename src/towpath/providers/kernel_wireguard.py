"""WireGuard as the kernel speaks it: what it is told, and what it says of its peers."""

from __future__ import annotations

import msgspec

__all__ = ["KernelPeer", "KernelPeerFigures", "KernelWireGuard"]


class KernelPeer(msgspec.Struct, frozen=True):
    """A peer: keys of 32 bytes, prefixes as text, `endpoint` a host (a name too) and a port, `keepalive` in seconds."""

    public_key: bytes
    preshared_key: bytes | None = None
    allowed: tuple[str, ...] = ()
    endpoint: tuple[str, int] | None = None
    keepalive: int = 0

    def __repr__(self) -> str:
        return f"KernelPeer(endpoint={self.endpoint!r}, allowed={self.allowed!r})"


class KernelWireGuard(msgspec.Struct, frozen=True):
    """The whole of a device; without a `listen_port` the kernel chooses one. Its `repr` shows no key.

    >>> KernelWireGuard(bytes(32), (KernelPeer(bytes(32), allowed=("10.0.0.0/8",), endpoint=("vpn.test", 51820)),))
    KernelWireGuard(peers=(KernelPeer(endpoint=('vpn.test', 51820), allowed=('10.0.0.0/8',)),), listen_port=0)
    """

    private_key: bytes
    peers: tuple[KernelPeer, ...] = ()
    listen_port: int = 0

    def __repr__(self) -> str:
        return f"KernelWireGuard(peers={self.peers!r}, listen_port={self.listen_port})"


class KernelPeerFigures(msgspec.Struct, frozen=True):
    """A peer now: where it was last heard from, bytes, and when it last shook hands in seconds since 1970, or 0."""

    public_key: bytes
    endpoint: tuple[str, int] | None = None
    received: int = 0
    sent: int = 0
    last_handshake: float = 0.0
    allowed: tuple[str, ...] = ()
