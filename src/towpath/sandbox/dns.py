"""DNS of a run: port 53 of every address is answered here, from the host's resolvers, for allowed names only.

The order of questions is policy, filters, then the cache and whoever answers what it does not hold. What is kept was
screened for its name before it was kept, and a rule never changes while a run lasts; so an answer that is kept may be
given again without asking anybody, unless a filter wants to hear of every question.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from towpath.dns_proxy.cache import Entry, WireCache, key_of
from towpath.dns_proxy.upstreams import Group, Groups, parse_upstream
from towpath.errors import PeerViolation
from towpath.hosting.dns_exchange import Exchanges
from towpath.hosting.dns_listen import Asked, DnsListener
from towpath.hosting.dns_resolver import NameResolver
from towpath.sandbox.flows import Flow
from towpath.wire import dns, dns_message, dns_scan
from towpath.wire.address import pack
from towpath.wire.ip import text_of

if TYPE_CHECKING:
    from towpath.hosting.loop import Loop
    from towpath.policy.policy import Decision
    from towpath.sandbox.filtering import Filtering
    from towpath.sandbox.judge import Judge
    from towpath.sandbox.report import Ledger

__all__ = ["DnsService", "resolvers"]

_PORT = 53
_LARGEST = 65535
_DATAGRAM = 1232
_NETWORK_ERROR = 23
_REFUSED = 5
_IXFR, _AXFR, _ANY = 251, 252, 255


def resolvers(path: str = "/etc/resolv.conf") -> list[str]:
    """The name servers of resolv.conf(5); without any, the local one."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            words = [line.split() for line in file]
    except OSError:
        words = []
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"] or ["127.0.0.1"]


def system_group(servers: list[str]) -> Group:
    """The servers of the system, for every name."""
    usable = [server for server in servers if pack(server.partition("%")[0]) is not None]
    return Group(tuple(parse_upstream(server, "/etc/resolv.conf") for server in usable or ["127.0.0.1"]))


class DnsService:
    """Judges, answers from the cache or asks, and screens; what an answer says becomes evidence for flows to come."""

    def __init__(
        self, loop: Loop, judge: Judge, ledger: Ledger, servers: list[str], filtering: Filtering | None
    ) -> None:
        self._judge = judge
        self._ledger = ledger
        self._filtering = filtering
        self._cache = WireCache()
        self._exchanges = Exchanges(loop)
        self._resolver = NameResolver(loop, self._cache, self._exchanges, Groups([system_group(servers)]), self._admit)
        self._listener = DnsListener(loop, self._cache, self._ask, direct=self._direct, noted=self._noted)

    def listen(self, intake: socket.socket) -> None:
        self._listener.listen(intake)

    def listen_stream(self, listener: socket.socket) -> None:
        self._listener.listen_stream(listener)

    def close(self) -> None:
        self._listener.close()
        self._exchanges.close()

    def _direct(self) -> bool:
        return self._ledger.learner is None and (self._filtering is None or not self._filtering.hears_questions)

    def _ask(self, asked: Asked) -> None:
        data = asked.data
        try:
            question = dns.parse_query(data)
        except PeerViolation:
            return  # not a question: silence, as from a host that has no name server
        name = dns.policy_name(question)
        flow = Flow(asked.transport, asked.source, asked.source_port, asked.address, _PORT)
        decision = self._judge.question(name)
        if decision.verdict == "deny":
            self._refuse(asked, question, name, flow, decision)
        elif self._filtering is None:
            self._pass(asked, question, name, flow)
        else:

            def decided(refusal: Decision | None, silent: bool) -> None:
                if refusal is None:
                    self._pass(asked, question, name, flow)
                else:
                    self._refuse(asked, question, name, flow, refusal, silent=silent)

            self._filtering.question(flow, name, dns.type_name(question.type), decided)

    def _refuse(
        self,
        asked: Asked,
        question: dns.Question,
        name: str,
        flow: Flow,
        decision: Decision,
        *,
        silent: bool = False,
    ) -> None:
        flow.name, flow.name_from = name, "question"
        self._ledger.question_refused(flow, decision, dns.type_name(question.type))
        if not silent:
            text = f"refused by the network policy of this run: {decision.reason}"
            asked.reply(dns.refusal(asked.data, question, text))

    def _pass(self, asked: Asked, question: dns.Question, name: str, flow: Flow) -> None:
        self._ledger.question_passed(flow, name)
        data = asked.data
        if question.type == _ANY:
            asked.reply(dns_scan.minimal_any(data, question.end, question.flags))
            return
        if question.klass != dns_message.IN or question.type in (_AXFR, _IXFR):
            asked.reply(dns_scan.error_answer(data, _REFUSED) or b"")
            return
        key = key_of(data, question)
        entry = self._cache.find(key, int(time.monotonic()))
        if entry is not None:
            self._answer(asked, question, entry)
        else:
            self._resolver.resolve(
                key, question.name, lambda found, trouble: self._resolved(asked, question, found, trouble)
            )
        if self._cache.to_renew:
            self._resolver.renew(_name_in, self._may_renew)

    def _may_renew(self, question: bytes) -> bool:
        return self._judge.question(_hostless(_name_in(question), question[-4:])).verdict != "deny"

    def _resolved(self, asked: Asked, question: dns.Question, entry: Entry | None, trouble: str) -> None:
        if entry is None:
            asked.reply(dns.failure(asked.data, question, trouble, _NETWORK_ERROR))
        else:
            self._answer(asked, question, entry)

    def _answer(self, asked: Asked, question: dns.Question, entry: Entry) -> None:
        second = int(time.monotonic())
        if asked.transport == "udp":
            limit = min(question.payload_size, _DATAGRAM)
            asked.reply(self._cache.prepare(entry, asked.data, question, second, limit))
        else:
            asked.reply(self._cache.answer(entry, asked.data, question, second, _LARGEST))
        if second != entry.noted:
            entry.noted = second
            self._noted(entry)

    def _admit(self, asked_for: str, data: bytes, end: int) -> dns_scan.Scanned:
        """The answer as programs may see it, and what it says as evidence."""
        name = _hostless(asked_for, data[end - 4 : end])
        plain = dns_scan.plain_answer(data, end)
        if plain is not None and self._judge.admits_all(name, [text_of(address) for address, _ in plain.addresses]):
            self._judge.names.learn(name, plain.addresses)
            return plain.scanned
        screened = self._judge.screen(name, data)
        scanned = dns_scan.scan(screened.data)
        answer = dns.parse_answer(screened.data)
        if screened.dropped:
            self._ledger.answer_dropped(name, screened.dropped)
        self._learn(name, answer)
        return scanned

    def _learn(self, name: str, answer: dns.Answer) -> None:
        found = [
            (socket.inet_pton(socket.AF_INET6 if ":" in one.address else socket.AF_INET, one.address), one.ttl)
            for one in answer.addresses
        ]
        if found:
            self._judge.names.learn(name, found)

    def _noted(self, entry: Entry) -> None:
        """A kept answer is given again: programs may use its addresses from now on."""
        answer = dns.parse_answer(b"\0\0" + entry.body)
        self._learn(_hostless(answer.name, entry.key[-5:-1]), answer)


def _hostless(name: str, kind_class: bytes) -> str:
    kind = int.from_bytes(kind_class[:2], "big")
    return dns.policy_name(dns.Question(0, name, kind, 1, 0, False, 512, 0))


def _name_in(question: bytes) -> str:
    labels, _ = dns_message.Reader(bytes(12) + question).name_at(12)
    return dns_message.text(labels)
