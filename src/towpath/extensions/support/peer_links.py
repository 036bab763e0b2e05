"""The links of a tunnel's peers: opened by name, waited for with what is known of why nobody answers, sent by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from towpath.providers import DatagramLink, Datagrams, DisconnectCause, PacketTunnelProvider, PeerAddress, TunnelFailed
from towpath.providers.packets import Buffer

__all__ = ["FIRST_ANSWER", "PeerLinks", "place"]

FIRST_ANSWER = 20.0
"""Seconds in which a peer has to answer when the tunnel starts."""
_LOOK_EACH = 0.5
_ENOUGH = 2
"""Refusals of what was sent: the first may be of a server that is just being started."""


class HasEndpoint(Protocol):
    endpoint: PeerAddress | None


P = TypeVar("P", bound=HasEndpoint)


class PeerLinks(Generic[P]):
    """A link to each peer that is dialled, and one that listens for all others. `receive` gets what comes by either."""

    def __init__(self, provider: PacketTunnelProvider[Any], receive: Callable[[DatagramLink, Datagrams], None]) -> None:
        self.dialled: list[P] = []
        self.listening: DatagramLink | None = None
        self._provider = provider
        self._receive = receive
        self._links: dict[P, DatagramLink] = {}
        self._places: list[str] = []

    async def dial(self, peer: P, host: str, port: int, where: str) -> None:
        """Opens the link to a server; `where` is what a user would look at to correct it. Raises `TunnelFailed`."""
        try:
            link = await self._provider.connect(host, port)
        except TunnelFailed as failure:
            hint = failure.hint
            if failure.cause is DisconnectCause.SERVER_ADDRESS_RESOLUTION_FAILED:
                hint = f"is the name right, and does this machine resolve names (towpath resolve {host})?"
            elif failure.cause is DisconnectCause.NO_NETWORK_AVAILABLE:
                hint = f"is this machine connected, and does it have the address's family (towpath path {host})?"
            raise TunnelFailed(failure.cause, f"{where}: {failure}", hint) from None
        peer.endpoint = link.remote
        self._links[peer] = link
        self._places.append(place(host, port))
        self.dialled.append(peer)
        link.deliver_to(partial(self._receive, link))

    async def listen(self, port: int) -> None:
        """Opens the link for peers that dial. Raises `TunnelFailed`."""
        self.listening = await self._provider.listen(port)
        self.listening.deliver_to(partial(self._receive, self.listening))

    async def first_answer(self, answered: asyncio.Event, drops: Mapping[str, int], hint: str) -> None:
        """Waits until `answered`. Raises `TunnelFailed` with what is known: at once, where it will not come to be.

        `drops` counts what was refused here, by cause; `hint` is for when nothing is known.
        """
        who = ", ".join(self._places)
        for _ in range(round(FIRST_ANSWER / _LOOK_EACH)):
            try:
                await asyncio.wait_for(answered.wait(), _LOOK_EACH)
                return
            except TimeoutError:
                pass
            if all(link.refused >= _ENOUGH for link in self._links.values()):
                troubles = ", ".join(dict.fromkeys(link.trouble for link in self._links.values()))
                raise TunnelFailed(
                    DisconnectCause.SERVER_NOT_RESPONDING,
                    f"nobody is there at {who}: {troubles}",
                    "are the host and the port those of the server, and does it run?",
                )
            if drops.get("noise-authentication", 0) >= _ENOUGH and self.listening is None:
                raise TunnelFailed(
                    DisconnectCause.AUTHENTICATION_FAILED,
                    f"{who} answers, and its answer cannot be opened",
                    "is the preshared key the one that the server has for this public key?",
                )
        raise TunnelFailed(DisconnectCause.SERVER_NOT_RESPONDING, f"no answer from {who} in {FIRST_ANSWER:g} s", hint)

    def send(self, peer: P, parts: Sequence[Buffer], size: int) -> None:
        """To where a peer is; nowhere, while that is not known."""
        link = self._links.get(peer)
        if link is not None:
            link.send(parts, size)
        elif self.listening is not None and peer.endpoint is not None:
            self.listening.send(parts, size, peer.endpoint)

    def send_each(self, peer: P, datagrams: Sequence[Buffer]) -> None:
        """The same for datagrams of any sizes."""
        link = self._links.get(peer)
        if link is not None:
            link.send_each(datagrams)
        elif self.listening is not None and peer.endpoint is not None:
            self.listening.send_each(datagrams, peer.endpoint)

    def answer(self, endpoint: PeerAddress, datagram: bytes) -> None:
        """To whoever is there, peer or not."""
        if self.listening is not None:
            self.listening.send([datagram], 0, endpoint)


def place(host: str, port: int) -> str:
    """As people write it.

    >>> place("2001:db8::1", 51820)
    '[2001:db8::1]:51820'
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
