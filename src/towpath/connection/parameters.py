"""How to connect: transport, layers, which paths may be used, and what is to happen when things go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from towpath.connection.endpoint import AddressEndpoint, Endpoint, UnixEndpoint, UrlEndpoint
from towpath.connection.liveness import Liveness
from towpath.errors import Misuse
from towpath.path.path import PathRequirements
from towpath.protocols.layer import Layer
from towpath.protocols.quic import Quic
from towpath.protocols.tls import Tls

if TYPE_CHECKING:
    from towpath.protocols.websocket import WebSocket

__all__ = ["ExpiredDns", "Keepalive", "Parameters", "ServiceClass", "Tcp", "Udp"]


class ServiceClass(StrEnum):
    """What the traffic is for; it becomes a DSCP (RFC 4594, RFC 8622) and a priority in this machine's queues."""

    BEST_EFFORT = "best-effort"
    BACKGROUND = "background"
    RESPONSIVE_DATA = "responsive-data"
    INTERACTIVE_VIDEO = "interactive-video"
    INTERACTIVE_VOICE = "interactive-voice"
    SIGNALING = "signaling"

    @property
    def marks(self) -> tuple[int, int]:
        """DSCP and priority (0 to 6)."""
        return _MARKS[self]


_MARKS = {
    ServiceClass.BEST_EFFORT: (0, 0),
    ServiceClass.BACKGROUND: (1, 2),
    ServiceClass.RESPONSIVE_DATA: (18, 4),
    ServiceClass.INTERACTIVE_VIDEO: (34, 5),
    ServiceClass.INTERACTIVE_VOICE: (46, 6),
    ServiceClass.SIGNALING: (40, 6),
}


