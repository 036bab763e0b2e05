"""Addresses that a rule must name before anyone dials them, however they are dressed (RFC 6890, 6052, 3056, 4380).

The relay never dials a local address unless a rule names it, and a DNS answer that holds one for a public name is
dropped: both stop a name from outside that points inside.
"""

from __future__ import annotations

from towpath.policy.host import number

__all__ = ["embedded", "guarded", "is_public_name", "local_kind", "private_kind"]


def _table(*rows: tuple[int, int, int, str]) -> list[tuple[int, int, str]]:
    """`(width, first bits, how many, kind)` as `(shift, first bits shifted, kind)`."""
    return [(width - bits, value, kind) for width, value, bits, kind in rows]


_LOCAL_4 = _table(
    (32, 0x00, 8, "unspecified"),
    (32, 0x7F, 8, "loopback"),
    (32, 0xA9FE, 16, "link-local"),
    (32, 0xFFFFFFFF, 32, "broadcast"),
    (32, 0xE, 4, "multicast"),
)
_LOCAL_6 = _table(
    (128, 0, 128, "unspecified"),
    (128, 1, 128, "loopback"),
    (128, 0xFE80 >> 6, 10, "link-local"),
    (128, 0xFF, 8, "multicast"),
)
_PRIVATE_4 = _table(
    (32, 10, 8, "private"),
    (32, 0xAC1, 12, "private"),
    (32, 0xC0A8, 16, "private"),
    (32, 0x6440 >> 6, 10, "shared"),
)
_PRIVATE_6 = _table((128, 0xFC >> 1, 7, "unique local"), (128, 0xFEC0 >> 6, 10, "site-local"))

_PRIVATE_SUFFIXES = frozenset(
    ("localhost", "local", "internal", "lan", "home", "corp", "private", "intranet", "home.arpa", "localdomain")
)


def embedded(value: int) -> tuple[int, ...]:
    """The IPv4 addresses that an IPv6 address may lead to: mapped, compatible, translated, NAT64, 6to4, Teredo."""
    low = value & 0xFFFFFFFF
    top = value >> 32
    if (top in (0, 0xFFFF, 0xFFFF0000) and value > 1) or top == 0x0064_FF9B << 64:
        return (low,)
    if value >> 80 == 0x0064_FF9B_0001:
        # Within this /48 the address lies around bits 64 to 71 (RFC 6052 section 2.2), or last where a /96 was carved.
        return _routable((value >> 64 & 0xFFFF) << 16 | value >> 40 & 0xFFFF, low)
    if value >> 112 == 0x2002:
        return (value >> 80 & 0xFFFFFFFF,)
    if value >> 96 == 0x2001_0000:
        return _routable(value >> 64 & 0xFFFFFFFF, ~low & 0xFFFFFFFF)
    return ()


def _routable(*values: int) -> tuple[int, ...]:
    """Of several places where an address may lie, those that are not just empty."""
    return tuple(value for value in values if value >> 24)


def _kind(address: str, four: list[tuple[int, int, str]], six: list[tuple[int, int, str]]) -> str | None:
    known = number(address)
    if known is None:
        return None
    version, value = known
    if version == 6:
        for shift, prefix, kind in six:
            if value >> shift == prefix:
                return kind
    for inner in (value,) if version == 4 else embedded(value):
        for shift, prefix, kind in four:
            if inner >> shift == prefix:
                return kind
    return None


def local_kind(address: str) -> str | None:
    """ "loopback", "unspecified", "link-local", "multicast" or "broadcast", also inside an IPv6 address; else `None`.

    >>> local_kind("::ffff:127.0.0.1"), local_kind("64:ff9b::a9fe:a9fe"), local_kind("192.0.2.1")
    ('loopback', 'link-local', None)
    """
    return _kind(address, _LOCAL_4, _LOCAL_6)


def guarded(kind: str, address: str, transport: str, port: int) -> tuple[str, str]:
    """Why a local address is refused, and the option that would open it. `kind` is `local_kind`'s or a phrase."""
    what = kind if " " in kind else f"a {kind} address"
    if kind == "loopback":
        return f"{address} is {what}: a run has a loopback of its own", f"--allow-local {port or 'PORT'}"
    shown = f"[{address}]" if ":" in address else address
    hint = f"--allow icmp://{shown}" if transport == "icmp" else f"--allow {transport}://{shown}:{port}"
    return f"{address} is {what}, which only a rule that names it opens", hint


def private_kind(address: str) -> str | None:
    """ "private", "shared" (100.64/10), "unique local" or "site-local", also inside an IPv6 address; else `None`.

    The ranges for documentation count as public: examples and tests stand on them.
    """
    return _kind(address, _PRIVATE_4, _PRIVATE_6)


def is_public_name(name: str) -> bool:
    """Whether everybody may resolve a name: not one label, not under a suffix that only a local network answers for.

    `.test` counts as public: examples and tests stand on it.
    """
    labels = name.lower().removesuffix(".").split(".")
    return len(labels) > 1 and labels[-1] not in _PRIVATE_SUFFIXES and ".".join(labels[-2:]) not in _PRIVATE_SUFFIXES
