"""A tunnel between two hosts: the reference protocol beside OpenVPN and wireguard-go, and the link without any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack

from benchmarks import tunneling
from benchmarks.form import Measured
from benchmarks.rounds import Absent, Party, take_turns
from benchmarks.world import Arena, arena

ROUNDS = 3
PARTIES: dict[str, Callable[[Arena], AbstractContextManager[tunneling.Tunnel]]] = {
    "link": tunneling.plain,
    "openvpn": tunneling.openvpn,
    "wireguard_go": tunneling.wireguard_go,
    "wireguard": tunneling.wireguard,
    "wire_tunnel": tunneling.wire_tunnel,
}


def run(seconds: float) -> Measured:
    """iperf3, one TCP stream. The headline is `vs_openvpn` of the reference protocol."""
    length = max(1, round(seconds / ROUNDS))
    measured = compare(
        "iperf3, one TCP stream from the client to the server through each tunnel",
        lambda place, tunnel: tunneling.bulk(place, tunnel, length),
        tuple(PARTIES),
    )
    for peer in ("openvpn", "wireguard_go"):
        measured.compare(f"vs_{peer}", "wire_tunnel", peer, tunneling.RATE)
    measured.compare("vs_limit", "wire_tunnel", "link", tunneling.RATE)
    return measured


def compare(
    work: str,
    made: Callable[[Arena, tunneling.Tunnel], Party],
    names: tuple[str, ...],
    within: Callable[[Arena], AbstractContextManager[None]] | None = None,
) -> Measured:
    """Every tunnel is up while the parties take turns; `within` is what holds meanwhile."""
    with arena(iperf=True) as place, ExitStack() as stack:
        parties: dict[str, Party] = {}
        missing = []
        for name in names:
            try:
                tunnel = stack.enter_context(PARTIES[name](place))
            except Absent as reason:
                missing.append((name, str(reason)))
                continue
            parties[name] = made(place, tunnel)
        if within is not None:
            stack.enter_context(within(place))
        measured = take_turns(work, parties, ROUNDS)
    measured.missing += missing
    return measured


def at_each(
    work: str,
    seconds: float,
    percents: Sequence[float],
    within: Callable[[Arena, float], AbstractContextManager[None]],
    headline: float,
) -> Measured:
    """iperf3 through every tunnel at each share of spoilt packets, which `within` spoils; ratios at one of them."""
    length = max(1, round(seconds / ROUNDS / len(percents)))
    whole = Measured(work)
    for percent in percents:
        measured = compare(
            work,
            lambda place, tunnel: tunneling.bulk(place, tunnel, length),
            tuple(PARTIES),
            lambda place, percent=percent: within(place, percent),  # type: ignore[misc]
        )
        for party, figures in measured.results.items():
            value = figures.get(tunneling.RATE)
            if value is not None:
                whole.results.setdefault(party, {})[_at(percent)] = value
        whole.missing += [one for one in measured.missing if one not in whole.missing]
    for peer in ("openvpn", "wireguard_go"):
        whole.compare(f"vs_{peer}", "wire_tunnel", peer, _at(headline))
    whole.compare("vs_limit", "wire_tunnel", "link", _at(headline))
    return whole


def _at(percent: float) -> str:
    return f"at_{str(percent).replace('.', '_')}_percent"
