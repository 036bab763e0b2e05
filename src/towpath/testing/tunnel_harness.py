"""A packet tunnel without a network: its packets, datagrams, settings and clock in a test's hands."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from towpath.errors import Misuse
from towpath.hosting.load import configured
from towpath.providers.disconnect import TunnelFailed
from towpath.providers.kernel_wireguard import KernelPeerFigures, KernelWireGuard
from towpath.providers.packet_tunnel import PacketTunnelProvider
from towpath.providers.packets import Buffer, DatagramHandler, Datagrams, Packet, PacketHandler, PeerAddress
from towpath.providers.provider import LogLevel
from towpath.providers.reasons import StopReason
from towpath.providers.tunnel_settings import TunnelSettings
from towpath.testing.virtual_clock import VirtualLoop

__all__ = ["HarnessLink", "TunnelHarness"]

_STEP = 0.05
_EPOCH = 1_700_000_000.0


class _Flow:
    """Implements `towpath.providers.packets.PacketFlow`."""

    def __init__(self, harness: TunnelHarness) -> None:
        self._harness = harness
        self.handler: PacketHandler | None = None
        self._waiting: deque[list[Packet]] = deque()
        self._readers: deque[Any] = deque()
        self._singles: deque[bytes] = deque()

    def deliver_to(self, handler: PacketHandler) -> None:
        self.handler = handler
        while self._waiting:
            handler(self._waiting.popleft())

    def put(self, packets: list[Packet]) -> None:
        if self.handler is not None:
            self.handler(packets)
            return
        self._waiting.append(packets)
        if self._readers:
            self._readers.popleft().set_result(None)

    async def read(self) -> list[Packet]:
        while not self._waiting:
            future = self._harness.loop.create_future()
            self._readers.append(future)
            await future
        return self._waiting.popleft()

    async def read_one(self) -> bytes:
        while not self._singles:
            self._singles.extend(one for packet in await self.read() for one in packet.split())
        return self._singles.popleft()

    def write(self, packets: Sequence[Packet]) -> None:
        self._harness.delivered += [one for packet in packets for one in packet.split()]

    def write_one(self, data: Buffer) -> None:
        self.write([Packet.of(data)])


class HarnessLink:
    """Implements `towpath.providers.packets.DatagramLink`. `sent` are `(datagram, to)`; `receive` is the other side."""

    def __init__(self, remote: PeerAddress | None, datagram_size: int) -> None:
        self.remote = remote
        self.datagram_size = datagram_size
        self.sent: list[tuple[bytes, PeerAddress | None]] = []
        self.carry: Callable[[bytes, PeerAddress | None], None] | None = None
        self._handler: DatagramHandler | None = None
        self.closed = False
        self.refused = 0
        self.trouble = ""

    def deliver_to(self, handler: DatagramHandler) -> None:
        self._handler = handler

    def send(self, parts: Sequence[Buffer], size: int = 0, to: PeerAddress | None = None) -> None:
        data = b"".join(parts)
        self.send_each(list(Datagrams(data, size or len(data), ("", 0))), to)

    def send_each(self, datagrams: Sequence[Buffer], to: PeerAddress | None = None) -> None:
        for one in map(bytes, datagrams):
            self.sent.append((one, to))
            if self.carry is not None:
                self.carry(one, to)

    def receive(self, data: bytes, source: PeerAddress | None = None, size: int = 0) -> None:
        """A datagram has come, or a row of them of `size` bytes each."""
        if self._handler is not None:
            self._handler(Datagrams(data, size or len(data), source or self.remote or ("192.0.2.99", 9)))

    def close(self) -> None:
        self.closed = True


class TunnelHarness:
    """Runs a provider's class on a virtual clock; implements `towpath.providers.packet_tunnel.TunnelContext`.

    >>> class Plain(PacketTunnelProvider):
    ...     async def start(self, options):
    ...         self.link = await self.connect("192.0.2.9", 4000)
    ...         self.packets.deliver_to(self._send)
    ...         await self.set_settings(TunnelSettings(remote="192.0.2.9", addresses=("10.0.0.2/32",)))
    ...     def _send(self, packets):
    ...         self.link.send_each([one for packet in packets for one in packet.split()])
    >>> with TunnelHarness(Plain) as harness:
    ...     harness.start()
    ...     harness.send(b"E" + bytes(19))
    ...     [len(data) for data, _ in harness.links[0].sent], harness.settings.addresses
    ([20], ('10.0.0.2/32',))

    `delivered` are packets that programs got, `logged` what was logged, `failure` what a start or a cancel said.
    """

    def __init__(
        self, provider: type[PacketTunnelProvider[Any]], config: object = None, *, datagram_size: int = 1472
    ) -> None:
        made = configured(provider, config, "harness", inspect.getsourcefile(provider) or "")
        if not isinstance(made, PacketTunnelProvider):
            raise Misuse(f"{provider.__name__} is no PacketTunnelProvider")
        self.provider = made
        self.loop = VirtualLoop()
        self.links: list[HarnessLink] = []
        self.settings: TunnelSettings | None = None
        self.delivered: list[bytes] = []
        self.logged: list[tuple[LogLevel, str]] = []
        self.failure: TunnelFailed | None = None
        self.asserting = False
        self.refuse: TunnelFailed | None = None
        """What settings and links fail with, while it is set."""
        self.kernel_wireguard = False
        """Set before `start`: the provider is to set up the kernel's WireGuard; `kernel_setup` is what it asked for."""
        self.kernel_setup: KernelWireGuard | None = None
        self.kernel_peers: list[KernelPeerFigures] = []
        """What that says of its peers."""
        self._size = datagram_size
        self._asleep = 0.0
        self._joined: tuple[TunnelHarness, PeerAddress | None] | None = None
        self._outbox: list[tuple[bytes, PeerAddress | None]] = []
        self._flow = _Flow(self)
        made.attach_tunnel(self)

    def __enter__(self) -> TunnelHarness:
        return self

    def __exit__(self, *_: object) -> None:
        self._do(lambda: self.provider.stop(StopReason.NONE))
        self.loop.close()

    # What a test does.

    def start(self, options: Mapping[str, str] | None = None, seconds: float = 60.0) -> None:
        """Calls `start` and waits for it; raises what it raises, and `Misuse` when it has not returned in time."""
        self._do(lambda: self.provider.start(options), seconds)

    def send(self, *packets: bytes) -> None:
        """Programs send single packets."""
        self._soon(self._flow.put, [Packet.of(packet) for packet in packets])

    def send_records(self, *records: bytes) -> None:
        """Programs send what a device with offloads gives: a virtio head and a packet each."""
        self._soon(self._flow.put, [Packet(record) for record in records])

    def receive(self, data: bytes, source: PeerAddress | None = None, *, link: int = 0, size: int = 0) -> None:
        """A datagram comes by a link."""
        self._soon(self.links[link].receive, data, source, size)

    def advance(self, seconds: float) -> None:
        """Lets time pass, awake."""
        self._run(seconds, lambda: False)

    def sleep(self, seconds: float) -> None:
        """The machine sleeps: timers stand still, the clocks that count sleep go on."""
        self._do(self.provider.sleep)
        self._asleep += seconds
        self._do(self.provider.wake)

    def change_network(self) -> None:
        """The path below is another one."""
        self._do(self.provider.network_changed)

    def message(self, data: bytes) -> bytes | None:
        """A message of who runs the tunnel, and its answer."""
        answer: bytes | None = self._do(lambda: self.provider.handle_app_message(data))
        return answer

    def join(self, other: TunnelHarness, here: PeerAddress = ("192.0.2.1", 1000)) -> None:
        """What the first link of this one sends comes to the first of `other`, which listens, as from `here`, and back.

        To be called before `start`. Time passes for each of the two by itself.
        """
        self._joined, other._joined = (other, here), (self, None)

    def _pump(self) -> bool:
        """Carries what waits between two that are joined; whether there was anything."""
        if self._joined is None:
            return False
        other, moved = self._joined[0], False
        while self._outbox or other._outbox:
            moved = True
            for sender, receiver in ((self, other), (other, self)):
                waiting, sender._outbox = sender._outbox, []
                source = sender._joined[1] if sender._joined is not None else None
                expected = receiver._joined[1] if receiver._joined is not None else None
                for data, to in waiting:
                    if receiver.links and to in (None, expected):
                        receiver.loop.call_soon(receiver.links[0].receive, data, source)
                        receiver.loop.run()
        return moved

    def _soon(self, call: Callable[..., object], *arguments: object) -> None:
        self.loop.call_soon(call, *arguments)
        self.loop.run()
        self._pump()

    def _run(self, seconds: float, done: Callable[[], bool]) -> None:
        end = self.loop.time() + seconds
        while not done():
            self.loop.run()
            if self._pump() or done():
                continue
            left = end - self.loop.time()
            if left <= 0:
                return
            self.loop.run(min(left, _STEP if self._joined is not None else left))

    def _do(self, hook: Callable[[], Any], seconds: float = 5.0) -> Any:
        task = self.loop.create_task(_called(hook))
        task.add_done_callback(lambda _task: self.loop.stop())
        self._run(seconds, task.done)
        if not task.done():
            task.cancel()
            raise Misuse(f"the hook has not returned after {seconds:g} s")
        self._pump()
        return task.result()

    # What the provider asks for.

    @property
    def packets(self) -> _Flow:
        return self._flow

    async def apply(self, settings: TunnelSettings | None) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.settings = settings

    async def set_kernel_wireguard(self, setup: KernelWireGuard) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.kernel_setup = setup

    async def kernel_wireguard_peers(self) -> list[KernelPeerFigures]:
        return self.kernel_peers

    async def connect(self, host: str, port: int) -> HarnessLink:
        return self._open((host, port))

    async def listen(self, port: int) -> HarnessLink:
        return self._open(None)

    def _open(self, remote: PeerAddress | None) -> HarnessLink:
        if self.refuse is not None:
            raise self.refuse
        link = HarnessLink(remote, self._size)
        if self._joined is not None and not self.links:
            link.carry = lambda data, to: self._outbox.append((data, to))
        self.links.append(link)
        return link

    def reassert(self, on: bool) -> None:
        self.asserting = on

    def cancel(self, failure: TunnelFailed) -> None:
        self.failure = failure

    def log(self, level: LogLevel, text: str) -> None:
        self.logged.append((level, text))

    def now(self) -> float:
        return _EPOCH + self.boot_time()

    def boot_time(self) -> float:
        return self.loop.time() + self._asleep

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        self.loop.call_later(seconds, call)


async def _called(hook: Callable[[], Any]) -> Any:
    result = hook()
    return await result if inspect.isawaitable(result) else result
