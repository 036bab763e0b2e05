"""A question that nobody objects to, until it is answered: the cache, the proxy's rules and its hook, the servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from towpath.dns_proxy.cache import Entry, WireCache, key_of
from towpath.dns_proxy.groups import Group, Groups
from towpath.errors import Misuse, PeerViolation
from towpath.hosting.dns_listen import Asked
from towpath.hosting.dns_resolver import Admit, NameResolver
from towpath.hosting.failure import Failure
from towpath.wire import dns, dns_message, dns_scan
from towpath.wire.address import pack

if TYPE_CHECKING:
    from towpath.hosting.dns_exchange import Exchanges
    from towpath.hosting.dns_links import Server
    from towpath.hosting.dns_provider import DnsProvider
    from towpath.hosting.loop import Loop
    from towpath.providers.dns import Answer, Refuse
    from towpath.providers.flow import Question

__all__ = ["NameService", "name_in"]

_LARGEST = 65535
_DATAGRAM = 1232
_NETWORK_ERROR, _OTHER_ERROR = 23, 0
_NXDOMAIN, _REFUSED = 3, 5
_EDE_FILTERED = 17
_IXFR, _AXFR, _ANY = 251, 252, 255
_ALIAS_TTL = 300
_NOT_AUTHORITATIVE, _NOT_AUTHENTIC = 0xFBFF, 0xFFDF
_NOWHERE = {dns_message.A: "0.0.0.0", dns_message.AAAA: "::"}
_RULE = "a rule of its settings"

Describe = Callable[[], "Question"]
Refused = Callable[[str], None]


class NameService:
    """Answers questions. `admit` reads answers (see `NameResolver`); `noted` hears of entries that are given again.

    `system` are the servers for every name, and groups for some domains, that a proxy's own settings win over. Without
    a proxy, a name of one label is looked for in the domains of `search` before it is asked for as it is.
    """

    def __init__(
        self,
        loop: Loop,
        system: tuple[Group, Sequence[Group]],
        exchanges: Exchanges,
        admit: Admit,
        *,
        proxy: DnsProvider | None = None,
        noted: Callable[[Entry], None] = lambda _entry: None,
        may_renew: Callable[[bytes], bool] = lambda _question: True,
        answered: Callable[[Server, float], None] = lambda _server, _seconds: None,
        search: Callable[[], Sequence[str]] = lambda: (),
        say: Callable[[str, str], None] = lambda _level, _text: None,
    ) -> None:
        self.cache = WireCache()
        self._search = search
        self._system, self._domains = system
        self._admit = admit
        self._proxy = proxy
        self._noted = noted
        self._may_renew = may_renew
        self._say = say
        self._epoch = 0
        self._waiting: dict[bytes, list[Callable[[Any], None]]] = {}
        self.resolver = NameResolver(loop, self.cache, exchanges, self._groups(), self._system, admit, answered)
        if proxy is not None:
            self.resolver.by = proxy.name
            proxy.changed = self.renew
            proxy.flush = self.flush
            self.renew()

    @property
    def direct(self) -> bool:
        """Whether what is kept may be given without asking anybody here."""
        return self._proxy is None or not self._proxy.settings.per_asker

    def use_system(self, system: tuple[Group, Sequence[Group]]) -> None:
        """The system asks other servers now, which may know another world."""
        self._system, self._domains = system
        self.resolver.system = self._system
        self.renew()

    def forget(self) -> None:
        """What was answered before, or is on its way, is not given to others any more."""
        self._epoch += 1
        self._waiting.clear()
        self.cache.flush()
        self.resolver.forget()

    def flush(self, names: Sequence[str]) -> int:
        """Forgets what is kept for these names, without any everything; "*.domain" is all below it.

        Gives how many answers that were. What is on its way is not kept. Raises `Misuse` for what is no name.
        """
        wanted = [
            (dns_message.flat(dns_message.labels_of(name.removeprefix("*.").lower())), name.startswith("*."))
            for name in names
        ]
        count = sum(self.cache.flush(name, below=below) for name, below in wanted) if wanted else self.cache.flush()
        self._epoch += 1
        self._waiting.clear()
        self.resolver.forget()
        return count

    def renew(self) -> None:
        """Takes over the settings of the proxy that is in force, and forgets what was answered before."""
        self.forget()
        self.resolver.groups = self._groups()
        if self._proxy is not None:
            settings = self._proxy.settings
            self.cache.most_bytes = max(1 << 16, settings.cache)
            self.cache.expired = settings.expired
            self.resolver.mixed_case = settings.mixed_case

    def _groups(self) -> Groups:
        system = self._system.upstreams
        groups = self._proxy.own_groups if self._proxy is not None else ()
        own = [group if group.upstreams else group._replace(upstreams=system) for group in groups]
        return Groups([*own, *self._domains, self._system])

    def answer(self, asked: Asked, question: dns.Question, describe: Describe, refused: Refused) -> None:
        """Answers a question, perhaps later. `describe` tells the proxy of it; `refused` hears why it was refused."""
        data = asked.data
        if question.type == _ANY:
            asked.reply(dns_scan.minimal_any(data, question.end, question.flags))
            return
        if question.klass != dns_message.IN or question.type in (_AXFR, _IXFR):
            asked.reply(dns_scan.error_answer(data, _REFUSED) or b"")
            return
        asked = asked._replace(epoch=self._epoch)
        key = key_of(data, question)
        proxy = self._proxy
        entry = self.cache.find(key, int(time.monotonic())) if self.direct else None
        if entry is not None:
            self._give(asked, question, entry, refused)
        elif proxy is None:
            short = "." not in question.name.rstrip(".")
            self._complete(asked, question, key, refused, self._search() if short else ())
        else:
            self._consult(proxy, asked, question, key, describe, refused)
        if self.cache.to_renew:
            self.resolver.renew(name_in, self._may_renew)

    def _consult(
        self,
        proxy: DnsProvider,
        asked: Asked,
        question: dns.Question,
        key: bytes,
        describe: Describe,
        refused: Refused,
    ) -> None:
        # Here and below: a proxy has loaded its words. A run without one does not wait for them (decision 0006).
        from towpath.providers.dns import Forward, Refuse

        rule = proxy.rule(question.name)
        if rule == "refuse":
            self._decided(asked, question, key, refused, Refuse(_RULE))
        elif rule == "forward" or not proxy.session.wants("handle_query"):
            self._decided(asked, question, key, refused, Forward())
        elif self.direct and key in self._waiting:
            self._waiting[key].append(lambda verdict: self._decided(asked, question, key, refused, verdict))
        else:
            waiting: list[Callable[[Any], None]] = []
            waiting.append(lambda verdict: self._decided(asked, question, key, refused, verdict))
            if self.direct:
                self._waiting[key] = waiting

            def answered(verdict: Any) -> None:
                if self._waiting.get(key) is waiting:
                    del self._waiting[key]
                for decided in waiting:
                    decided(verdict)

            proxy.ask(describe(), answered)

    def _decided(self, asked: Asked, question: dns.Question, key: bytes, refused: Refused, verdict: Any) -> None:
        from towpath.providers.dns import Answer, Forward, Refuse
        from towpath.providers.verdict import Drop

        assert self._proxy is not None
        if isinstance(verdict, Drop):
            refused(f"{self._proxy.name}: {verdict.reason}")
        elif isinstance(verdict, Failure):
            refused(f"{self._proxy.name}: {verdict.reason}")
            text = f"the DNS proxy {self._proxy.name}: {verdict.reason}"
            asked.reply(dns.failure(asked.data, question, text, _OTHER_ERROR))
        elif isinstance(verdict, Refuse):
            entry = self._keep(asked, key, _refusal(asked.data, question, self._proxy.name, verdict))
            entry.refusal = f"{self._proxy.name}: {verdict.reason}"
            self._give(asked, question, entry, refused)
        elif isinstance(verdict, Answer):
            self._own(asked, question, key, verdict, refused)
        elif isinstance(verdict, Forward) and verdict.servers:
            group = self._proxy.group_of(verdict.servers)
            if group is None:
                unknown = ", ".join(verdict.servers)
                self._fail(asked, question, f"Forward names servers that are not in the settings: {unknown}")
            else:
                self._forward(asked, question, key, group, refused)
        else:
            self._forward(asked, question, key, None, refused)

    def _fail(self, asked: Asked, question: dns.Question, reason: str) -> None:
        assert self._proxy is not None
        self._say("error", f"{self._proxy.name}: {reason}")
        text = f"the DNS proxy {self._proxy.name} made a mistake: {reason}"
        asked.reply(dns.failure(asked.data, question, text, _OTHER_ERROR))

    def _keep(self, asked: Asked, key: bytes, scanned: dns_scan.Scanned) -> Entry:
        second = int(time.monotonic())
        if self.direct and asked.epoch == self._epoch:
            return self.cache.store(key, scanned, second, own=True)
        return Entry(key, scanned, second, scanned.ttl)

    def _own(self, asked: Asked, question: dns.Question, key: bytes, answer: Answer, refused: Refused) -> None:
        if answer.alias:
            self._alias(asked, question, key, answer, refused)
            return
        data = asked.data
        records = []
        for address in answer.addresses:
            packed = pack(address)
            if packed is None:
                self._fail(asked, question, f"Answer holds {address!r}, which is not an address")
                return
            if question.type == (dns_message.A if len(packed) == 4 else dns_message.AAAA):
                records.append(dns.Record(question.name, question.type, answer.ttl, packed))
        try:
            made = dns.answer(data, records)
            scanned = self._admit(question.name, made, question.end)
        except (PeerViolation, Misuse) as error:
            self._fail(asked, question, str(error))
            return
        self._give(asked, question, self._keep(asked, key, scanned._replace(ttl=answer.ttl)), refused)

    def _alias(self, asked: Asked, question: dns.Question, key: bytes, answer: Answer, refused: Refused) -> None:
        """The records of another name, behind an alias that leads there."""
        alias = answer.alias.strip(".").lower()
        try:
            labels = dns_message.labels_of(alias)
        except (Misuse, PeerViolation) as error:
            self._fail(asked, question, f"Answer names the alias {alias!r}: {error}")
            return
        target = dns_message.flat(labels) + key[-5:-1]

        def found(entry: Entry | None, trouble: str) -> None:
            if entry is None:
                asked.reply(dns.failure(asked.data, question, trouble, _NETWORK_ERROR))
                return
            if entry.refusal:
                self._give(asked, question, entry, refused)
                return
            try:
                made = _behind(asked.data, question, labels, min(answer.ttl, _ALIAS_TTL), entry)
                scanned = self._admit(question.name, made, question.end)
            except PeerViolation as violation:
                asked.reply(dns.failure(asked.data, question, f"the alias {alias}: {violation}"))
                return
            ttl = min(answer.ttl, max(0, entry.expires - int(time.monotonic())))
            self._give(asked, question, self._keep(asked, key, scanned._replace(ttl=ttl)), refused)

        self.resolver.resolve(target + key[-1:], alias, found, keep=False, screen=False)

    def _complete(
        self, asked: Asked, question: dns.Question, key: bytes, refused: Refused, domains: Sequence[str]
    ) -> None:
        """Looks for a short name in each of `domains`, then as it is. What one has is answered as an alias."""
        if not domains:
            self._forward(asked, question, key, None, refused)
            return
        whole = f"{question.name}.{domains[0]}".lower()
        try:
            labels = dns_message.labels_of(whole)
        except (Misuse, PeerViolation):
            self._complete(asked, question, key, refused, domains[1:])  # it would be too long
            return

        def found(entry: Entry | None, _trouble: str) -> None:
            if entry is None or entry.body[1] & 0xF or entry.refusal:
                self._complete(asked, question, key, refused, domains[1:])
                return
            try:
                made = _behind(asked.data, question, labels, _ALIAS_TTL, entry)
                scanned = self._admit(question.name, made, question.end)
            except PeerViolation as violation:
                asked.reply(dns.failure(asked.data, question, f"the name {whole}: {violation}"))
                return
            ttl = min(_ALIAS_TTL, max(0, entry.expires - int(time.monotonic())))
            self._give(asked, question, self._keep(asked, key, scanned._replace(ttl=ttl)), refused)

        self.resolver.resolve(dns_message.flat(labels) + key[-5:], whole, found)

    def _forward(self, asked: Asked, question: dns.Question, key: bytes, group: Group | None, refused: Refused) -> None:
        if not self.direct and group is None:
            entry = self.cache.find(key, int(time.monotonic()))
            if entry is not None:
                self._give(asked, question, entry, refused)
                return

        def resolved(entry: Entry | None, trouble: str) -> None:
            if entry is None:
                asked.reply(dns.failure(asked.data, question, trouble, _NETWORK_ERROR))
            else:
                self._give(asked, question, entry, refused)

        self.resolver.resolve(key, question.name, resolved, group, keep=self.direct or group is None)

    def _give(self, asked: Asked, question: dns.Question, entry: Entry, refused: Refused) -> None:
        second = int(time.monotonic())
        if entry.refusal:
            refused(entry.refusal)
        if asked.transport == "udp":
            limit = min(question.payload_size, _DATAGRAM)
            # Most names are asked for once or twice: a third question makes an answer worth its place in front.
            wanted = entry.used > 1 and asked.epoch == self._epoch
            answer = self.cache.prepare if wanted else self.cache.answer
            asked.reply(answer(entry, asked.data, question, second, limit))
        else:
            asked.reply(self.cache.answer(entry, asked.data, question, second, _LARGEST))
        if second != entry.noted:
            entry.noted = second
            self._noted(entry)


def name_in(question: bytes) -> str:
    """The name in the key of a question, as text."""
    labels, _ = dns_message.Reader(bytes(12) + question).name_at(12)
    return dns_message.text(labels)


def _refusal(data: bytes, question: dns.Question, by: str, refuse: Refuse) -> dns_scan.Scanned:
    records = []
    if refuse.how == "zero" and question.type in _NOWHERE:
        packed = pack(_NOWHERE[question.type])
        assert packed is not None
        records = [dns.Record(question.name, question.type, refuse.ttl, packed)]
    rcode = {"nxdomain": _NXDOMAIN, "zero": 0, "refused": _REFUSED}[refuse.how]
    scanned = dns_scan.scan(dns.answer(data, records, rcode))
    return scanned._replace(ttl=refuse.ttl, errors=dns.extended_error(_EDE_FILTERED, f"{by}: {refuse.reason}"))


def _behind(data: bytes, question: dns.Question, alias: dns_message.Labels, ttl: int, entry: Entry) -> bytes:
    """The answer that says: another name, and what that one has."""
    reader = dns_message.Reader(b"\0\0" + entry.body)
    header = reader.header()
    reader.question()
    flags = header.flags & _NOT_AUTHORITATIVE & _NOT_AUTHENTIC | question.flags & 0x0110
    counts = (1, header.answers + 1, header.authorities, header.additionals)
    writer = dns_message.Writer(dns_message.Header(question.id, flags, *counts))
    asked = dns_message.Reader(data)
    asked.header()
    writer.question(*(owner := asked.question()))
    writer.record(owner[0], dns_message.CNAME, dns_message.IN, ttl, dns_message.flat(alias))
    for _ in range(header.answers + header.authorities + header.additionals):
        record = reader.record()
        parts = reader.rdata(record)
        rdata = b"".join(part if isinstance(part, bytes) else dns_message.flat(part) for part in parts)
        writer.record(record.owner, record.type, record.klass, record.ttl, rdata)
    return writer.message()
