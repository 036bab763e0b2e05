"""Runs of this user that can be watched, and the stream of one: a line of JSON for each thing that happens."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

from towpath.errors import ConfigInvalid
from towpath.kernel import system

__all__ = ["Link", "attach", "attach_one", "runs"]

_LONGEST_LINE = 1 << 20
_PATIENCE = 2.0


class Link:
    """A connection to the manager of a run. `hello` is what it said first."""

    def __init__(self, made: socket.socket) -> None:
        self.socket = made
        self._heard = b""
        made.settimeout(_PATIENCE)
        self.hello: dict[str, Any] = next(self.messages(), {})

    def messages(self) -> Iterator[dict[str, Any]]:
        """Waits for messages until the run has ended. Raises `TimeoutError` where nothing came within a set timeout."""
        while True:
            yield from self._complete()
            if not self._hear():
                return

    def ready(self) -> tuple[list[dict[str, Any]], bool]:
        """What can be had without waiting, from a socket that does not block, and whether the run goes on."""
        try:
            goes_on = self._hear()
        except BlockingIOError:
            goes_on = True
        return list(self._complete()), goes_on

    def _complete(self) -> Iterator[dict[str, Any]]:
        while b"\n" in self._heard:
            line, _, self._heard = self._heard.partition(b"\n")
            message = parse(line)
            if message is not None:
                yield message

    def _hear(self) -> bool:
        try:
            data = self.socket.recv(1 << 16)
        except (TimeoutError, BlockingIOError):
            raise
        except OSError:
            return False
        self._heard += data
        return bool(data) and len(self._heard) <= _LONGEST_LINE

    def send(self, what: str, **more: str | list[str]) -> None:
        """Asks for something: "follow", "names", "allow" and "deny" with a `rule`, "flush" with `names`, ..."""
        try:
            self.socket.sendall(json.dumps({"do": what, **more}).encode() + b"\n")
        except OSError:
            pass  # the run has ended, and its stream says so

    def close(self) -> None:
        self.socket.close()


def parse(line: bytes) -> dict[str, Any] | None:
    """One line of a stream; `None` for what is none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and isinstance(message.get("type"), str) else None


def runs() -> list[dict[str, Any]]:
    """What every run that can be watched from here says of itself."""
    found = []
    for name in system.run_sockets.find():
        link = _connect(name)
        if link is not None:
            found.append(link.hello)
            link.close()
    return found


def attach(pid: int) -> Link:
    """The run whose manager has this process id. Raises `ConfigInvalid`."""
    for name, manager in system.run_sockets.find().items():
        if manager == pid:
            link = _connect(name)
            if link is not None:
                return link
    raise ConfigInvalid("towpath top", f"no run of yours has the process {pid}", "towpath top lists them")


def attach_one(pid: int | None, where: str) -> Link:
    """The run of this process id, or the only one that is under way. Raises `ConfigInvalid`."""
    if pid is None:
        found = runs()
        if len(found) != 1:
            how_many = "no run of yours is under way" if not found else f"{len(found)} runs are under way"
            raise ConfigInvalid(where, how_many, "towpath top --list has their numbers")
        pid = found[0]["pid"]
    return attach(pid)


def _connect(name: str) -> Link | None:
    made = system.run_sockets.connect(name)
    if made is None:
        return None
    link = Link(made)
    if link.hello.get("type") != "hello":
        link.close()
        return None
    return link
