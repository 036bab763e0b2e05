"""What a scope is made from and what it gives: the plan of one sandbox, and the descriptors that serve it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

__all__ = ["DROP", "QUEUE_NUMBER", "REPEAT", "Attachments", "CommandExit", "Queue", "Scope", "ScopePlan"]


QUEUE_NUMBER = 0
"""The packet queue of a scope: it has a network namespace to itself, and so the first number."""

DROP, REPEAT = 0, 4
"""Verdicts: the packet is gone; it runs through the rules again, with the mark that the verdict gives it."""


class ScopePlan(NamedTuple):
    """The wished state of a sandbox, whole, before anything is made.

    Addresses are literals. `address6` is `None` where the uplink has no IPv6. `table` holds the lines of the rule set.
    `settings` are per-namespace sysctls by path below /proc/sys. `read_only` are files and folders that the command
    cannot change, `hidden` files that are empty for it. With `tap` the packets of its loopback device are handed out.
    """

    argv: Sequence[str]
    environment: dict[str, str]
    executable: str
    folder: str
    address4: str
    address6: str | None
    relay_port: int
    local_ports: Sequence[int]
    table: Sequence[str]
    settings: dict[str, str]
    resolver_file: bytes
    masked_sockets: Sequence[str]
    masked_folders: Sequence[str]
    kept_sockets: Sequence[str]
    kept_descriptors: Sequence[int]
    runtime_folder: str | None
    read_only: Sequence[str] = ()
    hidden: Sequence[str] = ()
    tap: bool = False


class Queue(Protocol):
    """The packets of undecided flows."""

    overruns: int

    def fileno(self) -> int: ...
    def receive(self) -> list[tuple[int, bytes]]: ...
    def verdict(self, packet: int, verdict: int, mark: int = 0) -> None: ...


class Attachments(NamedTuple):
    """The kernel objects of a scope, made inside it and held outside. Keys are IP versions, 4 and 6."""

    queue: Queue
    tcp: dict[int, socket.socket]
    udp: dict[int, socket.socket]
    dns_udp: dict[int, socket.socket]
    dns_tcp: dict[int, socket.socket]
    raw_udp: dict[int, socket.socket]
    raw_icmp: dict[int, socket.socket]
    local: dict[tuple[int, int], socket.socket]
    diagnosis: int
    tap: socket.socket | None = None


class CommandExit(NamedTuple):
    """How the command ended: `code`, or the `signal` that killed it; `error` when it could not be executed."""

    code: int
    signal: int | None
    error: int | None


class Scope(Protocol):
    """A sandbox that has been made and waits for `release` before its command is executed."""

    attachments: Attachments
    pid: int

    def fileno(self) -> int: ...
    def release(
        self,
        environment: dict[str, str],
        static_table: list[list[str]],
        search: Sequence[str],
        read_only: Sequence[str],
    ) -> None: ...
    def signal(self, number: int) -> None: ...
    def request_sockets(self, version: int, count: int) -> None: ...
    def receive(self) -> list[object]: ...
    def close(self) -> None: ...
