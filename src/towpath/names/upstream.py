"""DNS servers as a user writes them: how they are spoken to, and who they must be."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from towpath.errors import ConfigInvalid
from towpath.wire.address import pack

__all__ = ["Protocol", "Upstream", "parse_upstream"]

Protocol: TypeAlias = Literal["udp", "tcp", "tls", "https", "quic"]

_PORTS: dict[str, int] = {"udp": 53, "tcp": 53, "tls": 853, "https": 443, "quic": 853}
_HINT = "as in 192.0.2.53, tcp://192.0.2.53, tls://NAME@192.0.2.53, https://NAME/dns-query, quic://NAME:853"
_SECURE = ("tls", "https", "quic")


class Upstream(NamedTuple):
    """A server: how it is spoken to, the name its certificate must have, and its addresses ("" and () if not given).

    >>> parse_upstream("tls://dns.test@192.0.2.53")
    Upstream(protocol='tls', name='dns.test', addresses=('192.0.2.53',), port=853, path='')
    >>> str(parse_upstream("192.0.2.53#5353"))
    '192.0.2.53#5353'
    """

    protocol: Protocol
    name: str
    addresses: tuple[str, ...]
    port: int
    path: str = ""

    def __str__(self) -> str:
        at = self.name or self.addresses[0]
        if self.protocol == "udp":
            return at if self.port == 53 else f"{at}#{self.port}"
        host = f"[{at}]" if ":" in at else at
        port = "" if self.port == _PORTS[self.protocol] else f":{self.port}"
        known = ",".join(self.addresses) if self.name else ""
        if known:
            known = f"@[{known}]" if ":" in known else f"@{known}"
        return f"{self.protocol}://{host}{known}{port}{self.path}"

    @property
    def secure(self) -> bool:
        """Whether a certificate proves who answers."""
        return self.protocol in _SECURE

    @property
    def unlocated(self) -> Upstream:
        """The same wherever its name leads."""
        return self._replace(addresses=()) if self.name else self

    @property
    def certificate_name(self) -> str:
        """What the certificate must be for: the name, or the address where there is none."""
        return self.name or self.addresses[0]


def parse_upstream(text: str, where: str = "a server") -> Upstream:
    """Reads `ADDRESS`, `ADDRESS#PORT` or `SCHEME://NAME[@ADDRESS,...][:PORT][/PATH]`. Raises `ConfigInvalid`.

    `udp` is meant without a scheme. The addresses behind @ are where the name leads; without them it has to be looked
    up before it can be asked.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        address, _, port = text.partition("#")
        return Upstream("udp", "", (_address(address, text, where),), _port(port or "53", text, where))
    if scheme not in _PORTS:
        raise ConfigInvalid(where, f"{text!r}: {scheme} is no way to ask a DNS server", _HINT)
    protocol: Protocol = scheme  # type: ignore[assignment]
    rest, slash, path = rest.partition("/")
    name, at, known = rest.partition("@")
    host, port = _split(known if at else name, text, where)
    number = _port(port, text, where) if port else _PORTS[scheme]
    path = f"/{path}" if slash else ""
    if path and scheme != "https":
        raise ConfigInvalid(where, f"{text!r}: only https has a path", _HINT)
    path = path or ("/dns-query" if scheme == "https" else "")
    if at:
        if not _is_name(name):
            raise ConfigInvalid(where, f"{text!r}: {name!r} is not a host name", _HINT)
        addresses = tuple(_address(one.strip("[]"), text, where) for one in host.split(","))
        return Upstream(protocol, name.lower(), addresses, number, path)
    if pack(host) is not None:
        return Upstream(protocol, "", (host,), number, path)
    if protocol not in _SECURE or not _is_name(host):
        raise ConfigInvalid(where, f"{text!r}: {host!r} is not the address of a server", _HINT)
    return Upstream(protocol, host.lower(), (), number, path)


def _split(text: str, whole: str, where: str) -> tuple[str, str]:
    """Host and port; an IPv6 address has a port only in brackets, and several addresses have none."""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ConfigInvalid(where, f"{whole!r}: what is in brackets does not end", _HINT)
        return host, port[1:]
    if text.count(":") > 1:
        return text, ""
    host, _, port = text.partition(":")
    return host, port


def _port(text: str, whole: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ConfigInvalid(where, f"{whole!r}: {text!r} is not a port", _HINT)
    return int(text)


def _address(text: str, whole: str, where: str) -> str:
    if pack(text.partition("%")[0]) is None:
        raise ConfigInvalid(where, f"{whole!r}: {text!r} is not an address", _HINT)
    return text


def _is_name(text: str) -> bool:
    labels = text.rstrip(".").split(".")
    return len(text) < 254 and all(
        0 < len(label) < 64 and all(letter.isalnum() or letter in "-_" for letter in label) for label in labels
    )
