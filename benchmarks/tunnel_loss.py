"""A path that loses: one lost datagram must not cost a whole super-packet for long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import tunneling
from benchmarks.form import Measured
from benchmarks.tunnel import ROUNDS, compare
from benchmarks.world import Arena

_PERCENTS = (0.1, 1.0, 5.0)


def run(seconds: float) -> Measured:
    """iperf3 at 0.1, 1 and 5 % of lost datagrams; a figure for each. The headline is at 1 %."""
    length = max(1, round(seconds / ROUNDS / len(_PERCENTS)))
    whole = Measured("iperf3, one TCP stream, while the server's host loses some of what comes")
    for percent in _PERCENTS:

        @contextmanager
        def losing(place: Arena, percent: float = percent) -> Iterator[None]:
            with place.server.fault("loss", percent=percent):
                yield

        measured = compare(
            whole.work,
            lambda place, tunnel: tunneling.bulk(place, tunnel, length),
            ("link", "openvpn", "wireguard_go", "wireguard", "wire_tunnel"),
            losing,
        )
        name = f"at_{str(percent).replace('.', '_')}_percent"
        for party, figures in measured.results.items():
            value = figures.get(tunneling.RATE)
            if value is not None:
                whole.results.setdefault(party, {})[name] = value
        whole.missing += [one for one in measured.missing if one not in whole.missing]
    for peer in ("openvpn", "wireguard_go"):
        whole.compare(f"vs_{peer}", "wire_tunnel", peer, "at_1_0_percent")
    whole.compare("vs_limit", "wire_tunnel", "link", "at_1_0_percent")
    return whole
