"""The one process of a host that serves all its services, and the owner's conversation with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import subprocess
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict
from ipaddress import ip_address
from typing import Any, NoReturn

from towpath.errors import CommandUnusable, HostFault, PeerViolation
from towpath.testing.dns_server import Zone
from towpath.testing.http_service import serve_http
from towpath.testing.plan import Banner, Command, Dns, Host, Http, Https, Service
from towpath.testing.streams import Seen, Stream, TlsStream, Trouble

__all__ = ["HostProcess"]

_BACKLOG = 1024
_QUIET_ROUNDS = 4
_COMMAND_PATIENCE = 60.0
_COMMAND_POLL = 0.005
_FIRST_WORDS = 0.1


class HostProcess:
    """Runs in a node of the world from `run` on.

    The owner sends one JSON object a line and gets one back: ``{"ask": "log"}``, ``{"ask": "trouble", "port": 443 or
    null, "kind": "reset" | "silent" | "slow" | null, "bytes_per_second": N}``.
    """

    def __init__(
        self, host: Host, zone: Zone, contexts: Mapping[int, ssl.SSLContext], environment: dict[str, str]
    ) -> None:
        self._host = host
        self._zone = zone
        self._contexts = contexts
        self._environment = environment
        self._seen: list[Seen] = []
        self._troubles: dict[int, Trouble] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, channel: socket.socket, ready: Callable[[], None]) -> NoReturn:
        asyncio.run(self._run(channel, ready))
        raise SystemExit(0)

    async def _run(self, channel: socket.socket, ready: Callable[[], None]) -> None:
        for service in self._host.serves:
            if isinstance(service, Command):
                await self._command(service)
            else:
                self._listen(service)
        ready()
        reader, writer = await asyncio.open_unix_connection(sock=channel)
        while line := await reader.readline():
            writer.write(json.dumps(await self._reply(json.loads(line))).encode() + b"\n")
            await writer.drain()
        os._exit(0)

    async def _reply(self, question: dict[str, Any]) -> dict[str, Any]:
        if question["ask"] == "log":
            await self._settle()
            return {"records": [asdict(seen.record()) for seen in self._seen]}
        for port, trouble in self._troubles.items():
            if question["port"] in (None, port):
                trouble.kind = question["kind"]
                trouble.bytes_per_second = question["bytes_per_second"]
        return {}

    async def _settle(self) -> None:
        """Lets the loop take in what has arrived already: rounds until nothing changes."""
        quiet, before = 0, ""
        while quiet < _QUIET_ROUNDS:
            await asyncio.sleep(0)
            now = repr(self._seen)
            quiet, before = (quiet + 1 if now == before else 0), now

    def _listen(self, service: Service) -> None:
        trouble = Trouble(None, service.bytes_per_second if isinstance(service, Http) else None)
        self._troubles[service.port] = trouble
        if service.transport in ("tcp", "both"):
            listener = _bound(socket.SOCK_STREAM, service)
            listener.listen(_BACKLOG)
            self._start(self._accept(service, listener, trouble))
        if service.transport in ("udp", "both"):
            self._start(self._datagrams(service, _bound(socket.SOCK_DGRAM, service), trouble))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, service: Service, listener: socket.socket, trouble: Trouble) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, peer = await loop.sock_accept(listener)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            seen = Seen(service.kind, service.port, _plain(peer[0]))
            self._seen.append(seen)
            if isinstance(service, Https):
                context = self._contexts[service.port]
                stream: Stream = TlsStream(connection, seen, trouble, context)
            else:
                stream = Stream(connection, seen, trouble)
            self._start(self._converse(service, stream))

    async def _converse(self, service: Service, stream: Stream) -> None:
        try:
            if stream.trouble.kind == "silent":
                await asyncio.get_running_loop().create_future()
            if stream.trouble.kind == "reset":
                # Not at once: it could overtake the client's own connect(). Who waits for a greeting gets it soon.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(Stream.receive(stream), _FIRST_WORDS)
                stream.reset()
                return
            if isinstance(stream, TlsStream):
                await stream.handshake()
            await self._serve(service, stream)
            await stream.finish()
        except (OSError, ssl.SSLError):  # clients come and go as they please
            pass
        finally:
            stream.close()

    async def _serve(self, service: Service, stream: Stream) -> None:
        if isinstance(service, Http):
            await serve_http(stream, self._host.name, service.folder)
        elif isinstance(service, Dns):
            await self._serve_dns(stream)
        else:
            if isinstance(service, Banner):
                await stream.send(service.line.encode())
            while data := await stream.receive():
                await stream.send(data)

    async def _serve_dns(self, stream: Stream) -> None:
        buffer = b""
        while data := await stream.receive():
            buffer += data
            while len(buffer) >= 2 and len(buffer) >= (end := 2 + int.from_bytes(buffer[:2], "big")):
                query, buffer = buffer[2:end], buffer[end:]
                try:
                    reply, question = self._zone.answer(query, datagram=False)
                except PeerViolation:
                    return
                stream.seen.requests.append(question)
                await stream.send(len(reply).to_bytes(2, "big") + reply)

    async def _datagrams(self, service: Service, endpoint: socket.socket, trouble: Trouble) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data, peer = await loop.sock_recvfrom(endpoint, 1 << 16)
            except OSError:  # an answer of ours found nobody
                continue
            seen = Seen(service.kind, service.port, _plain(peer[0]), received=len(data))
            self._seen.append(seen)
            if trouble.kind is not None:
                continue
            if isinstance(service, Dns):
                try:
                    data, question = self._zone.answer(data, datagram=True)
                except PeerViolation:
                    continue
                seen.requests.append(question)
            try:
                seen.sent = await loop.sock_sendto(endpoint, data, peer)
            except OSError:
                continue

    async def _command(self, service: Command) -> None:
        program = self._launch(service)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _COMMAND_PATIENCE
        while service.port and not await _listens(service.port):
            if program.poll() is not None:
                reason = f"ended with {program.returncode} before it listened on {service.port}"
                raise CommandUnusable(service.command[0], 126, reason)
            if loop.time() > deadline:
                raise CommandUnusable(service.command[0], 126, f"does not listen on {service.port}")
            await asyncio.sleep(_COMMAND_POLL)

    def _launch(self, service: Command) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                service.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=self._environment
            )
        except FileNotFoundError:
            raise CommandUnusable(service.command[0], 127, f"not found, wanted by host {self._host.name}") from None
        except OSError as error:
            raise CommandUnusable(service.command[0], 126, str(error.strerror)) from None


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


def _bound(kind: socket.SocketKind, service: Service) -> socket.socket:
    bound = socket.socket(socket.AF_INET6, kind)
    bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if kind == socket.SOCK_DGRAM:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    bound.setblocking(False)
    try:
        bound.bind(("::", service.port))
    except OSError as error:
        raise HostFault(f"serve {service.kind} on port {service.port}", error.errno or 0, str(error.strerror)) from None
    return bound


def _plain(address: str) -> str:
    """An IPv4 peer of a socket of both families as IPv4."""
    parsed = ip_address(address.partition("%")[0])
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
