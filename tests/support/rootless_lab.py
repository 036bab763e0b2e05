"""A Lab that an ordinary user owns, and `towpath run` on its client: asked for things by the tests, which may be root.

The user's own process holds the Lab and answers one JSON line with another. So everything a test starts is started by
that user, with Debian's Python, and everything a test proves is proved for him.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tests.support.rootless import Rootless

__all__ = ["Attempt", "RootlessLab", "Started"]

_OWNER = r"""
import json, socket, struct, subprocess, sys
from towpath.testing import Lab
from towpath.testing.plan import Banner, Dns, Http, Https, LabPlan, TcpEcho, UdpEcho

PLAN = (
    LabPlan()
    .host("client", serves=[TcpEcho(port=7007), UdpEcho(port=9009)])
    .host(
        "web",
        ipv4="198.51.100.20",
        serves=[
            Http(names=("web.test", "www.web.test")),
            Https(names=("web.test", "www.web.test")),
            Banner(names=("git.test",)),
            TcpEcho(port=3128),
            UdpEcho(port=9000),
            UdpEcho(port=443),
        ],
    )
    .host(
        "tracker",
        serves=[
            Http(names=("tracker.test",)),
            Https(names=("tracker.test",)),
            TcpEcho(port=7),
            UdpEcho(port=9000),
            UdpEcho(port=443),
        ],
    )
    .host("dns", serves=[Dns()])
    .record("rebind.test", "A", "127.0.0.1")
    .record("metadata.test", "A", "169.254.169.254")
    .record("internal.test", "A", "10.1.2.3")
    .record("mapped.test", "AAAA", "::ffff:10.0.0.1")
    .record("modern.test", "HTTPS", "1 . alpn=h2 ech=AEX+DQBBzQAgACA=")
    .record("brief.test", "A", "198.51.100.20", ttl=0)
    .record("lasting.test", "A", "198.51.100.20", ttl=31536000)
)
WORDS = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
started, captures = {}, {}

def run(host, argv, words, environment):
    done = lab[host].run(argv, input=words, timeout=120, env=environment)
    return {"code": done.returncode, "out": done.stdout, "err": done.stderr}

def start(host, argv, environment):
    process = lab[host].popen(argv, env=environment, **WORDS)
    started[process.pid] = process
    return {"pid": process.pid}

def line(pid):
    return {"line": started[pid].stdout.readline()}

def tell(pid, words):
    started[pid].stdin.write(words)
    started[pid].stdin.flush()
    return {}

def finish(pid):
    process = started.pop(pid)
    out, err = process.communicate(timeout=60)
    return {"code": process.returncode, "out": out, "err": err}

def log(host):
    return {"log": [[record.service, record.port, record.peer] for record in lab[host].log]}

def addresses():
    return {"addresses": {host.name: [host.address4, host.address6] for host in lab}}

def capture(host):
    captures[host] = lab[host].socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    captures[host].setblocking(False)
    return {}

def captured(host):
    # Neighbours' and multicast routers' talk (RFC 4861, RFC 3810) is the kernel's own.
    found, packets = [], captures.pop(host)
    while True:
        try:
            data, ends = packets.recvfrom(65535)
        except BlockingIOError:
            packets.close()
            return {"sent": sorted(set(found))}
        if ends[2] != socket.PACKET_OUTGOING:
            continue
        if data[0] >> 4 == 4:
            found.append(f"{socket.inet_ntop(socket.AF_INET, data[16:20])} {data[9]}")
        elif data[0] >> 4 == 6 and data[6] != 0 and not (data[6] == 58 and data[40] >= 130):
            found.append(f"{socket.inet_ntop(socket.AF_INET6, data[24:40])} {data[6]}")

with Lab(PLAN) as lab:
    print(json.dumps({"ready": True}), flush=True)
    for request in sys.stdin:
        name, words = json.loads(request)
        try:
            answer = globals()[name](**words)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
"""


@dataclass(frozen=True)
class Attempt:
    """How a run ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Started:
    """A run under way; `pid` is its process, as the machine numbers it."""

    lab: RootlessLab
    pid: int

    def line(self) -> str:
        """The next line of its output."""
        return str(self.lab.ask("line", pid=self.pid)["line"])

    def tell(self, words: str) -> None:
        self.lab.ask("tell", pid=self.pid, words=words)

    def finish(self) -> Attempt:
        return Attempt(**self.lab.ask("finish", pid=self.pid))


class RootlessLab:
    """A web host, a tracker, a name server, and a client on which commands run under `towpath run`."""

    def __init__(self, user: Rootless) -> None:
        self.user = user
        self._owner = user.popen([user.python, "-c", _OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert "ready" in self._read()
        self.addresses: dict[str, list[str]] = self.ask("addresses")["addresses"]

    def _read(self) -> dict[str, Any]:
        assert self._owner.stdout is not None
        answer: dict[str, Any] = json.loads(self._owner.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer

    def ask(self, name: str, **words: object) -> dict[str, Any]:
        assert self._owner.stdin is not None
        self._owner.stdin.write(json.dumps([name, words]) + "\n")
        self._owner.stdin.flush()
        return self._read()

    def __enter__(self) -> RootlessLab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owner.communicate(timeout=60)

    def command(self, source: str | Sequence[str], *options: str) -> list[str]:
        """The command line of a run of a Python program, or of words."""
        words = [self.user.python, "-I", "-c", source] if isinstance(source, str) else list(source)
        return [self.user.towpath, "run", *options, "--", *words]

    def __call__(self, source: str | Sequence[str], *options: str, input: str | None = None) -> Attempt:
        """Runs it on the client."""
        return self.on_client(self.command(source, *options), input=input)

    def on_client(self, argv: Sequence[str], input: str | None = None) -> Attempt:
        """Runs a command on the client, outside of any run."""
        return Attempt(**self.ask("run", host="client", argv=argv, words=input, environment=self.user.environment()))

    def start(self, source: str | Sequence[str], *options: str) -> Started:
        argv = self.command(source, *options)
        return self.start_on_client(argv)

    def start_on_client(self, argv: Sequence[str]) -> Started:
        return Started(self, self.ask("start", host="client", argv=argv, environment=self.user.environment())["pid"])

    def log(self, host: str) -> list[tuple[str, int, str]]:
        """`(service, port, peer)` of all that its services saw."""
        return [(str(service), int(port), str(peer)) for service, port, peer in self.ask("log", host=host)["log"]]

    def capture(self) -> None:
        """Begins to note what leaves the client."""
        self.ask("capture", host="client")

    def captured(self) -> list[str]:
        """What has left the client since `capture`: ``"ADDRESS PROTOCOL"``, each once."""
        return [str(one) for one in self.ask("captured", host="client")["sent"]]
