"""What a race is run between: candidates, their order, and how they come out of resolving a name.

Order by draft-ietf-happy-happyeyeballs-v3 section 5: groups of protocols, then services by priority, then RFC 6724 and
interleaved address families.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from towpath.errors import Misuse, PeerViolation
from towpath.names.binding import ServiceBinding
from towpath.names.resolution import Answer, Resolution
from towpath.names.resolver import ADDRESS_KINDS, ExpiredDns, Resolves
from towpath.path import Path
from towpath.wire.address import pack

__all__ = ["Candidate", "Candidates", "Transport", "arrange", "candidates_for", "kinds_for", "literal"]

Transport = Literal["tcp", "quic"]
Rank = Callable[[Sequence[str]], Sequence[str]]
"""Puts addresses in order of preference."""

_UNBOUND = 1 << 16
_MAX_TARGETS = 4
_MAX_CANDIDATES = 128
_BINDING_KINDS = ("HTTPS", "SVCB")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to try: an address (text, perhaps with a zone), a port, a transport.

    `alpn` are the protocols to offer; none where no service binding names any. `group` and `priority` order candidates
    before addresses do, least first. `ech` is the key material of an encrypted hello. Candidates that lead the same
    way (`key`) are tried once.
    """

    address: str
    port: int
    transport: Transport = "tcp"
    alpn: tuple[str, ...] = ()
    group: int = 0
    priority: int = _UNBOUND
    ech: bytes = b""

    @property
    def version(self) -> int:
        return 6 if ":" in self.address else 4

    @property
    def key(self) -> tuple[str, int, str]:
        return self.address, self.port, self.transport

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.version == 6 else self.address
        return f"{host}:{self.port}{'' if self.transport == 'tcp' else f' by {self.transport}'}"


@dataclass(frozen=True, slots=True)
class Candidates:
    """All that is known at one moment, replacing what was known before.

    `awaited` are the questions without any answer so far, of "A", "AAAA", "HTTPS" and "SVCB". `renewing` says that some
    answers are stale, and fresh ones may come. `problem` says why there may be no candidate at all.
    """

    found: tuple[Candidate, ...]
    awaited: frozenset[str] = frozenset()
    renewing: bool = False
    problem: Exception | None = None


async def literal(*candidates: Candidate) -> AsyncGenerator[Candidates, None]:
    """Candidates that need no resolving."""
    yield Candidates(candidates)


def arrange(candidates: Iterable[Candidate], rank: Rank, *, last: int | None = None) -> list[Candidate]:
    """The order in which to try.

    `rank` orders addresses (RFC 6724). Within one group and priority the families take turns, beginning with that of
    the best address, or with the other one when that is the family `last` (4 or 6).
    """
    bands: dict[tuple[int, int], dict[tuple[str, int, str], Candidate]] = {}
    for candidate in candidates:
        bands.setdefault((candidate.group, candidate.priority), {}).setdefault(candidate.key, candidate)
    order: dict[tuple[str, int, str], Candidate] = {}
    for band in sorted(bands):
        for candidate in _interleaved(list(bands[band].values()), rank, last):
            order.setdefault(candidate.key, candidate)
    return list(order.values())


def _interleaved(band: list[Candidate], rank: Rank, last: int | None) -> list[Candidate]:
    place = {address: at for at, address in enumerate(rank([candidate.address for candidate in band]))}
    ordered = sorted(band, key=lambda candidate: place.get(candidate.address, len(place)))
    first = ordered[0].version if ordered[0].version != last else 10 - last
    own = [candidate for candidate in ordered if candidate.version == first]
    other = [candidate for candidate in ordered if candidate.version != first]
    turns = min(len(own), len(other))
    found = [candidate for pair in zip(own, other, strict=False) for candidate in pair]
    return found + own[turns:] + other[turns:]


def kinds_for(path: Path) -> tuple[str, ...]:
    """The questions that are worth asking on a path: addresses only of families that it supports (section 4.1).

    Of a path that supports neither, both: the error is then the one of the attempt.
    """
    supported = {"AAAA": path.supports_ipv6, "A": path.supports_ipv4}
    families = tuple(kind for kind in ADDRESS_KINDS if supported[kind]) or ADDRESS_KINDS
    return ("HTTPS", *families)


async def candidates_for(
    resolver: Resolves,
    host: str,
    port: int,
    *,
    kinds: Sequence[str] = ("HTTPS", *ADDRESS_KINDS),
    alpn: Sequence[str] = (),
    quic: Sequence[str] = (),
    expired: ExpiredDns = "prohibit",
) -> AsyncGenerator[Candidates, None]:
    """What resolving `host` gives a race, anew with each answer.

    `kinds`: the questions, of HTTPS, SVCB, AAAA and A; the caller leaves out a family that it cannot use. `alpn`: what
    can be spoken over TCP and TLS; `quic`: over QUIC, preferred where a service binding offers one of them. A service
    that speaks none of these is left out, as is one that demands something not understood. Address hints count until
    the answers they stand for have come. A `host` that is an address, perhaps with a zone, is the only candidate.
    """
    if pack(host.partition("%")[0]) is not None:
        yield Candidates((Candidate(host, port, "tcp", tuple(alpn), 1),))
        return
    gathering = _Gathering(resolver, host, port, tuple(kinds), tuple(alpn), tuple(quic), expired)
    try:
        async for snapshot in gathering.run():
            yield snapshot
    finally:
        await gathering.close()


