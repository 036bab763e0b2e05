"""What a service of the Lab saw."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Record"]


@dataclass(frozen=True, slots=True)
class Record:
    """One connection to a service, one datagram, or one DNS question.

    `service` and `port` say which service, `peer` who (address without port). `sni` is the name in the ClientHello;
    `host` that of the last request. `requests` are the request lines so far (of DNS ``"A news.test"``). `received` and
    `sent` count payload bytes, after decryption. `established` is whether TLS, where it is spoken, came about.
    """

    service: str
    port: int
    peer: str
    sni: str | None = None
    host: str | None = None
    requests: tuple[str, ...] = ()
    received: int = 0
    sent: int = 0
    established: bool = True
