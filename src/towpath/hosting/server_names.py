"""Where a tunnel's servers are: their names looked up, also while nothing but the tunnel's own may leave.

The C library cannot ask then, for its questions are like those of any program. What is known here is asked in its
place: the hosts file first, then the servers of resolv.conf(5), by sockets that are let pass for this alone.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from towpath.errors import Misuse, PeerViolation
from towpath.hosting.system_dns import behind_stub, resolvers
from towpath.names.system import parse_hosts
from towpath.wire import dns, dns_build
from towpath.wire.address import pack

if TYPE_CHECKING:
    from towpath.kernel.tunnel import TunnelAttachment

__all__ = ["OpenQuestions", "addresses_of"]

OpenQuestions: TypeAlias = Callable[[str], socket.socket]
"""Gives a UDP socket that is connected to port 53 of a server; raises `OSError`."""

_HOSTS = "/etc/hosts"
_TRIES = 2
_PATIENCE = 3.0
_LONGEST = 4096
_TYPES = ("AAAA", "A")
_NOBODY_TOLD = (
    "no server of /etc/resolv.conf told its address; the kill switch lets nobody else be asked for it (an address as "
    "Endpoint, or a line in /etc/hosts, needs no question)"
)


def addresses_of(host: str, port: int, attachment: TunnelAttachment) -> list[str]:
    """The addresses of a server, the best first. Waits. Raises `OSError`, `UnicodeError`."""
    questions = attachment.questions
    if questions is None or pack(host.partition("%")[0]) is not None:
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_DGRAM)
        return list(dict.fromkeys(str(one[4][0]) for one in found))
    name = host.encode("idna").decode().lower().removesuffix(".")
    addresses = _written(name) or _asked(name, questions)
    return sorted(addresses, key=lambda address: not _reachable(address, port))


def _written(name: str) -> list[str]:
    try:
        with open(_HOSTS, encoding="utf-8", errors="replace") as file:
            return list(parse_hosts(file.read()).addresses.get(name, ()))
    except OSError:
        return []


def _asked(name: str, questions: OpenQuestions) -> list[str]:
    for server in behind_stub(resolvers()) * _TRIES:
        try:
            with questions(server) as link:
                found = _ask(name, link)
        except OSError:
            continue  # of another family, or nobody is there
        if found is not None:
            return found
    raise OSError(_NOBODY_TOLD)


def _ask(name: str, link: socket.socket) -> list[str] | None:
    """What one server says; `None` when it says nothing of use. Raises `OSError`."""
    waiting = {int.from_bytes(os.urandom(2), "big"): kind for kind in _TYPES}
    for number, kind in waiting.items():
        try:
            question = dns_build.query(name, kind, number)
        except Misuse as fault:
            raise UnicodeError(str(fault)) from None
        link.send(question)
    found: dict[str, list[str]] = {}
    end = time.monotonic() + _PATIENCE
    while waiting and (left := end - time.monotonic()) > 0:
        link.settimeout(left)
        try:
            answer = dns.parse_answer(link.recv(_LONGEST))
        except TimeoutError:
            break
        except PeerViolation:
            continue
        if answer.name.lower() != name or answer.id not in waiting:
            continue
        found[waiting.pop(answer.id)] = [one.address for one in answer.addresses]
    return [address for kind in _TYPES for address in found.get(kind, ())] or None


def _reachable(address: str, port: int) -> bool:
    """Whether there is a way to an address: connecting a datagram socket sends nothing."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((address, port))
    except OSError:
        return False
    return True
