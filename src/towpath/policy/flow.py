"""What is known of a flow when a rule is asked, and how one rule answers: the meaning of the rule language."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from towpath.policy.guard import embedded
from towpath.policy.host import ANY, number
from towpath.policy.program import Program
from towpath.policy.request import Asked
from towpath.policy.rule import BY_PORT, Rule, scheme_at

__all__ = ["BYTES", "Considered", "Flow", "consider"]

MATCH, LOOK, SKIP = "match", "look", "skip"
BYTES = {"tls": "TLS", "http": "HTTP", "quic": "QUIC"}
_SAID = {"tls": "sni", "http": "host", "quic": "quic sni"}
_SAYS = {"tls": "the ClientHello", "http": "the request", "quic": "the ClientHello"}


class Flow(NamedTuple):
    """One flow. `names` are those whose DNS answers in this run gave the address; `number` is its version and value.

    `scheme` is `None` before a byte was seen, then "tls", "http", "quic" or "other"; `name` is what the bytes ask for,
    `asked` the request if it is one. `who` finds the program that opened it: it is called only where a rule asks.
    """

    transport: str
    address: str
    number: tuple[int, int]
    port: int
    names: tuple[str, ...]
    scheme: str | None = None
    name: str | None = None
    asked: Asked | None = None
    who: Callable[[], Program | None] | None = None

    @classmethod
    def of(cls, transport: str, address: str, port: int, names: tuple[str, ...]) -> Flow:
        return cls(transport, address, number(address) or (0, 0), port, names)

    @property
    def speaks(self) -> str:
        return BYTES.get(self.scheme or "", "none of TLS, HTTP and QUIC")


class Considered(NamedTuple):
    """`outcome` is "match", "look" (the bytes will tell) or "skip"; `why` explains a skip; `evidence` a match."""

    outcome: str
    evidence: str = ""
    why: str = ""


_LOOK = Considered(LOOK)
_DNS = Considered(MATCH, "name: dns only")
_ADDRESS = Considered(MATCH, "address")
_ANY = Considered(MATCH)


def consider(rule: Rule, flow: Flow) -> Considered:
    """What one rule says of one flow, all others left aside."""
    considered = _destination(rule, flow)
    if (rule.request is None and rule.by is None) or considered.outcome == SKIP:
        return considered
    if rule.request is not None and considered.outcome == MATCH:
        why = rule.request.excludes(flow.asked, rule.action)
        if why:
            return Considered(SKIP, why=why)
    if rule.by is not None:
        why = rule.by.excludes(flow.who() if flow.who is not None else None, rule.action)
        if why:
            return Considered(SKIP, why=why)
    return considered


def _destination(rule: Rule, flow: Flow) -> Considered:
    """What a rule says of where a flow goes."""
    scheme = scheme_at(rule, flow.transport, flow.port)
    if not scheme:
        return Considered(SKIP, why=_elsewhere(rule, flow))
    by_bytes = scheme in BYTES
    if not rule.host.named:
        if not rule.host.matches_address(*flow.number) and not _disguised(rule, flow):
            return Considered(SKIP, why=f"{flow.address} is not in {rule.host.text}")
        if by_bytes and flow.scheme is None:
            return _LOOK
        if by_bytes and flow.scheme != scheme:
            return Considered(SKIP, why=_other_bytes(rule, flow, scheme))
        return _ANY if rule.host.kind == ANY else _ADDRESS
    if rule.action == "deny":
        return _denies(rule, flow, scheme)
    if not rule.host.matches_any_name(flow.names):
        return Considered(SKIP, why=_unresolved(rule, flow))
    if not by_bytes:
        return _DNS
    if flow.scheme is None:
        return _LOOK
    if flow.scheme != scheme:
        return Considered(SKIP, why=_other_bytes(rule, flow, scheme))
    if flow.name is None:
        return Considered(SKIP, why=f"{_SAYS[scheme]} names no server (no SNI), which {rule.shown} needs")
    if not rule.host.matches_name(flow.name):
        return Considered(SKIP, why=f"{_SAYS[scheme]} asks for {flow.name}, which {rule.shown} does not cover")
    return Considered(MATCH, _SAID[scheme])


def _disguised(rule: Rule, flow: Flow) -> bool:
    """Whether a deny of an IPv4 address meets it inside an IPv6 one; an allow must name what is dialled."""
    if rule.action == "allow" or flow.number[0] == 4:
        return False
    return any(rule.host.matches_address(4, inner) for inner in embedded(flow.number[1]))


def _denies(rule: Rule, flow: Flow, scheme: str) -> Considered:
    """A denied name is looked for in the bytes wherever they can say one, whatever DNS said of the address."""
    resolved = rule.host.matches_any_name(flow.names)
    by_bytes = scheme in BYTES
    readable = by_bytes or (rule.schemes is None and (flow.transport, flow.port) in BY_PORT)
    if not readable:
        return _DNS if resolved else Considered(SKIP, why=_unresolved(rule, flow))
    if flow.scheme is None:
        if not by_bytes and resolved and all(rule.host.matches_name(name) for name in flow.names):
            return _DNS
        return _LOOK
    if by_bytes and flow.scheme != scheme:
        return Considered(SKIP, why=_other_bytes(rule, flow, scheme))
    if flow.name is None:
        return _DNS if resolved else Considered(SKIP, why=_unresolved(rule, flow))
    if rule.host.matches_name(flow.name):
        return Considered(MATCH, _SAID.get(flow.scheme, ""))
    return Considered(SKIP, why=f"the bytes ask for {flow.name}, not for {rule.host.text}")


def _elsewhere(rule: Rule, flow: Flow) -> str:
    if rule.port is not None and rule.port != flow.port:
        return f"it is for port {rule.port}"
    scheme = next(iter(rule.schemes)) if rule.schemes else "tcp"
    return f"it is for {scheme}, not for {flow.transport} port {flow.port}" if flow.port else f"it is for {scheme}"


def _unresolved(rule: Rule, flow: Flow) -> str:
    if not flow.names:
        return f"no DNS answer in this run ties {flow.address} to {rule.host.text}"
    return f"{flow.address} was resolved for {shortened(flow.names)}, not for {rule.host.text}"


def _other_bytes(rule: Rule, flow: Flow, scheme: str) -> str:
    return f"the bytes are {flow.speaks}, and {rule.shown} is for {BYTES[scheme]} at port {flow.port}"


def shortened(words: tuple[str, ...]) -> str:
    """The first few of a list, as a sentence has them."""
    return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")
