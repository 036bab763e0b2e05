"""How a listener takes QUIC: one UDP socket for all, connections told apart by connection ID (RFC 9000 section 5.2)."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import cast

from aioquic._buffer import Buffer
from aioquic.quic.packet import (
    QuicHeader,
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler

from towpath.connection.endpoint import AddressEndpoint, UnixEndpoint
from towpath.connection.establishment import endpoint_of, link_for
from towpath.connection.parameters import Parameters
from towpath.connection.quic_link import QuicLink
from towpath.errors import Misuse
from towpath.protocols.quic import Quic
from towpath.protocols.quic_engine import Address

__all__ = ["QuicIntake"]

_READ = 1 << 16
_BURST = 64
_LEAST_INITIAL = 1200
"""Bytes of a datagram with which a client may begin (RFC 9000 section 14.1)."""
_IDENTIFIER = 8
_MAX_LINKS = 1 << 14
_VERSIONS = [int(QuicProtocolVersion.VERSION_1), int(QuicProtocolVersion.VERSION_2)]


class QuicIntake:
    """Reads the socket for every connection; `arrive` gets each new one, its handshake just begun.

    After `close` no new ones come; the socket goes with the last of them.
    """

    def __init__(
        self,
        listening: socket.socket,
        loop: asyncio.AbstractEventLoop,
        parameters: Parameters,
        arrive: Callable[[QuicLink, AddressEndpoint | UnixEndpoint], None],
        may_take: Callable[[], bool],
    ) -> None:
        self.socket = listening
        self._loop = loop
        self._parameters = parameters
        self._arrive = arrive
        self._may_take = may_take
        self._links: dict[bytes, QuicLink] = {}
        self._alive: set[QuicLink] = set()
        self._tokens = QuicRetryTokenHandler()
        self._closed = False

    def read(self) -> None:
        """Takes what is there."""
        for _ in range(_BURST):
            try:
                data, address = self.socket.recvfrom(_READ)
            except OSError:
                return
            self._take(data, cast("Address", address))

    def close(self) -> None:
        self._closed = True
        for link in list(self._alive):
            if not link.has_streams:
                link.close()
            link.kept = False
        if self._alive:
            self._loop.add_reader(self.socket.fileno(), self.read)
        else:
            self.socket.close()

    def carry(self, data: bytes, address: Address) -> None:
        try:
            self.socket.sendto(data, address)
        except OSError:
            return  # it is sent again, and silence ends the connection

    def ended(self, link: QuicLink) -> None:
        self._alive.discard(link)
        for identifier in [identifier for identifier, owner in self._links.items() if owner is link]:
            del self._links[identifier]
        if self._closed and not self._alive:
            self._loop.remove_reader(self.socket.fileno())
            self.socket.close()

    def identified(self, link: QuicLink, identifier: bytes) -> None:
        self._links[identifier] = link

    def retired(self, identifier: bytes) -> None:
        self._links.pop(identifier, None)

    async def move(self) -> None:
        """A server stays where it is (RFC 9000 section 9)."""
        raise Misuse("only the client of a QUIC connection can move")

    def _take(self, data: bytes, address: Address) -> None:
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=_IDENTIFIER)
        except ValueError:
            return
        known = self._links.get(header.destination_cid)
        if known is not None:
            known.received(data, address)
        elif header.version not in (None, *_VERSIONS) and header.packet_type is not QuicPacketType.VERSION_NEGOTIATION:
            # A short packet would let anybody make this machine send more than they do (RFC 9000 section 6.1).
            if len(data) >= _LEAST_INITIAL:
                self.carry(
                    encode_quic_version_negotiation(
                        source_cid=header.destination_cid,
                        destination_cid=header.source_cid,
                        supported_versions=_VERSIONS,
                    ),
                    address,
                )
        elif header.packet_type is QuicPacketType.INITIAL and len(data) >= _LEAST_INITIAL:
            self._begin(header, data, address)

    def _begin(self, header: QuicHeader, data: bytes, address: Address) -> None:
        if self._closed or not self._may_take() or len(self._alive) >= _MAX_LINKS:
            return
        original, retry_source = header.destination_cid, None
        if header.token:
            try:
                original = self._tokens.validate_token(
                    address=address,
                    destination_cid=header.destination_cid,
                    token=header.token,
                    now=self._loop.time(),
                )
            except ValueError:
                return  # a forged or old one: the client begins anew
            retry_source = header.destination_cid
        elif self._is_pressed():
            self._let_prove(header, address)
            return
        peer = endpoint_of(address) or UnixEndpoint("unnamed", abstract=True)
        link = QuicLink(
            self._parameters, link_for(peer, is_server=True), self, original=original, retry_source=retry_source
        )
        link.kept = True  # its streams come and go; who began it also ends it
        self._alive.add(link)
        self._links[header.destination_cid] = link
        link.received(data, address)
        if link.engine.has_peer:
            self._arrive(link, peer)
        else:
            link.close()

    def _is_pressed(self) -> bool:
        options = self._parameters.transport
        allowed = options.prove_address_above if isinstance(options, Quic) else 0
        if allowed == 0:
            return True
        return sum(link.engine.details is None for link in self._alive) >= allowed

    def _let_prove(self, header: QuicHeader, address: Address) -> None:
        if header.version is None:
            return
        source = os.urandom(_IDENTIFIER)
        token = self._tokens.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=source,
            now=self._loop.time(),
        )
        self.carry(
            encode_quic_retry(
                version=header.version,
                source_cid=source,
                destination_cid=header.source_cid,
                original_destination_cid=header.destination_cid,
                retry_token=token,
            ),
            address,
        )
