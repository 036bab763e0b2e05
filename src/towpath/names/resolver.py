"""The resolver: rules for special names, the hosts file, search domains, a cache, and questions to DNS servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol

from towpath.errors import Misuse
from towpath.names import reply as r
from towpath.names.cache import AnswerCache
from towpath.names.channel import Dial, dial
from towpath.names.client import Lookup, QuerySettings, Server
from towpath.names.exchange import exchange
from towpath.names.resolution import Answer, AnswerStatus, Resolution, Source, collect
from towpath.names.special import fixed_answer, is_local, known_answer, normal
from towpath.names.system import ResolverConfiguration, SystemFiles
from towpath.wire import dns_message
from towpath.wire.address import pack

if TYPE_CHECKING:
    from towpath.names.dnssec.validator import Outcome, Validator

__all__ = ["ADDRESS_KINDS", "ExpiredDns", "Resolver", "Resolves"]

ADDRESS_KINDS = ("AAAA", "A")
ExpiredDns = Literal["prohibit", "allow"]

_MULTICAST = (Server("224.0.0.251", 5353, "mdns"), Server("ff02::fb", 5353, "mdns"))
_MULTICAST_QUERY = QuerySettings(timeout=1.0, attempts=1, edns=False)
_NEGATIVE = (AnswerStatus.EMPTY, AnswerStatus.UNKNOWN)


class Resolves(Protocol):
    """What resolves names for a connection: `Resolver`, `SystemResolver`, or a program's own."""

    def stream(
        self, name: str, kinds: Sequence[str] = ADDRESS_KINDS, *, expired: ExpiredDns = "prohibit"
    ) -> AsyncIterator[Answer]: ...

    async def resolve(
        self, name: str, kinds: Sequence[str] = ADDRESS_KINDS, *, expired: ExpiredDns = "prohibit"
    ) -> Resolution: ...


