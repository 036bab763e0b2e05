"""A host's questions to port 53, whatever server they address, brought to sockets of this process while it lives."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from towpath.errors import HostFault, PeerViolation
from towpath.hosting.dns_carriers import asking
from towpath.hosting.dns_listen import Asked, DnsListener
from towpath.hosting.dns_service import NameService
from towpath.hosting.owners import as_seen, host_owners
from towpath.hosting.system_dns import RESOLV_CONF, SystemDns, behind_stub, resolvers, system_group, system_settings
from towpath.kernel import system
from towpath.providers.flow import Address, Owner, Question
from towpath.wire import dns, dns_scan
from towpath.wire.ip import text_of

if TYPE_CHECKING:
    from towpath.dns_proxy.groups import Group
    from towpath.hosting.dns_provider import DnsProvider
    from towpath.hosting.loop import Loop, Timer

__all__ = ["FOR_PROXY", "FOR_TUNNEL", "NameRedirect", "Redirection"]

_ALIVE = "alive"
_PATIENCE = 2
_RENEW = 0.5
_TRIES = 64
_PROTOCOLS = {"udp": socket.IPPROTO_UDP, "tcp": socket.IPPROTO_TCP}
_NO_OWNER = "its process hides its descriptors, or had ended already"


class Redirection(NamedTuple):
    """A table, the mark of what is not brought here, and the priority of the chain: the lower sees a question first.

    What is sent from here has `own_mark`, which holds `mark`.
    """

    table: str
    mark: int
    own_mark: int
    priority: int


FOR_PROXY = Redirection("towpath_dns", 0x800000, 0x800000, -110)
FOR_TUNNEL = Redirection("towpath_tunnel_dns", 0x400000, 0xC00000, -109)
"""Where both are, programs ask the proxy, the proxy asks the tunnel's, and what that sends is left alone by both."""


class Marked:
    """Makes sockets whose packets are left alone; `interface_of(address)` is by which of them they leave, if not any.

    Implements `towpath.hosting.dns_exchange.Dial`.
    """

    def __init__(self, mark: int, interface_of: Callable[[str], str | None] = lambda _address: None) -> None:
        self._mark = mark
        self._interface_of = interface_of

    def dial_datagram(self, version: int, address: str, port: int) -> socket.socket:
        return system.sockets.dial_datagram(
            version, address, port, mark=self._mark, interface=self._interface_of(address)
        )

    def dial_stream(self, version: int, address: str, port: int) -> tuple[socket.socket, int]:
        return system.sockets.dial_stream(version, address, port, self._mark, self._interface_of(address))


def redirect_lines(redirection: Redirection, port: int, exempt: Sequence[int], *, always: bool = False) -> list[str]:
    """The table: questions of the host's programs are redirected to `port`, while the set has an element or always."""
    mark = redirection.mark
    while_alive = "" if always else f"meta mark & 0x0 == @{_ALIVE} "
    return [
        f"set {_ALIVE} timeout {_PATIENCE}",
        f"chain output type nat hook output priority {redirection.priority} policy accept",
        "udp dport 53 goto names",
        "tcp dport 53 goto names",
        "chain names",
        f"meta mark & {mark:#x} == {mark:#x} accept",
        *(f"meta skuid {uid} accept" for uid in exempt),
        f"{while_alive}redirect to :{port}",
    ]


Whom = Callable[[list[str]], "tuple[Group, Sequence[Group]]"]
"""Of the servers of the system makes those for every name, and those for some domains."""


