"""The other end of a live view's link: a manager's stream, line by line, as the test says it."""

from __future__ import annotations

import json
import socket
from typing import Any

from towpath.live.link import Link

__all__ = ["Manager", "flow"]


def flow(number: int, **fields: Any) -> dict[str, Any]:
    """A flow as a manager tells of it."""
    return {
        "type": "flow", "id": number, "transport": "tcp", "address": "192.0.2.7", "port": 443, "name": "web.test",
        "name_from": "sni", "verdict": "allowed", "rule": "web.test:443", "reason": "--allow web.test:443 allows it",
        "hint": None, "program": "curl", "pid": 7, "command": ["curl", "https://web.test"], "ancestors": [[3, "make"]],
        "sent": 0, "received": 0, "error": None, "ended": None, "evidence": "sni", "requests": [],
    } | fields  # fmt: skip


class Manager:
    """Says what a test wants said, and hears what the view asks for."""

    def __init__(self, **hello: Any) -> None:
        self._ours, theirs = socket.socketpair()
        self._heard = b""
        command = ["make", "-j2"]
        self.say({"type": "hello", "pid": 4711, "command": command, "started": 0.0, "rules": ["--allow x"]} | hello)
        self.link = Link(theirs)

    def say(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            self._ours.sendall(json.dumps(message).encode() + b"\n")

    def hear(self) -> dict[str, Any]:
        """The next thing that was asked for."""
        self._ours.settimeout(60)
        while b"\n" not in self._heard:
            self._heard += self._ours.recv(4096)
        line, _, self._heard = self._heard.partition(b"\n")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def hang_up(self) -> None:
        """As when it is killed."""
        self._ours.close()

    def close(self) -> None:
        self._ours.close()
        self.link.close()
