"""DNS of a run: port 53 of every address is answered here, from the host's resolvers, for allowed names only.

The order of questions is policy, filters, then the cache and whoever answers what it does not hold. What is kept was
screened for its name before it was kept, and forgotten when the rules change; so an answer that is kept may be given
again without asking anybody, unless there are filters.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from towpath.dns_proxy.cache import Entry
from towpath.dns_proxy.counts import NameCounts
from towpath.dns_proxy.groups import Group
from towpath.errors import PeerViolation
from towpath.hosting.dns_carriers import asking
from towpath.hosting.dns_links import Server
from towpath.hosting.dns_listen import PORT, Asked, DnsListener
from towpath.hosting.dns_service import NameService, name_in
from towpath.hosting.system_dns import SystemDns, resolvers, system_group, system_settings
from towpath.policy.policy import Decision
from towpath.sandbox.flows import Flow
from towpath.wire import dns, dns_scan
from towpath.wire.ip import text_of

if TYPE_CHECKING:
    from towpath.hosting.dns_exchange import Dial
    from towpath.hosting.dns_provider import DnsProvider
    from towpath.hosting.loop import Loop
    from towpath.providers.flow import Question as QuestionSeen
    from towpath.sandbox.filtering import Filtering
    from towpath.sandbox.judge import Judge
    from towpath.sandbox.report import Ledger

__all__ = ["DnsService"]


_AT_ONCE = 0.0005
"""Seconds in which nothing but the cache answers."""


Whom = Callable[[list[str]], tuple[Group, Sequence[Group]]]
"""Of the servers of the system makes those for every name, and those for some domains."""


class DnsService:
    """Judges, answers from the cache or asks, and screens; what an answer says becomes evidence for flows to come.

    `dial` makes the sockets to servers, and `whom` says which they are.
    """

    def __init__(
        self,
        loop: Loop,
        judge: Judge,
        ledger: Ledger,
        filtering: Filtering | None,
        proxy: DnsProvider | None = None,
        dial: Dial | None = None,
        whom: Whom = lambda servers: (system_group(servers), ()),
    ) -> None:
        self._whom = whom
        self._judge = judge
        self._ledger = ledger
        self._filtering = filtering
        self._proxy = proxy
        self._exchanges = asking(loop, proxy, dial)
        self._names = NameService(
            loop,
            whom(resolvers()),
            self._exchanges,
            self._admit,
            proxy=proxy,
            noted=self._noted,
            may_renew=self._may_renew,
            say=ledger.say,
            answered=self._server_answered,
        )
        self._counts: NameCounts | None = None
        self._system: SystemDns | None = None
        self._listener = DnsListener(loop, self._names.cache, self._ask, direct=self._direct, noted=self._noted)

    def listen(self, intake: socket.socket) -> None:
        self._listener.listen(intake)

    def listen_stream(self, listener: socket.socket) -> None:
        self._listener.listen_stream(listener)

    def follow_system(self, loop: Loop) -> None:
        """Asks the servers of the system as they change: a machine that moves has others."""
        self._system = SystemDns(loop, self._system_changed, self._ledger.say)

    def _system_changed(self, servers: list[str]) -> None:
        self._names.use_system(self._whom(servers))
        if self._proxy is not None:
            self._proxy.system_changed(system_settings())

    def ask_anew(self) -> None:
        """Others are to be asked from now on: `whom` says so."""
        self._names.use_system(self._whom(resolvers()))

    def close(self) -> None:
        if self._system is not None:
            self._system.close()
        self._listener.close()
        self._exchanges.close()

    def watch(self, watching: bool) -> None:
        """Counts names, or does so no more: then none of them passes without being seen."""
        if watching != (self._counts is not None):
            self._counts = NameCounts() if watching else None

    def report(self) -> dict[str, Any]:
        """What was counted."""
        counted = self._counts or NameCounts()
        return counted.report() | {
            "since_start": self._names.cache.rates(),
            "kept": len(self._names.cache),
            "bytes": self._names.cache.bytes,
            "under_way": self._names.resolver.under_way,
            "sockets": self._exchanges.open,
        }

    def _server_answered(self, server: Server, seconds: float) -> None:
        if self._counts is not None:
            self._counts.answered(str(server), seconds)

    def _counting(self, counts: NameCounts, asked: Asked, name: str, flow: Flow) -> Asked:
        """The same question, which is counted when it is answered."""
        self._ledger.find_owner(flow)
        program = flow.owner.program if flow.owner else "?"
        begun = time.monotonic()

        def reply(answer: bytes) -> None:
            seconds = time.monotonic() - begun
            if not flow.by:
                counts.asked(name, program, cached=seconds < _AT_ONCE, seconds=seconds)
            asked.reply(answer)

        return asked._replace(reply=reply)

    def forget(self) -> None:
        """Another policy holds: nothing that was answered under the old one is given again."""
        self._names.forget()

    def flush(self, names: Sequence[str]) -> int:
        """Forgets answers, see `NameService.flush`."""
        return self._names.flush(names)

    def _direct(self) -> bool:
        """With filters each question is seen: who asks for which name is what tells names of one address apart."""
        return self._names.direct and self._counts is None and self._ledger.learner is None and self._filtering is None

    def _ask(self, asked: Asked) -> None:
        try:
            question = dns.parse_query(asked.data)
        except PeerViolation as violation:
            answer = dns_scan.not_a_question(asked.data, violation)
            if answer is not None:
                asked.reply(answer)
            return
        name = dns.policy_name(question)
        flow = Flow(asked.transport, asked.source, asked.source_port, asked.address, PORT)
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
        if self._counts is not None:
            self._counts.refuse(name, flow.owner.program if flow.owner else "?", decision.reason)
        if not silent:
            text = f"refused by the network policy of this run: {decision.reason}"
            asked.reply(dns.refusal(asked.data, question, text))

    def _pass(self, asked: Asked, question: dns.Question, name: str, flow: Flow) -> None:
        self._ledger.question_passed(flow, name)
        if self._filtering is not None:
            self._ledger.find_owner(flow)
            if flow.owner is not None:
                self._judge.names.asked(flow.owner.pid, name)
        kind = dns.type_name(question.type)

        def describe() -> QuestionSeen:
            from towpath.sandbox.filtering import owner_of, question_seen

            assert self._proxy is not None
            owner, unknown = owner_of(self._ledger, flow)
            return question_seen(self._proxy.number(), flow, question.name, kind, owner, unknown)

        def refused(reason: str) -> None:
            flow.name, flow.name_from = name, "question"
            flow.by, flow.by_kind = self._proxy.name if self._proxy else "", "DNS proxy"
            self._ledger.question_refused(flow, Decision("deny", None, f"the DNS proxy {reason}", "dns", None), kind)
            if self._counts is not None:
                self._counts.refuse(name, flow.owner.program if flow.owner else "?", reason)

        if self._counts is not None:
            asked = self._counting(self._counts, asked, name, flow)
        self._names.answer(asked, question, describe, refused)

    def _may_renew(self, question: bytes) -> bool:
        return self._judge.question(_hostless(name_in(question), question[-4:])).verdict != "deny"

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
        if not entry.refusal:
            answer = dns.parse_answer(b"\0\0" + entry.body)
            self._learn(_hostless(answer.name, entry.key[-5:-1]), answer)


def _hostless(name: str, kind_class: bytes) -> str:
    kind = int.from_bytes(kind_class[:2], "big")
    return dns.policy_name(dns.Question(0, name, kind, 1, 0, False, 512, 0))
