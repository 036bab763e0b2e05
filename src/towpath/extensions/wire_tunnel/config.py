"""The config file of the reference tunnel, as TOML."""

from __future__ import annotations

import base64

import msgspec

from towpath.errors import ConfigInvalid

__all__ = ["Config", "Member", "read_key"]


class Member(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The other side: `endpoint` is HOST:PORT of a server; a server's clients have none."""

    public_key: str
    addresses: tuple[str, ...]
    endpoint: str = ""
    preshared_key: str = ""

    def __repr__(self) -> str:
        return f"Member({self.public_key})"


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Keys are base64, as `towpath tunnel keygen` makes them. With `listen`, a port, it is a server.

    With `domains`, only names in these are asked of the `dns` servers.
    """

    private_key: str
    addresses: tuple[str, ...]
    peers: tuple[Member, ...]
    listen: int = 0
    dns: tuple[str, ...] = ()
    domains: tuple[str, ...] | None = None
    mtu: int = 1400

    def __repr__(self) -> str:
        return f"Config(addresses={self.addresses})"


def read_key(text: str) -> bytes:
    """The 32 bytes of a key. Raises `ConfigInvalid`."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise ConfigInvalid("keys", "a key is not 32 bytes in base64", "towpath tunnel keygen")
    return raw
