"""What came of resolving a name, question by question: enough for a connection, and for a report about it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from towpath.errors import NameRefused, NameUnknown, NoAnswer, ResolutionFailed
from towpath.names.binding import ServiceBinding
from towpath.names.reply import Alias, ExtendedError, Record
from towpath.wire import dns_message
from towpath.wire.address import unpack

__all__ = ["Address", "Answer", "AnswerStatus", "Resolution", "Source", "collect"]


class Source(StrEnum):
    """Where an answer came from; `RULE` is a special-use name (RFC 6761) or an address that needed no asking."""

    DNS = "dns"
    HOSTS = "hosts"
    CACHE = "cache"
    STALE = "stale"
    MDNS = "mdns"
    GETADDRINFO = "getaddrinfo"
    RULE = "rule"


class AnswerStatus(StrEnum):
    """What came of one question. `EMPTY`: the name exists without such records. `FAILED`: servers had a failure.

    `NO_ANSWER`: nobody answered, or nobody could be reached.
    """

    FOUND = "found"
    EMPTY = "empty"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    FAILED = "failed"
    NO_ANSWER = "no-answer"


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a name, IPv4 or IPv6; `ttl` in seconds."""

    address: str
    ttl: int
    source: Source

    @property
    def version(self) -> int:
        return 6 if ":" in self.address else 4


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question.

    `name` is what was asked, after searching; `kind` a type's name ("AAAA"). `duration` in seconds, 0 for what was
    known already. `server` and `protocol` ("udp", "tcp", "mdns", ...) say who said so. `troubles` are what went wrong
    on the way, one text each. `authenticated` is the server's word, where `trust-ad` is on.
    `validated` is what a resolver found that requires DNSSEC: "insecure" is what nobody signs.
    """

    name: str
    kind: str
    status: AnswerStatus
    source: Source
    records: tuple[Record, ...] = ()
    aliases: tuple[Alias, ...] = ()
    negative_ttl: int | None = None
    extended: tuple[ExtendedError, ...] = ()
    troubles: tuple[str, ...] = ()
    protocol: str | None = None
    server: str | None = None
    duration: float = 0.0
    authenticated: bool = False
    validated: Literal["secure", "insecure", "bogus"] | None = None

    @property
    def positive(self) -> bool:
        return self.status is AnswerStatus.FOUND

    @property
    def final(self) -> bool:
        """Whether it is the last word; a stale answer may be followed by a fresh one."""
        return self.source is not Source.STALE

    @property
    def ttl(self) -> int:
        """Seconds for which it may be believed: the least of its records and aliases; an absence's own."""
        found = [record.ttl for record in self.records] + [alias.ttl for alias in self.aliases]
        if not self.records:
            found = [self.negative_ttl or 0, *found]
        return min(found)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses in A and AAAA records."""
        ceiling = min((alias.ttl for alias in self.aliases), default=1 << 31)
        return tuple(
            Address(unpack(record.data), min(record.ttl, ceiling), self.source)
            for record in self.records
            if record.kind in (dns_message.A, dns_message.AAAA)
        )

    @property
    def bindings(self) -> tuple[ServiceBinding, ...]:
        """The services in SVCB and HTTPS records, by priority. Raises `PeerViolation` for parameters that lie."""
        found = [
            ServiceBinding.parse(record.owner, record.data)
            for record in self.records
            if record.kind in (dns_message.SVCB, dns_message.HTTPS)
        ]
        return tuple(sorted(found, key=lambda binding: binding.priority))

    def aged(self, seconds: int, source: Source) -> Answer:
        """The same, `seconds` later, as it comes out of a cache."""
        return replace(
            self,
            source=source,
            records=tuple(record._replace(ttl=max(0, record.ttl - seconds)) for record in self.records),
            aliases=tuple(alias._replace(ttl=max(0, alias.ttl - seconds)) for alias in self.aliases),
            negative_ttl=None if self.negative_ttl is None else max(0, self.negative_ttl - seconds),
            duration=0.0,
        )


@dataclass(frozen=True, slots=True)
class Resolution:
    """All that was learned of a name. `asked` as it was given, `name` as it was found; `duration` in seconds.

    >>> Resolution("nothing.test", "nothing.test", (), 0.0).addresses
    ()
    """

    asked: str
    name: str
    answers: tuple[Answer, ...]
    duration: float

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Every address once, in the order the answers came."""
        found = {address.address: address for answer in reversed(self.answers) for address in answer.addresses[::-1]}
        return tuple(reversed(found.values()))

    @property
    def bindings(self) -> tuple[ServiceBinding, ...]:
        return tuple(binding for answer in self.answers for binding in answer.bindings)

    @property
    def aliases(self) -> tuple[Alias, ...]:
        """The chain of CNAMEs from `name`."""
        return max((answer.aliases for answer in self.answers), key=len, default=())

    @property
    def extended(self) -> tuple[ExtendedError, ...]:
        return tuple(dict.fromkeys(error for answer in self.answers for error in answer.extended))

    def error(self) -> ResolutionFailed | None:
        """The error to raise where nothing was found."""
        if any(answer.positive for answer in self.answers):
            return None
        words = "; ".join(map(str, self.extended))
        states = {answer.status for answer in self.answers}
        kinds = ", ".join(answer.kind for answer in self.answers)
        troubles = "; ".join(dict.fromkeys(trouble for answer in self.answers for trouble in answer.troubles))
        made: ResolutionFailed
        if AnswerStatus.REFUSED in states:
            made = NameRefused(self.asked, "a resolver refuses to answer", extended=words)
            made.hint = "who runs the resolver decided so; towpath resolve NAME --server IP asks another one"
        elif AnswerStatus.FAILED in states:
            made = ResolutionFailed(self.asked, troubles or "the resolvers have a failure", extended=words)
            made.hint = "towpath resolve NAME --server IP asks another resolver"
        elif AnswerStatus.NO_ANSWER in states:
            made = NoAnswer(self.asked, troubles or "nobody answered", extended=words)
            made.hint = "are the servers in /etc/resolv.conf reachable? towpath path SERVER says how"
        elif AnswerStatus.UNKNOWN in states:
            made = NameUnknown(self.asked, "there is no such name", extended=words)
            made.hint = "is it spelled right? towpath resolve NAME says who was asked"
        else:
            made = NameUnknown(self.asked, f"the name has no {kinds} record", extended=words)
            made.hint = "towpath resolve NAME --type TYPE asks for other records"
        made.resolution = self
        return made


async def collect(
    asked: str,
    kinds: Sequence[str],
    answers: AsyncGenerator[Answer, None],
    clock: Callable[[], float] = time.monotonic,
) -> Resolution:
    """The resolution that a stream of answers makes: the first of each kind, so that nobody waits behind a stale one.

    Raises `ResolutionFailed`, or the kind of it that says more, when nothing was found.
    """
    begun = clock()
    found: dict[str, Answer] = {}
    name = asked
    wanted = len({kind.upper() for kind in kinds})
    async with aclosing(answers):
        async for answer in answers:
            found.setdefault(answer.kind, answer)
            name = answer.name
            if len(found) == wanted:
                break
    made = Resolution(asked, name, tuple(found.values()), clock() - begun)
    error = made.error()
    if error is not None:
        raise error
    return made
