"""The rule set of a run, as text in nft(8)'s language. Pure: the same arguments give the same lines.

A packet meets the output chain where its destination is still the one the program asked for. What is undecided goes to
the queue; the verdict comes back as a mark and the packet runs through the chain again. Allowed flows find every
address on the loopback device (AnyIP) and are taken there by the transparent listeners. What nothing took is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["ALLOWED", "HOST_UNREACHABLE", "NO_ROUTE", "PROHIBITED", "REFUSED", "lines"]

ALLOWED, REFUSED, PROHIBITED, HOST_UNREACHABLE, NO_ROUTE = 1, 2, 3, 4, 5
"""Marks: go on; as if nothing listened (RST, port unreachable); forbidden by policy; no host; no network."""

_BEFORE_NAT = -150
"""After connection tracking (-200), before NAT (-100): connections are known, destinations still the asked ones."""


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