class ExpiredDns(StrEnum):
    """What to do with an answer whose time to live is over."""

    DEFAULT = "default"
    ALLOW = "allow"
    PROHIBIT = "prohibit"


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Probes of an idle TCP connection: after `idle` seconds, then each `interval`; dead after `count` unanswered."""

    idle: int = 60
    interval: int = 10
    count: int = 6


@dataclass(frozen=True, slots=True)
class Tcp:
    """A stream: TCP over IP, or a Unix socket where the endpoint is one.

    `user_timeout` is how many seconds sent data may stay unacknowledged (RFC 5482); the system's default without it.
    It also ends a connection whose living peer reads nothing for so long; `Parameters.liveness` does not.
    """

    no_delay: bool = True
    keepalive: Keepalive | None = None
    user_timeout: float | None = None
    fast_open: bool = False
    """The first data go with the first packet and may arrive twice: send only what may (RFC 7413).

    A listener takes them where the system lets servers: ``sysctl net.ipv4.tcp_fastopen=3``.
    """
    multipath: bool = False
    """Multipath TCP (RFC 8684); plain TCP where the peer has none."""


@dataclass(frozen=True, slots=True)
class Udp:
    """Datagrams, each a message; over IP, or to a Unix socket."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """How to connect or to listen; a value that never changes.

    >>> parameters = Parameters.tcp().but(service_class=ServiceClass.BACKGROUND)
    >>> parameters.transport.no_delay, parameters.layers
    (True, ())
    """

    transport: Tcp | Udp | Quic = Tcp()
    layers: tuple[Layer[Any], ...] = ()
    """The protocols above the transport, the lowest first. Each is a pattern: see `towpath.protocols.Layer`."""
    path: PathRequirements = PathRequirements()
    local: Endpoint | None = None
    """The address to connect from; port 0 is any."""
    service_class: ServiceClass = ServiceClass.BEST_EFFORT
    expired_dns: ExpiredDns = ExpiredDns.DEFAULT
    liveness: Liveness | None = None
    race_to_ready: bool = False
    """An attempt of a race wins when all its layers are ready; else when its transport is connected."""
    reuse_local_endpoint: bool = False
    """Several listeners may share a port (SO_REUSEPORT)."""
    teardown: float = 5.0
    """Seconds that a graceful cancel may take."""
    receive_limit: int = field(default=1 << 18, kw_only=True)
    """Bytes that are kept for a program that does not receive; then the peer has to wait."""
    otherwise: Parameters | None = field(default=None, kw_only=True)
    """For QUIC: how to connect to hosts whose service binding does not offer it, by TLS over TCP."""

    def __post_init__(self) -> None:
        if self.local is not None and not isinstance(self.local, AddressEndpoint | UnixEndpoint):
            raise Misuse(f"the local endpoint is an address or a Unix socket: {self.local} is neither")
        if self.liveness is not None and self.liveness.ping and not any(layer.can_ping for layer in self.layers):
            error = Misuse("Liveness(ping=True) needs a layer that can ping")
            error.hint = "add one, such as KeepAlive, or leave ping out: TCP itself tells whether the peer lives"
            raise error
        if self.liveness is not None and not self.liveness.ping and isinstance(self.transport, Udp):
            error = Misuse("nobody answers a UDP datagram by itself: Liveness over UDP needs ping=True")
            error.hint = "add a layer that can ping, such as KeepAlive"
            raise error
        if self.liveness is not None and not self.liveness.ping and isinstance(self.transport, Quic):
            error = Misuse("QUIC has its own word on dead peers")
            error.hint = "set idle_timeout, and keep_alive for a connection that is often silent, in Parameters.quic"
            raise error
        if self.otherwise is not None and not isinstance(self.transport, Quic):
            raise Misuse("only QUIC has another way beside it: `otherwise` is for Parameters.quic")
        for layer in self.layers:
            layer.fresh()

    @classmethod
    def tcp(cls, *, framers: Sequence[Layer[Any]] = (), options: Tcp | None = None) -> Parameters:
        """A stream without security, with `framers` on it, the lowest first."""
        return cls(options or Tcp(), tuple(framers))

    @classmethod
    def tls(cls, *, framers: Sequence[Layer[Any]] = (), options: Tcp | None = None, **tls: Any) -> Parameters:
        """TLS over a stream; `tls` are the arguments of `towpath.protocols.Tls`."""
        from towpath.protocols.tls import Tls

        return cls(options or Tcp(), (Tls(**tls), *framers))

    @classmethod
    def websocket(
        cls,
        *,
        framers: Sequence[Layer[Any]] = (),
        options: Tcp | None = None,
        tls: Tls | None = None,
        secure: bool = True,
        frames: WebSocket | None = None,
        **opening: Any,
    ) -> Parameters:
        """WebSocket over TLS over a stream; where the endpoint's URL says ``ws:``, without TLS.

        `tls` and `frames` are the layers to use instead of plain ones. A listener without TLS has ``secure=False``.
        `opening` are the arguments of `towpath.protocols.WebSocketOpening`. ::

            Parameters.websocket(subprotocols=["chat"], frames=WebSocket(maximum=1 << 24))
            Parameters.websocket(tls=Tls(identity=(chain, key)), origins=["https://news.example"])
        """
        from towpath.protocols.tls import Tls
        from towpath.protocols.websocket import WebSocket
        from towpath.protocols.websocket_opening import WebSocketOpening

        layers: tuple[Layer[Any], ...] = (WebSocketOpening(**opening), frames or WebSocket(), *framers)
        return cls(options or Tcp(), (tls or Tls(), *layers) if secure else layers)

    def toward(self, endpoint: Endpoint) -> Parameters:
        """What they are for this endpoint: a URL with ``ws:`` has no TLS below WebSocket (RFC 6455 section 3)."""
        if not isinstance(endpoint, UrlEndpoint) or endpoint.scheme != "ws" or len(self.layers) < 2:
            return self
        from towpath.protocols.tls import Tls
        from towpath.protocols.websocket_opening import WebSocketOpening

        if isinstance(self.layers[0], Tls) and isinstance(self.layers[1], WebSocketOpening):
            return replace(self, layers=self.layers[1:])
        return self

    @classmethod
    def udp(cls, *, framers: Sequence[Layer[Any]] = ()) -> Parameters:
        """Datagrams without security."""
        return cls(Udp(), tuple(framers))

    @classmethod
    def dtls(cls, *, framers: Sequence[Layer[Any]] = (), **dtls: Any) -> Parameters:
        """DTLS over datagrams; `dtls` are the arguments of `towpath.protocols.Dtls`."""
        from towpath.protocols.dtls import Dtls

        return cls(Udp(), (Dtls(**dtls), *framers))

    @classmethod
    def quic(
        cls,
        *,
        alpn: Sequence[str],
        framers: Sequence[Layer[Any]] = (),
        otherwise: Parameters | None = None,
        **quic: Any,
    ) -> Parameters:
        """A stream of a QUIC connection; `quic` are the fields of `towpath.protocols.Quic`.

        With `otherwise` it is QUIC where a service binding of the host offers it, raced with the other way.
        """
        return cls(Quic(tuple(alpn), **quic), tuple(framers), otherwise=otherwise)

    @property
    def protocols(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The ALPN protocols that can be spoken over TLS, and over QUIC."""
        if isinstance(self.transport, Quic):
            return self.otherwise.protocols[0] if self.otherwise is not None else (), tuple(self.transport.alpn)
        return next((layer.alpn for layer in self.layers if isinstance(layer, Tls)), ()), ()

    def over(self, transport: Literal["tcp", "quic"]) -> Parameters:
        """Those for one candidate: the other way where there is one, and QUIC was not offered."""
        return self.otherwise if self.otherwise is not None and transport == "tcp" else self

    def but(self, **changes: Any) -> Parameters:
        """The same with other fields. ::

        Parameters.tls().but(path=PathRequirements(prohibit_expensive=True), liveness=Liveness(30))
        """
        return replace(self, **changes)
