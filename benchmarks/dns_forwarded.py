"""DNS answers per second where nobody knows the answer: each name is new, and asked of one server upstream.

Beside it: a proxy of one's own that forwards everything, and the shipped one with a list of a million names.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from benchmarks.dns import PORTS, RUN_SERVER, Resolvers, dnsperf, party, resolvers
from benchmarks.form import Measured
from benchmarks.peers import towpath_run
from benchmarks.rounds import Party, take_turns

_ROUNDS = 3
_FIGURE = "answers_per_second"
_NAMES = 200_000
_LIST = 1_000_000
_FORWARDING = """
from towpath.providers import DNSProxyProvider, Forward


class Forwarding(DNSProxyProvider):
    def handle_query(self, query):
        return Forward()
"""


def run(seconds: float) -> Measured:
    """dnsperf with names that nobody has asked for before."""
    length = max(1.0, seconds / _ROUNDS)
    with resolvers() as place:
        folder = place.folder
        (folder / "forwarding.py").write_text(_FORWARDING)
        (folder / "list").write_text("".join(f"0.0.0.0 n{at}.ads{at % 997}.example\n" for at in range(_LIST)))
        (folder / "long.toml").write_text('block_lists = ["list"]\n')
        (folder / "empty.toml").write_text("block = []\n")
        fresh = itertools.count(1)
        parties = {
            "towpath_run": _asking(place, fresh, length, RUN_SERVER, 53, towpath_run()),
            "towpath_proxy": _asking(
                place, fresh, length, RUN_SERVER, 53, towpath_run("--dns", str(folder / "forwarding.py"))
            ),
            "towpath_secure_dns": _asking(
                place, fresh, length, RUN_SERVER, 53, towpath_run("--dns", f"secure_dns:{folder}/empty.toml")
            ),
            "towpath_million_names": _asking(
                place, fresh, length, RUN_SERVER, 53, towpath_run("--dns", f"secure_dns:{folder}/long.toml")
            ),
        }
        for name, port in PORTS.items():
            if name not in place.missing:
                parties[name] = _asking(place, fresh, length, "127.0.0.1", port, [])
        measured = take_turns(
            "Names that are asked for the first time, forwarded to unbound on another Lab host, dnsperf -c 4 -q 200",
            parties,
            _ROUNDS,
        )
        measured.missing += place.missing.items()
    for key, theirs in (("vs_dnsmasq", "dnsmasq"), ("vs_unbound", "unbound"), ("vs_dnsdist", "dnsdist")):
        measured.compare(key, "towpath_run", theirs, _FIGURE)
    measured.compare("vs_dnsmasq_with_a_proxy", "towpath_proxy", "dnsmasq", _FIGURE)
    measured.compare("vs_limit_without_a_list", "towpath_million_names", "towpath_secure_dns", _FIGURE)
    return measured


def _asking(
    place: Resolvers, fresh: itertools.count[int], length: float, server: str, port: int, before: list[str]
) -> Party:
    def work() -> Mapping[str, float]:
        number = next(fresh)
        file = place.folder / f"names{number}"
        file.write_text("".join(f"f{number}x{at}.bench.test A\n" for at in range(_NAMES)))
        try:
            return party(place, dnsperf(file, length, server, port, "-n", "1"), before, length)()
        finally:
            file.unlink()

    return work
