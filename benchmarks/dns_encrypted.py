"""DNS forwarded over TLS and HTTPS for 100 clients, each name new.

dnsdist asks one question at a time over a connection unless `maxInFlight` says otherwise.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

import trustme

from benchmarks.dns import RUN_SERVER, Resolvers, dnsperf, party, resolvers
from benchmarks.form import Measured
from benchmarks.peers import towpath_run
from benchmarks.rounds import Party, take_turns

_ROUNDS = 3
_FIGURE = "answers_per_second"
_NAMES = 200_000
_NAME = "resolver.test"
_PORTS = {"dnsdist_tls": 5304, "dnsdist_https": 5305}
_DNSDIST = """
setLocal("127.0.0.1:{port}")
newServer({{address="{address}:{far}", tls="openssl", subjectName="{name}", caStore="{folder}/ca.pem",
  maxInFlight=1000{more}}}):setUp()
setMaxUDPOutstanding(65535)
"""


def run(seconds: float) -> Measured:
    """dnsdist and a run forward to the same unbound, which speaks TLS and HTTPS."""
    length = max(1.0, seconds / _ROUNDS)
    certificates: dict[str, bytes] = {}
    authority = trustme.CA()
    issued = authority.issue_cert(_NAME)
    certificates["ca.pem"] = authority.cert_pem.bytes()
    certificates["key.pem"] = issued.private_key_pem.bytes()
    certificates["certificate.pem"] = issued.cert_chain_pems[0].bytes()
    with resolvers(certificates) as place:
        folder, address = place.folder, place.authority
        parties: dict[str, Party] = {}
        for scheme, far, path in (("tls", 853, ""), ("https", 443, "/dns-query")):
            config = folder / f"{scheme}.toml"
            server = f"{scheme}://{_NAME}@{address}{path}"
            config.write_text(f'servers = ["{server}"]\ncertificate_authority = "{folder}/ca.pem"\n')
            parties[f"towpath_{scheme}"] = _asking(
                place, scheme, length, RUN_SERVER, 53, towpath_run("--dns", f"secure_dns:{config}")
            )
            name = f"dnsdist_{scheme}"
            more = ', dohPath="/dns-query"' if path else ""
            file = folder / f"{name}.conf"
            file.write_text(
                _DNSDIST.format(port=_PORTS[name], address=address, far=far, name=_NAME, folder=folder, more=more)
            )
            command = ["dnsdist", "--supervised", "--disable-syslog", "-C", str(file)]
            place.stack.callback(place.client.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).kill)
            parties[name] = _asking(place, name, length, "127.0.0.1", _PORTS[name], [])
        measured = take_turns(
            "Names that are asked for the first time, forwarded over TLS and HTTPS to unbound on another Lab host, "
            "dnsperf -c 100 -q 200",
            parties,
            _ROUNDS,
        )
    measured.compare("vs_dnsdist", "towpath_https", "dnsdist_https", _FIGURE)
    measured.compare("vs_dnsdist_tls", "towpath_tls", "dnsdist_tls", _FIGURE)
    return measured


def _asking(place: Resolvers, who: str, length: float, server: str, port: int, before: list[str]) -> Party:
    turns = iter(range(1000))

    def work() -> Mapping[str, float]:
        file = place.folder / f"names-{who}"
        turn = next(turns)
        file.write_text("".join(f"{who.replace('_', '-')}{turn}x{at}.bench.test A\n" for at in range(_NAMES)))
        return party(place, [*dnsperf(file, length, server, port, "-n", "1"), "-c", "100"], before, length)()

    return work
