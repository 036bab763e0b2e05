"""A policy: places of rules in order, asked about names and flows. The first rule that matches decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from towpath.policy.flow import LOOK, MATCH, Considered, Flow, consider
from towpath.policy.host import number
from towpath.policy.index import Index
from towpath.policy.program import Program
from towpath.policy.reason import admitted, name_refused, not_covered, refused, undecided
from towpath.policy.request import Asked
from towpath.policy.rule import Rule, parse_rule

__all__ = ["Decision", "Place", "Policy"]


class Place(NamedTuple):
    """Rules that stand together: within a place a deny comes before any allow. `where` names it for people."""

    allow: tuple[Rule, ...]
    deny: tuple[Rule, ...]
    where: str
    closed: bool = False
    """An allow list was written, though it may be empty: what it does not name is refused."""


class Decision(NamedTuple):
    """The answer to one question.

    `verdict` is "allow", "deny" or "look" (wait for the bytes, then ask `decide_seen`). `rule` is the one that decided,
    `None` for the default. `reason` is one sentence. `evidence` says what tied the flow to the rule: "", "address",
    "name: dns only", "sni", "host" or "quic sni". `hint` is the option that would allow what was refused.
    """

    verdict: str
    rule: Rule | None
    reason: str
    evidence: str
    hint: str | None


_EVERYTHING = Decision("allow", None, "no rule was given: everything passes", "", None)
_DEFAULT_ALLOW = Decision("allow", None, "no deny rule matches, and no allow rule was given", "", None)


class Policy:
    """What may be asked and reached.

    Names are as `wire.dns` writes them: lower case, no trailing dot. Addresses are text.

    >>> policy = Policy.load(["good.test:443"], [], [])
    >>> policy.decide_flow("tcp", "192.0.2.1", 443, ["good.test"]).verdict
    'look'
    >>> policy.decide_seen("tcp", "192.0.2.1", 443, ["good.test"], "tls", "good.test").evidence
    'sni'
    >>> policy.decide_flow("tcp", "192.0.2.1", 22, ["good.test"]).hint
    '--allow good.test:22'
    """

    __slots__ = ("_index", "asks_who", "default", "empty", "places", "reads_requests", "rules")

    def __init__(self, places: Iterable[Place]) -> None:
        self.places = tuple(places)
        self.rules = tuple(rule for place in self.places for rule in (*place.deny, *place.allow))
        self.empty = not self.rules and not any(place.closed for place in self.places)
        self.default = "deny" if any(place.allow or place.closed for place in self.places) else "allow"
        self.reads_requests = any(rule.request is not None for rule in self.rules)
        self.asks_who = any(rule.by is not None for rule in self.rules)
        self._index = Index(self.rules)

    @classmethod
    def load(cls, allow: Sequence[str], deny: Sequence[str], files: Sequence[str]) -> Policy:
        """The command line's rules, then each file's. Raises `ConfigInvalid`."""
        places = []
        if allow or deny:
            places.append(
                Place(
                    tuple(parse_rule(text, "allow", "--allow") for text in allow),
                    tuple(parse_rule(text, "deny", "--deny") for text in deny),
                    "the command line",
                )
            )
        if files:
            from towpath.policy.file import load_file

            for path in files:
                places += load_file(path)
        return cls(places)

    def before(self, rule: Rule) -> Policy:
        """The same policy with one more rule, which is asked before all others; the default stays what it is.

        >>> Policy.load([], [], []).before(parse_rule("bad.test", "deny", "a person")).decide_name("bad.test").verdict
        'deny'
        """
        allow, deny = ((rule,), ()) if rule.action == "allow" else ((), (rule,))
        found = Policy([Place(allow, deny, rule.where), *self.places])
        found.default = self.default
        return found

    def decide_name(self, name: str) -> Decision:
        """May this question go to DNS? An allow rule for the name at any port lets it; only a deny of the whole host
        keeps it. Rules for addresses say nothing of names, and programs are not told apart. Never "look"."""
        if self.empty:
            return _EVERYTHING
        rule = self._index.for_name(name)
        if rule is None:
            return _DEFAULT_ALLOW if self.default == "allow" else Decision("deny", None, *name_refused(name))
        if rule.action == "deny":
            return Decision("deny", rule, refused(rule), "", None)
        return Decision("allow", rule, admitted(rule), "", None)

    def decide_flow(
        self,
        transport: str,
        address: str,
        port: int,
        names: Sequence[str],
        who: Callable[[], Program | None] | None = None,
    ) -> Decision:
        """Before any byte. `transport` is "tcp", "udp" or "icmp" (port 0); `names` are those that DNS answers of this
        run gave the address; `who` finds the program that asks, and is called where a rule for programs may match."""
        if self.empty:
            return _EVERYTHING
        known = number(address) or (0, 0)
        return self._decide(Flow(transport, address, known, port, tuple(names), None, None, None, who))

    def decide_seen(
        self,
        transport: str,
        address: str,
        port: int,
        names: Sequence[str],
        scheme: str,
        name: str | None,
        asked: Asked | None = None,
        who: Callable[[], Program | None] | None = None,
    ) -> Decision:
        """After looking: `scheme` is "tls", "http", "quic" or "other", `name` what the bytes ask for, `asked` the HTTP
        request. Never "look"."""
        if self.empty:
            return _EVERYTHING
        known = number(address) or (0, 0)
        return self._decide(Flow(transport, address, known, port, tuple(names), scheme, name, asked, who))

    def names_address(self, address: str) -> Rule | None:
        """The first allow rule that names this very address, alone or by a prefix longer than /0."""
        known = number(address)
        return None if known is None else self._index.for_address(*known)

    def _decide(self, flow: Flow) -> Decision:
        entries = self._index.for_flow(flow)
        skipped: list[tuple[Rule, Considered]] = []
        for at, (_, rule) in enumerate(entries):
            considered = consider(rule, flow)
            if considered.outcome == MATCH:
                if rule.action == "deny":
                    return Decision("deny", rule, refused(rule), considered.evidence, None)
                return Decision("allow", rule, admitted(rule), considered.evidence, None)
            if considered.outcome == LOOK:
                # A denied name need not be looked for where nothing that follows could allow the flow.
                if self.default == "allow" or any(later.action == "allow" for _, later in entries[at:]):
                    return Decision("look", rule, undecided(rule), "", None)
            else:
                skipped.append((rule, considered))
        if self.default == "allow":
            return _DEFAULT_ALLOW
        return Decision("deny", None, *not_covered(flow, skipped, self._index.near(flow)))
