"""What a Lab is made of, as frozen values.

A plan is built by methods that return a new plan, or read from a file (`towpath.testing.plan_file`). Default addresses
are those set apart for documentation (RFC 5737, RFC 3849): in the Lab they stand for public ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, ClassVar, Literal

from towpath.errors import ConfigInvalid

if TYPE_CHECKING:
    from towpath.testing.lab import Lab

__all__ = [
    "INTERNET",
    "Banner",
    "Certificate",
    "Command",
    "Dns",
    "Host",
    "Http",
    "Https",
    "LabPlan",
    "NameRecord",
    "RecordType",
    "Router",
    "Service",
    "Switch",
    "TcpEcho",
    "UdpEcho",
]

INTERNET = "internet"
"""The name of the router at the root of every Lab."""

RecordType = Literal["A", "AAAA", "CNAME", "HTTPS"]
Certificate = Literal["good", "expired", "wrong-name", "untrusted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Something a host serves. `names` are host names that lead here; `port` 0 means that none is listened on."""

    port: int
    names: tuple[str, ...] = ()

    kind: ClassVar[str] = ""
    transport: ClassVar[Literal["tcp", "udp", "both", "none"]] = "tcp"

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(name.rstrip(".").lower() for name in self.names))
        if not 0 <= self.port <= 65535:
            raise ConfigInvalid(f"{self.kind} service", f"{self.port} is no port")


@dataclass(frozen=True, slots=True, kw_only=True)
class Http(Service):
    """HTTP/1.1: ``/`` names the host, ``/big?bytes=N``, ``/headers`` gives them back, ``/slow?seconds=S`` waits.

    `bytes_per_second` makes every answer slow. With a `folder` it serves the files below that instead, as they are when
    they are asked for: a folder by its ``index.html``, an encoded slash in a name as a slash.
    """

    port: int = 80
    bytes_per_second: int | None = None
    folder: str | None = None
    kind: ClassVar[str] = "http"


@dataclass(frozen=True, slots=True, kw_only=True)
class Https(Http):
    """The same over TLS, for its `names` and the host's addresses, with a certificate of the Lab's authority."""

    port: int = 443
    certificate: Certificate = "good"
    kind: ClassVar[str] = "https"


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpEcho(Service):
    """Sends back what it receives."""

    port: int = 7
    kind: ClassVar[str] = "tcp-echo"


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpEcho(Service):
    """Sends back each datagram."""

    port: int = 7
    kind: ClassVar[str] = "udp-echo"
    transport: ClassVar[Literal["tcp", "udp", "both", "none"]] = "udp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Banner(Service):
    """Speaks first, as SSH does, then sends back what it receives."""

    port: int = 22
    line: str = "SSH-2.0-lab\r\n"
    kind: ClassVar[str] = "banner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns(Service):
    """The authority for every name in the Lab; every host has it as its resolver."""

    port: int = 53
    kind: ClassVar[str] = "dns"
    transport: ClassVar[Literal["tcp", "udp", "both", "none"]] = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Service):
    """A program that runs on the host for as long as the Lab; the Lab is up once `port` accepts connections."""

    command: tuple[str, ...]
    port: int = 0
    kind: ClassVar[str] = "command"
    transport: ClassVar[Literal["tcp", "udp", "both", "none"]] = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host with one card for each of the routers or switches it is `on`.

    `delay` (seconds, each way), `rate` (as tc(8) writes it, ``10mbit``) and `loss` (0 to 100 percent, each way) are
    those of every one of its cards. Addresses that are not given are allotted from the network it is on.
    """

    name: str
    on: tuple[str, ...] = (INTERNET,)
    names: tuple[str, ...] = ()
    serves: tuple[Service, ...] = ()
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    delay: float | None = None
    rate: str | None = None
    loss: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """A router behind another one; hosts may be on it."""

    name: str
    on: str = INTERNET
    ipv4: IPv4Network | None = None
    ipv6: IPv6Network | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One Ethernet segment behind a router: hosts on it see each other's broadcasts."""

    name: str
    on: str = INTERNET
    ipv4: IPv4Network | None = None
    ipv6: IPv6Network | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRecord:
    """A DNS record beside those of the hosts. It may say anything, also a private address for a public name.

    `value` is an address for A and AAAA, a name for CNAME, and for HTTPS a priority, a target and parameters, as in
    ``1 . alpn=h2,h3 ipv4hint=198.51.100.9 ech=BASE64`` (``.`` is the name itself).
    """

    name: str
    type: RecordType
    value: str
    ttl: int = 60


@dataclass(frozen=True, slots=True)
class LabPlan:
    """A little internet to be made.

    >>> plan = LabPlan().host("client").host("news", serves=[Https(names=("news.test",))])
    >>> [host.name for host in plan.hosts]
    ['client', 'news']
    """

    name: str = "lab"
    hosts: tuple[Host, ...] = ()
    routers: tuple[Router, ...] = ()
    switches: tuple[Switch, ...] = ()
    records: tuple[NameRecord, ...] = ()
    ipv4: IPv4Network = IPv4Network("198.51.100.0/24")
    ipv6: IPv6Network = IPv6Network("2001:db8::/64")

    def host(
        self,
        name: str,
        *,
        on: str | Iterable[str] = INTERNET,
        names: Iterable[str] = (),
        serves: Iterable[Service] = (),
        ipv4: str | None = None,
        ipv6: str | None = None,
        delay: float | None = None,
        rate: str | None = None,
        loss: float = 0.0,
    ) -> LabPlan:
        """The plan with one more `Host`."""
        host = Host(
            name=name,
            on=(on,) if isinstance(on, str) else tuple(on),
            names=tuple(other.rstrip(".").lower() for other in names),
            serves=tuple(serves),
            ipv4=None if ipv4 is None else IPv4Address(ipv4),
            ipv6=None if ipv6 is None else IPv6Address(ipv6),
            delay=delay,
            rate=rate,
            loss=loss,
        )
        return replace(self, hosts=(*self.hosts, host))

    def router(self, name: str, *, on: str = INTERNET, ipv4: str | None = None, ipv6: str | None = None) -> LabPlan:
        """The plan with one more `Router`."""
        router = Router(name=name, on=on, ipv4=_network4(ipv4), ipv6=_network6(ipv6))
        return replace(self, routers=(*self.routers, router))

    def switch(self, name: str, *, on: str = INTERNET, ipv4: str | None = None, ipv6: str | None = None) -> LabPlan:
        """The plan with one more `Switch`."""
        switch = Switch(name=name, on=on, ipv4=_network4(ipv4), ipv6=_network6(ipv6))
        return replace(self, switches=(*self.switches, switch))

    def record(self, name: str, type: RecordType, value: str, *, ttl: int = 60) -> LabPlan:
        """The plan with one more `NameRecord`."""
        record = NameRecord(name=name.rstrip(".").lower(), type=type, value=value, ttl=ttl)
        return replace(self, records=(*self.records, record))

    def start(self) -> Lab:
        """A running Lab of this plan; it ends with the process, or by `Lab.close`."""
        from towpath.testing.lab import Lab

        return Lab(self).start()


def _network4(text: str | None) -> IPv4Network | None:
    return None if text is None else IPv4Network(text)


def _network6(text: str | None) -> IPv6Network | None:
    return None if text is None else IPv6Network(text)
