"""Policies beside each other: what only one of two has, one made of several, and one tried on a report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from towpath.policy.policy import Decision, Policy
from towpath.policy.program import Program
from towpath.policy.request import Asked
from towpath.policy.rule import Rule

__all__ = ["Changed", "difference", "merged", "tried"]

_SCHEMES = {"sni": "tls", "host": "http", "quic sni": "quic"}


def difference(before: Policy, after: Policy) -> tuple[list[Rule], list[Rule]]:
    """The rules that only `before` has, and those that only `after` has; the order of rules is not compared."""
    old = {(rule.action, rule.text): rule for rule in before.rules}
    new = {(rule.action, rule.text): rule for rule in after.rules}
    gone = [rule for key, rule in old.items() if key not in new]
    added = [rule for key, rule in new.items() if key not in old]
    return gone, added


def merged(policies: Sequence[tuple[str, Policy]]) -> str:
    """One policy file that holds the rules of all, each once, in tables that say where they come from.

    The tables keep the order of the files, so that the first rule that matches is the same as for all files together.
    """
    seen: set[tuple[str, str]] = set()
    out = []
    for source, policy in policies:
        for place in policy.places:
            lines = ["[[rule]]", f"comment = {_string(f'from {source}')}"]
            for action, rules in (("deny", place.deny), ("allow", place.allow)):
                fresh = [rule for rule in rules if (action, rule.text) not in seen]
                seen.update((action, rule.text) for rule in fresh)
                if fresh or (action == "allow" and place.closed):
                    lines += [f"{action} = [", *(f"    {_string(rule.text)}," for rule in fresh), "]"]
            if len(lines) > 2:
                out.append("\n".join(lines))
    return "\n\n".join(out) + "\n"


def _string(text: str) -> str:
    """A basic string of TOML."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in escaped) + '"'


class Changed(NamedTuple):
    """A recorded flow or question that the policy decides otherwise than the run did."""

    record: Mapping[str, Any]
    was: str
    now: str
    decision: Decision


def tried(policy: Policy, records: Iterable[Mapping[str, Any]]) -> Iterator[Changed]:
    """The records of a report (`towpath run --report json`) whose verdict would be another under `policy`."""
    for record in records:
        if record.get("type") not in ("flow", "dns") or record.get("direction") != "out":
            continue
        decision = _decide(policy, record)
        now = "refused" if decision.verdict == "deny" else "allowed"
        if now != record.get("verdict"):
            yield Changed(record, str(record.get("verdict")), now, decision)


def _decide(policy: Policy, record: Mapping[str, Any]) -> Decision:
    name = record.get("name")
    if record["type"] == "dns":
        return policy.decide_name(str(name))
    how = str(record.get("name_from") or "")
    names = tuple(record.get("names") or ((str(name),) if how == "dns" else ()))
    flow = str(record["transport"]), str(record["address"]), int(record.get("port") or 0), names
    decision = policy.decide_flow(*flow, lambda: _program(record))
    if decision.verdict == "look":
        scheme = _SCHEMES.get(how, "other")
        for host, asked in _requests(record, str(name)) if scheme == "http" else [(name, None)]:
            said = str(host) if scheme != "other" else None
            decision = policy.decide_seen(*flow, scheme, said, asked, lambda: _program(record))
            if decision.verdict == "deny":
                break
    return decision


def _program(record: Mapping[str, Any]) -> Program | None:
    if not record.get("program"):
        return None
    command, parents = record.get("command") or (), record.get("parents") or ()
    return Program(str(record["program"]), record.get("executable"), tuple(command), tuple(parents))


def _requests(record: Mapping[str, Any], name: str) -> Iterator[tuple[str, Asked | None]]:
    """Those of a flow of plain HTTP; without any, what its host alone says."""
    found = [words for text in record.get("requests") or () if len(words := str(text).split(" ", 2)) == 3]
    yield from ((host, Asked(method, path)) for method, host, path in found)
    if not found:
        yield name, None
