"""What a tunnel adds to a round trip."""

from __future__ import annotations

from benchmarks import tunneling
from benchmarks.form import Measured
from benchmarks.tunnel import PARTIES, ROUNDS, compare

_FIGURE = "median_microseconds"


def run(seconds: float) -> Measured:
    """ping, one each 5 ms."""
    count = max(50, round(seconds / ROUNDS / 0.005))
    measured = compare(
        "ping from the client to the server, 200 a second",
        lambda place, tunnel: tunneling.ping(place, tunnel, count),
        tuple(PARTIES),
    )
    for peer in ("wireguard_go", "openvpn"):
        measured.compare(f"vs_{peer}", "wire_tunnel", peer, _FIGURE, less_is_better=True)
    measured.compare("vs_limit", "wire_tunnel", "link", _FIGURE, less_is_better=True)
    return measured