class NameRedirect:
    """The sockets, what answers at them, and the table: made together and gone together.

    `proxy` is asked, where there is one; `whom` says which servers are, and `search` where short names are looked for.
    The redirection holds while the table has an element that is renewed every half second and lasts for 2, so that a
    process that hangs is passed by; or, with `always`, while the process lives. `exempt` are user ids whose questions
    are left alone. `asked(pid, name)` hears of each question before its answer leaves, where its program is known.
    Raises `HostFault`.
    """

    def __init__(
        self,
        loop: Loop,
        redirection: Redirection,
        *,
        proxy: DnsProvider | None = None,
        whom: Whom = lambda servers: (system_group(servers), ()),
        interface_of: Callable[[str], str | None] = lambda _address: None,
        search: Callable[[], Sequence[str]] = lambda: (),
        always: bool = False,
        exempt: Sequence[int] = (),
        asked: Callable[[int, str], object] | None = None,
        resolv_conf: str = RESOLV_CONF,
        say: Callable[[str, str], None],
    ) -> None:
        self._loop = loop
        self._asked = asked
        self._proxy = proxy
        self._whom = whom
        self._say = say
        self._resolv_conf = resolv_conf
        self._exchanges = asking(loop, proxy, Marked(redirection.own_mark, interface_of))
        found = whom(behind_stub(resolvers(resolv_conf)))
        self._names = NameService(loop, found, self._exchanges, _admit, proxy=proxy, search=search, say=say)
        self._listener = DnsListener(loop, self._names.cache, self._ask, direct=self._direct)
        port, self._sockets = _listen()
        for one in self._sockets:
            is_stream = one.type == socket.SOCK_STREAM
            (self._listener.listen_stream if is_stream else self._listener.listen)(one)
        self._owners = host_owners()
        self._system = SystemDns(loop, self._system_changed, say, resolv_conf)
        self._timer: Timer | None = None
        try:
            lines = redirect_lines(redirection, port, exempt, always=always)
            self._table = system.host_table.HostTable(redirection.table, lines)
        except BaseException:
            self._close_all()
            raise
        if not always:
            self._keep()

    def _keep(self) -> None:
        """This process does not hang."""
        try:
            self._table.keep(_ALIVE, 0)
        except HostFault as fault:
            self._say("error", f"names are not redirected any more: {fault}")
        self._timer = self._loop.later(_RENEW, self._keep)

    def ask_anew(self) -> None:
        """Others are to be asked from now on: `whom` says so."""
        self._names.use_system(self._whom(behind_stub(resolvers(self._resolv_conf))))

    def _system_changed(self, servers: list[str]) -> None:
        self._names.use_system(self._whom(behind_stub(servers)))
        if self._proxy is not None:
            self._proxy.system_changed(system_settings(self._resolv_conf))

    def _direct(self) -> bool:
        """Who wants to hear of each question sees those that the cache answers, too."""
        return self._names.direct and self._asked is None

    def _ask(self, asked: Asked) -> None:
        try:
            question = dns.parse_query(asked.data)
        except PeerViolation as violation:
            answer = dns_scan.not_a_question(asked.data, violation)
            if answer is not None:
                asked.reply(answer)
            return

        if self._asked is not None and (found := self._owner(asked)[0]) is not None:
            self._asked(found.pid, dns.policy_name(question))

        def describe() -> Question:
            assert self._proxy is not None
            owner, unknown = self._owner(asked)
            return Question(
                number=self._proxy.number(),
                name=question.name,
                type=dns.type_name(question.type),
                transport=cast('Literal["tcp", "udp"]', asked.transport),
                server=Address(text_of(asked.address), 53),
                owner=owner,
                owner_unknown=unknown,
                scope="host",
            )

        self._names.answer(
            asked, question, describe, lambda reason: self._say("info", f"refused {question.name} (dns): {reason}")
        )

    def _owner(self, asked: Asked) -> tuple[Owner | None, str | None]:
        found = self._owners.find_local(_PROTOCOLS[asked.transport], asked.source, asked.source_port)
        return (None, _NO_OWNER) if found is None else (as_seen(found.owner), None)

    def rates(self) -> dict[str, int]:
        """How many questions the cache has answered, see `WireCache.rates`."""
        return self._names.cache.rates()

    def close(self) -> None:
        """The table is gone first, so that no question is brought to sockets that are closed."""
        self._table.close()
        if self._timer is not None:
            self._timer.cancel()
        self._close_all()

    def _close_all(self) -> None:
        self._listener.close()
        self._exchanges.close()
        self._owners.close()
        self._system.close()
        for one in self._sockets:
            one.close()


def _admit(_name: str, data: bytes, end: int) -> dns_scan.Scanned:
    plain = dns_scan.plain_answer(data, end)
    return plain.scanned if plain is not None else dns_scan.scan(data)


def _listen() -> tuple[int, list[socket.socket]]:
    """Sockets on one port of the loopback of both families. Raises `HostFault`."""
    versions = [(4, "127.0.0.1"), *([(6, "::1")] if system.addresses.has_ipv6() else [])]
    for _ in range(_TRIES):
        made: list[socket.socket] = []
        port = 0
        try:
            for version, address in versions:
                made.append(system.sockets.dns_intake(version, address, port))
                port = made[0].getsockname()[1]
                made.append(system.sockets.tcp_listener(version, address, port, transparent=False))
        except OSError as error:
            for one in made:
                one.close()
            fault = error
            continue
        return port, made
    raise HostFault("listen for questions", fault.errno or 0, str(fault))
