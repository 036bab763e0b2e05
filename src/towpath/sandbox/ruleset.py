"""The rule set of a run, as text in nft(8)'s language. Pure: the same arguments give the same lines.

A packet meets the output chain where its destination is still the one the program asked for. What is undecided goes to
the queue; the verdict comes back as a mark and the packet runs through the chain again. Allowed flows find every
address on the loopback device (AnyIP) and are taken there by the transparent listeners. What nothing took is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from towpath.providers.settings import FilterSettings, NetworkRule

__all__ = ["ALLOWED", "HOST_UNREACHABLE", "NO_ROUTE", "PROHIBITED", "REFUSED", "lines", "static_lines"]

ALLOWED, REFUSED, PROHIBITED, HOST_UNREACHABLE, NO_ROUTE = 1, 2, 3, 4, 5
"""Marks: go on; as if nothing listened (RST, port unreachable); forbidden by policy; no host; no network."""

_BEFORE_NAT = -150
"""After connection tracking (-200), before NAT (-100): connections are known, destinations still the asked ones."""


_BEFORE_ALL = -190
"""Before the chain that queues: what static rules drop wakes nobody."""
_AT_ONCE = 200
_DROPPED = {
    "tcp": "meta l4proto tcp reject with tcp reset",
    "udp": "meta l4proto udp reject with icmpx admin-prohibited",
}


def _destination(address: str) -> str:
    return f"ip6 daddr {address}" if ":" in address else f"ip daddr {address}"


def lines(own: Sequence[str], relay_port: int, queue: int, local_ports: Sequence[int]) -> list[str]:
    """The lines for `towpath.linux.nftables.make_table`.

    `own` are the scope's own addresses; `local_ports` are the ports of the host's loopback that the run may reach.
    """
    loopback = ["ip daddr 127.0.0.0/8", "ip6 daddr ::1"]
    out = [
        f"chain output type filter hook output priority {_BEFORE_NAT} policy drop",
        "ct state established,related accept",
        "ct mark 1 accept",
        "meta mark 1 ct mark set 1 accept",
        "meta mark 2 meta l4proto tcp reject with tcp reset",
        "meta mark 2 reject with icmpx port-unreachable",
        "meta mark 3 reject with icmpx admin-prohibited",
        "meta mark 4 reject with icmpx host-unreachable",
        "meta mark 5 reject with icmpx no-route",
    ]
    for port in local_ports:
        out += [
            f"{_destination(address)} tcp dport {port} tcp flags syn / fin,syn,rst,ack queue num {queue}"
            for address in ("127.0.0.1", "::1")
        ]
    out += [f"{address} accept" for address in loopback]
    for address in own:
        out += [
            f"{_destination(address)} tcp dport {relay_port} reject with tcp reset",
            f"{_destination(address)} udp dport {relay_port} reject with icmpx port-unreachable",
        ]
    out += [f"{_destination(address)} accept" for address in own]
    out += [
        "tcp dport 53 accept",
        "udp dport 53 accept",
        f"tcp flags syn / fin,syn,rst,ack queue num {queue}",
        f"meta l4proto udp queue num {queue}",
        f"icmp type echo-request queue num {queue}",
        f"icmpv6 type echo-request queue num {queue}",
        "reject with icmpx admin-prohibited",
        f"chain prerouting type filter hook prerouting priority {_BEFORE_NAT} policy accept",
        "ct direction reply accept",
    ]
    out += [f"{address} accept" for address in loopback]
    out += [f"{_destination(address)} accept" for address in own]
    out += ["tcp dport 53 accept", "udp dport 53 accept"]
    for address in own:
        target = f"ip6 to [{address}]:{relay_port}" if ":" in address else f"ip to {address}:{relay_port}"
        # Every datagram, not only a flow's first: the second would find the socket that answers the first.
        out += [
            f"meta l4proto tcp ct state new tproxy {target} accept",
            f"meta l4proto udp tproxy {target} accept",
        ]
    return out


def static_lines(settings: Sequence[FilterSettings]) -> list[list[str]]:
    """What the static rules of filters drop, as lines of one more table, in pieces that fit a transaction each.

    Each filter has a chain that the first packet of a flow runs through until a rule matches. Port 53 is left out:
    whatever server is asked there, the run itself answers. Loopback is only matched by rules that name it.
    """
    out: list[list[str]] = []
    for number, one in enumerate(settings):
        if one.default != "drop" and all(rule.action != "drop" for rule in one.rules):
            continue
        outbound = [rule for rule in one.rules if rule.direction != "inbound"]
        local = [line for rule in outbound if _is_loopback(rule) for line in _static_rule(rule)]
        other = [line for rule in outbound if not _is_loopback(rule) for line in _static_rule(rule)]
        lines = ["ct state established,related accept", "tcp dport 53 accept", "udp dport 53 accept", *local]
        lines += ["ip daddr 127.0.0.0/8 accept", "ip6 daddr ::1 accept", *other]
        if one.default == "drop":
            lines += _DROPPED.values()
        head = f"chain filter{number} type filter hook output priority {_BEFORE_ALL + number} policy accept"
        out += [[head, *lines[start : start + _AT_ONCE]] for start in range(0, len(lines), _AT_ONCE)]
    return out


def _is_loopback(rule: NetworkRule) -> bool:
    # Who has rules has loaded it with them; a run without filters does not wait for it (decision 0006).
    from ipaddress import ip_network

    return bool(rule.remote) and ip_network(rule.remote, strict=False).is_loopback


def _static_rule(rule: NetworkRule) -> list[str]:
    where = f"{_destination(rule.remote)} " if rule.remote else ""
    lines = []
    for transport in ("tcp", "udp") if rule.transport == "any" else (rule.transport,):
        what = f"{transport} dport {rule.port}" if rule.port else f"meta l4proto {transport}"
        verdict = _DROPPED[transport].removeprefix(f"meta l4proto {transport} ") if rule.action == "drop" else "accept"
        lines.append(f"{where}{what} {verdict}")
    return lines
