"""The rule set of a whole host's filter, as text in nft(8)'s language. Pure: the same arguments give the same lines.

A new flow runs through the static rules of each filter in their order; what they do not decide goes to the queue. The
verdict comes back as the packet's mark, is kept in the mark of its connection, and from then on the kernel needs
nobody: allowed flows are accepted by the first rule that any of their packets meets. TCP is taken up at its SYN, so
flows that are older than the table are left alone. What is neither TCP nor UDP passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

from towpath.providers.settings import FilterSettings, NetworkRule, parse_network

__all__ = [
    "ALIVE",
    "ALLOWED",
    "FIELD",
    "REFUSED",
    "WATCHED",
    "Hook",
    "Step",
    "host_lines",
    "quiet_lines",
    "step_transactions",
]

Hook: TypeAlias = Literal["forward", "output", "input"]

FIELD = 0x700000
"""The bits of a mark that are ours; the others are left as they are, for others use them."""
ALLOWED, REFUSED, WATCHED = 0x100000, 0x200000, 0x300000
"""Carried by the kernel; reset or answered that it is prohibited; every packet of it comes to the queue."""
ALIVE = "alive"
"""The set that holds 0 while somebody answers the queue, where flows are to pass once nobody does."""
_PATIENCE = 4
_MOST_LINES = 350
"""Of one transaction, whose message must fit into what a socket sends at once (net.core.wmem_default)."""
_REST = 0xFFFFFFFF ^ FIELD
_PRIORITIES: dict[Hook, int] = {"forward": 10, "input": 10, "output": -150}
"""After the host's own rules have dropped what they drop; for output before destinations are translated."""
_SYN = "tcp flags syn / fin,syn,rst,ack"
_SIDES = {"out": ("daddr", "dport"), "in": ("saddr", "sport")}


class Step(NamedTuple):
    """One filter in the row: its rules, `None` while they are not known; whether it has code for what they leave."""

    settings: FilterSettings | None
    asks: bool


def _is(what: Literal["ct", "meta"], value: int) -> str:
    return f"{what} mark & {FIELD:#x} == {value:#x}"


def _keep(value: int) -> str:
    return f"ct mark set ct mark & {_REST:#x} | {value:#x}"


def host_lines(hooks: Sequence[Hook], queue: int, *, fail_open: bool) -> list[str]:
    """The table for `HostTable` without static rules: every new flow is asked about.

    Copies of DNS answers go to the log group with the queue's number.
    """
    out = [f"set {ALIVE} timeout {_PATIENCE}"] if fail_open else []
    for hook in hooks:
        out += [
            f"chain {hook} type filter hook {hook} priority {_PRIORITIES[hook]} policy accept",
            f"udp sport 53 ct direction reply log group {queue}",
            f"tcp sport 53 ct direction reply log group {queue}",
            f"{_is('ct', ALLOWED)} accept",
            "goto inbound" if hook == "input" else "goto outbound",
        ]
    for chain, new in (("outbound", "new_out"), ("inbound", "new_in")):
        out += [f"chain {chain}", "jump marked", f"{_SYN} goto {new}", f"meta l4proto udp ct state new goto {new}"]
        out += [f"chain {new}", "goto ask"]
    clean = f"meta mark set meta mark & {_REST:#x}"
    out += [
        "chain marked",
        f"{_is('meta', ALLOWED)} {_keep(ALLOWED)} {clean} accept",
        f"{_is('meta', WATCHED)} {_keep(WATCHED)} {clean} accept",
        f"{_is('meta', REFUSED)} {_keep(REFUSED)}",
        # Errors about a flow, and our own resets of it, belong to it: they would be refused as it is.
        "ct state related meta l4proto icmp accept",
        "ct state related meta l4proto ipv6-icmp accept",
        "ct state related tcp flags rst / rst accept",
        f"{_is('ct', REFUSED)} goto refuse",
        f"{_is('ct', WATCHED)} goto ask",
        "chain refuse",
        "meta l4proto tcp reject with tcp reset",
        "reject with icmpx admin-prohibited",
        "chain refused",
        f"{_keep(REFUSED)} goto refuse",
        "chain passed",
        f"{_keep(ALLOWED)} accept",
        "chain ask",
        f"meta mark & 0x0 == @{ALIVE} queue num {queue} bypass" if fail_open else f"queue num {queue}",
    ]
    return out


