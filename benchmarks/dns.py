"""DNS answers per second: from a cache, through a server upstream, with a long block list, and what a cache holds."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.form import Measured
from benchmarks.peers import program, towpath_run
from benchmarks.rounds import Absent, Party, take_turns
from towpath.testing import Command, Lab, LabHost, LabPlan

__all__ = ["ENGINE_PORT", "PORTS", "RUN_SERVER", "Resolvers", "dnsperf", "party", "rate_of", "resolvers", "run"]

_ROUNDS = 3
_FIGURE = "answers_per_second"
_NAMES = 1000
RUN_SERVER = "192.0.2.2"
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
{secure}
  local-zone: "bench.test." redirect
  local-data: "bench.test. 3600 IN A 198.51.100.7"
remote-control:
  control-enable: no
"""
_SECURE = """
  interface: 0.0.0.0@853
  interface: 0.0.0.0@443
  tls-service-key: "{folder}/key.pem"
  tls-service-pem: "{folder}/certificate.pem"
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
newServer({{address="{authority}:53", sockets=8}}):setUp()
pc = newPacketCache(100000)
getPool(""):setCache(pc)
setMaxUDPOutstanding(65535)
"""
PORTS = {"unbound": 5301, "dnsmasq": 5302, "dnsdist": 5303}
ENGINE_PORT = 5306
_ENGINE = str(Path(__file__).with_name("programs") / "dns_engine.py")
_STEADY = 2000
"""Questions a second at which latencies are compared."""


class Resolvers:
    """A client beside whose programs the peers listen, all of them with one and the same server upstream."""

    def __init__(
        self, client: LabHost, folder: Path, authority: str, stack: ExitStack, missing: dict[str, str]
    ) -> None:
        self.client = client
        self.folder = folder
        self.authority = authority
        self.stack = stack
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.missing = missing


def _set_server(address: str) -> None:
    with open("/etc/resolv.conf", "w", encoding="ascii") as file:
        file.write(f"nameserver {address}\n")


