"""An nftables table in one netlink batch, from the lines that `nft list` would print.

The text is the plan: a subset of nft(8)'s own language, so that a rule set can be read, compared and checked with the
`nft` program, while no program is started for it. The table lives as long as its network namespace; an owner flag would
add nothing to that, and closing an owner's socket makes its process wait for every processor (10 to 16 ms).

The queue is asked for through the xt target NFQUEUE first and by nft's own `queue` where that is missing: a kernel
without `queue` would start a program to look for its module, which takes as long as all the rest of a run's start.
"""

from __future__ import annotations

import errno
import socket
import struct

from towpath.errors import HostFault, Misuse
from towpath.linux.netlink import (
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    NetlinkSocket,
    attr,
    be16,
    be32,
    message,
    nested,
    text,
    u32,
)

_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 16, 17
_NEWTABLE, _NEWCHAIN, _NEWRULE = 0, 3, 6
_INET = 1
_HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
_POLICIES = {"drop": 0, "accept": 1}
_JUMP = -3
_NETWORK, _TRANSPORT = 1, 2
_META_MARK, _META_NFPROTO, _META_L4PROTO = 3, 15, 16
_CT_STATE, _CT_DIRECTION, _CT_MARK = 0, 1, 3
_CT_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8}
_L4 = {"tcp": 6, "udp": 17, "icmp": 1, "ipv6-icmp": 58}
_TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16}
_ICMPX = {"no-route": 0, "port-unreachable": 1, "host-unreachable": 2, "admin-prohibited": 3}
_REGISTER, _SECOND_REGISTER = 1, 2


def _expression(name: str, *data: bytes) -> bytes:
    return nested(1, attr(1, text(name)), nested(2, *data))


def _meta(key: int) -> bytes:
    return _expression("meta", attr(2, be32(key)), attr(1, be32(_REGISTER)))


def _ct(key: int) -> bytes:
    return _expression("ct", attr(2, be32(key)), attr(1, be32(_REGISTER)))


def _payload(base: int, offset: int, length: int) -> bytes:
    return _expression(
        "payload", attr(1, be32(_REGISTER)), attr(2, be32(base)), attr(3, be32(offset)), attr(4, be32(length))
    )


def _equals(value: bytes) -> bytes:
    return _expression("cmp", attr(1, be32(_REGISTER)), attr(2, be32(0)), nested(3, attr(1, value)))


def _differs(value: bytes) -> bytes:
    return _expression("cmp", attr(1, be32(_REGISTER)), attr(2, be32(1)), nested(3, attr(1, value)))


def _masked(mask: bytes) -> bytes:
    return _expression(
        "bitwise",
        attr(1, be32(_REGISTER)),
        attr(2, be32(_REGISTER)),
        attr(3, be32(len(mask))),
        nested(4, attr(1, mask)),
        nested(5, attr(1, bytes(len(mask)))),
    )


def _immediate(register: int, value: bytes) -> bytes:
    return _expression("immediate", attr(1, be32(register)), nested(2, attr(1, value)))


def _verdict(code: int, chain: str | None = None) -> bytes:
    inner = attr(1, struct.pack(">i", code)) + (attr(2, text(chain)) if chain else b"")
    return _expression("immediate", attr(1, be32(0)), nested(2, nested(2, inner)))


def _l4proto(name: str) -> bytes:
    return _meta(_META_L4PROTO) + _equals(bytes([_L4[name]]))


def _nfproto(family: int) -> bytes:
    return _meta(_META_NFPROTO) + _equals(bytes([family]))


def _mask_of(prefix: int, size: int) -> bytes:
    return ((1 << 8 * size) - (1 << 8 * size - prefix)).to_bytes(size, "big")


def _destination(family: int, literal: str) -> bytes:
    address, _, prefix = literal.partition("/")
    raw = socket.inet_pton(family, address)
    load = _nfproto(2 if family == socket.AF_INET else 10) + _payload(_NETWORK, 16 if len(raw) == 4 else 24, len(raw))
    if prefix:
        load += _masked(_mask_of(int(prefix), len(raw)))
    return load + _equals(raw)


def _tproxy(family: str, target: str) -> bytes:
    address, _, port = target.rpartition(":")
    kind, number = (socket.AF_INET, 2) if family == "ip" else (socket.AF_INET6, 10)
    return (
        _nfproto(number)
        + _immediate(_REGISTER, socket.inet_pton(kind, address.strip("[]")))
        + _immediate(_SECOND_REGISTER, be16(int(port)))
        + _expression("tproxy", attr(1, be32(number)), attr(2, be32(_REGISTER)), attr(3, be32(_SECOND_REGISTER)))
    )


def _queue(number: int, *, xt: bool) -> bytes:
    if xt:
        info = struct.pack("=HHHH", number, 1, 0, 0)
        return _expression("target", attr(1, text("NFQUEUE")), attr(2, be32(3)), attr(3, info))
    return _expression("queue", attr(1, be16(number)), attr(2, be16(1)), attr(3, be16(0)))


