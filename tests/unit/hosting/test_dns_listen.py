"""The side of programs: batches, connections that lie about lengths, that are slow, and that do not read."""

from __future__ import annotations

import random
import select
import socket
import time
from collections.abc import Callable, Iterator
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towpath.dns_proxy.cache import WireCache, key_of
from towpath.hosting import dns_listen
from towpath.hosting.dns_listen import Asked, DnsListener
from towpath.hosting.loop import Loop
from towpath.kernel.system import sockets
from towpath.wire import dns, dns_scan


class Served:
    """A listener on loopback that answers every name with one address, from its cache from the second time on."""

    def __init__(self, family: int = 4) -> None:
        self.loop = Loop()
        self.cache = WireCache()
        self.asked: list[Asked] = []
        address = "127.0.0.1" if family == 4 else "::1"
        self.listener = DnsListener(self.loop, self.cache, self._ask)
        self.datagrams = sockets.dns_intake(family, address, 0)
        self.stream = sockets.tcp_listener(family, address, 0, transparent=False)
        self.listener.listen(self.datagrams)
        self.listener.listen_stream(self.stream)
        self.address = address

    def _ask(self, asked: Asked) -> None:
        self.asked.append(asked)
        try:
            question = dns.parse_query(asked.data)
        except ValueError:
            return
        key, second = key_of(asked.data, question), int(time.monotonic())
        entry = self.cache.find(key, second)
        if entry is None:
            answer = dns.answer(asked.data, [dns.Record(question.name, "A", 60, dns.a("192.0.2.1"))])
            entry = self.cache.store(key, dns_scan.scan(answer), second)
        asked.reply(self.cache.prepare(entry, asked.data, question, second, 512))

    def run(self, seconds: float = 0.002) -> None:
        self.loop.later(seconds, self.loop.stop)
        self.loop.run()

    def until(self, awaited: Callable[[], object]) -> None:
        """Serves until something holds, however long a busy machine takes for it."""
        deadline = time.monotonic() + 60
        while not awaited():
            assert time.monotonic() < deadline, "it did not come to be"
            self.run()

    def hear(self, client: socket.socket) -> bytes:
        """What a client is sent next, or nothing where it was let go."""
        self.until(lambda: select.select([client], [], [], 0)[0])
        return client.recv(1 << 16)

    def client(self) -> socket.socket:
        made = socket.create_connection(self.stream.getsockname()[:2], timeout=60)
        made.setblocking(False)
        before = {*self.listener._clients}
        self.until(lambda: {*self.listener._clients} - before)
        return made

    def close(self) -> None:
        self.listener.close()
        self.datagrams.close()
        self.stream.close()
        self.loop.close()


@pytest.fixture(params=[4, 6])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    made = Served(request.param)
    yield made
    made.close()


def framed(*messages: bytes) -> bytes:
    return b"".join(len(one).to_bytes(2, "big") + one for one in messages)


def test_a_batch_is_answered_to_whom_each_question_came_from(served: Served) -> None:
    names = [f"n{at}.good.test" for at in range(20)]
    clients = [socket.socket(served.datagrams.family, socket.SOCK_DGRAM) for _ in range(10)]
    for one in clients:
        one.connect(served.datagrams.getsockname()[:2])
    for turn in range(3):
        wanted: dict[int, list[tuple[int, str]]] = {at: [] for at in range(10)}
        for at in range(150):
            client, name = at % 10, names[at % 20]
            clients[client].send(dns.query(name, "A", at + 1, edns=False))
            wanted[client].append((at + 1, name))
        clients[0].send(b"\0" * 3000)  # longer than any question
        for client, expected in wanted.items():
            answers = [dns.parse_answer(served.hear(clients[client])) for _ in expected]
            assert sorted((one.id, one.name) for one in answers) == sorted(expected), turn
            assert all(one.addresses[0].address == "192.0.2.1" for one in answers)
    for one in clients:
        one.close()
    assert served.listener.answered > 200


def test_questions_over_one_connection_are_answered_each(served: Served) -> None:
    client = served.client()
    client.sendall(framed(*(dns.query(f"n{at}.good.test", "A", at) for at in range(50))))
    data = b""
    found: list[int] = []
    while len(found) < 50:
        size = int.from_bytes(data[:2], "big")
        if len(data) < 2 + size or not data:
            data += served.hear(client)
            continue
        found.append(dns.parse_answer(data[2 : 2 + size]).id)
        data = data[2 + size :]
    assert found == list(range(50))
    assert data == b""
    client.close()


@pytest.mark.parametrize("lie", [b"\0\0", b"\0\1x", b"\xff\xff" + b"x" * 100, b"\0", framed(b"\xff" * 40)])
def test_lengths_that_lie_disturb_nobody_else(served: Served, lie: bytes) -> None:
    liar, other = served.client(), served.client()
    liar.sendall(lie)
    other.sendall(framed(dns.query("a.good.test", "A", 7)))
    assert dns.parse_answer(served.hear(other)[2:]).id == 7
    liar.close()
    other.close()


def test_a_client_that_sends_a_byte_now_and_then_is_let_go(served: Served) -> None:
    query = framed(dns.query("a.good.test", "A", 7))
    with patch.object(dns_listen, "_IDLE", 0.3):
        listener = DnsListener(served.loop, served.cache, served._ask)
    second = sockets.tcp_listener(4, "127.0.0.1", 0, transparent=False)
    listener.listen_stream(second)
    client = socket.create_connection(second.getsockname(), timeout=60)
    ended = False
    for byte in query * 10:
        client.sendall(bytes([byte]))
        served.run(0.05)
        client.setblocking(False)
        try:
            ended = client.recv(600) == b""
        except BlockingIOError:
            continue
        except ConnectionError:
            ended = True
        if ended:
            break
    assert ended
    client.close()
    listener.close()
    second.close()


def test_the_client_that_was_silent_longest_gives_way_to_a_new_one(served: Served) -> None:
    with patch.object(dns_listen, "MOST_CLIENTS", 3):
        clients = [served.client() for _ in range(4)]
    assert served.hear(clients[0]) == b""
    clients[3].sendall(framed(dns.query("a.good.test", "A", 7)))
    assert served.hear(clients[3])
    for one in clients:
        one.close()


def test_a_client_that_does_not_read_its_answers_is_let_go(served: Served) -> None:
    served.stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # whom it accepts has it too
    client = served.client()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    question = framed(dns.query("a.good.test", "A", 7)) * 500
    for _ in range(2000):
        try:
            client.send(question)
        except BlockingIOError:
            pass
        except ConnectionError:
            break
        served.run(0.005)
        if not served.listener._clients:
            break
    assert not served.listener._clients
    client.close()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=12), st.integers(0, 1 << 30))
def test_any_datagrams_and_any_streams_leave_it_serving(pieces: list[bytes], seed: int) -> None:
    served = Served()
    try:
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect(served.datagrams.getsockname())
        stream = served.client()
        order = random.Random(seed)
        for piece in pieces:
            client.send(piece)
            if order.random() < 0.5:
                try:
                    stream.send(piece)
                except OSError:
                    stream.close()
                    stream = served.client()
        client.send(dns.query("last.good.test", "A", 4711, edns=False))
        while dns.parse_answer(served.hear(client)).id != 4711:
            pass
        client.close()
        stream.close()
    finally:
        served.close()
