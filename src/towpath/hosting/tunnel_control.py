"""A tunnel as others of the same user may look at it: one line of JSON asks, one answers (`towpath tunnel`)."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

from towpath.hosting.loop import IN
from towpath.kernel import system

if TYPE_CHECKING:
    from towpath.hosting.loop import Loop
    from towpath.hosting.tunnel_session import TunnelSession

__all__ = ["TunnelControl"]

_LONGEST = 4096
_MOST = 16
_AGAIN = 0.01


class TunnelControl:
    """Answers until `close`. Where no socket can be had, nobody can look: that is no reason to end a tunnel."""

    def __init__(self, loop: Loop, session: TunnelSession) -> None:
        self._loop = loop
        self._session = session
        self._capturing: socket.socket | None = None
        """Whose going ends the capture."""
        self._open: dict[int, socket.socket] = {}
        try:
            self._listener: socket.socket | None = system.run_sockets.listen("tunnel")
        except OSError:
            self._listener = None
            return
        loop.watch(self._listener.fileno(), IN, lambda _events: self._accept())

    def _accept(self) -> None:
        made = system.run_sockets.accept(self._listener) if self._listener is not None else None
        if made is None:
            return
        if len(self._open) >= _MOST:
            made.close()
            return
        self._open[made.fileno()] = made
        self._loop.watch(made.fileno(), IN, lambda _events: self._hear(made))

    def _hear(self, made: socket.socket) -> None:
        try:
            data, descriptors, _flags, _address = socket.recv_fds(made, _LONGEST, 1)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        try:
            if not data:
                self._drop(made)
                return
            asked = _asked(data)
            if asked == "status":
                self._session.status(lambda figures: self._answer(made, figures))
            elif asked == "capture" and descriptors:
                why_not = self._session.capture(descriptors[0])
                self._capturing = self._capturing if why_not else made
                self._answer(made, {"capturing": not why_not, "why_not": why_not})
            else:
                self._answer(made, {"error": "status or capture can be asked for"})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _answer(self, made: socket.socket, figures: dict[str, Any]) -> None:
        self._send(made, memoryview(json.dumps(figures, default=str).encode() + b"\n"))

    def _send(self, made: socket.socket, data: memoryview) -> None:
        if made.fileno() < 0:
            return
        try:
            sent = made.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(made)
            return
        if sent < len(data):  # who asks reads on
            self._loop.later(_AGAIN, lambda: self._send(made, data[sent:]))

    def _drop(self, made: socket.socket) -> None:
        if self._capturing is made:
            self._capturing = None
            self._session.end_capture()
        if self._open.pop(made.fileno(), None) is not None:
            self._loop.forget(made.fileno())
            made.close()

    def close(self) -> None:
        for made in list(self._open.values()):
            self._drop(made)
        if self._listener is not None:
            self._loop.forget(self._listener.fileno())
            self._listener.close()
            self._listener = None


def _asked(data: bytes) -> str:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    return str(found.get("ask")) if isinstance(found, dict) else ""
