"""An nftables table in one netlink batch, from the lines that `nft list` would print.

The text is the plan: a subset of nft(8)'s own language, so that a rule set can be read, compared and checked with the
`nft` program, while no program is started for it. The table of a run lives as long as its network namespace; an owner
would add nothing to that, and closing an owner's socket makes its process wait for every processor (10 to 16 ms). The
table of a whole host has one: see `towpath.linux.host_table`.

The queue is asked for through the xt target NFQUEUE first and by nft's own `queue` where that is missing: a kernel
without `queue` would start a program to look for its module, which takes as long as all the rest of a run's start.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence

from towpath.errors import HostFault, Misuse
from towpath.linux.netlink import (
    NETLINK_NETFILTER,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    NetlinkSocket,
    attr,
    be16,
    be32,
    error_of,
    message,
    messages,
    nested,
    text,
    u32,
)

_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 16, 17
_NEWTABLE, _NEWCHAIN, _NEWRULE, _DELRULE, _NEWSET, _NEWSETELEM, _DELSETELEM = 0, 3, 6, 8, 9, 12, 14
_OWNED = 2
_INET = 1
_HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
_POLICIES = {"drop": 0, "accept": 1}
_JUMP, _GOTO = -3, -4
_NETWORK, _TRANSPORT = 1, 2
_META_OIF = 5
_META_MARK, _META_SKUID, _META_NFPROTO, _META_L4PROTO = 3, 10, 15, 16
_CT_STATE, _CT_DIRECTION, _CT_MARK = 0, 1, 3
_CT_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8}
_L4 = {"tcp": 6, "udp": 17, "icmp": 1, "ipv6-icmp": 58}
_TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16}
_ICMP6_TYPES = {"echo-request": 128, "nd-router-solicit": 133, "nd-neighbor-solicit": 135, "nd-neighbor-advert": 136}
_ICMPX = {"no-route": 0, "port-unreachable": 1, "host-unreachable": 2, "admin-prohibited": 3}
_REGISTER, _SECOND_REGISTER = 1, 2
_ANONYMOUS, _CONSTANT, _WITH_TIMEOUT = 1, 2, 0x10
_TYPE_IPV4, _TYPE_IPV6, _TYPE_MARK = 7, 8, 19
_MEMBERS_AT_ONCE = 500


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


def _masked(mask: bytes, flipped: bytes = b"") -> bytes:
    """`register & mask ^ flipped`."""
    return _expression(
        "bitwise",
        attr(1, be32(_REGISTER)),
        attr(2, be32(_REGISTER)),
        attr(3, be32(len(mask))),
        nested(4, attr(1, mask)),
        nested(5, attr(1, flipped or bytes(len(mask)))),
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


def _load_address(family: str, side: str, prefix: int) -> bytes:
    size, offset = (4, 12) if family == "ip" else (16, 8)
    if side == "daddr":
        offset += size
    load = _nfproto(2 if family == "ip" else 10) + _payload(_NETWORK, offset, size)
    return load + _masked(_mask_of(prefix, size)) if prefix < 8 * size else load


def _address(family: str, side: str, literal: str) -> bytes:
    address, _, prefix = literal.partition("/")
    raw = _packed(family, address)
    return _load_address(family, side, int(prefix) if prefix else 8 * len(raw)) + _equals(raw)


def _packed(family: str, address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET if family == "ip" else socket.AF_INET6, address)


def _tproxy(family: str, target: str) -> bytes:
    address, _, port = target.rpartition(":")
    kind, number = (socket.AF_INET, 2) if family == "ip" else (socket.AF_INET6, 10)
    return (
        _nfproto(number)
        + _immediate(_REGISTER, socket.inet_pton(kind, address.strip("[]")))
        + _immediate(_SECOND_REGISTER, be16(int(port)))
        + _expression("tproxy", attr(1, be32(number)), attr(2, be32(_REGISTER)), attr(3, be32(_SECOND_REGISTER)))
    )


def _queue(number: int, *, xt: bool, bypass: bool = False) -> bytes:
    if xt:
        info = struct.pack("=HHHH", number, 1, int(bypass), 0)
        return _expression("target", attr(1, text("NFQUEUE")), attr(2, be32(3)), attr(3, info))
    return _expression("queue", attr(1, be16(number)), attr(2, be16(1)), attr(3, be16(int(bypass))))


class AnonymousSets:
    """The sets that one rule looks into, each a type and members; they belong to the rule and go with it.

    `before` is how many sets its batch has already.
    """

    def __init__(self, before: int = 0) -> None:
        self._before = before
        self.made: list[tuple[int, list[bytes]]] = []

    def add(self, kind: int, members: list[bytes]) -> bytes:
        """The expression that looks the register up in a new set."""
        self.made.append((kind, members))
        return _lookup("__set%d", self._before + len(self.made))


def _lookup(name: str, number: int = 0) -> bytes:
    there = attr(1, text(name)) + (attr(4, be32(number)) if number else b"")
    return _expression("lookup", there, attr(2, be32(_REGISTER)))


def _members(family: str, side: str, words: list[str], sets: AnonymousSets) -> tuple[bytes, list[str]]:
    """`{ ADDRESS[/PREFIX], ... }`: all of one length of prefix, so that one look-up by hash answers."""
    end = words.index("}")
    literals = [word.rstrip(",") for word in words[:end]]
    lengths = {literal.partition("/")[2] for literal in literals}
    if len(lengths) != 1:
        raise Misuse(f"a set of addresses with prefixes of several lengths: {sorted(lengths)}")
    packed = [_packed(family, literal.partition("/")[0]) for literal in literals]
    prefix = lengths.pop()
    load = _load_address(family, side, int(prefix) if prefix else 8 * len(packed[0]))
    kind = _TYPE_IPV4 if family == "ip" else _TYPE_IPV6
    return load + sets.add(kind, list(dict.fromkeys(packed))), words[end + 1 :]


def compile_rule(line: str, *, xt: bool = False, sets: AnonymousSets | None = None) -> bytes:
    """The expressions of one rule; the sets it looks into are added to `sets`.

    Raises `Misuse` at a word outside of the subset.
    """
    sets = AnonymousSets() if sets is None else sets
    words = line.split()
    out = b""
    while words:
        match words:
            case ["ct", "state", states, *rest]:
                mask = sum(_CT_STATES[state] for state in states.split(","))
                out += _ct(_CT_STATE) + _masked(u32(mask)) + _differs(u32(0))
            case ["ct", "direction", "reply", *rest]:
                out += _ct(_CT_DIRECTION) + _equals(b"\x01")
            case ["ct", "mark", "set", "ct", "mark", "&", mask, "|", value, *rest]:
                out += _ct(_CT_MARK) + _masked(_word(mask), _word(value))
                out += _expression("ct", attr(2, be32(_CT_MARK)), attr(4, be32(_REGISTER)))
            case ["meta", "mark", "set", "meta", "mark", "&", mask, *rest]:
                out += _meta(_META_MARK) + _masked(_word(mask))
                out += _expression("meta", attr(2, be32(_META_MARK)), attr(3, be32(_REGISTER)))
            case ["ct", "mark", "&", mask, "==", value, *rest]:
                out += _ct(_CT_MARK) + _masked(_word(mask)) + _equals(_word(value))
            case ["meta", "mark", "&", mask, "==", value, *rest]:
                out += _meta(_META_MARK) + _masked(_word(mask))
                out += _lookup(value[1:]) if value.startswith("@") else _equals(_word(value))
            case ["ct", "mark", "set", value, *rest]:
                out += _immediate(_REGISTER, u32(int(value)))
                out += _expression("ct", attr(2, be32(_CT_MARK)), attr(4, be32(_REGISTER)))
            case ["ct", "mark", value, *rest]:
                out += _ct(_CT_MARK) + _equals(u32(int(value)))
            case ["meta", "mark", value, *rest]:
                out += _meta(_META_MARK) + _equals(u32(int(value)))
            case ["meta", "skuid", uid, *rest]:
                out += _meta(_META_SKUID) + _equals(u32(int(uid)))
            case ["redirect", "to", port, *rest]:
                out += _immediate(_REGISTER, be16(int(port[1:])))
                out += _expression("redir", attr(1, be32(_REGISTER)))
            case ["oif", index, *rest]:
                out += _meta(_META_OIF) + _equals(u32(int(index)))
            case ["meta", "l4proto", name, *rest]:
                out += _l4proto(name)
            case [("ip" | "ip6") as family, ("saddr" | "daddr") as side, "{", *rest]:
                load, rest = _members(family, side, rest, sets)
                out += load
            case [("ip" | "ip6") as family, ("saddr" | "daddr") as side, literal, *rest]:
                out += _address(family, side, literal)
            case [("tcp" | "udp") as name, ("sport" | "dport") as side, port, *rest]:
                out += _l4proto(name) + _payload(_TRANSPORT, 0 if side == "sport" else 2, 2) + _equals(be16(int(port)))
            case ["log", "group", group, *rest]:
                out += _expression("log", attr(1, be16(int(group))), attr(4, be16(1)))
            case ["tcp", "flags", value, "/", mask_names, *rest]:
                mask = sum(_TCP_FLAGS[name] for name in mask_names.split(","))
                out += _l4proto("tcp") + _payload(_TRANSPORT, 13, 1) + _masked(bytes([mask]))
                out += _equals(bytes([_TCP_FLAGS[value]]))
            case ["icmp", "type", "echo-request", *rest]:
                out += _nfproto(2) + _l4proto("icmp") + _payload(_TRANSPORT, 0, 1) + _equals(b"\x08")
            case ["icmpv6", "type", kind, *rest] if kind in _ICMP6_TYPES:
                out += _nfproto(10) + _l4proto("ipv6-icmp") + _payload(_TRANSPORT, 0, 1)
                out += _equals(bytes([_ICMP6_TYPES[kind]]))
            case ["meta", "nfproto", ("ipv4" | "ipv6") as family, *rest]:
                out += _nfproto(2 if family == "ipv4" else 10)
            case ["tproxy", ("ip" | "ip6") as family, "to", target, *rest]:
                out += _tproxy(family, target)
            case ["queue", "num", number, "bypass", *rest]:
                out += _queue(int(number), xt=xt, bypass=True)
            case ["queue", "num", number, *rest]:
                out += _queue(int(number), xt=xt)
            case ["reject", "with", "tcp", "reset", *rest]:
                out += _expression("reject", attr(1, be32(1)), attr(2, b"\0"))
            case ["reject", "with", "icmpx", code, *rest]:
                out += _expression("reject", attr(1, be32(2)), attr(2, bytes([_ICMPX[code]])))
            case [("jump" | "goto") as name, chain, *rest]:
                out += _verdict(_JUMP if name == "jump" else _GOTO, chain)
            case [("accept" | "drop") as name, *rest]:
                out += _verdict(_POLICIES[name])
            case _:
                raise Misuse(f"not in the subset of nft's language: {' '.join(words)!r} in {line!r}")
        words = rest
    return out


def _word(value: str) -> bytes:
    """A mark, as the kernel keeps it: in the machine's order of bytes."""
    return u32(int(value, 0))