def compile_rule(line: str, *, xt: bool = False) -> bytes:
    """The expressions of one rule. Raises `Misuse` at a word outside of the subset."""
    words = line.split()
    out = b""
    while words:
        match words:
            case ["ct", "state", states, *rest]:
                mask = sum(_CT_STATES[state] for state in states.split(","))
                out += _ct(_CT_STATE) + _masked(u32(mask)) + _differs(u32(0))
            case ["ct", "direction", "reply", *rest]:
                out += _ct(_CT_DIRECTION) + _equals(b"\x01")
            case ["ct", "mark", "set", value, *rest]:
                out += _immediate(_REGISTER, u32(int(value)))
                out += _expression("ct", attr(2, be32(_CT_MARK)), attr(4, be32(_REGISTER)))
            case ["ct", "mark", value, *rest]:
                out += _ct(_CT_MARK) + _equals(u32(int(value)))
            case ["meta", "mark", value, *rest]:
                out += _meta(_META_MARK) + _equals(u32(int(value)))
            case ["meta", "l4proto", name, *rest]:
                out += _l4proto(name)
            case ["ip", "daddr", literal, *rest]:
                out += _destination(socket.AF_INET, literal)
            case ["ip6", "daddr", literal, *rest]:
                out += _destination(socket.AF_INET6, literal)
            case [("tcp" | "udp") as name, "dport", port, *rest]:
                out += _l4proto(name) + _payload(_TRANSPORT, 2, 2) + _equals(be16(int(port)))
            case ["tcp", "flags", value, "/", mask_names, *rest]:
                mask = sum(_TCP_FLAGS[name] for name in mask_names.split(","))
                out += _l4proto("tcp") + _payload(_TRANSPORT, 13, 1) + _masked(bytes([mask]))
                out += _equals(bytes([_TCP_FLAGS[value]]))
            case ["icmp", "type", "echo-request", *rest]:
                out += _nfproto(2) + _l4proto("icmp") + _payload(_TRANSPORT, 0, 1) + _equals(b"\x08")
            case ["icmpv6", "type", "echo-request", *rest]:
                out += _nfproto(10) + _l4proto("ipv6-icmp") + _payload(_TRANSPORT, 0, 1) + _equals(b"\x80")
            case ["tproxy", ("ip" | "ip6") as family, "to", target, *rest]:
                out += _tproxy(family, target)
            case ["queue", "num", number, *rest]:
                out += _queue(int(number), xt=xt)
            case ["reject", "with", "tcp", "reset", *rest]:
                out += _expression("reject", attr(1, be32(1)), attr(2, b"\0"))
            case ["reject", "with", "icmpx", code, *rest]:
                out += _expression("reject", attr(1, be32(2)), attr(2, bytes([_ICMPX[code]])))
            case ["jump", chain, *rest]:
                out += _verdict(_JUMP, chain)
            case [("accept" | "drop") as name, *rest]:
                out += _verdict(_POLICIES[name])
            case _:
                raise Misuse(f"not in the subset of nft's language: {' '.join(words)!r} in {line!r}")
        words = rest
    return out


def _batch(table: str, lines: list[str], first: int, *, xt: bool) -> tuple[bytes, set[int]]:
    sequence = first
    family = struct.pack(">BBH", _INET, 0, 0)
    control = struct.pack(">BBH", 0, 0, _SUBSYSTEM)
    out = message(_BATCH_BEGIN, NLM_F_REQUEST, sequence, control)
    awaited = set()

    def add(kind: int, body: bytes) -> None:
        nonlocal sequence, out
        sequence += 1
        awaited.add(sequence)
        out += message(
            _SUBSYSTEM << 8 | kind, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK | 0x800, sequence, family + body
        )

    add(_NEWTABLE, attr(1, text(table)))
    chain = ""
    # Chains first: a rule may jump to one that stands further down.
    for line in lines:
        match line.split():
            case ["chain", name]:
                add(_NEWCHAIN, attr(1, text(table)) + attr(3, text(name)))
            case ["chain", name, "type", kind, "hook", hook, "priority", priority, "policy", policy]:
                where = nested(4, attr(1, be32(_HOOKS[hook])), attr(2, struct.pack(">i", int(priority))))
                head = attr(1, text(table)) + attr(3, text(name)) + where
                add(_NEWCHAIN, head + attr(5, be32(_POLICIES[policy])) + attr(7, text(kind)))
    for line in lines:
        if line.startswith("chain "):
            chain = line.split()[1]
        else:
            head = attr(1, text(table)) + attr(2, text(chain))
            add(_NEWRULE, head + attr(4 | 0x8000, compile_rule(line, xt=xt)))
    sequence += 1
    return out + message(_BATCH_END, NLM_F_REQUEST, sequence, control), awaited


def make_table(name: str, lines: list[str]) -> None:
    """Makes an inet table from `lines` in one transaction, in the network namespace of this process.

    A line is ``chain NAME [type T hook H priority N policy P]`` or a rule of the last chain named.
    Raises `HostFault` when the kernel refuses the rules.
    """
    for xt in (True, False):
        with NetlinkSocket(NETLINK_NETFILTER) as netlink:
            batch, awaited = _batch(name, lines, 1, xt=xt)
            netlink.socket.send(batch)
            try:
                netlink.await_acks(f"load the table {name}", awaited)
            except HostFault as fault:
                if not xt or fault.errno != errno.ENOENT:
                    raise
            else:
                return
