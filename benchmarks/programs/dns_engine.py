"""The engine of names alone, as a server on the loopback: what a run and a host have behind their sockets.

usage: dns_engine.py PORT SERVER
"""

from __future__ import annotations

import sys

from towpath.dns_proxy.cache import Entry
from towpath.dns_proxy.groups import Group
from towpath.errors import PeerViolation
from towpath.hosting.dns_exchange import Exchanges
from towpath.hosting.dns_listen import Asked, DnsListener
from towpath.hosting.dns_service import NameService
from towpath.hosting.loop import Loop
from towpath.kernel.system import sockets
from towpath.names.upstream import parse_upstream
from towpath.providers.flow import Question
from towpath.wire import dns, dns_scan


def main() -> None:
    loop = Loop()
    group = Group((parse_upstream(sys.argv[2]),))

    def admit(_name: str, data: bytes, end: int) -> dns_scan.Scanned:
        plain = dns_scan.plain_answer(data, end)
        return plain.scanned if plain is not None else dns_scan.scan(data)

    names = NameService(loop, (group, ()), Exchanges(loop), admit)
    names.cache.most_bytes = 512 << 20

    def ask(asked: Asked) -> None:
        try:
            question = dns.parse_query(asked.data)
        except PeerViolation:
            return
        names.answer(asked, question, _nobody, lambda _reason: None)

    listener = DnsListener(loop, names.cache, ask, noted=_noted)
    listener.listen(sockets.dns_intake(4, "127.0.0.1", int(sys.argv[1])))
    loop.run()


def _nobody() -> Question:
    raise AssertionError("nobody is asked")


def _noted(_entry: Entry) -> None:
    return


main()