def quiet_lines() -> list[str]:
    """Nothing is asked any more: what is undecided passes. To be sent before whoever listens leaves."""
    return ["flush ask"]


def step_transactions(steps: Sequence[Step]) -> list[list[str]]:
    """Gives a table these static rules in place of those it has, in as many transactions as the kernel needs.

    Where one is not enough, every new flow is asked about until the last of them: whoever is asked knows the rules too.
    """
    made = _chains(steps)
    chains = [line for line in made if line.startswith("chain ")]
    emptied = [*chains, *(f"flush {line.split()[1]}" for line in chains)]
    entered = _entered("out0", "in0")
    if len(made) <= _MOST_LINES:
        return [[*emptied, *made, *entered]]
    out = [_entered("ask", "ask"), emptied]
    chain = ""
    for at in range(0, len(made), _MOST_LINES):
        part = made[at : at + _MOST_LINES]
        out.append(part if part[0].startswith("chain ") else [chain, *part])
        chain = next((line for line in reversed(part) if line.startswith("chain ")), chain)
    return [*out, entered]


def _entered(outbound: str, inbound: str) -> list[str]:
    return [
        "flush new_out", "flush new_in", "chain new_out", f"goto {outbound}", "chain new_in", f"goto {inbound}",
    ]  # fmt: skip


def _chains(steps: Sequence[Step]) -> list[str]:
    out: list[str] = []
    for way in ("out", "in"):
        for index, step in enumerate(steps):
            name, after = f"{way}{index}", f"{way}{index + 1}" if index + 1 < len(steps) else "passed"
            targets = {"allow": after, "drop": "refused", "filter": "ask" if step.asks else after}
            local: list[str] = []
            out.append(f"chain {name}")
            if step.settings is None:
                out.append("goto ask")
            else:
                if way == "out":
                    local = [*_rules(step.settings.rules, way, targets, loopback=True), f"goto {after}"]
                    out += [f"ip daddr 127.0.0.0/8 goto {name}_local", f"ip6 daddr ::1 goto {name}_local"]
                out += _rules(step.settings.rules, way, targets, loopback=False)
                out.append(f"goto {targets[step.settings.default]}")
            if way == "out":
                out += [f"chain {name}_local", *(local or ["goto ask"])]
    return out


def _rules(rules: Sequence[NetworkRule], way: str, targets: dict[str, str], *, loopback: bool) -> Iterator[str]:
    """Neighbours with the same outcome need no order among them: those of one kind become one look-up in a set."""
    groups: dict[str, dict[str, None]] = {}
    target = ""
    for rule in rules:
        if rule.direction not in ("any", "outbound" if way == "out" else "inbound"):
            continue
        network = parse_network("rules", rule.remote) if rule.remote else None
        if loopback and (network is None or not network.is_loopback):
            continue
        if targets[rule.action] != target:
            yield from _grouped(groups, target)
            groups, target = {}, targets[rule.action]
        side, port_side = _SIDES[way]
        family = "" if network is None else f"{'ip' if network.version == 4 else 'ip6'} {side}"
        for transport in ("tcp", "udp") if rule.transport == "any" and rule.port else (rule.transport,):
            tail = "" if transport == "any" else f"meta l4proto {transport}"
            tail = f"{transport} {port_side} {rule.port}" if rule.port else tail
            length = "" if network is None else str(network.prefixlen)
            groups.setdefault(f"{family}|{length}|{tail}", {})["" if network is None else _literal(network)] = None
    yield from _grouped(groups, target)


def _literal(network: object) -> str:
    text = str(network)
    return text.removesuffix("/32") if "." in text else text.removesuffix("/128")


def _grouped(groups: dict[str, dict[str, None]], target: str) -> Iterator[str]:
    for key, literals in groups.items():
        family, _length, tail = key.split("|")
        members = list(literals)
        head = "" if not family else f"{family} {members[0]}"
        if len(members) > 1:
            head = f"{family} {{ {', '.join(members)} }}"
        yield " ".join(part for part in (head, tail, f"goto {target}") if part)
