"""What a rule's HOST may be, and what it matches: a name, a suffix, an address, a prefix, or anything."""

from __future__ import annotations

from typing import NamedTuple

from towpath.wire.address import pack, unpack

__all__ = ["Host", "bracketed", "number"]

ANY, NAME, SUFFIX, ADDRESS = "any", "name", "suffix", "address"


class Host(NamedTuple):
    """`kind` is "any", "name", "suffix" (`name` without ``*.``) or "address" (`version`, `value`, `bits` of a prefix).

    A single address is a prefix of 32 or 128 bits.
    """

    kind: str
    name: str = ""
    version: int = 0
    value: int = 0
    bits: int = 0

    @property
    def named(self) -> bool:
        """Whether it is a name or a suffix, so that only names are evidence for it."""
        return self.kind == NAME or self.kind == SUFFIX

    def matches_name(self, name: str) -> bool:
        """For a name as `wire.dns` writes it. A suffix matches at any depth below itself; an address matches none."""
        if self.kind == NAME:
            return name == self.name
        if self.kind == SUFFIX:
            return name.endswith(self.name) and name[: -len(self.name)].endswith(".")
        return self.kind == ANY

    def matches_any_name(self, names: tuple[str, ...]) -> bool:
        return any(self.matches_name(name) for name in names)

    def matches_address(self, version: int, value: int) -> bool:
        """For an address as `number` gives it; names match no address."""
        if self.kind == ANY:
            return True
        if self.kind != ADDRESS or self.version != version:
            return False
        shift = (32 if version == 4 else 128) - self.bits
        return value >> shift == self.value >> shift

    @property
    def text(self) -> str:
        """As a rule writes it, without brackets."""
        if self.kind == ANY:
            return "*"
        if self.kind == NAME:
            return self.name
        if self.kind == SUFFIX:
            return f"*.{self.name}"
        size = 4 if self.version == 4 else 16
        address = unpack(self.value.to_bytes(size, "big"))
        return address if self.bits == 8 * size else f"{address}/{self.bits}"


def number(address: str) -> tuple[int, int] | None:
    """Version and value of an address; an IPv4-mapped one is the IPv4 address that the kernel would use."""
    packed = pack(address)
    if packed is None:
        return None
    if len(packed) == 4:
        return 4, int.from_bytes(packed, "big")
    value = int.from_bytes(packed, "big")
    if value >> 32 == 0xFFFF:
        return 4, value & 0xFFFFFFFF
    return 6, value


def bracketed(host: str) -> str:
    """A host as it stands before a port."""
    return f"[{host}]" if ":" in host else host
