"""Where to: one type of endpoint in the whole package, with a text that says all of it.

| kind | text |
|---|---|
| address and port | ``192.0.2.1:443``, ``[2001:db8::1]:443``, ``[fe80::1%eth0]:443`` |
| host and port | ``news.example:443`` |
| URL | ``wss://news.example/feed`` |
| Bonjour service | ``bonjour:Living Room._http._tcp.local`` (RFC 6763 section 4.1, dots and backslashes escaped) |
| Unix socket | ``unix:/run/news.sock``, ``unix:@name`` in the abstract namespace |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from towpath.errors import Misuse

__all__ = [
    "AddressEndpoint",
    "Endpoint",
    "HostEndpoint",
    "ServiceEndpoint",
    "UnixEndpoint",
    "UrlEndpoint",
]

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_HOST = re.compile(r"[^\x00-\x20\x7f-\xa0:/\\@\[\]%?#\u200b-\u200f\u2028\u2029\ufeff]{1,253}\Z")
_SERVICE = re.compile(r"bonjour:((?:\\.|[^\\.])+)\.(_[A-Za-z0-9-]+\._(?:tcp|udp))\.(.+)\Z", re.DOTALL)
_TYPE = re.compile(r"_[A-Za-z0-9-]{1,15}\._(?:tcp|udp)\Z")
_MAX_UNIX = 107
"""What sun_path holds beside its last zero (unix(7))."""


class Endpoint:
    """Where a connection leads. `Endpoint.parse` reads the text that `str` of any endpoint writes.

    >>> Endpoint.parse("[fe80::1%eth0]:443")
    AddressEndpoint(address=IPv6Address('fe80::1%eth0'), port=443)
    >>> str(Endpoint.parse("news.example:443"))
    'news.example:443'
    """

    __slots__ = ()

    @staticmethod
    def parse(text: str) -> Endpoint:
        """The endpoint that a text names. Raises `Misuse`."""
        if "://" in text:
            return UrlEndpoint(text)
        if text.startswith("unix:/"):
            return UnixEndpoint(text.removeprefix("unix:"))
        if text.startswith("unix:@"):
            return UnixEndpoint(text.removeprefix("unix:@"), abstract=True)
        service = _SERVICE.match(text)
        if service is not None:
            return ServiceEndpoint(re.sub(r"\\(.)", r"\1", service[1], flags=re.DOTALL), service[2], service[3])
        host, colon, port = text.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()) or len(port) > 5:
            error = Misuse(f"{text!r} is no endpoint: it has no port")
            error.hint = "write HOST:PORT, [IPV6]:PORT, a URL, unix:/PATH or bonjour:NAME._TYPE._tcp.DOMAIN"
            raise error
        if host.startswith("[") and host.endswith("]"):
            return AddressEndpoint(_address(host[1:-1], 6), int(port))
        return Endpoint.of(host, int(port))

    @staticmethod
    def of(host: str | IPv4Address | IPv6Address, port: int) -> AddressEndpoint | HostEndpoint:
        """An address or a host name (not told apart by the caller) with a port. Raises `Misuse`."""
        if not isinstance(host, str):
            return AddressEndpoint(host, port)
        try:
            return AddressEndpoint(ip_address(host), port)
        except ValueError:
            return HostEndpoint(host, port)


@dataclass(frozen=True, slots=True)
class AddressEndpoint(Endpoint):
    """An IP address, of IPv6 with its zone if it has one, and a port from 0 to 65535."""

    address: IPv4Address | IPv6Address
    port: int

    def __post_init__(self) -> None:
        _check_port(self.port)

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class HostEndpoint(Endpoint):
    """A host name as it was written, also with Unicode letters, and a port from 0 to 65535."""

    host: str
    port: int

    def __post_init__(self) -> None:
        _check_port(self.port)
        if not _HOST.match(self.host) or _is_address(self.host):
            raise Misuse(f"{self.host!r} is no host name")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UrlEndpoint(Endpoint):
    """A URL with a host, kept as it was written; `target` is where its connection leads."""

    url: str

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as error:
            raise Misuse(f"{self.url!r} is no URL: {error}") from None
        if not parts.hostname or any(character <= " " or character == "\x7f" for character in self.url):
            raise Misuse(f"{self.url!r} is no URL with a host")
        if port is None and self.scheme not in _PORTS:
            raise Misuse(f"{self.url!r} needs a port: the scheme {self.scheme!r} has none of its own")
        Endpoint.of(parts.hostname, port or 0)

    @property
    def scheme(self) -> str:
        return self.url.partition(":")[0].lower()

    @property
    def target(self) -> AddressEndpoint | HostEndpoint:
        """Host and port; the scheme's port where the URL names none."""
        parts = urlsplit(self.url)
        port = parts.port if parts.port is not None else _PORTS[self.scheme]
        return Endpoint.of(parts.hostname or "", port)

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class ServiceEndpoint(Endpoint):
    """An instance of a Bonjour service: its name in plain words, its type such as ``_http._tcp``, its domain."""

    name: str
    type: str
    domain: str = "local"

    def __post_init__(self) -> None:
        if not 1 <= len(self.name.encode("utf-8", "surrogatepass")) <= 63:
            raise Misuse(f"{self.name!r} is no service name: it has 1 to 63 bytes (RFC 6763 section 4.1.1)")
        if not _TYPE.match(self.type):
            raise Misuse(f"{self.type!r} is no service type: it is written as in _http._tcp")
        if not _HOST.match(self.domain):
            raise Misuse(f"{self.domain!r} is no domain")

    def __str__(self) -> str:
        name = self.name.replace("\\", "\\\\").replace(".", "\\.")
        return f"bonjour:{name}.{self.type}.{self.domain}"


@dataclass(frozen=True, slots=True)
class UnixEndpoint(Endpoint):
    """A Unix socket: an absolute path, or a name in the abstract namespace (unix(7))."""

    path: str
    abstract: bool = False

    def __post_init__(self) -> None:
        if not self.abstract and not self.path.startswith("/"):
            raise Misuse(f"the path of a Unix socket is absolute: {self.path!r} is not")
        if not self.path or "\0" in self.path or len(self.path.encode("utf-8", "surrogatepass")) > _MAX_UNIX:
            raise Misuse(f"the path of a Unix socket has 1 to {_MAX_UNIX} bytes and no zero: {self.path!r}")

    @property
    def name(self) -> str:
        """What bind(2) and connect(2) take."""
        return f"\0{self.path}" if self.abstract else self.path

    def __str__(self) -> str:
        return f"unix:{'@' if self.abstract else ''}{self.path}"


def _check_port(port: int) -> None:
    if not 0 <= port <= 65535:
        raise Misuse(f"a port is from 0 to 65535: {port} was given")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _address(text: str, version: int) -> IPv4Address | IPv6Address:
    try:
        found = ip_address(text)
    except ValueError:
        raise Misuse(f"{text!r} is no IPv{version} address") from None
    if found.version != version:
        raise Misuse(f"{text!r} is no IPv{version} address")
    return found
