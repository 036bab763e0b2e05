"""Measures what goes through a channel from one moment to another."""

from __future__ import annotations

import socket

from towpath.connection.channel import Channel
from towpath.connection.report import TransferReport
from towpath.errors import HostFault
from towpath.kernel import system
from towpath.kernel.transport import StreamFigures

__all__ = ["Measurement"]


class Measurement:
    """Counts from when it is made. ::

    measurement = connection.measure()
    ...
    print(measurement.collect().bytes_received)
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._begun = channel.loop.time()
        self._before = self._counts()
        self._frozen: TransferReport | None = None

    def collect(self) -> TransferReport:
        """The report up to now; of a connection that has ended, up to its end."""
        if self._frozen is not None:
            return self._frozen
        channel = self._channel
        sent, received, messages_sent, messages_received = (
            now - before for now, before in zip(self._counts(), self._before, strict=True)
        )
        unacknowledged, kernel = self._kernel()
        report = TransferReport(
            seconds=channel.loop.time() - self._begun,
            bytes_sent=sent,
            bytes_received=received,
            messages_sent=messages_sent,
            messages_received=messages_received,
            unacknowledged=unacknowledged,
            kernel=kernel,
        )
        if channel.is_closed:
            self._frozen = report
        return report

    def freeze(self) -> None:
        """Collects for the last time, while the socket can still be asked."""
        self._frozen = self.collect()

    def _counts(self) -> tuple[int, int, int, int]:
        channel = self._channel
        return channel.bytes_sent, channel.bytes_received, channel.messages_sent, channel.inbox.taken

    def _kernel(self) -> tuple[int | None, StreamFigures | None]:
        made = self._channel.socket
        if made.fileno() < 0 or made.family == socket.AF_UNIX or made.type != socket.SOCK_STREAM:
            return None, None
        try:
            return system.transports.outstanding(made), system.transports.stream_figures(made)
        except (HostFault, OSError):
            return None, None
