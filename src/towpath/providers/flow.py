"""What a content filter is told of flows, names and the programs behind them: frozen values."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

__all__ = [
    "Address",
    "Ancestor",
    "Direction",
    "Flow",
    "FlowReport",
    "NameSource",
    "Owner",
    "Question",
    "Transport",
]

Transport: TypeAlias = Literal["tcp", "udp"]
Direction: TypeAlias = Literal["outbound", "inbound"]
NameSource: TypeAlias = Literal["dns", "sni", "host", "quic sni"]


def joined(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Address(Struct, frozen=True):
    """One end of a flow: an IP address as text and a port, 0 to 65535.

    >>> str(Address("2001:db8::1", 443))
    '[2001:db8::1]:443'
    """

    ip: str
    port: int

    def __str__(self) -> str:
        return joined(self.ip, self.port)


class Ancestor(Struct, frozen=True):
    """A process that started the owner, or started who did."""

    pid: int
    program: str


class Owner(Struct, frozen=True):
    """The process behind a flow, as it was when the flow began; what could not be read is `None` or empty.

    `pid` is the number that the process has in its own scope, `program` its name (proc_pid_comm(5)), `executable` its
    path, `command` its arguments, `parents` who started it, the nearest first, `cgroup` its path in cgroups(7).
    """

    pid: int
    program: str
    executable: str | None = None
    command: tuple[str, ...] = ()
    parents: tuple[Ancestor, ...] = ()
    uid: int | None = None
    cgroup: str | None = None


class Flow(Struct, frozen=True, kw_only=True):
    """One TCP connection, or the datagrams between two UDP endpoints.

    >>> flow = Flow(
    ...     number=1, transport="tcp", direction="outbound", started=0.0, name="news.test", name_from="dns",
    ...     local=Address("192.0.2.1", 40000), remote=Address("192.0.2.7", 443),
    ... )
    >>> flow.destination
    'news.test:443'

    `number` is unique in one run, `started` in seconds since 1970, `direction` is seen from the programs that are
    filtered. `name` is the host name that the flow is for and `name_from` where it was learnt: from a DNS answer, a
    ClientHello, an HTTP request or a QUIC Initial; where there is none, `name_unknown` says why. `names` are all names
    that DNS answers gave this address, those first that this very program asked for, the newest before the others: an
    address may serve many, so a name from DNS alone is likely and not certain. `owner_unknown` says why there is no
    `owner`.
    """

    number: int
    transport: Transport
    direction: Direction
    local: Address
    remote: Address
    started: float
    name: str | None = None
    name_from: NameSource | None = None
    name_unknown: str | None = None
    names: tuple[str, ...] = ()
    owner: Owner | None = None
    owner_unknown: str | None = None

    @property
    def host(self) -> str:
        """The name if it is known, else the remote address."""
        return self.name or self.remote.ip

    @property
    def destination(self) -> str:
        """The name (or address) and port of the other side, `host:port`."""
        return joined(self.host, self.remote.port)


class Question(Struct, frozen=True, kw_only=True):
    """A name that a program wants resolved: in lower case, without the last dot, `type` as in `A`, `AAAA`, `HTTPS`.

    `server` is whom it asked, `scope` where: in a run, or on the host itself. Programs ask for several types of one
    name, each a question.
    """

    number: int
    name: str
    type: str
    transport: Transport
    server: Address
    owner: Owner | None = None
    owner_unknown: str | None = None
    scope: Literal["run", "host"] = "run"


class FlowReport(Struct, frozen=True, kw_only=True):
    """How a flow ended. `by` is the id of the filter that decided, "policy", or "" when nobody objected.

    `sent` and `received` are payload bytes as the local program counts them in a run, and whole packets on a host, as
    connection tracking counts; packets are `None` where nobody counted.
    `ended` is in seconds since 1970, `error` how the flow failed, if it did.
    """

    flow: Flow
    verdict: Literal["allowed", "dropped"]
    reason: str = ""
    by: str = ""
    sent: int = 0
    received: int = 0
    packets_sent: int | None = None
    packets_received: int | None = None
    ended: float
    error: str | None = None
