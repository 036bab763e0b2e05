"""A tunnel's provider and the kernel's WireGuard: names looked up, the device told, and told anew when ways change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from towpath.errors import HostFault, PeerViolation
from towpath.hosting import tunnel_messages as told
from towpath.hosting.server_names import addresses_of
from towpath.providers.disconnect import DisconnectCause
from towpath.providers.flow import joined

if TYPE_CHECKING:
    from towpath.hosting.link import WorkerLink
    from towpath.hosting.loop import Loop
    from towpath.kernel.tunnel import TunnelAttachment
    from towpath.providers.kernel_wireguard import KernelPeer, KernelWireGuard

__all__ = ["TunnelKernel"]


class TunnelKernel:
    """Of the provider in `worker`, which is another one after `begin`. To be used from the loop's thread."""

    def __init__(self, loop: Loop, attachment: TunnelAttachment, say: Callable[[str, str], None]) -> None:
        self._loop = loop
        self._attachment = attachment
        self._say = say
        self._worker: WorkerLink | None = None
        self._dialled: list[KernelPeer] = []
        self._ways: dict[str, str | None] = {}

    @property
    def used(self) -> bool:
        return self._attachment.kernel is not None

    def begin(self, worker: WorkerLink | None) -> None:
        """Another provider's, or nobody's. The device goes on as it was told to."""
        self._worker = worker

    def set_up(self, wanted: told.KernelWanted) -> None:
        """Looks its servers up, in a thread, makes the device be so, and tells the provider what became of it."""
        worker = self._worker

        def look_up() -> None:
            peers, failure = [], ""
            for peer in wanted.setup.peers:
                try:
                    peers.append(_found(peer, self._attachment))
                except (OSError, UnicodeError) as error:
                    failure = f"{(peer.endpoint or ('',))[0]}: {getattr(error, 'strerror', None) or error}"
            setup = msgspec.structs.replace(wanted.setup, peers=tuple(peers))
            self._loop.post(lambda: self._tell(worker, wanted.number, setup, failure))

        threading.Thread(target=look_up, daemon=True).start()

    def _tell(self, worker: WorkerLink | None, number: int, setup: KernelWireGuard, failure: str) -> None:
        device = self._attachment.kernel
        if worker is None or worker is not self._worker:
            return
        if failure or device is None:
            cause = DisconnectCause.SERVER_ADDRESS_RESOLUTION_FAILED if failure else DisconnectCause.PLUGIN_FAILED
            worker.send(told.Applied(number, int(cause), failure or "the kernel's WireGuard is not used here"))
            return
        try:
            device.set_up(setup)
            self._dialled = [peer for peer in setup.peers if peer.endpoint is not None]
            places = [peer.endpoint for peer in self._dialled if peer.endpoint is not None]
            self._attachment.lead_to(places, setup.listen_port)
        except (HostFault, OSError) as fault:
            cause = DisconnectCause.CONFIGURATION_FAILED
            worker.send(told.Applied(number, int(cause), f"the kernel's WireGuard cannot be set up: {fault}"))
            return
        self._ways = self._attachment.ways()
        worker.send(told.Applied(number))

    def look(self, wanted: told.KernelPeersWanted) -> None:
        """Tells the provider how the peers are."""
        device = self._attachment.kernel
        if self._worker is None or device is None:
            return
        try:
            found = device.peers()
        except (HostFault, PeerViolation) as fault:
            self._say("error", f"the kernel's WireGuard does not say how it is: {fault}")
            found = []
        self._worker.send(told.KernelPeers(wanted.number, found))

    def speak(self) -> None:
        """Lets the servers know of us now."""
        self._each(anew=False)

    def rebind(self) -> bool:
        """Lets the servers that are reached by another way now know of it; whether there were any."""
        if not self.used or not self._dialled:
            return False
        ways = self._attachment.ways()
        if ways == self._ways:
            return False
        self._ways = ways
        try:
            self._attachment.lead_to([peer.endpoint for peer in self._dialled if peer.endpoint is not None])
        except HostFault as fault:
            self._say("error", f"routes could not follow the network: {fault}")
        self._each(anew=True)
        return True

    def _each(self, *, anew: bool) -> None:
        device = self._attachment.kernel
        if device is None:
            return
        for peer in self._dialled:
            try:
                device.speak(peer, anew=anew)
            except (HostFault, OSError) as fault:
                self._say("error", f"WireGuard cannot be told to speak: {fault}")

    def figures(self) -> dict[str, Any]:
        """For `towpath tunnel status`: as the userspace one gives them, as far as the kernel counts."""
        device = self._attachment.kernel
        if device is None:
            return {}
        from base64 import b64encode

        try:
            found = device.peers()
        except (HostFault, PeerViolation) as fault:
            return {"error": str(fault)}
        return {
            "peers": [
                {
                    "public_key": b64encode(peer.public_key).decode(),
                    "endpoint": peer.endpoint and joined(*peer.endpoint),
                    "allowed": list(peer.allowed),
                    "last_handshake": peer.last_handshake or None,
                    "received": peer.received,
                    "sent": peer.sent,
                }
                for peer in found
            ]
        }


def _found(peer: KernelPeer, attachment: TunnelAttachment) -> KernelPeer:
    """The peer with an address in place of its name. Raises `OSError`."""
    if peer.endpoint is None:
        return peer
    host, port = peer.endpoint
    return msgspec.structs.replace(peer, endpoint=(addresses_of(host, port, attachment)[0], port))