@contextmanager
def resolvers(files: Mapping[str, bytes] | None = None) -> Iterator[Resolvers]:
    """Starts everybody; with `files` of certificates the server upstream speaks TLS and HTTPS as well.

    Raises `Absent` without dnsperf or unbound.
    """
    unbound = program("unbound")
    program("dnsperf")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="towpath-bench-")))
        folder.chmod(0o755)
        for name, data in (files or {}).items():
            (folder / name).write_bytes(data)
        secure = _SECURE.format(folder=folder) if files else ""
        (folder / "authority.conf").write_text(_AUTHORITY.format(folder=folder, secure=secure))
        serves = [Command(command=(unbound, "-d", "-c", str(folder / "authority.conf")), port=53)]
        plan = LabPlan().host("client").host("authority", serves=serves)
        lab = stack.enter_context(Lab(plan))
        client, authority = lab["client"], lab["authority"].address4
        client.call(_set_server, authority)
        (folder / "unbound.conf").write_text(_UNBOUND.format(folder=folder, authority=authority))
        (folder / "dnsdist.conf").write_text(_DNSDIST.format(authority=authority))
        commands = {
            "unbound": [unbound, "-d", "-c", str(folder / "unbound.conf")],
            # -d keeps it from changing its group, which a user namespace may not.
            "dnsmasq": ["dnsmasq", "-d", "-C", "/dev/null", "-p", "5302", "-R", "-S", authority, "-c", "10000"]
            + ["-i", "lo", "-z", "--dns-forward-max=2000", f"--pid-file={folder}/dnsmasq.pid"],
            "towpath": [sys.executable, _ENGINE, str(ENGINE_PORT), authority],
            "dnsdist": ["dnsdist", "--supervised", "--disable-syslog", "-C", str(folder / "dnsdist.conf")],
        }
        missing: dict[str, str] = {}
        place = Resolvers(client, folder, authority, stack, missing)
        for name, command in commands.items():
            try:
                program(command[0], "dnsmasq-base" if name == "dnsmasq" else "")
            except Absent as reason:
                missing[name] = str(reason)
                continue
            process = stack.enter_context(client.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            stack.callback(process.terminate)
            place.processes[name] = process
            _await(client, PORTS.get(name, ENGINE_PORT))
        yield place


def _await(client: LabHost, port: int) -> None:
    asked = ["dig", "+tries=20", "+time=1", "@127.0.0.1", "-p", str(port), "ready.bench.test"]
    client.run(asked, timeout=30)


def dnsperf(file: Path, seconds: float, server: str, port: int, *more: str) -> list[str]:
    """The command that asks for the names in a file as fast as it gets answers."""
    words = ["dnsperf", "-s", server, "-p", str(port), "-d", str(file), "-l", str(max(1, round(seconds)))]
    return [*words, "-c", "4", "-q", "200", *more]


def rate_of(text: str) -> float:
    """Answers a second, as dnsperf says. Raises `Absent` where it was not answered."""
    rate = re.search(r"Queries per second:\s+([\d.]+)", text)
    answered = re.search(r"Queries completed:\s+\d+ \(([\d.]+)%\)", text)
    if rate is None or answered is None or float(answered[1]) < 98:
        raise Absent(f"no good answers: {text.strip()[-300:]}")
    return float(rate[1])


def party(place: Resolvers, command: list[str], before: list[str], seconds: float) -> Party:
    """Runs dnsperf; its figure is answers a second."""

    def work() -> Mapping[str, float]:
        done = place.client.run([*before, *command], timeout=seconds + 40)
        return {_FIGURE: rate_of(done.stdout + done.stderr)}

    return work


def _with_latency(place: Resolvers, file: Path, server: str, port: int, before: list[str], seconds: float) -> Party:
    """As `party`, and how long one answer of a hundred takes at least, at a steady rate."""
    fast = shlex.join(dnsperf(file, seconds, server, port))
    steady = shlex.join(dnsperf(file, 1, server, port, "-Q", str(_STEADY), "-v"))

    def work() -> Mapping[str, float]:
        done = place.client.run([*before, "sh", "-c", f"{fast}; {steady}"], timeout=seconds + 40)
        first, _, second = done.stdout.partition("Latency StdDev")
        each = sorted(float(line.split()[-1]) for line in second.splitlines() if line.startswith("> "))
        if not each:
            raise Absent("no latencies")
        return {_FIGURE: rate_of(first), "p99_microseconds": each[len(each) * 99 // 100] * 1e6}

    return work


def run(seconds: float) -> Measured:
    """Everybody answers the same 1,000 names from memory."""
    length = max(1.0, seconds / _ROUNDS)
    with resolvers() as place:
        file = place.folder / "names"
        file.write_text("".join(f"n{at}.bench.test A\n" for at in range(_NAMES)))
        parties = {
            "towpath": _with_latency(place, file, "127.0.0.1", ENGINE_PORT, [], length),
            "towpath_run": _with_latency(place, file, RUN_SERVER, 53, towpath_run(), length),
        }
        for name, port in PORTS.items():
            if name not in place.missing:
                parties[name] = _with_latency(place, file, "127.0.0.1", port, [], length)
        measured = take_turns(
            f"{_NAMES} names, all cached, dnsperf -c 4 -q 200 beside one process each: servers on the loopback, "
            "and a run, whose packets go through its policy",
            parties,
            _ROUNDS,
        )
        measured.missing += place.missing.items()
    for name in PORTS:
        measured.compare(f"vs_{name}", "towpath", name, _FIGURE)
        measured.compare(f"vs_{name}_by_a_run", "towpath_run", name, _FIGURE)
        measured.compare(f"vs_{name}_p99", "towpath", name, "p99_microseconds", less_is_better=True)
    return measured
