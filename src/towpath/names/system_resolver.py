"""Names by the C library's getaddrinfo(3): whatever nsswitch.conf says, and none of what DNS says beyond addresses."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Sequence

from towpath.names.reply import Record
from towpath.names.resolution import Answer, AnswerStatus, Resolution, Source, collect
from towpath.names.resolver import ADDRESS_KINDS, ExpiredDns
from towpath.wire import dns_message
from towpath.wire.address import pack

__all__ = ["SystemResolver"]

_FAMILIES = {"A": socket.AF_INET, "AAAA": socket.AF_INET6}
_ABSENT = {socket.EAI_NONAME: AnswerStatus.UNKNOWN, socket.EAI_NODATA: AnswerStatus.EMPTY}


class SystemResolver:
    """The same interface as `Resolver`, over getaddrinfo in threads; TTLs are 0, for it tells none.

    Kinds other than A and AAAA are answered as absent.

    >>> resolution = asyncio.run(SystemResolver().resolve("127.0.0.1", ["A"]))
    >>> resolution.addresses[0].address, str(resolution.answers[0].source)
    ('127.0.0.1', 'getaddrinfo')
    """

    async def resolve(
        self, name: str, kinds: Sequence[str] = ADDRESS_KINDS, *, expired: ExpiredDns = "prohibit"
    ) -> Resolution:
        """As `Resolver.resolve`; `expired` changes nothing."""
        return await collect(name, kinds, self.stream(name, kinds, expired=expired))

    async def stream(
        self, name: str, kinds: Sequence[str] = ADDRESS_KINDS, *, expired: ExpiredDns = "prohibit"
    ) -> AsyncGenerator[Answer, None]:
        """As `Resolver.stream`; `expired` changes nothing."""
        tasks = [asyncio.create_task(_ask(name, kind.upper())) for kind in dict.fromkeys(kinds)]
        try:
            waiting = set(tasks)
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=tasks.index):
                    yield task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _ask(name: str, kind: str) -> Answer:
    begun = time.monotonic()
    number = dns_message.type_number(kind)
    family = _FAMILIES.get(kind)
    if family is None:
        return Answer(name, kind, AnswerStatus.EMPTY, Source.GETADDRINFO)
    status = AnswerStatus.FOUND
    records: tuple[Record, ...] = ()
    troubles: tuple[str, ...] = ()
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, family=family, type=socket.SOCK_STREAM)
        texts = dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found)
        records = tuple(Record(name, number, 0, data) for data in map(pack, texts) if data is not None)
    except (socket.gaierror, UnicodeError) as error:
        fault = error.errno if isinstance(error, socket.gaierror) else socket.EAI_NONAME
        status = _ABSENT.get(fault or 0, AnswerStatus.NO_ANSWER)
        troubles = (str(error),)
    duration = time.monotonic() - begun
    return Answer(name, kind, status, Source.GETADDRINFO, records, troubles=troubles, duration=duration)
