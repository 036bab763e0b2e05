"""Small packets, which no offload makes larger: datagrams of 1200 bytes through each tunnel."""

from __future__ import annotations

from benchmarks import tunneling
from benchmarks.form import Measured
from benchmarks.tunnel import PARTIES, ROUNDS, compare

_FIGURE = "datagrams_per_second"


def run(seconds: float) -> Measured:
    """iperf3 -u as fast as it goes; what arrives counts."""
    length = max(1, round(seconds / ROUNDS))
    measured = compare(
        "datagrams of 1200 bytes as fast as iperf3 sends them, counted where they arrive",
        lambda place, tunnel: tunneling.small(place, tunnel, length),
        tuple(PARTIES),
    )
    for peer in ("openvpn", "wireguard_go"):
        measured.compare(f"vs_{peer}", "wire_tunnel", peer, _FIGURE)
    measured.compare("vs_limit", "wire_tunnel", "link", _FIGURE)
    return measured
