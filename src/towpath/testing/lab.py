"""A running Lab."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from towpath.errors import FeatureMissing, HostFault, Misuse
from towpath.kernel import system
from towpath.kernel.hosts import World
from towpath.testing.addressing import lay_out
from towpath.testing.authority import Authority
from towpath.testing.dns_server import Zone
from towpath.testing.faults import apply
from towpath.testing.host_process import HostProcess
from towpath.testing.lab_host import LabHost
from towpath.testing.plan import Https, LabPlan, Service
from towpath.testing.records import Record

__all__ = ["Lab"]

_START_PATIENCE = 60.0
_TRUST_VARIABLES = (
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
)


class Lab:
    """A little internet: hosts, routers, names, services, in namespaces of this user's own.

    It runs between `start` and `close`, or in a `with` block; when this process dies, it is gone too.

    >>> with Lab(LabPlan().host("client").host("news", serves=[Https(names=("news.test",))])) as lab:
    ...     lab["client"].run(["curl", "https://news.test/"]).stdout                  # doctest: +SKIP
    """

    def __init__(self, plan: LabPlan) -> None:
        self.layout = lay_out(plan)
        self.plan = self.layout.plan
        self._world: World | None = None
        self._authority: Authority | None = None
        self._hosts: dict[str, LabHost] = {}

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Lab:
        """The Lab that a TOML file describes, not started. Raises `ConfigInvalid`."""
        from towpath.testing.plan_file import read_plan

        return cls(read_plan(Path(path)))

    @staticmethod
    def build(name: str = "lab") -> LabPlan:
        """An empty plan; its methods add to it."""
        return LabPlan(name)

    def start(self) -> Lab:
        """Makes the Lab and returns when every service is ready.

        Raises `PermissionMissing` where user namespaces are not allowed, `HostFault`, `TimedOut`.
        """
        if self._world is not None:
            raise Misuse("this Lab runs already")
        hosts = system.hosts
        files: dict[str, bytes] = {"/etc/resolv.conf": self._resolver_file()}
        if any(isinstance(service, Https) for host in self.plan.hosts for service in host.serves):
            self._authority = Authority()
            files[self._bundle()] = self._authority.pem
        serves = self._processes()
        nodes = [
            node if node.forwards else type(node)(node.name, node.cards, files=files) for node in self.layout.nodes
        ]

        def serve(name: str, channel: socket.socket, ready: Callable[[], None]) -> None:
            serves[name].run(channel, ready) if name in serves else _idle(channel, ready)

        self._world = hosts.start(nodes, serve, _START_PATIENCE)
        try:
            self._hosts = {host.name: LabHost(self, host.name) for host in self.plan.hosts}
            for host in self.plan.hosts:
                if host.rate is not None:
                    apply(self[host.name], "rate", None, {"rate": host.rate})
                if host.loss:
                    apply(self[host.name], "loss", None, {"percent": host.loss})
        except BaseException:
            self.close()
            raise
        return self

    def _processes(self) -> dict[str, HostProcess]:
        zone = Zone(self.layout.records)
        processes = {}
        for host in self.plan.hosts:
            contexts = {}
            for service in host.serves:
                if isinstance(service, Https) and self._authority is not None:
                    card = self.layout.cards(host.name)[0]
                    names = self._with_aliases({*host.names, *service.names})
                    contexts[service.port] = self._authority.context(
                        service, (*names, str(card.address4.ip), str(card.address6.ip))
                    )
            processes[host.name] = HostProcess(host, zone, contexts, self.environment(None))
        return processes

    def _with_aliases(self, names: set[str]) -> list[str]:
        aliases = {record.name for record in self.layout.records if record.type == "CNAME" and record.value in names}
        return sorted(names | aliases)

    def _resolver_file(self) -> bytes:
        servers = "".join(f"nameserver {address}\n" for address in self.layout.resolvers[:3])
        return f"{servers}options timeout:5 attempts:2\n".encode()

    def _bundle(self) -> str:
        path = system.hosts.system_bundle()
        if path is None:
            raise FeatureMissing(
                "trust the Lab's authority",
                2,
                "this system has no file of trusted authorities to lay the Lab's over",
                feature="ca-certificates",
                hint="apt-get install ca-certificates",
            )
        return path

    def close(self) -> None:
        """Ends every process of the Lab, and with them all the rest; safe to call twice."""
        world, self._world = self._world, None
        if world is not None:
            world.close()

    def __enter__(self) -> Lab:
        return self if self._world is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getitem__(self, name: str) -> LabHost:
        try:
            return self._hosts[name]
        except KeyError:
            raise Misuse(f"the Lab has no host {name!r}; it has {', '.join(self._hosts) or 'not started'}") from None

    def __iter__(self) -> Iterator[LabHost]:
        return iter(self._hosts.values())

    @property
    def world(self) -> World:
        """The running world under the Lab. Raises `Misuse` before `start` and after `close`."""
        if self._world is None:
            raise Misuse("this Lab does not run: use it in a with block, or call start()")
        return self._world

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """Every name in the Lab with its addresses; of an alias, none."""
        found: dict[str, tuple[str, ...]] = {}
        for record in self.layout.records:
            values = (record.value,) if record.type in ("A", "AAAA") else ()
            found[record.name] = found.get(record.name, ()) + values
        return found

    @property
    def ca_file(self) -> str:
        """The path of the Lab's certificate authority *as its hosts see it*: it lies over the system's own file."""
        return self._bundle()

    @property
    def ca_pem(self) -> bytes:
        """The Lab's certificate authority; b"" when nothing in the Lab speaks TLS."""
        return self._authority.pem if self._authority else b""

    def environment(self, given: Mapping[str, str] | None) -> dict[str, str]:
        """The environment of a command on a host: the `given` one, else ours, with the Lab's authority trusted."""
        found = dict(os.environ if given is None else given)
        if self._authority is not None:
            found |= dict.fromkeys(_TRUST_VARIABLES, self.ca_file)
        return found

    def services(self, host: str) -> tuple[Service, ...]:
        return next(entry.serves for entry in self.plan.hosts if entry.name == host)

    def log(self, host: LabHost | str) -> list[Record]:
        """What the services of a host saw so far."""
        name = host if isinstance(host, str) else host.name
        found = self.ask(name, {"ask": "log"})["records"]
        return [Record(**(fields | {"requests": tuple(fields["requests"])})) for fields in found]

    def ask(self, host: str, question: dict[str, Any]) -> dict[str, Any]:
        """One question to the process of a host, and its answer. Raises `HostFault` when that process is gone."""
        channel = self.world.channel(host)
        try:
            channel.sendall(json.dumps(question).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                part = channel.recv(1 << 20)
                if not part:
                    raise ConnectionResetError
                data += part
        except ConnectionError:
            raise HostFault(f"ask {host}", 32, f"the services of {host} have ended") from None
        answer: dict[str, Any] = json.loads(data)
        return answer


def _idle(channel: socket.socket, ready: Callable[[], None]) -> None:
    """What a router runs."""
    ready()
    channel.recv(1)