class Resolver:
    """Resolves names by DNS as this system is configured to, or by `servers` of the caller's own.

    `system`: the files to read (default: those of /etc). `servers`, `query`, `search`: instead of what resolv.conf
    says. `cache`: one to share. `dial`: what carries messages. All times are seconds of `clock`. `requires_dnssec`:
    answers are validated, and one that its zone did not sign so fails with the reason as an extended error;
    `trust_anchors` are records beside the root's (`towpath.names.dnssec`). The servers have to be recursive ones.

    >>> async def addresses(name: str) -> list[str]:
    ...     async with Resolver() as resolver:
    ...         return [found.address for found in (await resolver.resolve(name)).addresses]
    >>> asyncio.run(addresses("localhost"))
    ['::1', '127.0.0.1']
    """

    def __init__(
        self,
        *,
        system: SystemFiles | None = None,
        servers: Iterable[Server] | None = None,
        search: Iterable[str] | None = None,
        query: QuerySettings | None = None,
        cache: AnswerCache | None = None,
        dial: Dial = dial,
        clock: Callable[[], float] = time.monotonic,
        requires_dnssec: bool = False,
        trust_anchors: Iterable[str] = (),
    ) -> None:
        self._system = system or SystemFiles()
        self._servers = None if servers is None else tuple(servers)
        self._search = None if search is None else tuple(search)
        self._query = query
        self._cache = cache if cache is not None else AnswerCache(clock=clock)
        self._dial = dial
        self._clock = clock
        self._asked_of: tuple[Server, ...] | None = None
        self._turn = 0
        self._asking: dict[tuple[str, str], asyncio.Task[Answer]] = {}
        self._validator: Validator | None = None
        if requires_dnssec:
            from towpath.names.dnssec.anchors import parse_anchors
            from towpath.names.dnssec.validator import Validator

            self._validator = Validator(parse_anchors(trust_anchors, "trust_anchors"))

    async def __aenter__(self) -> Resolver:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends questions that are still under way."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    @property
    def configuration(self) -> ResolverConfiguration:
        """What is in force now: the system's, with what this resolver was given instead."""
        found = self._system.configuration
        return replace(
            found,
            servers=found.servers if self._servers is None else self._servers,
            search=found.search if self._search is None else self._search,
            query=found.query if self._query is None else self._query,
        )

    async def resolve(
        self, name: str, kinds: Sequence[str] = ADDRESS_KINDS, *, expired: ExpiredDns = "prohibit"
    ) -> Resolution:
        """Everything of these kinds. Raises `NameUnknown`, `NameRefused`, `NoAnswer`, `ResolutionFailed`, `Misuse`.

        With `expired` "allow", an answer whose time has passed is given at once, and renewed behind the caller's back.
        """
        return await collect(name, kinds, self.stream(name, kinds, expired=expired), self._clock)

    async def stream(
        self, name: str, kinds: Sequence[str] = ADDRESS_KINDS, *, expired: ExpiredDns = "prohibit"
    ) -> AsyncGenerator[Answer, None]:
        """Each answer as it comes, one for each kind; the questions go out together, in the order of `kinds`.

        A stale answer is followed by a fresh one. Where names are searched for, absences are held back until a name
        with an answer was found, or none was. Raises `Misuse` for a name or a kind that is none.
        """
        for kind in kinds:
            dns_message.type_number(kind)
        if not kinds:
            raise Misuse("which kinds of records?")
        wanted = tuple(dict.fromkeys(kind.upper() for kind in kinds))
        names = self._names(name)
        for at, one in enumerate(names):
            held: list[Answer] = []
            last = at == len(names) - 1
            async for answer in self._all(one, wanted, expired):
                if answer.status in _NEGATIVE and not last:
                    held.append(answer)
                    continue
                for before in held:
                    yield before
                held, last = [], True
                yield answer
            if last:
                return

    def _names(self, name: str) -> list[str]:
        """The names to try in order (resolv.conf(5), ndots)."""
        plain = pack(name)
        found = name if plain is not None else normal(name)
        configuration = self.configuration
        if plain is not None or name.endswith(".") or known_answer(found, "A") or is_local(found):
            return [found]
        searched = [f"{found}.{domain}" for domain in configuration.search if len(found) + len(domain) < 253]
        return [found, *searched] if found.count(".") >= configuration.ndots else [*searched, found]

    async def _all(self, name: str, kinds: tuple[str, ...], expired: ExpiredDns) -> AsyncGenerator[Answer, None]:
        open_questions: list[asyncio.Task[Answer]] = []
        for kind in kinds:
            known = self._known(name, kind, expired)
            if known is None or not known.final:
                open_questions.append(self._task(name, kind))
            if known is not None:
                yield known
        # Not as_completed: leaving this generator early must leave the tasks to fill the cache.
        waiting = set(open_questions)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=open_questions.index):
                yield task.result()

    def _known(self, name: str, kind: str, expired: ExpiredDns) -> Answer | None:
        known = known_answer(name, kind)
        if known is not None:
            return known
        addresses = self._system.hosts.addresses.get(name)
        if addresses is not None and kind in (*ADDRESS_KINDS, "HTTPS", "SVCB"):
            packed = [data for data in map(pack, addresses) if data is not None]
            return fixed_answer(name, kind, [data for data in packed if len(data) == _width(kind)], Source.HOSTS)
        servers = self.configuration.servers
        if self._asked_of is not None and servers != self._asked_of:
            # Other servers may know another world.
            self._cache.clear()
        self._asked_of = servers
        return self._cache.get(name, kind, stale=expired == "allow")

    def _task(self, name: str, kind: str) -> asyncio.Task[Answer]:
        """The question that is under way, or a new one: nobody asks twice for the same at a time."""
        key = name, kind
        task = self._asking.get(key)
        if task is None or task.done():
            task = self._asking[key] = asyncio.create_task(self._ask(name, kind))
            task.add_done_callback(lambda done: self._answered(key, done))
        return task

    def _answered(self, key: tuple[str, str], task: asyncio.Task[Answer]) -> None:
        if self._asking.get(key) is task:
            del self._asking[key]

    async def _ask(self, name: str, kind: str) -> Answer:
        begun = self._clock()
        answer = await self._once(name, kind)
        # A server that names an alias but not where it leads leaves the rest to us.
        while answer.aliases and answer.status is AnswerStatus.EMPTY and answer.negative_ttl is None:
            if len(answer.aliases) >= r.MAX_ALIASES:
                trouble = f"{name}: more than {r.MAX_ALIASES} aliases"
                answer = replace(answer, status=AnswerStatus.FAILED, troubles=(*answer.troubles, trouble))
                break
            rest = await self._once(answer.aliases[-1].target, kind)
            answer = replace(rest, name=name, aliases=(*answer.aliases, *rest.aliases))
        answer = replace(answer, duration=self._clock() - begun)
        self._cache.put(answer)
        return answer

    async def _once(self, name: str, kind: str) -> Answer:
        if is_local(name):
            return await self._multicast(name, kind)
        configuration = self.configuration
        query = replace(configuration.query, dnssec=self._validator is not None)
        lookup = Lookup(name, kind, self._in_turn(configuration), query)
        await exchange(lookup, self._dial, self._clock)
        answer = _answer(name, kind, lookup, Source.DNS)
        if self._validator is None or answer.status in (AnswerStatus.FAILED, AnswerStatus.NO_ANSWER):
            return answer
        return await self._validate(self._validator, answer, lookup, query)

    async def _validate(self, validator: Validator, answer: Answer, lookup: Lookup, query: QuerySettings) -> Answer:
        """The answer with what it is worth; the keys on the way are asked of who gave it."""
        assert lookup.message is not None
        assert lookup.answered is not None
        found: bytes | str | None = None
        try:
            asking = validator.validate(lookup.message, time.time())
            while True:
                wanted = next(asking) if found is None else asking.send(found)
                keys = Lookup(wanted.name, wanted.kind, [lookup.answered.server], query)
                await exchange(keys, self._dial, self._clock)
                found = (
                    keys.message if keys.reply is not None and keys.message is not None else "; ".join(keys.troubles)
                )
        except StopIteration as ended:
            outcome: Outcome = ended.value
        if outcome.status == "bogus":
            error = r.ExtendedError(outcome.code, outcome.reason)
            return replace(
                answer, status=AnswerStatus.FAILED, records=(), aliases=(), extended=(error,), validated="bogus"
            )
        return replace(answer, validated=outcome.status)

    async def _multicast(self, name: str, kind: str) -> Answer:
        """Both groups are asked at once; whoever answers first."""
        lookups = [Lookup(name, kind, [group], _MULTICAST_QUERY) for group in _MULTICAST]
        tasks = [asyncio.create_task(exchange(lookup, self._dial, self._clock)) for lookup in lookups]
        waiting = set(tasks)
        try:
            while waiting:
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                found = next((lookup for lookup in lookups if lookup.reply is not None), None)
                if found is not None:
                    return _answer(name, kind, found, Source.MDNS)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        # Silence is how a link says no: nobody there has the name.
        troubles = tuple(trouble for lookup in lookups for trouble in lookup.troubles)
        return Answer(name, kind, AnswerStatus.UNKNOWN, Source.MDNS, troubles=troubles, protocol="mdns")

    def _in_turn(self, configuration: ResolverConfiguration) -> Sequence[Server]:
        servers = configuration.servers
        if not configuration.rotate:
            return servers
        start = self._turn % len(servers)
        self._turn += 1
        return (*servers[start:], *servers[:start])


def _width(kind: str) -> int:
    return {"A": 4, "AAAA": 16}.get(kind, 0)


def _answer(name: str, kind: str, lookup: Lookup, source: Source) -> Answer:
    reply, send = lookup.reply, lookup.answered
    troubles = tuple(lookup.troubles)
    if reply is None or send is None:
        return Answer(name, kind, AnswerStatus.NO_ANSWER, source, troubles=troubles)
    return Answer(
        name,
        kind,
        _status(reply),
        source,
        reply.records,
        reply.aliases,
        reply.negative_ttl,
        reply.extended,
        troubles,
        send.protocol,
        str(send.server),
        authenticated=reply.authenticated,
    )


def _status(reply: r.Reply) -> AnswerStatus:
    if reply.records:
        return AnswerStatus.FOUND
    if any(error.policy for error in reply.extended) or reply.rcode == r.REFUSED:
        return AnswerStatus.REFUSED
    if reply.rcode == r.NXDOMAIN:
        return AnswerStatus.UNKNOWN
    return AnswerStatus.EMPTY if reply.rcode == r.NOERROR else AnswerStatus.FAILED