class _Gathering:
    """Answers so far, of the name and of the targets that its service bindings name."""

    def __init__(
        self,
        resolver: Resolves,
        host: str,
        port: int,
        kinds: tuple[str, ...],
        alpn: tuple[str, ...],
        quic: tuple[str, ...],
        expired: ExpiredDns,
    ) -> None:
        self._resolver = resolver
        self._host, self._port = host, port
        self._kinds = kinds
        self._alpn, self._quic = alpn, quic
        self._expired = expired
        self._arrived: asyncio.Queue[tuple[str, Answer | Exception | None]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._addresses: dict[str, dict[str, tuple[str, ...]]] = {}
        self._answers: dict[str, Answer] = {}
        self._bindings: tuple[ServiceBinding, ...] = ()
        self._open: dict[str, set[str]] = {}
        self._stale: set[tuple[str, str]] = set()
        self._service = host if port == 443 else f"_{port}._https.{host}"
        self._problem: Exception | None = None

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def run(self) -> AsyncGenerator[Candidates, None]:
        binding = tuple(kind for kind in self._kinds if kind in _BINDING_KINDS)
        plain = tuple(kind for kind in self._kinds if kind not in _BINDING_KINDS)
        if self._service == self._host:
            self._ask(self._host, self._kinds)
        else:
            # RFC 9460 section 2.3: the service's own port is part of the name that is asked for.
            if binding:
                self._ask(self._service, binding)
            self._ask(self._host, plain)
        while self._stale or any(self._open.values()):
            name, arrival = await self._arrived.get()
            if isinstance(arrival, Answer):
                self._take(name, arrival)
            else:
                self._open[name] = set()
                self._stale = {entry for entry in self._stale if entry[0] != name}
                self._problem = arrival or self._problem
            awaited = frozenset(kind for kinds in self._open.values() for kind in kinds)
            found = self._candidates()
            problem = self._problem or (None if found or awaited else self._why_nothing())
            yield Candidates(found, awaited, bool(self._stale), problem)

    def _why_nothing(self) -> Exception | None:
        """The error of the name, where its addresses are what is missing."""
        return Resolution(self._host, self._host, tuple(self._answers.values()), 0.0).error()

    def _ask(self, name: str, kinds: tuple[str, ...]) -> None:
        self._open[name] = set(kinds)
        self._addresses.setdefault(name, {})
        self._tasks.append(asyncio.create_task(self._listen(name, kinds)))

    async def _listen(self, name: str, kinds: tuple[str, ...]) -> None:
        problem: Exception | None = None
        try:
            async for answer in self._resolver.stream(name, kinds, expired=self._expired):
                self._arrived.put_nowait((name, answer))
        except (OSError, Misuse) as error:
            problem = error
        self._arrived.put_nowait((name, problem))

    def _take(self, name: str, answer: Answer) -> None:
        self._open[name].discard(answer.kind)
        if answer.final:
            self._stale.discard((name, answer.kind))
        else:
            self._stale.add((name, answer.kind))
        if answer.kind in _BINDING_KINDS:
            self._bind(name, answer)
        else:
            if name == self._host:
                self._answers[answer.kind] = answer
            self._addresses[name][answer.kind] = tuple(found.address for found in answer.addresses)

    def _bind(self, name: str, answer: Answer) -> None:
        try:
            found = answer.bindings
        except PeerViolation:
            # RFC 9460 section 2.2: a set with a broken record is as good as none.
            return
        if not found and name != self._service:
            return
        # Equal priorities in random order (RFC 9460 section 2.4.1), the same one for the whole race.
        self._bindings = tuple(random.sample(found, len(found)))
        plain = tuple(kind for kind in self._kinds if kind not in _BINDING_KINDS)
        for binding in found:
            if binding.usable and binding.target not in self._open and len(self._open) < _MAX_TARGETS:
                self._ask(binding.target, self._kinds if binding.alias else plain)

    def _candidates(self) -> tuple[Candidate, ...]:
        found: list[Candidate] = []
        for binding in self._bindings:
            if binding.usable:
                found += self._served(binding)
        for addresses in self._addresses.get(self._host, {}).values():
            found += [Candidate(address, self._port, "tcp", self._alpn, 1) for address in addresses]
        return tuple(found[:_MAX_CANDIDATES])

    def _served(self, binding: ServiceBinding) -> Iterable[Candidate]:
        known = self._addresses.get(binding.target, {})
        addresses = known.get("AAAA", binding.ipv6hint if "AAAA" in self._kinds else ())
        addresses += known.get("A", binding.ipv4hint if "A" in self._kinds else ())
        port = binding.port or self._port
        if binding.alias:
            yield from (Candidate(address, port, "tcp", self._alpn, 1) for address in addresses)
            return
        offered = binding.protocols(("http/1.1",))
        ways: list[tuple[Transport, int, tuple[str, ...]]] = [
            ("quic", 0, tuple(word for word in self._quic if word in offered)),
            ("tcp", 1, tuple(word for word in self._alpn if word in offered)),
        ]
        for transport, group, alpn in ways:
            if alpn:
                for address in addresses:
                    yield Candidate(address, port, transport, alpn, group, binding.priority, binding.ech)
