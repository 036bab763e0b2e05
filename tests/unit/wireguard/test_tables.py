"""The table of allowed addresses and the replay window, against what is plainly so."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

from hypothesis import given
from hypothesis import strategies as st

from towpath.extensions.wireguard.allowed_ips import AllowedIps
from towpath.extensions.wireguard.keypair import ReplayWindow

NETWORKS = st.one_of(
    st.builds(
        lambda bits, length: IPv4Network((bits, length), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32)
    ),
    # Few bits, so that prefixes meet.
    st.builds(
        lambda bits, length: IPv4Network((bits << 28, length), strict=False), st.integers(0, 15), st.integers(0, 6)
    ),
    st.builds(
        lambda bits, length: IPv6Network((bits, length), strict=False), st.integers(0, 2**128 - 1), st.integers(0, 128)
    ),
)


@given(
    st.lists(st.tuples(NETWORKS, st.integers(0, 5)), max_size=30),
    st.lists(st.integers(0, 2**32 - 1), max_size=20),
    st.integers(0, 5),
)
def test_the_longest_prefix_wins_as_in_a_plain_search(
    entries: list[tuple[IPv4Network | IPv6Network, int]], addresses: list[int], removed: int
) -> None:
    table: AllowedIps[int] = AllowedIps()
    for network, peer in entries:
        table.add(network, peer)
    probes = [ip_address(number) for number in addresses]
    probes += [end for network, _ in entries for end in (network.network_address, network.broadcast_address)]
    for gone in (None, removed):
        if gone is not None:
            table.remove(gone)
        plain = dict(entries)
        for probe in probes:
            fits = [network for network, peer in plain.items() if peer != gone and probe in network]
            best = max(fits, key=lambda network: network.prefixlen, default=None)
            assert table.find(probe.packed) == (plain[best] if best is not None else None)


@given(st.lists(st.one_of(st.integers(0, 40), st.integers(0, 30_000)), max_size=80))
def test_the_window_takes_each_counter_once_and_forgets_nothing_within_it(counters: list[int]) -> None:
    window, seen = ReplayWindow(), set[int]()
    for counter in counters:
        greatest = max(seen, default=-1)
        expected = counter not in seen and counter > greatest - 8192
        assert window.take(counter) == expected
        if expected:
            seen.add(counter)


@given(st.lists(st.tuples(st.integers(0, 9000), st.integers(1, 64)), max_size=20))
def test_a_row_is_taken_as_its_counters_would_be(rows: list[tuple[int, int]]) -> None:
    whole, single = ReplayWindow(), ReplayWindow()
    for first, count in rows:
        if whole.take_row(list(range(first, first + count))):
            assert all(single.take(counter) for counter in range(first, first + count))
        for counter in range(max(0, first - 3), first + count + 3):
            assert whole.take(counter) == single.take(counter)
