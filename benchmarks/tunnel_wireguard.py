"""WireGuard's own format: the extension beside Debian's wireguard-go and OpenVPN."""

from __future__ import annotations

from benchmarks import tunneling
from benchmarks.form import Measured
from benchmarks.tunnel import ROUNDS, compare


def run(seconds: float) -> Measured:
    """iperf3, one TCP stream, both ends by the party."""
    length = max(1, round(seconds / ROUNDS))
    measured = compare(
        "iperf3, one TCP stream from the client to the server through each tunnel",
        lambda place, tunnel: tunneling.bulk(place, tunnel, length),
        ("link", "openvpn", "wireguard_go", "wireguard"),
    )
    for peer in ("wireguard_go", "openvpn"):
        measured.compare(f"vs_{peer}", "wireguard", peer, tunneling.RATE)
    measured.compare("vs_limit", "wireguard", "link", tunneling.RATE)
    return measured