class Batch:
    """One transaction of nf_tables: all of it happens or nothing.

    Lines are ``chain NAME [type T hook H priority N policy P]``, ``set NAME timeout SECONDS`` (of marks),
    ``flush CHAIN``, or a rule of the last chain named.
    """

    def __init__(self, table: str, first: int, *, xt: bool) -> None:
        self._table = attr(1, text(table))
        self._xt = xt
        self._sequence = first
        self._sets = 0
        self._control = struct.pack(">BBH", 0, 0, _SUBSYSTEM)
        self._out = [message(_BATCH_BEGIN, NLM_F_REQUEST, first, self._control)]

    @property
    def last(self) -> int:
        """The highest sequence number it will have used."""
        return self._sequence + 1

    def add(self, kind: int, body: bytes, *, create: bool = True) -> None:
        self._sequence += 1
        flags = NLM_F_REQUEST | (NLM_F_CREATE | NLM_F_APPEND if create else 0)
        head = struct.pack(">BBH", _INET, 0, 0)
        self._out.append(message(_SUBSYSTEM << 8 | kind, flags, self._sequence, head + body))

    def make(self, *, owned: bool) -> None:
        """The table itself; one that is owned goes with the socket that sends this."""
        self.add(_NEWTABLE, self._table + (attr(2, be32(_OWNED)) if owned else b""))

    def lines(self, lines: Sequence[str]) -> None:
        # Chains first: a rule may jump to one that stands further down.
        for line in lines:
            self._declare(line.split())
        chain = ""
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "chain":
                chain = rest.split()[0]
            elif word not in ("set", "flush"):
                self._rule(chain, line)

    def _declare(self, words: list[str]) -> None:
        match words:
            case ["flush", name]:
                self.add(_DELRULE, self._table + attr(2, text(name)), create=False)
            case ["chain", name]:
                self.add(_NEWCHAIN, self._table + attr(3, text(name)))
            case ["chain", name, "type", kind, "hook", hook, "priority", priority, "policy", policy]:
                where = nested(4, attr(1, be32(_HOOKS[hook])), attr(2, struct.pack(">i", int(priority))))
                head = self._table + attr(3, text(name)) + where
                self.add(_NEWCHAIN, head + attr(5, be32(_POLICIES[policy])) + attr(7, text(kind)))
            case ["set", name, "timeout", seconds]:
                milliseconds = struct.pack(">Q", int(seconds) * 1000)
                self._set(name, _TYPE_MARK, 4, _WITH_TIMEOUT, attr(11, milliseconds))

    def _set(self, name: str, kind: int, size: int, flags: int, more: bytes = b"") -> int:
        self._sets += 1
        head = self._table + attr(2, text(name)) + attr(3, be32(flags))
        self.add(_NEWSET, head + attr(4, be32(kind)) + attr(5, be32(size)) + attr(10, be32(self._sets)) + more)
        return self._sets

    def member(self, name: str, mark: int, *, renew: bool) -> None:
        """Adds a mark to a set with a timeout; `renew` takes out the one that must be there first."""
        there = self._table + attr(2, text(name)) + nested(3, nested(1, nested(1, attr(1, u32(mark)))))
        if renew:
            self.add(_DELSETELEM, there, create=False)
        self.add(_NEWSETELEM, there)

    def _rule(self, chain: str, line: str) -> None:
        sets = AnonymousSets(self._sets)
        rule = compile_rule(line, xt=self._xt, sets=sets)
        for kind, members in sets.made:
            number = self._set("__set%d", kind, len(members[0]), _ANONYMOUS | _CONSTANT)
            for at in range(0, len(members), _MEMBERS_AT_ONCE):
                elements = (nested(1, nested(1, attr(1, one))) for one in members[at : at + _MEMBERS_AT_ONCE])
                head = self._table + attr(2, text("__set%d")) + attr(4, be32(number))
                self.add(_NEWSETELEM, head + nested(3, *elements))
        self.add(_NEWRULE, self._table + attr(2, text(chain)) + attr(4 | 0x8000, rule))

    def send(self, netlink: NetlinkSocket, operation: str) -> None:
        """Raises `HostFault` with the first thing that the kernel refuses; then nothing has changed."""
        self._out.append(message(_BATCH_END, NLM_F_REQUEST, self.last, self._control))
        netlink.socket.send(b"".join(self._out))
        # A transaction is over when it has been sent, and what is said of it lies there. Only refusals are told one by
        # one: a thousand acknowledgements would not fit.
        refused: HostFault | None = None
        while True:
            try:
                data = netlink.socket.recv(1 << 17, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            for kind, flags, _sequence, payload in messages(data):
                code, words = error_of(flags, payload) if kind == NLMSG_ERROR else (0, "")
                if code and refused is None:
                    refused = HostFault(operation, code, words or os.strerror(code))
        if refused is not None:
            raise refused


def make_table(name: str, lines: Sequence[str]) -> None:
    """Makes an inet table from `lines` in one transaction, in the network namespace of this process.

    A line is ``chain NAME [type T hook H priority N policy P]`` or a rule of the last chain named.
    Raises `HostFault` when the kernel refuses the rules.
    """
    for xt in (True, False):
        with NetlinkSocket(NETLINK_NETFILTER) as netlink:
            batch = Batch(name, 1, xt=xt)
            batch.make(owned=False)
            batch.lines(lines)
            try:
                batch.send(netlink, f"load the table {name}")
            except HostFault as fault:
                if not xt or fault.errno != errno.ENOENT:
                    raise
            else:
                return
