"""Connecting for `towpath trust`: to a host, past STARTTLS, far enough to see what the peer presents."""

from __future__ import annotations

import asyncio
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache

from towpath.errors import ConfigInvalid, HostFault, PeerViolation, TimedOut
from towpath.trust.context import ANY_EXCHANGE, FORWARD_SECRET
from towpath.trust.handshake import Presented
from towpath.trust.transport import Requirements

__all__ = ["STARTTLS", "Peer", "Target", "dial", "looking_context", "meeting_context"]

_VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}

MAX_LINE = 4096
MAX_LINES = 100
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, default_port: int) -> Target:
        """``host``, ``host:port``, ``[v6]:port`` or a bare IPv6 address; raises `ConfigInvalid`."""
        host, port = text, str(default_port)
        if text.startswith("["):
            host, _, rest = text[1:].partition("]")
            port = rest.removeprefix(":") or port
        elif text.count(":") == 1:
            host, _, port = text.partition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65_536:
            raise ConfigInvalid(text, "is neither HOST[:PORT] nor a file", "towpath trust www.example.com:443")
        return cls(host, int(port))


@dataclass(frozen=True, slots=True)
class Peer:
    """What a handshake showed."""

    presented: Presented
    version: str
    cipher: str


def looking_context() -> ssl.SSLContext:
    """A context that accepts any certificate, because judging it is what comes next."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Old and weak servers are to be seen, too; what is wrong with them is for the rules to say.
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    return context


def meeting_context(needed: Requirements) -> ssl.SSLContext:
    """The same, but only for handshakes that meet a transport policy's version and key exchange."""
    context = looking_context()
    if needed.enforced:
        # Keys and hashes are for the rules to judge, so OpenSSL's own opinion of them stays out of it.
        context.set_ciphers((FORWARD_SECRET if needed.forward_secrecy else ANY_EXCHANGE) + ":@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = _VERSIONS[needed.minimum_tls]
    return context


_looking = cache(looking_context)


async def dial(
    target: Target,
    *,
    name: str,
    starttls: str | None = None,
    seconds: float = 10.0,
    context: ssl.SSLContext | None = None,
) -> Peer:
    """Connects and handshakes; raises `HostFault`, `PeerViolation` or `TimedOut`."""
    try:
        async with asyncio.timeout(seconds):
            async with _connected(target) as (reader, writer):
                if starttls is not None:
                    await STARTTLS[starttls][1](reader, writer)
                await writer.start_tls(context or _looking(), server_hostname=name)
                peer: ssl.SSLObject = writer.get_extra_info("ssl_object")
                cipher = peer.cipher()
                return Peer(Presented.from_ssl(peer), peer.version() or "", cipher[0] if cipher else "")
    except TimeoutError:
        raise TimedOut(f"asking {target}", seconds) from None
    except ssl.SSLError as error:
        raise PeerViolation("handshake", f"{target}: {error.reason or error}") from error
    except socket.gaierror as error:
        raise HostFault(
            f"looking up {target.host}", error.errno or 0, error.strerror or "", "is the name right?"
        ) from error
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        detail = getattr(error, "strerror", None) or "the peer closed the connection"
        raise HostFault(f"connecting to {target}", getattr(error, "errno", None) or 0, detail) from error
    except OSError as error:
        raise HostFault(f"connecting to {target}", error.errno or 0, error.strerror or str(error)) from error


@asynccontextmanager
async def _connected(target: Target) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(target.host, target.port, limit=MAX_LINE)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError as error:
        raise PeerViolation("starttls", f"a line of more than {MAX_LINE} octets") from error


async def _smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _smtp_reply(reader, b"220")
    writer.write(b"EHLO towpath.invalid\r\n")
    await _smtp_reply(reader, b"250")
    writer.write(b"STARTTLS\r\n")
    await _smtp_reply(reader, b"220")


async def _smtp_reply(reader: asyncio.StreamReader, code: bytes) -> None:
    for _ in range(MAX_LINES):
        line = await _line(reader)
        if line[:3] != code:
            raise PeerViolation("starttls", f"SMTP answered {line[:80].decode('ascii', 'replace').strip()!r}")
        if line[3:4] != b"-":
            return
    raise PeerViolation("starttls", "SMTP does not end its answer")


async def _imap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    greeting = await _line(reader)
    if not greeting.startswith(b"* OK"):
        raise PeerViolation("starttls", f"IMAP greeted with {greeting[:80].decode('ascii', 'replace').strip()!r}")
    writer.write(b"t1 STARTTLS\r\n")
    for _ in range(MAX_LINES):
        line = await _line(reader)
        if line.startswith(b"t1 "):
            if line.upper().startswith(b"T1 OK"):
                return
            raise PeerViolation("starttls", f"IMAP answered {line[:80].decode('ascii', 'replace').strip()!r}")
    raise PeerViolation("starttls", "IMAP does not answer")


async def _ldap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # RFC 4511 §4.14: ExtendedRequest with the OID 1.3.6.1.4.1.1466.20037, message id 1.
    name = b"1.3.6.1.4.1.1466.20037"
    operation = bytes((0x80, len(name))) + name
    body = b"\x02\x01\x01" + bytes((0x77, len(operation))) + operation
    writer.write(bytes((0x30, len(body))) + body)
    head = await reader.readexactly(2)
    if head[0] != 0x30 or head[1] > 0x84:
        raise PeerViolation("starttls", "LDAP answered with something else than a message")
    length = head[1]
    if length > 0x80:
        length = int.from_bytes(await reader.readexactly(length & 0x7F), "big")
    if length > MAX_LINE:
        raise PeerViolation("starttls", f"LDAP answered with {length} octets")
    message = await reader.readexactly(length)
    if b"\x0a\x01\x00" not in message[:24]:
        raise PeerViolation("starttls", "LDAP refused StartTLS")


async def _postgres(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # SSLRequest of the PostgreSQL protocol: length 8, code 80877103; the answer is one octet.
    writer.write((8).to_bytes(4, "big") + (80_877_103).to_bytes(4, "big"))
    answer = await reader.readexactly(1)
    if answer != b"S":
        raise PeerViolation("starttls", "PostgreSQL offers no TLS")


STARTTLS: dict[str, tuple[int, Talk]] = {
    "smtp": (25, _smtp),
    "imap": (143, _imap),
    "ldap": (389, _ldap),
    "postgres": (5432, _postgres),
}
"""Protocol to its port and to the talk that comes before the handshake."""
