"""`towpath nc`: standard input and output joined to a connection of any kind."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from towpath.errors import ConfigInvalid, Misuse, TimedOut, TowpathError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from towpath.connection import Connection, Endpoint, Parameters
    from towpath.connection.report import EstablishmentReport, TransferReport
    from towpath.trust import Anchors

__all__ = ["add"]

_EXAMPLES = """\
examples:
  towpath nc news.example 80                        TCP, like netcat
  towpath nc --tls news.example 443                 TLS, the server judged by towpath.trust
  towpath nc --tls --anchors ca.pem --name news.test 192.0.2.7 8443
  towpath nc --quic --alpn h3 news.example 443      a stream of a QUIC connection
  towpath nc --bonjour 'Desk._ipp._tcp.local'       whoever announces that service on this link
  towpath nc --udp time.example 123 < question      each read of standard input is a datagram
  towpath nc --unix /run/app.sock                   a Unix socket; @name for an abstract one
  towpath nc --websocket wss://news.example/feed    each read of standard input is a text message
  towpath nc -l 8080                                wait for one connection; -k for one after the other
  towpath nc -l --tls --identity server.pem server.key 8443
  towpath nc --report news.example 443 < /dev/null  how it came to be: names, attempts, handshakes, times

The exit code is 0 when the conversation ended well, 1 when the connection failed, 3 when a certificate was refused.
"""

_ALPN = "nc"
"""QUIC has to name a protocol (RFC 9001 section 8.1)."""
FINE, FAILED, REFUSED = 0, 1, 3


def add(parser: argparse.ArgumentParser) -> None:
    """Fills in the subcommand."""
    parser.usage = "towpath nc [options] HOST PORT | ENDPOINT | -l [HOST] PORT"
    parser.description = "Join standard input and output to a connection."
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "where", nargs="+", metavar="WHERE", help="HOST PORT, HOST:PORT, or an endpoint such as unix:PATH"
    )
    parser.add_argument("-l", "--listen", action="store_true", help="wait for a connection instead of making one")
    parser.add_argument(
        "-k", "--keep", action="store_true", help="with -l: go on listening after a connection has ended"
    )
    kinds = parser.add_argument_group("kind of connection (default: TCP)").add_mutually_exclusive_group()
    kinds.add_argument("--tls", action="store_true", help="TLS 1.2 or 1.3 over TCP")
    kinds.add_argument(
        "--websocket", action="store_true", help="WebSocket; WHERE is a ws: or wss: URL, or a port with -l"
    )
    kinds.add_argument("--quic", action="store_true", help="a stream of a QUIC connection")
    kinds.add_argument("--udp", action="store_true", help="UDP: messages are datagrams")
    parser.add_argument("--bonjour", action="store_true", help="WHERE is a service: 'NAME._http._tcp.local'")
    parser.add_argument("--unix", action="store_true", help="WHERE is the path of a Unix socket")
    tls = parser.add_argument_group("TLS")
    tls.add_argument("--anchors", type=Path, metavar="FILE", help="trust these authorities (PEM) beside the system's")
    tls.add_argument("--name", metavar="NAME", help="the name to ask for and to judge by, instead of HOST")
    tls.add_argument("--alpn", action="append", default=[], metavar="PROTOCOL", help="offer it; may be repeated")
    tls.add_argument(
        "--identity", nargs=2, type=Path, metavar=("CHAIN", "KEY"), help="own certificate: a server needs one"
    )
    tls.add_argument("--key-log", type=Path, metavar="FILE", help="append the session's secrets, for a packet analyser")
    parser.add_argument(
        "-q", "--linger", type=float, default=1, metavar="SECONDS",
        help="for answers to the last message, where there is no half-close: UDP, WebSocket (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "-w", "--wait", type=float, default=30, metavar="SECONDS", help="for the connection to be made (default: 30)"
    )
    say = parser.add_argument_group("what it says, on standard error")
    say.add_argument("--report", action="store_true", help="how the connection came to be, and what went through")
    say.add_argument("--json", action="store_true", help="the report as one JSON object")
    parser.set_defaults(call=_call)


def _call(options: argparse.Namespace) -> int:
    import asyncio

    from towpath.errors import ConnectionFailed
    from towpath.trust import TrustRefused

    endpoint, parameters = _endpoint(options), _parameters(options)
    try:
        return asyncio.run(
            _listen(options, endpoint, parameters) if options.listen else _dial(options, endpoint, parameters)
        )
    except TrustRefused as error:
        print(f"towpath: {error}", file=sys.stderr)
        for finding in error.result.failures:
            print(f"towpath:   {finding.id}: {finding.observed}; required: {finding.required}", file=sys.stderr)
        return REFUSED
    except (ConfigInvalid, Misuse):
        raise
    except TowpathError as error:
        print(f"towpath: {error}", file=sys.stderr)
        if error.hint:
            print(f"towpath: hint: {error.hint}", file=sys.stderr)
        if options.report and isinstance(error, ConnectionFailed):
            _print_report(options, error.report, None)
        return FAILED


def _endpoint(options: argparse.Namespace) -> Endpoint:
    from towpath.connection import Endpoint

    words: list[str] = options.where
    if len(words) > 2:
        raise ConfigInvalid("towpath nc", f"{' '.join(words)!r} is no HOST PORT", "towpath nc HOST PORT")
    if options.bonjour:
        return Endpoint.parse(f"bonjour:{words[0]}")
    if options.unix:
        return Endpoint.parse(f"unix:{words[0]}")
    if len(words) == 2:
        host, port = words
    elif options.listen and words[0].isdigit():
        host, port = "::", words[0]
    else:
        return Endpoint.parse(words[0])
    return Endpoint.parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def _parameters(options: argparse.Namespace) -> Parameters:
    from towpath.connection import Parameters
    from towpath.protocols import Opcode, Tls, WebSocket

    if options.udp:
        return Parameters.udp()
    if not (options.tls or options.websocket or options.quic):
        return Parameters.tcp()
    if (options.tls or options.quic) and options.listen and options.identity is None:
        raise ConfigInvalid(
            "--quic" if options.quic else "--tls", "a server shows a certificate", "--identity CHAIN.pem KEY.pem"
        )
    if options.identity:
        _check_identity(*options.identity)
    anchors = _anchors(options.anchors) if options.anchors else None
    identity = tuple(options.identity) if options.identity else None
    if options.quic:
        alpn = options.alpn or [_ALPN]
        return Parameters.quic(alpn=alpn, server_name=options.name, anchors=anchors, identity=identity)
    tls = Tls(server_name=options.name, alpn=options.alpn, anchors=anchors, identity=identity, key_log=options.key_log)
    if not options.websocket:
        return Parameters(layers=(tls,))
    text = WebSocket(opcode=Opcode.TEXT)
    return Parameters.websocket(tls=tls, frames=text, secure=not options.listen or options.identity is not None)


def _check_identity(chain: Path, key: Path) -> None:
    """Before anybody connects."""
    import ssl

    for file in (chain, key):
        if not file.is_file():
            raise ConfigInvalid("--identity", f"there is no file {file}", "--identity CHAIN.pem KEY.pem")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key)
    except (ssl.SSLError, OSError) as error:
        raise ConfigInvalid("--identity", f"{chain} and {key} are no certificate with its key: {error}") from None


def _anchors(file: Path) -> Anchors:
    from towpath.trust import Anchors

    return Anchors.system() | Anchors.pem(file)


async def _dial(options: argparse.Namespace, endpoint: Endpoint, parameters: Parameters) -> int:
    import asyncio

    from towpath.connection import Connection

    connection = Connection(endpoint, parameters)
    connection.start()
    try:
        async with asyncio.timeout(options.wait):
            await connection.ready()
    except TimeoutError:
        connection.force_cancel()
        raise TimedOut(f"connecting to {' '.join(options.where)}", options.wait) from None
    async with connection:
        return await _talk(options, connection)


async def _listen(options: argparse.Namespace, endpoint: Endpoint, parameters: Parameters) -> int:
    from towpath.connection import Listener

    async with Listener(endpoint, parameters, speaks_first=True) as listener:
        print(f"towpath: listening on {listener.local}", file=sys.stderr, flush=True)
        while True:
            try:
                async with await listener.accept() as connection:
                    code = await _talk(options, connection)
            except TowpathError as error:
                if not options.keep:
                    raise
                print(f"towpath: {error}", file=sys.stderr, flush=True)
                continue
            if not options.keep:
                return code


async def _talk(options: argparse.Namespace, connection: Connection) -> int:
    """Until both sides have said all; a person at a terminal is not waited for."""
    import asyncio

    messages = options.udp or options.websocket
    measurement = connection.measure()
    sending = asyncio.create_task(_send(connection, half_close=not messages))
    receiving = asyncio.create_task(_receive(connection))
    try:
        await asyncio.wait([sending, receiving], return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            # Only a byte stream can say that it sends no more and go on listening.
            patience = options.linger if messages and not options.listen else None
            await asyncio.wait([receiving], timeout=patience)
        elif receiving.done() and not sys.stdin.isatty():
            await sending
    finally:
        for task in (sending, receiving):
            task.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)
        if options.report or options.json:
            _print_report(options, connection.report, measurement.collect())
    for task in (sending, receiving):
        error = None if task.cancelled() else task.exception()
        if error is not None:
            raise error
    return FINE


async def _send(connection: Connection, *, half_close: bool) -> None:
    from towpath.connection import FINAL

    async for data in _standard_input():
        await connection.send(data)
    if half_close:
        await connection.send(b"", context=FINAL)


async def _receive(connection: Connection) -> None:
    async for message in connection:
        sys.stdout.buffer.write(message.content)
        sys.stdout.buffer.flush()


def _now_ready(ready: asyncio.Future[None]) -> None:
    if not ready.done():  # told twice before it was heard once
        ready.set_result(None)


async def _standard_input() -> AsyncIterator[bytes]:
    """What is there, as it comes: a terminal or a pipe is waited for, a file is read."""
    import asyncio
    import os

    loop = asyncio.get_running_loop()
    while True:
        ready: asyncio.Future[None] = loop.create_future()
        try:
            loop.add_reader(0, _now_ready, ready)
        except PermissionError:  # a regular file is always ready (epoll_ctl(2), EPERM)
            ready.set_result(None)
        try:
            await ready
        finally:
            loop.remove_reader(0)  # at once: read without being ready it would block
        data = os.read(0, 1 << 16)
        if not data:
            return
        yield data


def _print_report(options: argparse.Namespace, report: EstablishmentReport, transfer: TransferReport | None) -> None:
    from towpath.cli.nc_report import as_json, as_lines

    print(as_json(report, transfer) if options.json else "\n".join(as_lines(report, transfer)), file=sys.stderr)
