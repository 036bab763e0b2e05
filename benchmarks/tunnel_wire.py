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
_OFFLOADS = ("tso", "gso", "tx-udp-segmentation")


def run(seconds: float) -> Measured:
    """iperf3, one TCP stream. The headline is `vs_openvpn` of the reference protocol."""
    length = max(1, round(seconds / ROUNDS))
    measured = compare(
        "iperf3, one TCP stream through each tunnel, while both hosts' cards carry packets of 1500 bytes alone",
        lambda place, tunnel: tunneling.bulk(place, tunnel, length),
        tuple(PARTIES),
        _without_offloads,
    )
    for peer in ("openvpn", "wireguard_go"):
        measured.compare(f"vs_{peer}", "wire_tunnel", peer, tunneling.RATE)
    measured.compare("vs_limit", "wire_tunnel", "link", tunneling.RATE)
    return measured


@contextmanager
def _without_offloads(place: Arena) -> Iterator[None]:
    ethtool = program("ethtool")
    for host in (place.client, place.server):
        words = " ".join(f"{name} off" for name in _OFFLOADS)
        done = host.run(["sh", "-ec", _CUT.format(ethtool, words)], administrator=True)
        if done.returncode:
            raise Absent(f"ethtool failed: {words_of(done)}")
    yield
