"""Noting whom a flow that nobody judges is for, while its bytes pass: for a run that learns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from towpath.errors import PeerViolation
from towpath.hosting.first_words import read
from towpath.wire import http_request

if TYPE_CHECKING:
    from towpath.sandbox.flows import Flow

__all__ = ["NamingGate"]


class NamingGate:
    """A gate that lets everything pass. Of TLS it notes the server's name, of HTTP the host of every request."""

    hears = False
    waiting = False

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._heard = b""
        self._requests: http_request.RequestReader | None = None
        self.open = False

    def admit(self, data: bytes) -> bytes:
        if self._requests is not None:
            self._hear(self._requests, data)
        else:
            self._heard += data
            words = read(self._heard)
            if words is None:
                return data
            if words.scheme == "http":
                self._requests = http_request.RequestReader()
                self._hear(self._requests, self._heard)
            else:
                if words.name:
                    self._flow.note(words.name, "sni")
                self.open = True
            self._heard = b""
        return data

    def _hear(self, requests: http_request.RequestReader, data: bytes) -> None:
        try:
            for part in requests.receive(data):
                if isinstance(part, http_request.Head):
                    self._flow.note(part.host, "host")
                    self._flow.note_request(part)
        except PeerViolation:
            self.open = True  # whatever it is, a rule for HTTP would not let it pass

    def end(self) -> None:
        self.open = True

    def answered(self, data: bytes) -> None:
        """Answers say nothing of whom was asked."""

    def release(self) -> bytes:
        return b""
