"""Service bindings: what an SVCB or HTTPS record says of a service (RFC 9460)."""

from __future__ import annotations

from dataclasses import dataclass

from towpath.errors import PeerViolation
from towpath.wire import dns_message as m
from towpath.wire.svcb import Binding

__all__ = ["ServiceBinding"]

_MANDATORY, _ALPN, _NO_DEFAULT_ALPN, _PORT, _IPV4HINT, _ECH, _IPV6HINT = range(7)
_UNDERSTOOD = frozenset((_ALPN, _NO_DEFAULT_ALPN, _PORT, _IPV4HINT, _ECH, _IPV6HINT))
_KEYS = ("mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint")


@dataclass(frozen=True, slots=True)
class ServiceBinding:
    """One way to reach a service.

    `priority` 0 is an alias: ask for `target` instead; otherwise the smallest is preferred. `target` is the host whose
    addresses serve it (the owner's own name where the record says "."). `alpn` are the protocols it lists, without
    the default one of the scheme unless `no_default_alpn` is false. `port` is `None` where the scheme's holds.
    `mandatory` lists keys by name; `usable` says whether all of them are understood here.

    >>> ServiceBinding(1, "www.example.test", alpn=("h3",)).usable
    True
    """

    priority: int
    target: str
    alpn: tuple[str, ...] = ()
    no_default_alpn: bool = False
    port: int | None = None
    ipv4hint: tuple[str, ...] = ()
    ipv6hint: tuple[str, ...] = ()
    ech: bytes = b""
    mandatory: tuple[str, ...] = ()
    usable: bool = True

    @property
    def alias(self) -> bool:
        """Whether the record is in AliasMode (section 2.4.2)."""
        return self.priority == 0

    @classmethod
    def parse(cls, owner: str, data: bytes) -> ServiceBinding:
        """The binding in a record's data. Raises `PeerViolation` for what section 2.2 forbids."""
        raw = Binding.parse(data)
        priority = int.from_bytes(raw.head[:2], "big")
        target = m.text(_labels(raw.head[2:])) or owner
        if priority == 0:
            return cls(0, target)
        values = raw.parameters
        keys = [int.from_bytes(pair, "big") for pair in _pieces(values.get(_MANDATORY, b""), 2)]
        if _MANDATORY in keys or sorted(set(keys)) != keys or any(key not in values for key in keys):
            raise PeerViolation("dns-svcb", "mandatory keys that are missing, doubled or out of order")
        if _NO_DEFAULT_ALPN in values and (values[_NO_DEFAULT_ALPN] or _ALPN not in values):
            raise PeerViolation("dns-svcb", "no-default-alpn with a value or without alpn")
        port = values.get(_PORT)
        if port is not None and len(port) != 2:
            raise PeerViolation("dns-svcb", f"a port of {len(port)} bytes")
        hints = raw.hints()
        return cls(
            priority,
            target,
            _words(values[_ALPN]) if _ALPN in values else (),
            _NO_DEFAULT_ALPN in values,
            None if port is None else int.from_bytes(port, "big"),
            tuple(address for key, address in hints if key == _IPV4HINT),
            tuple(address for key, address in hints if key == _IPV6HINT),
            values.get(_ECH, b""),
            tuple(_KEYS[key] if key < len(_KEYS) else f"key{key}" for key in keys),
            _UNDERSTOOD.issuperset(keys),
        )

    def protocols(self, default: tuple[str, ...]) -> tuple[str, ...]:
        """The protocols the service speaks, with the scheme's `default` ones unless it says no (section 7.1.2)."""
        return self.alpn if self.no_default_alpn else tuple(dict.fromkeys((*self.alpn, *default)))


def _labels(wire: bytes) -> m.Labels:
    labels = []
    at = 0
    while wire[at]:
        labels.append(wire[at + 1 : at + 1 + wire[at]])
        at += 1 + wire[at]
    return tuple(labels)


def _pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def _words(data: bytes) -> tuple[str, ...]:
    found = []
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        if end == at + 1 or end > len(data):
            raise PeerViolation("dns-svcb", "a protocol of a length that lies")
        found.append(data[at + 1 : end].decode("latin-1"))
        at = end
    if not found:
        raise PeerViolation("dns-svcb", "alpn without a protocol")
    return tuple(found)
