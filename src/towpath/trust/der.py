"""The few DER structures that are read by hand, because the parsed certificate does not show them as they were sent.

Definite, minimal lengths only (X.690 §10.1), and every read is bounded by the enclosing element.
"""

from __future__ import annotations

from typing import NamedTuple

from towpath.errors import PeerViolation

__all__ = [
    "BIT_STRING",
    "INTEGER",
    "OBJECT_IDENTIFIER",
    "OCTET_STRING",
    "SEQUENCE",
    "Element",
    "children",
    "element",
    "octets",
]

INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
SEQUENCE = 0x30

MAX_CHILDREN = 100_000


class Element(NamedTuple):
    """One tag-length-value: where its header begins, where its contents begin and where they stop (offsets)."""

    tag: int
    start: int
    body: int
    stop: int


def element(data: bytes, offset: int, end: int) -> Element:
    """The element at `offset`, which must lie wholly before `end`; raises `PeerViolation("der")`."""
    if end > len(data) or offset < 0 or offset + 2 > end:
        raise PeerViolation("der", "an element is cut short")
    tag = data[offset]
    if tag & 0x1F == 0x1F:
        raise PeerViolation("der", "a tag number above 30")
    length = data[offset + 1]
    body = offset + 2
    if length >= 0x80:
        octet_count = length & 0x7F
        if not 1 <= octet_count <= 4 or body + octet_count > end:
            raise PeerViolation("der", "a length that DER does not allow")
        length = int.from_bytes(data[body : body + octet_count], "big")
        if length < 0x80 or length >> (8 * (octet_count - 1)) == 0:
            raise PeerViolation("der", "a length that is not the shortest")
        body += octet_count
    if body + length > end:
        raise PeerViolation("der", "an element runs past its container")
    return Element(tag, offset, body, body + length)


def children(data: bytes, parent: Element) -> list[Element]:
    """The elements inside a constructed element, in order."""
    found: list[Element] = []
    offset = parent.body
    while offset < parent.stop:
        child = element(data, offset, parent.stop)
        found.append(child)
        offset = child.stop
        if len(found) > MAX_CHILDREN:
            raise PeerViolation("der", f"more than {MAX_CHILDREN} elements in one")
    return found


def octets(data: bytes) -> bytes:
    """The contents of `data`, which must be one OCTET STRING and nothing else."""
    outer = element(data, 0, len(data))
    if outer.tag != OCTET_STRING or outer.stop != len(data):
        raise PeerViolation("der", "not one OCTET STRING")
    return data[outer.body : outer.stop]
