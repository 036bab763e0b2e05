"""The sentences of decisions: why, by which rule, and the option that would change it."""

from __future__ import annotations

from collections.abc import Sequence

from towpath.policy.flow import BYTES, Considered, Flow, shortened
from towpath.policy.host import bracketed
from towpath.policy.request import fault_of
from towpath.policy.rule import BY_PORT, Rule, quoted

__all__ = ["admitted", "name_refused", "not_covered", "option", "refused", "undecided"]


def admitted(rule: Rule) -> str:
    return f"{rule.shown} allows it"


def refused(rule: Rule) -> str:
    return f"{rule.shown} refuses it"


def undecided(rule: Rule) -> str:
    return f"{rule.shown} is decided by the name in the first bytes"


def name_refused(name: str) -> tuple[str, str, str | None]:
    """Reason, evidence and hint for a question that no rule lets out."""
    return f"no rule allows the name {name or '.'}", "", f"--allow {name}" if name else None


def not_covered(
    flow: Flow, skipped: Sequence[tuple[Rule, Considered]], near: Sequence[Rule]
) -> tuple[str, str, str | None]:
    """Reason, evidence and hint for a flow that no rule allows.

    `skipped` are the rules that were asked and did not match; `near` are allow rules for the same host anywhere.
    """
    close = [(rule, considered) for rule, considered in skipped if rule.action == "allow"]
    for rule, considered in close:
        if flow.name is not None and rule.host.named and rule.host.matches_name(flow.name):
            resolved = rule.host.matches_any_name(flow.names)
            return _why(rule, considered), "", _seen_hint(flow, rule) if resolved else None
    if close:
        if flow.scheme in BYTES and flow.name is not None and flow.names and flow.name not in flow.names:
            # Allowing the name alone would not do: it was asked of an address that is another's.
            return f"{close[0][1].why}, and the address is {flow.names[0]}'s", "", None
        return _why(*close[0]), "", _seen_hint(flow, close[0][0])
    label = flow.names[0] if flow.names else flow.address
    what = f"{flow.transport} to {label}" + (f" port {flow.port}" if flow.port else "")
    if near:
        where = shortened(tuple(dict.fromkeys(rule.scope for rule in near)))
        return f"no rule allows {what}; {bracketed(label)} is allowed for {where}", "", option(flow, label)
    if flow.names:
        return f"no rule allows {what}", "", option(flow, label)
    return (
        f"no rule allows {what}: no rule names this address, and no DNS answer in this run gave it to a name",
        "",
        option(flow, label),
    )


def _why(rule: Rule, considered: Considered) -> str:
    """What a narrowed rule has against a flow needs the rule beside it to be understood."""
    return f"{rule.shown}: {considered.why}" if rule.request is not None or rule.by is not None else considered.why


def _seen_hint(flow: Flow, rule: Rule) -> str | None:
    """What to allow once the bytes were seen: the name they ask for, else the transport whatever the bytes are.

    Where `rule` is narrowed to requests, it is the request, unless no rule could name it."""
    if rule.request is not None and flow.asked is not None and flow.name is not None:
        if flow.asked.override or fault_of(flow.asked.path):
            return None
        host = bracketed(flow.name) + ("" if flow.port == 80 else f":{flow.port}")
        return f"--allow {quoted(f'{flow.asked.method} http://{host}{flow.asked.path}')}"
    if flow.scheme in BYTES and flow.name is not None:
        return option(flow, flow.name, flow.scheme)
    label = flow.names[0] if flow.names else flow.address
    return option(flow, label, flow.transport if flow.scheme is not None else None)


def option(flow: Flow, host: str, scheme: str | None = None) -> str:
    """The option that would allow a flow to a host: with a scheme only where the port alone would mean another."""
    host = bracketed(host)
    if flow.transport == "icmp":
        return f"--allow icmp://{host}"
    by_port = BY_PORT.get((flow.transport, flow.port), flow.transport)
    if (scheme is None or scheme == by_port) and (by_port in BYTES or flow.transport == "tcp"):
        return f"--allow {host}:{flow.port}"
    return f"--allow {scheme or flow.transport}://{host}:{flow.port}"
