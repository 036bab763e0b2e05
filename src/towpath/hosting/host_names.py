"""What a host's programs were told of names, read from copies of the answers that passed."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from towpath.errors import PeerViolation
from towpath.hosting.names import NameEvidence
from towpath.wire import dns, ip

__all__ = ["learn_from", "messages_of"]


def learn_from(packet: bytes, names: NameEvidence) -> None:
    """Takes a copy of a packet from port 53, over UDP or TCP. What is no answer teaches nothing."""
    try:
        answers = [dns.parse_answer(message) for message in messages_of(packet)]
    except PeerViolation:
        return
    for answer in answers:
        found = [
            (socket.inet_pton(socket.AF_INET6 if ":" in one.address else socket.AF_INET, one.address), one.ttl)
            for one in answer.addresses
        ]
        if found:
            names.learn(answer.name, found)


def messages_of(packet: bytes) -> Iterator[bytes]:
    """The DNS messages that lie whole in an IP packet; over TCP length and message come together (RFC 7766, 8).

    Raises `PeerViolation` for what is no such packet.
    """
    head = ip.parse(packet)
    if head.protocol != ip.TCP:
        yield head.payload
        return
    data = ip.segment(packet).payload
    while len(data) > 2:
        end = 2 + int.from_bytes(data[:2], "big")
        if end > len(data):
            return
        yield data[2:end]
        data = data[end:]
