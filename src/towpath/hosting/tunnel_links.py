"""The links of one tunnel's provider: names looked up, sockets opened below the tunnel and handed over, opened anew."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, NamedTuple

from towpath.hosting import tunnel_messages as told
from towpath.hosting.server_names import addresses_of
from towpath.providers.disconnect import DisconnectCause

if TYPE_CHECKING:
    from towpath.hosting.link import WorkerLink
    from towpath.hosting.loop import Loop
    from towpath.kernel.tunnel import TunnelAttachment

__all__ = ["TunnelLinks"]

_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL)


class _Link(NamedTuple):
    port: int
    listen: bool
    address: str
    local: str


class TunnelLinks:
    """Of the provider in `worker`, which is another one after `begin`. To be used from the loop's thread."""

    def __init__(self, loop: Loop, attachment: TunnelAttachment) -> None:
        self._loop = loop
        self._attachment = attachment
        self._worker: WorkerLink | None = None
        self._links: dict[int, _Link] = {}

    def begin(self, worker: WorkerLink | None) -> None:
        """Another provider's, or nobody's: those of the one before are forgotten."""
        self._worker = worker
        self._links.clear()

    @property
    def paths(self) -> list[dict[str, str]]:
        """Where links lead to, and from which address."""
        return [{"to": f"{link.address or '*'}:{link.port}", "from": link.local} for link in self._links.values()]

    def open(self, wanted: told.LinkWanted) -> None:
        """Looks the host up, in a thread, opens the link, and tells the provider what became of it."""
        worker = self._worker
        if wanted.listen:
            self._opened(worker, wanted, None, [""])
            return

        def look_up() -> None:
            try:
                addresses = addresses_of(wanted.host, wanted.port, self._attachment)
            except (OSError, UnicodeError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                self._loop.post(lambda: self._opened(worker, wanted, reason, []))
                return
            self._loop.post(lambda: self._opened(worker, wanted, None, addresses))

        threading.Thread(target=look_up, daemon=True).start()

    def _opened(
        self, worker: WorkerLink | None, wanted: told.LinkWanted, trouble: str | None, addresses: list[str]
    ) -> None:
        if worker is None or worker is not self._worker:
            return
        cause, reason = DisconnectCause.SERVER_ADDRESS_RESOLUTION_FAILED, f"{wanted.host}: {trouble}"
        for address in addresses:
            try:
                made = (
                    self._attachment.listen(wanted.port)
                    if wanted.listen
                    else self._attachment.open_link(address, wanted.port)
                )
            except OSError as error:
                by = f" ({address})" if address != wanted.host else ""
                what = f"listen on port {wanted.port}" if wanted.listen else f"reach {wanted.host}{by}"
                no_way = error.errno in _NO_WAY
                cause = DisconnectCause.NO_NETWORK_AVAILABLE if no_way else DisconnectCause.CONFIGURATION_FAILED
                reason = f"cannot {what}: {os.strerror(error.errno or 0)}"
                continue
            local = str(made.getsockname()[0])
            self._links[wanted.number] = _Link(wanted.port, wanted.listen, address, local)
            with made:
                worker.send_descriptor(told.LinkOpened(wanted.number, address, wanted.port), made.fileno())
            return
        worker.send(told.LinkOpened(wanted.number, cause=int(cause), reason=reason))

    def forget(self, number: int) -> None:
        """The provider has closed it."""
        self._links.pop(number, None)

    def rebind(self) -> bool:
        """Gives a new socket to each link whose best path is another one now; whether there was any."""
        changed = False
        for number, link in list(self._links.items()):
            if link.listen or self._worker is None:
                continue
            try:
                made = self._attachment.open_link(link.address, link.port)
            except OSError:
                continue  # no way there now: the old socket is as good as any
            with made:
                local = str(made.getsockname()[0])
                if local != link.local:
                    self._links[number] = link._replace(local=local)
                    self._worker.send_descriptor(told.LinkOpened(number, link.address, link.port), made.fileno())
                    changed = True
        return changed
