"""IPv4 and IPv6 addresses: text to bytes and back (RFC 4291 section 2.2, RFC 5952).

The text is the one that inet_ntop(3) writes, so that an address from a DNS answer and one from a packet are the same
string. Only the strict forms are read: four decimal numbers without leading zeros, no zone.
"""

from __future__ import annotations

__all__ = ["pack", "unpack"]

_HEX = frozenset("0123456789abcdefABCDEF")


def unpack(packed: bytes) -> str:
    """The text of 4 or 16 bytes; any other length is a `ValueError`."""
    if len(packed) == 4:
        return f"{packed[0]}.{packed[1]}.{packed[2]}.{packed[3]}"
    if len(packed) != 16:
        raise ValueError(f"an address has 4 or 16 bytes, not {len(packed)}")
    groups = [packed[at] << 8 | packed[at + 1] for at in range(0, 16, 2)]
    start, length = _longest_zeros(groups)
    if start == 0 and (length == 6 or (length == 5 and groups[5] == 0xFFFF)):
        return ("::ffff:" if length == 5 else "::") + unpack(packed[12:])
    if length < 2:
        return ":".join(f"{group:x}" for group in groups)
    before = ":".join(f"{group:x}" for group in groups[:start])
    after = ":".join(f"{group:x}" for group in groups[start + length :])
    return f"{before}::{after}"


def _longest_zeros(groups: list[int]) -> tuple[int, int]:
    best_start, best_length, start = -1, 0, -1
    for at, group in enumerate([*groups, 1]):
        if group:
            if start >= 0 and at - start > best_length:
                best_start, best_length = start, at - start
            start = -1
        elif start < 0:
            start = at
    return best_start, best_length


def pack(text: str) -> bytes | None:
    """The 4 or 16 bytes of an address, or `None` when the text is not one."""
    if ":" in text:
        return _pack6(text)
    return _pack4(text)


def _pack4(text: str) -> bytes | None:
    parts = text.split(".")
    if len(parts) != 4:
        return None
    numbers = []
    for part in parts:
        if not (part.isascii() and part.isdigit()) or len(part) > 3 or (part[0] == "0" and part != "0"):
            return None
        number = int(part)
        if number > 255:
            return None
        numbers.append(number)
    return bytes(numbers)


def _pack6(text: str) -> bytes | None:
    if text.count("::") > 1 or ":::" in text or len(text) > 45:
        return None
    head, gap, tail = text.partition("::")
    left = _groups(head, last=not gap)
    right = _groups(tail, last=True)
    if left is None or right is None:
        return None
    missing = 16 - len(left) - len(right)
    if (gap and missing < 2) or (not gap and missing):
        return None
    return left + bytes(missing) + right


def _groups(text: str, *, last: bool) -> bytes | None:
    """The bytes of some groups between colons; `last` when a dotted quad may end them."""
    if not text:
        return b""
    found = b""
    parts = text.split(":")
    for at, part in enumerate(parts):
        if last and at == len(parts) - 1 and "." in part:
            quad = _pack4(part)
            if quad is None:
                return None
            found += quad
        elif 0 < len(part) <= 4 and _HEX.issuperset(part):
            found += int(part, 16).to_bytes(2, "big")
        else:
            return None
    return found
