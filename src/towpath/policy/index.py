"""Finds the few rules that may speak of a flow or a name among very many, without walking over them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from towpath.policy.flow import Flow
from towpath.policy.guard import embedded
from towpath.policy.rule import ANY_PORT, BY_PORT, OTHER_PORT, Rule, readable_slots, slots

__all__ = ["Entry", "Index"]

Entry = tuple[int, Rule]
"""A rule with its place in the order of all rules, from 0."""
_Bucket = dict[tuple[str, int], list[Entry]]
_Networks = dict[int, dict[int, dict[int, _Bucket]]]
_NEAR = 64


class Index:
    """All rules by host, then by transport and port. Built once; a question costs the names it is about."""

    __slots__ = ("_asked", "_dialled", "_hosts", "_networks", "_watch")

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._hosts: dict[str, _Bucket] = {}
        self._networks: _Networks = {4: {}, 6: {}}
        self._watch: dict[tuple[str, int], list[Entry]] = {}
        self._asked: dict[str, Entry] = {}
        self._dialled: dict[tuple[int, int, int], Entry] = {}
        for entry in enumerate(rules):
            self._add(entry)

    def _add(self, entry: Entry) -> None:
        rule = entry[1]
        host = rule.host
        if host.version:
            shift = (32 if host.version == 4 else 128) - host.bits
            bucket = self._networks[host.version].setdefault(shift, {}).setdefault(host.value >> shift, {})
            if rule.action == "allow" and host.bits:
                self._dialled.setdefault((host.version, shift, host.value >> shift), entry)
        else:
            bucket = self._hosts.setdefault(host.text, {})
            if rule.action == "allow" or (rule.schemes is None and rule.port is None and rule.by is None):
                self._asked.setdefault(host.text, entry)
        for slot in slots(rule):
            bucket.setdefault(slot, []).append(entry)
        if rule.action == "deny" and host.named:
            for slot in readable_slots(rule):
                watched = self._watch.setdefault(slot, [])
                if not watched or watched[-1][1].by is not None:
                    watched.append(entry)  # the first for every program settles that the bytes are looked at

    def for_name(self, name: str) -> Rule | None:
        """The first rule that decides whether a name may be asked for: an allow, or a deny of all there is at it."""
        found = [entry for key in _keys(name) if (entry := self._asked.get(key)) is not None]
        return min(found)[1] if found else None

    def for_address(self, version: int, value: int) -> Rule | None:
        """The first allow rule that names an address itself, by a prefix longer than /0."""
        found = [
            entry
            for shift in self._networks[version]
            if (entry := self._dialled.get((version, shift, value >> shift))) is not None
        ]
        return min(found)[1] if found else None

    def for_flow(self, flow: Flow) -> list[Entry]:
        """The rules that may decide a flow, in order."""
        slot = (flow.transport, flow.port)
        keys = [slot, (flow.transport, ANY_PORT)]
        if slot not in BY_PORT:
            keys.append((flow.transport, OTHER_PORT))
        found = [entry for bucket in self._buckets(flow) for key in keys for entry in bucket.get(key, ())]
        if flow.scheme is None:
            found += self._watch.get(slot, ())
        elif flow.name is not None:
            found += self._about(flow.name, keys)
        if flow.number[0] == 6:
            for inner in embedded(flow.number[1]):
                found += self._disguised(inner, keys)
        return sorted(set(found)) if len(found) > 1 else found

    def near(self, flow: Flow) -> list[Rule]:
        """Allow rules for the flow's host at whatever port: what a reason for refusing is made of. At most 64."""
        found: list[Entry] = []
        for bucket in self._buckets(flow):
            for entries in bucket.values():
                found += [entry for entry in entries if entry[1].action == "allow"]
                if len(found) > _NEAR:
                    break
        return [rule for _, rule in sorted(set(found))]

    def _buckets(self, flow: Flow) -> Iterator[_Bucket]:
        hosts = self._hosts
        if "*" in hosts:
            yield hosts["*"]
        version, value = flow.number
        for shift, networks in self._networks.get(version, {}).items():
            bucket = networks.get(value >> shift)
            if bucket is not None:
                yield bucket
        for name in flow.names:
            for key in _keys(name):
                bucket = hosts.get(key)
                if bucket is not None and key != "*":
                    yield bucket

    def _about(self, name: str, keys: list[tuple[str, int]]) -> Iterator[Entry]:
        """What is said of the name in the bytes: it may be denied, or allowed but never resolved."""
        for host in _keys(name):
            bucket = self._hosts.get(host)
            if bucket is not None:
                yield from (entry for key in keys for entry in bucket.get(key, ()))

    def _disguised(self, value: int, keys: list[tuple[str, int]]) -> Iterator[Entry]:
        """Denials of an IPv4 address that an IPv6 one leads to; an allow must name what is dialled."""
        for shift, networks in self._networks[4].items():
            bucket = networks.get(value >> shift)
            if bucket is not None:
                yield from (entry for key in keys for entry in bucket.get(key, ()) if entry[1].action == "deny")


def _keys(name: str) -> Iterator[str]:
    """Every HOST that matches a name, as rules write it."""
    yield name
    rest = name
    while True:
        _, dot, rest = rest.partition(".")
        if not dot:
            break
        yield "*." + rest
    yield "*"
