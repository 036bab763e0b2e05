"""The life of a packet tunnel's worker: an author's provider, a TUN queue and sockets that it was handed. Confined."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import json
import os
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from towpath.errors import ConfigInvalid, Misuse, TowpathError
from towpath.hosting import messages
from towpath.hosting import tunnel_messages as told
from towpath.hosting.tunnel_io import SocketLink, TunFlow
from towpath.hosting.tunnel_loop import TunnelLoop
from towpath.kernel.system import heap, tun
from towpath.providers.disconnect import DisconnectCause, TunnelFailed
from towpath.providers.kernel_wireguard import KernelPeerFigures, KernelWireGuard
from towpath.providers.packet_tunnel import PacketTunnelProvider
from towpath.providers.provider import LogLevel
from towpath.providers.reasons import StopReason
from towpath.providers.tunnel_settings import TunnelSettings

__all__ = ["serve"]

_LARGEST = 1 << 18
_PART = 100_000
"""Bytes of figures in one message."""


def serve(line: socket.socket, provider: PacketTunnelProvider[Any], begin: messages.Begin) -> None:
    """Until the manager says stop or goes away."""
    heap.keep_freed()
    gc.freeze()  # what is loaded stays: no collection looks at it again
    gc.set_threshold(10_000, 20, 50)
    with asyncio.Runner(loop_factory=TunnelLoop) as runner:
        runner.run(_Worker(line, provider, begin).run())


class _Worker:
    """Implements `towpath.providers.packet_tunnel.TunnelContext`."""

    packets: TunFlow
    kernel_wireguard = False

    def __init__(self, line: socket.socket, provider: PacketTunnelProvider[Any], begin: messages.Begin) -> None:
        self._line = line
        self._provider = provider
        self._begin = begin
        self._numbers = itertools.count(1)
        self._applying: dict[int, asyncio.Future[None]] = {}
        self._looking: dict[int, asyncio.Future[list[KernelPeerFigures]]] = {}
        self._opening: dict[int, asyncio.Future[SocketLink]] = {}
        self._links: dict[int, SocketLink] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._capture: int | None = None
        provider.attach_tunnel(self)

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = self._loop.create_future()
        self._line.setblocking(False)
        self._loop.add_reader(self._line, self._readable)
        self._tell(told.Loaded())
        await self._stopped

    # What the provider may ask for.

    async def apply(self, settings: TunnelSettings | None) -> None:
        await self._put_in_force(told.ApplyWanted(next(self._numbers), settings))

    async def _put_in_force(self, wanted: told.ApplyWanted | told.KernelWanted) -> None:
        future = self._applying[wanted.number] = self._loop.create_future()
        self._tell(wanted)
        try:
            await future
        finally:
            del self._applying[wanted.number]

    async def connect(self, host: str, port: int) -> SocketLink:
        return await self._open(told.LinkWanted(next(self._numbers), host, port))

    async def listen(self, port: int) -> SocketLink:
        if "listen" not in self._begin.capabilities:
            raise Misuse('this tunnel listens, but its manifest does not claim the capability "listen"')
        return await self._open(told.LinkWanted(next(self._numbers), "", port, listen=True))

    async def _open(self, wanted: told.LinkWanted) -> SocketLink:
        future: asyncio.Future[SocketLink] = self._loop.create_future()
        self._opening[wanted.number] = future
        self._tell(wanted)
        try:
            return await future
        finally:
            del self._opening[wanted.number]

    async def set_kernel_wireguard(self, setup: KernelWireGuard) -> None:
        await self._put_in_force(told.KernelWanted(next(self._numbers), setup))

    async def kernel_wireguard_peers(self) -> list[KernelPeerFigures]:
        number = next(self._numbers)
        future: asyncio.Future[list[KernelPeerFigures]] = self._loop.create_future()
        self._looking[number] = future
        self._tell(told.KernelPeersWanted(number))
        try:
            return await future
        finally:
            del self._looking[number]

    def reassert(self, on: bool) -> None:
        self._tell(told.Reasserting(on))

    def cancel(self, failure: TunnelFailed) -> None:
        self._tell(told.Cancelled(int(failure.cause), str(failure)))

    def log(self, level: LogLevel, text: str) -> None:
        self._tell(messages.Said(level, text))

    def now(self) -> float:
        return time.time()

    def boot_time(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        self._loop.call_later(seconds, call)

    # Serving.

    def _tell(self, message: told.FromTunnel) -> None:
        for packet in messages.batches([message]):
            try:
                self._line.send(packet)
            except BlockingIOError:
                self._line.setblocking(True)
                self._line.send(packet)
                self._line.setblocking(False)
            except OSError:
                os._exit(0)  # the manager has gone

    def _readable(self) -> None:
        while True:
            try:
                data, descriptors, _flags, _address = socket.recv_fds(self._line, _LARGEST, 1)
            except BlockingIOError:
                return
            except OSError:
                os._exit(0)
            if not data:
                os._exit(0)  # the manager has gone
            for message in told.to_tunnel(data):
                self._take(message, descriptors)

    def _take(self, message: told.ToTunnel, descriptors: list[int]) -> None:
        provider = self._provider
        if isinstance(message, told.TunOpened):
            self.kernel_wireguard = message.kernel
            self.packets = TunFlow(self._loop, tun.TunQueue(descriptors[0], heads=message.heads))
        elif isinstance(message, told.Start):
            self._background(self._start(message.options))
        elif isinstance(message, told.Applied):
            self._settle(self._applying, message.number, message.cause, message.reason, None)
        elif isinstance(message, told.KernelPeers):
            self._settle(self._looking, message.number, 0, "", message.peers)
        elif isinstance(message, told.LinkOpened):
            self._link(message, descriptors)
        elif isinstance(message, told.Sleep):
            self._background(self._sleep(message.number))
        elif isinstance(message, told.Wake):
            self._background(self._notice("wake", provider.wake))
        elif isinstance(message, told.NetworkChanged):
            self._background(self._notice("network_changed", provider.network_changed))
        elif isinstance(message, told.AppMessage):
            self._background(self._app_message(message))
        elif isinstance(message, told.StatusWanted):
            self._status(message.number)
        elif isinstance(message, told.Capture):
            self._begin_capture(descriptors[0])
        elif isinstance(message, told.CaptureEnd):
            self._end_capture()
        elif isinstance(message, messages.Stop):
            self._background(self._stop(StopReason(message.reason)))

    def _settle(self, waiting: dict[int, Any], number: int, cause: int, reason: str, value: object) -> None:
        future = waiting.get(number)
        if future is None or future.done():
            return
        if cause:
            future.set_exception(TunnelFailed(DisconnectCause(cause), reason))
        else:
            future.set_result(value)

    def _link(self, message: told.LinkOpened, descriptors: list[int]) -> None:
        remote = (message.address, message.port) if message.address else None
        if not descriptors:
            self._settle(self._opening, message.number, message.cause, message.reason, None)
            return
        made = socket.socket(fileno=descriptors[0])
        made.setblocking(False)
        known = self._links.get(message.number)
        if known is not None:
            known.rebind(made, remote)
            return
        link = self._links[message.number] = SocketLink(self._loop, self.packets, made, remote)
        link.closed = lambda: self._forget(message.number)
        self._settle(self._opening, message.number, 0, "", link)

    def _forget(self, number: int) -> None:
        self._links.pop(number, None)
        self._tell(told.LinkClosed(number))

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, options: dict[str, str] | None) -> None:
        try:
            result = self._provider.start(options)
            if inspect.isawaitable(result):
                await result
        except TunnelFailed as failure:
            self._tell(told.Started(int(failure.cause), str(failure), failure.hint))
        except TowpathError as error:
            cause = DisconnectCause.CONFIGURATION_FAILED
            self._tell(told.Started(int(cause), str(error), error.hint))
        except Exception as error:
            self._tell(told.Started(int(DisconnectCause.PLUGIN_FAILED), _reason("start", error)))
        else:
            self._tell(told.Started())

    async def _notice(self, name: str, hook: Callable[[], None | Awaitable[None]]) -> None:
        try:
            result = hook()
            if inspect.isawaitable(result):
                await result
        except TunnelFailed as failure:
            self.cancel(failure)
        except Exception as error:
            self.cancel(TunnelFailed(DisconnectCause.PLUGIN_FAILED, _reason(name, error)))

    async def _sleep(self, number: int) -> None:
        await self._notice("sleep", self._provider.sleep)
        self._tell(told.SleepDone(number))

    async def _app_message(self, message: told.AppMessage) -> None:
        answer: bytes | None = None
        try:
            result = self._provider.handle_app_message(message.data)
            answer = await result if inspect.isawaitable(result) else result
        except Exception as error:
            self.log("error", _reason("handle_app_message", error))
        self._tell(told.AppAnswer(message.number, answer))

    def _status(self, number: int) -> None:
        try:
            figures = dict(self._provider.status())
        except Exception as error:
            figures = {"error": _reason("status", error)}
        figures["packets"] = getattr(self, "packets", None) and self.packets.figures
        figures["links"] = [
            {"remote": link.remote, "refused": link.refused, **link.figures} for link in self._links.values()
        ]
        data = json.dumps(figures, default=str).encode()
        for at in range(0, len(data), _PART):
            self._tell(told.StatusAnswer(number, data[at : at + _PART], more=at + _PART < len(data)))

    def _begin_capture(self, descriptor: int) -> None:
        from towpath.wire import pcapng

        self._end_capture()
        self._capture = descriptor

        def watch(record: bytes | bytearray | memoryview, out: bool) -> None:
            try:
                os.write(
                    descriptor, pcapng.packet(time.time_ns(), bytes(record[10:]), direction="out" if out else "in")
                )
            except OSError:
                self._end_capture()

        self.packets.watch = watch

    def _end_capture(self) -> None:
        if self._capture is not None:
            self.packets.watch = None
            os.close(self._capture)
            self._capture = None

    async def _stop(self, reason: StopReason) -> None:
        await self._notice("stop", lambda: self._provider.stop(reason))
        self._tell(messages.Ended())
        if not self._stopped.done():
            self._stopped.set_result(None)


def _reason(hook: str, error: BaseException) -> str:
    if isinstance(error, ConfigInvalid):
        return str(error)
    return f"{hook} raised {type(error).__name__}: {error}".replace("\n", " ")
