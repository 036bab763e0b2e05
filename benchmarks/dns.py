"""DNS answers per second: from a cache, through a server upstream, with a long block list, and what a cache holds."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.form import Measured
from benchmarks.peers import program, towpath_run
from benchmarks.rounds import Absent, Party, take_turns
from towpath.testing import Command, Lab, LabHost, LabPlan

__all__ = ["Resolvers", "dnsperf", "resolvers", "run"]

_ROUNDS = 3
_FIGURE = "answers_per_second"
_NAMES = 1000
_RUN_SERVER = "192.0.2.2"
"""Any address would do: whoever is asked inside of a run, the run answers."""

_AUTHORITY = """
server:
  interface: 0.0.0.0
  port: 53
  access-control: 0.0.0.0/0 allow
  do-daemonize: no
  username: ""
  chroot: ""
  pidfile: ""
  directory: "{folder}"
  use-syslog: no
  verbosity: 0
  num-threads: 1
  local-zone: "bench.test." redirect
  local-data: "bench.test. 3600 IN A 198.51.100.7"
remote-control:
  control-enable: no
"""
_UNBOUND = """
server:
  interface: 127.0.0.1
  port: 5301
  do-daemonize: no
  username: ""
  chroot: ""
  pidfile: ""
  directory: "{folder}"
  use-syslog: no
  verbosity: 0
  num-threads: 1
  msg-cache-size: 64m
  rrset-cache-size: 64m
  outgoing-range: 4096
  num-queries-per-thread: 2048
  do-not-query-localhost: no
  module-config: "iterator"
  local-zone: "test." nodefault
forward-zone:
  name: "."
  forward-addr: {authority}
remote-control:
  control-enable: no
"""
_DNSDIST = """
setLocal("127.0.0.1:5303")
newServer({{address="{authority}:53", sockets=8, healthCheckMode="lazy"}})
pc = newPacketCache(100000)
getPool(""):setCache(pc)
setMaxUDPOutstanding(65535)
"""
PORTS = {"unbound": 5301, "dnsmasq": 5302, "dnsdist": 5303}


class Resolvers:
    """A client beside whose programs the peers listen, all of them with one and the same server upstream."""

    def __init__(self, client: LabHost, folder: Path, missing: dict[str, str]) -> None:
        self.client = client
        self.folder = folder
        self.missing = missing


def _set_server(address: str) -> None:
    with open("/etc/resolv.conf", "w", encoding="ascii") as file:
        file.write(f"nameserver {address}\n")


@contextmanager
def resolvers() -> Iterator[Resolvers]:
    """Starts everybody. Raises `Absent` without dnsperf or unbound."""
    unbound = program("unbound")
    program("dnsperf")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="towpath-bench-")))
        folder.chmod(0o755)
        (folder / "authority.conf").write_text(_AUTHORITY.format(folder=folder))
        serves = [Command(command=(unbound, "-d", "-c", str(folder / "authority.conf")), port=53)]
        plan = LabPlan().host("client").host("authority", serves=serves)
        lab = stack.enter_context(Lab(plan))
        client, authority = lab["client"], lab["authority"].address4
        client.call(_set_server, authority)
        (folder / "unbound.conf").write_text(_UNBOUND.format(folder=folder, authority=authority))
        (folder / "dnsdist.conf").write_text(_DNSDIST.format(authority=authority))
        commands = {
            "unbound": [unbound, "-d", "-c", str(folder / "unbound.conf")],
            "dnsmasq": ["dnsmasq", "-k", "-C", "/dev/null", "-p", "5302", "-R", "-S", authority, "-c", "10000"]
            + ["-u", "root", "-i", "lo", "-z", "--dns-forward-max=2000", f"--pid-file={folder}/dnsmasq.pid"],
            "dnsdist": ["dnsdist", "--supervised", "--disable-syslog", "-C", str(folder / "dnsdist.conf")],
        }
        missing: dict[str, str] = {}
        for name, command in commands.items():
            try:
                program(command[0], "dnsmasq-base" if name == "dnsmasq" else "")
            except Absent as reason:
                missing[name] = str(reason)
                continue
            process = stack.enter_context(client.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            stack.callback(process.terminate)
            _await(client, PORTS[name])
        yield Resolvers(client, folder, missing)


def _await(client: LabHost, port: int) -> None:
    asked = ["dig", "+tries=20", "+time=1", "@127.0.0.1", "-p", str(port), "ready.bench.test"]
    client.run(asked, timeout=30)


def dnsperf(file: Path, seconds: float, server: str, port: int, *more: str) -> list[str]:
    """The command that asks for the names in a file as fast as it gets answers."""
    words = ["dnsperf", "-s", server, "-p", str(port), "-d", str(file), "-l", str(max(1, round(seconds)))]
    return [*words, "-c", "4", "-q", "200", *more]


def _party(place: Resolvers, command: list[str], before: list[str], seconds: float) -> Party:
    def work() -> Mapping[str, float]:
        done = place.client.run([*before, *command], timeout=seconds + 40)
        rate = re.search(r"Queries per second:\s+([\d.]+)", done.stdout)
        answered = re.search(r"Queries completed:\s+\d+ \(([\d.]+)%\)", done.stdout)
        if rate is None or answered is None or float(answered[1]) < 98:
            raise Absent(f"no good answers: {(done.stderr + done.stdout).strip()[-300:]}")
        return {_FIGURE: float(rate[1])}

    return work


def run(seconds: float) -> Measured:
    """Everybody answers the same 1,000 names from memory."""
    length = max(1.0, seconds / _ROUNDS)
    with resolvers() as place:
        file = place.folder / "names"
        file.write_text("".join(f"n{at}.bench.test A\n" for at in range(_NAMES)))
        parties = {"towpath_run": _party(place, dnsperf(file, length, _RUN_SERVER, 53), towpath_run(), length)}
        for name, port in PORTS.items():
            if name not in place.missing:
                parties[name] = _party(place, dnsperf(file, length, "127.0.0.1", port), [], length)
        measured = take_turns(
            f"{_NAMES} names, all cached, dnsperf -c 4 -q 200 beside one process each; ours inside of a run",
            parties,
            _ROUNDS,
        )
        measured.missing += place.missing.items()
    for name in PORTS:
        measured.compare(f"vs_{name}", "towpath_run", name, _FIGURE)
    return measured
