"""What the manager and the worker of a packet tunnel say to each other, besides `towpath.hosting.messages`.

Descriptors travel alone in their packet. What is asked has a number, and its answer names it.
"""

from __future__ import annotations

import msgspec

from towpath.errors import PeerViolation
from towpath.hosting.messages import Begin, Broken, Ended, Said, Stop
from towpath.providers.kernel_wireguard import KernelPeerFigures, KernelWireGuard
from towpath.providers.tunnel_settings import TunnelSettings

__all__ = [
    "AppAnswer", "AppMessage", "Applied", "ApplyWanted", "Cancelled", "Capture", "CaptureEnd", "FromTunnel",
    "KernelPeers", "KernelPeersWanted", "KernelWanted", "LinkClosed", "LinkOpened", "LinkWanted", "Loaded",
    "NetworkChanged", "Reasserting", "Sleep", "SleepDone", "Start", "Started", "StatusAnswer", "StatusWanted",
    "ToTunnel", "TunOpened", "Wake", "from_tunnel", "to_tunnel",
]  # fmt: skip


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pass


class TunOpened(_Message, frozen=True):
    """The queue of the device comes with it; `heads` as in `towpath.linux.tun.TunDevice`.

    With `kernel` the device is the kernel's WireGuard: it waits to be told what to do, and nothing comes by the queue.
    """

    heads: bool
    kernel: bool = False


class Start(_Message, frozen=True):
    options: dict[str, str] | None


class Applied(_Message, frozen=True):
    """The settings are in force; or are not, for `reason`, and the old ones hold."""

    number: int
    cause: int = 0
    reason: str = ""


class KernelPeers(_Message, frozen=True):
    number: int
    peers: list[KernelPeerFigures]


class LinkOpened(_Message, frozen=True):
    """The socket of a link comes with it: the first, or one for the path that holds now. Or `cause`, and none comes."""

    number: int
    address: str = ""
    port: int = 0
    cause: int = 0
    reason: str = ""


class Sleep(_Message, frozen=True):
    number: int


class Wake(_Message, frozen=True):
    pass


class NetworkChanged(_Message, frozen=True):
    pass


class AppMessage(_Message, frozen=True):
    number: int
    data: bytes


class StatusWanted(_Message, frozen=True):
    number: int


class Capture(_Message, frozen=True):
    """The file to write packets to comes with it."""


class CaptureEnd(_Message, frozen=True):
    pass


class Loaded(_Message, frozen=True):
    """The provider was made with its config, and waits for `Start`."""


class Started(_Message, frozen=True):
    """`start` has returned, or failed."""

    cause: int = 0
    reason: str = ""
    hint: str | None = None


class ApplyWanted(_Message, frozen=True):
    number: int
    settings: TunnelSettings | None


class LinkWanted(_Message, frozen=True):
    """A link to `host`; with `listen`, from anybody to `port`."""

    number: int
    host: str
    port: int
    listen: bool = False


class KernelWanted(_Message, frozen=True):
    """Makes the kernel's WireGuard be so; `Applied` is the answer."""

    number: int
    setup: KernelWireGuard


class KernelPeersWanted(_Message, frozen=True):
    number: int


class LinkClosed(_Message, frozen=True):
    number: int


class Reasserting(_Message, frozen=True):
    on: bool


class Cancelled(_Message, frozen=True):
    cause: int
    reason: str


class SleepDone(_Message, frozen=True):
    number: int


class AppAnswer(_Message, frozen=True):
    number: int
    data: bytes | None


class StatusAnswer(_Message, frozen=True):
    """Figures as JSON, or a part of it with `more` to come."""

    number: int
    figures: bytes
    more: bool = False


ToTunnel = (
    Begin | TunOpened | Start | Applied | LinkOpened | Sleep | Wake | NetworkChanged | AppMessage | StatusWanted
    | Capture | CaptureEnd | KernelPeers | Stop
)  # fmt: skip
FromTunnel = (
    Broken | Loaded | Started | ApplyWanted | LinkWanted | LinkClosed | Reasserting | Cancelled | SleepDone | AppAnswer
    | StatusAnswer | KernelWanted | KernelPeersWanted | Said | Ended
)  # fmt: skip

_to_tunnel = msgspec.msgpack.Decoder(list[ToTunnel])
_from_tunnel = msgspec.msgpack.Decoder(list[FromTunnel])


def to_tunnel(packet: bytes) -> list[ToTunnel]:
    """Reads a packet of the manager's. Raises `PeerViolation`."""
    try:
        return _to_tunnel.decode(packet)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise PeerViolation("tunnel message", str(error)) from None


def from_tunnel(packet: bytes) -> list[FromTunnel]:
    """Reads a packet of a worker's, which may be anything. Raises `PeerViolation`."""
    try:
        return _from_tunnel.decode(packet)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise PeerViolation("tunnel message", str(error)) from None
