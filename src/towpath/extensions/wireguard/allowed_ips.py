"""Which peer an address belongs to: the longest prefix wins, in a binary trie with compressed paths (section 2)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Generic, TypeVar

__all__ = ["AllowedIps"]

Peer = TypeVar("Peer")


class _Node(Generic[Peer]):
    __slots__ = ("bits", "children", "length", "peer")

    def __init__(self, bits: int, length: int, peer: Peer | None) -> None:
        self.bits = bits
        """The prefix, as the number that its `length` bits make."""
        self.length = length
        self.peer = peer
        self.children: list[_Node[Peer] | None] = [None, None]


class AllowedIps(Generic[Peer]):
    """A table from prefixes to peers. A prefix has one peer: who is given it last.

    >>> table = AllowedIps()
    >>> table.add(IPv4Network("10.0.0.0/8"), "all"); table.add(IPv4Network("10.1.0.0/16"), "some")
    >>> table.find(bytes([10, 1, 2, 3])), table.find(bytes([10, 2, 2, 3])), table.find(bytes([11, 0, 0, 1]))
    ('some', 'all', None)
    """

    def __init__(self) -> None:
        self._roots: dict[int, _Node[Peer]] = {4: _Node(0, 0, None), 16: _Node(0, 0, None)}
        self._found: dict[bytes, Peer | None] = {}

    def add(self, network: IPv4Network | IPv6Network, peer: Peer) -> None:
        self._found.clear()
        width = network.max_prefixlen
        length = network.prefixlen
        bits = int(network.network_address) >> width - length
        node = self._roots[width // 8]
        while True:
            if node.length == length:
                node.peer = peer
                return
            turn = bits >> length - node.length - 1 & 1
            child = node.children[turn]
            if child is None:
                node.children[turn] = _Node(bits, length, peer)
                return
            shared = _shared(bits, length, child.bits, child.length)
            if shared < child.length:
                between: _Node[Peer] = _Node(bits >> length - shared, shared, None)
                between.children[child.bits >> child.length - shared - 1 & 1] = child
                node.children[turn] = between
                child = between
            node = child

    def find(self, address: bytes) -> Peer | None:
        """The peer of a packed address, or `None`. What was found is remembered until the table changes."""
        try:
            return self._found[address]
        except KeyError:
            pass
        found = self._search(address)
        if len(self._found) >= 4096:
            self._found.clear()
        self._found[address] = found
        return found

    def _search(self, address: bytes) -> Peer | None:
        node: _Node[Peer] | None = self._roots.get(len(address))
        width = len(address) * 8
        value = int.from_bytes(address, "big")
        best = None
        while node is not None and value >> width - node.length == node.bits:
            if node.peer is not None:
                best = node.peer
            if node.length == width:
                break
            node = node.children[value >> width - node.length - 1 & 1]
        return best

    def remove(self, peer: Peer) -> None:
        """Takes every prefix of a peer away."""
        self._found.clear()
        for node in self._nodes():
            if node.peer == peer:
                node.peer = None

    def _nodes(self) -> Iterator[_Node[Peer]]:
        waiting = list(self._roots.values())
        while waiting:
            node = waiting.pop()
            yield node
            waiting += [child for child in node.children if child is not None]


def _shared(bits: int, length: int, other: int, other_length: int) -> int:
    """How many leading bits two prefixes have in common."""
    most = min(length, other_length)
    differs = (bits >> length - most) ^ (other >> other_length - most)
    return most - differs.bit_length()
