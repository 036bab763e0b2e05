"""A tunnel whose datagrams are cut before they reach the wire, as a card without offloads has it done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import tunneling
from benchmarks.form import Measured
from benchmarks.peers import program
from benchmarks.rounds import Absent
from benchmarks.tunnel import PARTIES, ROUNDS, compare
from benchmarks.world import Arena, words_of

_CUT = "for device in $(ip -o link show type veth | cut -d: -f2 | cut -d@ -f1); do {} -K $device {}; done"
_CARD = "tso off gso off tx-udp-segmentation off gro on"
"""As a card without offloads: nothing cuts for it. It may join what it receives, as all cards may; but a veth device
whose other end has offloads joins nothing, so that each datagram comes alone here."""


def run(seconds: float) -> Measured:
    """iperf3, one TCP stream. The headline is `vs_openvpn` of the reference protocol."""
    length = max(1, round(seconds / ROUNDS))
    measured = compare(
        "iperf3, one TCP stream through each tunnel, while both hosts' cards carry packets of 1500 bytes alone",
        lambda place, tunnel: tunneling.bulk(place, tunnel, length),
        tuple(PARTIES),
        without_offloads,
    )
    for peer in ("openvpn", "wireguard_go"):
        measured.compare(f"vs_{peer}", "wire_tunnel", peer, tunneling.RATE)
    measured.compare("vs_limit", "wire_tunnel", "link", tunneling.RATE)
    return measured


@contextmanager
def without_offloads(place: Arena) -> Iterator[None]:
    ethtool = program("ethtool")
    for host in (place.client, place.server):
        done = host.run(["sh", "-ec", _CUT.format(ethtool, _CARD)], administrator=True)
        if done.returncode:
            raise Absent(f"ethtool failed: {words_of(done)}")
    yield
