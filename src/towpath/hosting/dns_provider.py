"""The DNS proxy of a run or a host: its worker, its settings as groups of servers, and what its rules decide."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from towpath.dns_proxy.groups import Group
from towpath.errors import ConfigInvalid, Misuse, PeerViolation, TowpathError
from towpath.hosting import messages
from towpath.hosting.dns_carriers import check_anchors, check_files, load
from towpath.hosting.outputs import names_path
from towpath.hosting.session import DNS_VERDICTS, FilterSession, OnFailure, Services
from towpath.names.upstream import parse_upstream
from towpath.wire.dns_message import labels_of

if TYPE_CHECKING:
    from towpath.hosting.bundle import Bundle
    from towpath.hosting.loop import Loop
    from towpath.hosting.nursery import Nursery
    from towpath.hosting.outputs import Prompter
    from towpath.names.upstream import Upstream
    from towpath.providers.dns import DNSProxySettings, SystemDNSSettings
    from towpath.providers.flow import Question

__all__ = ["DnsProvider", "TlsFiles"]

TlsFiles = tuple[str, str]
"""The authorities to trust and the identity to show, as paths; "" for the system's and none."""


class DnsProvider:
    """Asks the provider of `bundle` about questions.

    `started(error)` is called once. `changed` is called when another provider, or none, is in force, and when its
    config has changed: what was answered before may be answered otherwise now.
    """

    def __init__(
        self,
        loop: Loop,
        nursery: Nursery,
        bundle: Bundle,
        on_failure: OnFailure,
        system: SystemDNSSettings,
        *,
        say: Callable[[str, str], None],
        prompt: Prompter,
        output: Callable[[Bundle, str], int],
        started: Callable[[TowpathError | None], None],
    ) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.flush: Callable[[tuple[str, ...]], int] = lambda _names: 0
        """Forgets answers, see `NameService.flush`."""
        self.tls_files: dict[Upstream, TlsFiles] = {}
        self._say = say
        self._numbers = itertools.count(1)
        self._started = started
        self._system = system
        self._rules: dict[str, str] = {}
        self._groups: list[Group] = []
        self._by_text: dict[str, Upstream] = {}
        self.session = FilterSession(
            loop,
            nursery,
            bundle,
            on_failure,
            Services(
                say=say,
                prompt=prompt,
                output=output,
                resume=lambda *_: False,
                update=lambda *_: False,
                asked_again=lambda _session: self._renew(),
                flush=lambda names: self._flush(names),
            ),
            self._begun,
            DNS_VERDICTS,
            system,
        )

    @property
    def settings(self) -> DNSProxySettings:
        return self.session.dns

    @property
    def name(self) -> str:
        return self.session.name

    @property
    def search(self) -> list[str]:
        """Domains for short names, in the order of the settings."""
        return list(dict.fromkeys(domain for one in self.settings.settings for domain in map(_plain, one.search)))

    def number(self) -> int:
        return next(self._numbers)

    @property
    def own_groups(self) -> Sequence[Group]:
        """Whom the provider would have asked for which names; one without servers means the system's."""
        return self._groups

    def group_of(self, servers: tuple[str, ...]) -> Group | None:
        """The servers of a `Forward`, `None` when one of them is not among those of the settings."""
        found = [self._by_text.get(server) for server in servers]
        return Group(tuple(one for one in found if one is not None)) if all(found) else None

    def rule(self, name: str) -> str | None:
        """What the most specific rule says of a name: "forward", "refuse", "ask"; `None` without one."""
        rules = self._rules
        if not rules:
            return None
        while name:
            if name in rules:
                return rules[name]
            name = name.partition(".")[2]
        return rules.get("")

    def ask(self, question: Question, answered: Callable[[Any], None]) -> None:
        """`answered` gets a `DNSVerdict`, `Allow` for a provider that is off or overruled, or `Failure`."""
        self.session.ask(lambda number: messages.NewQuery(number, question), answered)

    def system_changed(self, system: SystemDNSSettings) -> None:
        """The system would ask others now."""
        self._system = self.session.system_dns = system
        self.session.tell(messages.SystemDNS(system))
        self.changed()

    def power(self, *, asleep: bool) -> None:
        """The machine is about to sleep, or was asleep."""
        self.session.tell(messages.Power(asleep))
        if not asleep:
            self.changed()

    def _flush(self, names: tuple[str, ...]) -> None:
        try:
            count = self.flush(names)
        except (Misuse, PeerViolation) as error:
            self._say("error", f"{self.name}: flush: {error}")
            return
        self._say("debug", f"{self.name}: {count} answers are forgotten")

    def _begun(self, error: TowpathError | None) -> None:
        if error is None:
            try:
                self._adopt(self.session.dns, self.session.bundle)
            except ConfigInvalid as invalid:
                error = invalid
        self._started(error)

    def _renew(self) -> None:
        if self.session.state == "running":
            try:
                self._adopt(self.session.dns, self.session.bundle)
            except ConfigInvalid as invalid:
                self._say("error", f"{self.name}: its settings are not taken over: {invalid}")
        self.changed()

    def _adopt(self, settings: DNSProxySettings, bundle: Bundle) -> None:
        """Raises `ConfigInvalid` for a server or a file that cannot be used."""
        where = f"the settings of {bundle.manifest.id}"
        home = bundle.home
        groups, by_text, files = [], {}, {}
        for one in settings.settings:
            for domain in one.search:
                _check_domain(domain, where)
            for path in (one.certificate_authority, one.identity):
                if path and not names_path(bundle.config, path):
                    hint = "a file may be used once the user's config names it"
                    raise ConfigInvalid(where, f"its configuration does not name {path}", hint)
            upstreams = []
            for text in one.servers:
                upstream = parse_upstream(text, where)
                upstreams.append(upstream)
                by_text[text] = upstream
                files[upstream.unlocated] = _whole(home, one.certificate_authority), _whole(home, one.identity)
            domains = tuple(domain.strip(".").lower() for domain in one.match_domains if domain != "")
            group = Group(
                tuple(upstreams), domains, one.mode, one.allow_failover, one.requires_dnssec, one.trust_anchors
            )
            groups.append(group)
        load({upstream.protocol for upstream in by_text.values()}, where)
        if any(group.requires_dnssec for group in groups):
            load(("dnssec",), where)
            check_anchors((text for group in groups for text in group.trust_anchors), where)
        for one_set in {chosen for chosen in files.values() if any(chosen)}:
            check_files(one_set, where)
        self._groups, self._by_text, self.tls_files = groups, by_text, files
        self._rules = {rule.domain.strip(".").lower(): rule.action for rule in settings.rules}


def _plain(domain: str) -> str:
    return domain.strip(".").lower()


def _check_domain(domain: str, where: str) -> None:
    try:
        found = labels_of(_plain(domain))
    except (Misuse, PeerViolation):
        found = ()
    if not found or any(
        not label.isascii() or not label.replace(b"-", b"").replace(b"_", b"").isalnum() for label in found
    ):
        raise ConfigInvalid(where, f"{domain!r} is no domain to search in", 'as in search = ["corp.example"]')


def _whole(home: str, path: str) -> str:
    return os.path.join(home, path) if path else ""
