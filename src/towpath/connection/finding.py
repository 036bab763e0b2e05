"""From a name to the first address that works: resolver or Bonjour, and race, with everything noted for the report."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import TypeVar
from weakref import WeakKeyDictionary

from towpath.connection.endpoint import AddressEndpoint, HostEndpoint, ServiceEndpoint
from towpath.connection.parameters import ExpiredDns, Parameters
from towpath.connection.race_candidates import Candidate, Candidates, Transport, candidates_for, literal
from towpath.connection.race_machine import Attempt
from towpath.connection.race_memory import RaceMemory
from towpath.connection.racing import RaceFailed, race
from towpath.connection.report import AttemptReport, ResolutionReport
from towpath.errors import ConnectionFailed, NoAnswer, PeerViolation, ResolutionFailed
from towpath.kernel.network import Network
from towpath.names import resolver as names
from towpath.names.resolution import Answer, Resolution
from towpath.names.resolver import Resolver, Resolves
from towpath.path.monitor import PathMonitor

__all__ = ["find_and_dial"]

_T = TypeVar("_T")
_KINDS = ("AAAA", "A")
_HTTP = frozenset({"h3", "h2", "http/1.1"})
"""The protocols whose services HTTPS records describe (RFC 9460 section 9)."""
_OUTCOMES = {"cancelled": "lost", "won": "won", "failed": "failed"}
_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Resolver, RaceMemory]] = WeakKeyDictionary()
"""Answers and lessons that the connections of one event loop have in common."""


async def find_and_dial(
    target: HostEndpoint | ServiceEndpoint,
    dial: Callable[[AddressEndpoint, Transport], Awaitable[_T]],
    discard: Callable[[_T], object],
    parameters: Parameters,
    network: Network | None,
    resolutions: list[ResolutionReport],
    attempts: list[AttemptReport],
) -> _T:
    """What `dial` makes of the first address that answers; losers are cancelled.

    Where HTTP is to be spoken, the host's service bindings are asked for with its addresses, and say which targets,
    ports and transports there are. Raises `ConnectionFailed` for a name that cannot be resolved, and the attempts' most
    telling error when all fail: a peer's refusal before the lack of a way to it.
    """
    resolver, memory = _common()
    if isinstance(target, ServiceEndpoint):
        from towpath.connection.bonjour_finding import find_service

        found: AsyncIterator[Candidates] = literal(*await find_service(target, resolutions))
    else:
        expired: names.ExpiredDns = "allow" if parameters.expired_dns is ExpiredDns.ALLOW else "prohibit"
        plain, quic = parameters.protocols
        kinds = ("HTTPS", *_KINDS) if _HTTP.issuperset(plain + quic) and plain + quic else _KINDS
        noting = _Noting(resolver, resolutions)
        # A program that speaks QUIC alone does so to every address, also where no binding says that it can.
        tcp, upgrade = (plain, quic) if plain or not quic else (quic, ())
        found = candidates_for(noting, target.host, target.port, kinds=kinds, alpn=tcp, quic=upgrade, expired=expired)

    async def attempt(candidate: Candidate) -> _T:
        return await dial(AddressEndpoint(ip_address(candidate.address), candidate.port), candidate.transport)

    try:
        raced = await race(found, attempt, memory=memory, key=str(target), discard=discard)
    except RaceFailed as failed:
        attempts.extend(map(_noted, failed.attempts))
        errors = [tried.error for tried in failed.attempts if isinstance(tried.error, Exception)]
        if not errors:
            raise ConnectionFailed(str(target), str(failed), errno=failed.errno, hint=failed.hint) from failed
        raise max(errors, key=lambda error: (not _is_local(error), -errors.index(error))) from None
    except ResolutionFailed as failed:
        offline = isinstance(failed, NoAnswer) and not PathMonitor(parameters.path, network=network).current().satisfied
        code = errno.ENETUNREACH if offline else None
        raise ConnectionFailed(str(target), str(failed), errno=code, hint=failed.hint) from failed
    attempts.extend(map(_noted, raced.attempts))
    return raced.result


def _common() -> tuple[Resolver, RaceMemory]:
    loop = asyncio.get_running_loop()
    found = _shared.get(loop)
    if found is None:
        found = _shared[loop] = Resolver(), RaceMemory()
    return found


class _Noting:
    """A resolver that notes each answer."""

    def __init__(self, inner: Resolves, notes: list[ResolutionReport]) -> None:
        self._inner = inner
        self._notes = notes

    async def stream(
        self, name: str, kinds: Sequence[str] = _KINDS, *, expired: names.ExpiredDns = "prohibit"
    ) -> AsyncGenerator[Answer, None]:
        async for answer in self._inner.stream(name, kinds, expired=expired):
            texts = tuple(found.address for found in answer.addresses) or _targets(answer)
            error = None if answer.positive else str(answer.status)
            note = ResolutionReport(answer.name, str(answer.source), answer.duration, texts, answer.protocol, error)
            self._notes.append(note)
            yield answer

    async def resolve(
        self, name: str, kinds: Sequence[str] = _KINDS, *, expired: names.ExpiredDns = "prohibit"
    ) -> Resolution:
        return await self._inner.resolve(name, kinds, expired=expired)


def _targets(answer: Answer) -> tuple[str, ...]:
    """Where service bindings lead: ``1 www.example.com h3,h2``."""
    try:
        bindings = answer.bindings
    except PeerViolation:
        return ()
    return tuple(f"{found.priority} {found.target} {','.join(found.alpn)}".rstrip() for found in bindings)


def _noted(tried: Attempt) -> AttemptReport:
    candidate = tried.candidate
    where = str(candidate)
    outcome = _OUTCOMES.get(tried.outcome, tried.outcome)
    words = str(tried.error) if tried.error is not None and outcome == "failed" else None
    return AttemptReport(where, tried.offset, tried.duration, outcome, words)


def _is_local(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EHOSTUNREACH)
