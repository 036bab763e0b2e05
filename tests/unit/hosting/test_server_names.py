"""Names of a tunnel's servers, where the C library may not ask for them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from towpath.hosting import server_names
from towpath.wire import dns, dns_build

Answering = Callable[[bytes], list[bytes]]


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "hosts"
    path.write_text("192.0.2.7 gate.example gate\n")
    monkeypatch.setattr(server_names, "_HOSTS", str(path))
    monkeypatch.setattr(server_names, "resolvers", lambda: ["192.0.2.53"])
    monkeypatch.setattr(server_names, "_reachable", lambda address, _port: ":" not in address)
    return path


@pytest.fixture
def attachment() -> Iterator[Callable[[Answering | None], Any]]:
    """Makes one whose questions go to a server that answers so; without one, asking fails."""
    made: list[socket.socket] = []

    def make(answering: Answering | None) -> Any:
        def open_question(_server: str) -> socket.socket:
            if answering is None:
                raise OSError("nobody may be asked")
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            made.append(theirs)

            def serve() -> None:
                for _ in range(2):
                    for data in answering(theirs.recv(4096)):
                        theirs.send(data)

            threading.Thread(target=serve, daemon=True).start()
            return ours

        return SimpleNamespace(questions=open_question)

    yield make
    for one in made:
        one.close()


def answered(query: bytes) -> list[bytes]:
    kind = dns.parse_query(query).type
    record = (
        dns_build.Record("gate.test", "A", 60, socket.inet_aton("192.0.2.9"))
        if kind == 1
        else dns_build.Record("gate.test", "AAAA", 60, socket.inet_pton(socket.AF_INET6, "2001:db8::9"))
    )
    return [dns_build.answer(query, [record])]


def test_the_hosts_file_is_asked_first_and_no_server_then(hosts: Path, attachment: Any) -> None:
    assert server_names.addresses_of("Gate.Example", 51820, attachment(None)) == ["192.0.2.7"]


def test_an_address_is_no_question(hosts: Path, attachment: Any) -> None:
    assert server_names.addresses_of("2001:db8::9", 51820, attachment(None)) == ["2001:db8::9"]


def test_the_servers_tell_and_what_is_reached_comes_first(hosts: Path, attachment: Any) -> None:
    assert server_names.addresses_of("gate.test", 51820, attachment(answered)) == ["192.0.2.9", "2001:db8::9"]


def test_what_answers_another_question_is_passed_over(hosts: Path, attachment: Any) -> None:
    def noisy(query: bytes) -> list[bytes]:
        other = dns_build.query("evil.test", "A", int.from_bytes(query[:2], "big"))
        wrong = dns_build.answer(other, [dns_build.Record("evil.test", "A", 60, bytes(4))])
        return [b"", b"\xff" * 40, wrong, *answered(query)]

    assert server_names.addresses_of("gate.test", 51820, attachment(noisy)) == ["192.0.2.9", "2001:db8::9"]


@pytest.mark.parametrize("rcode", [2, 3, 5])
def test_where_nobody_tells_it_the_reason_says_what_to_do(hosts: Path, attachment: Any, rcode: int) -> None:
    def refusing(query: bytes) -> list[bytes]:
        return [dns_build.answer(query, [], rcode)]

    with pytest.raises(OSError, match=r"the kill switch lets nobody else be asked for it \(an address as Endpoint"):
        server_names.addresses_of("gate.test", 51820, attachment(refusing))


@pytest.mark.parametrize("name", ["a..b", "x" * 64, ".".join(["abc"] * 80)])
def test_what_is_no_name_is_an_error_and_no_question(hosts: Path, attachment: Any, name: str) -> None:
    with pytest.raises(UnicodeError):
        server_names.addresses_of(name, 51820, attachment(answered))
