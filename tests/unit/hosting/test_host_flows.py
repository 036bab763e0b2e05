"""Packets of undecided flows: each has one verdict, in order, however they come and however many there are."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from towpath.hosting import host_flows, messages
from towpath.hosting.filters import Filters
from towpath.hosting.host_flows import HostFlows, Key
from towpath.hosting.host_rules import ALLOWED, REFUSED, WATCHED
from towpath.hosting.loop import Loop
from towpath.hosting.screening import Screening
from towpath.kernel.scope import DROP, REPEAT
from towpath.linux.conntrack import Ended, FlowKey
from towpath.linux.nfqueue import Queued
from towpath.providers import Address, Allow, Drop, FilterSettings, Flow, FlowReport, Pause, Peek
from towpath.providers.verdict import FlowVerdict
from towpath.wire import ip

CLIENT, SERVER = b"\x0a\0\0\1", b"\x0a\0\0\2"
OTHERS_MARK = 0x5


class _Session:
    """A filter that is answered for by the test: `asked` are its open questions."""

    name = "mine"
    settings = FilterSettings()

    def __init__(self) -> None:
        self.asked: list[tuple[messages.FromManager, Callable[[FlowVerdict], None]]] = []

    def wants(self, _hook: str) -> bool:
        return True

    def ask(self, build: Callable[[int], messages.FromManager], answered: Callable[[FlowVerdict], None]) -> None:
        self.asked.append((build(len(self.asked)), answered))

    def answer(self, verdict: FlowVerdict) -> messages.FromManager:
        question, answered = self.asked.pop(0)
        answered(verdict)
        return question


class _Host:
    """Stands for the filters, the queue and connection tracking; `verdicts` are in the order of giving."""

    def __init__(self, loop: Loop, *, fail_open: bool) -> None:
        self._loop = loop
        self.session = _Session()
        self.verdicts: list[tuple[int, int, int]] = []
        self.marked: list[tuple[FlowKey, int]] = []
        self.reports: list[FlowReport] = []
        self.flows = HostFlows(cast(Filters, self), self, self, self.describe, fail_open=fail_open)

    def screen(self, flow: Flow, decided: Callable[[Screening, Drop | None], None]) -> Screening:
        screening = Screening(self._loop, flow, [cast(Any, self.session)], lambda drop: decided(screening, drop))
        screening.begin()
        return screening

    def closed(self, _screening: Screening, report: FlowReport) -> None:
        self.reports.append(report)

    def verdict(self, packet: int, verdict: int, mark: int = 0) -> None:
        self.verdicts.append((packet, verdict, mark))

    def set_mark(self, key: FlowKey, mark: int, _mask: int) -> bool:
        self.marked.append((key, mark))
        return True

    def describe(self, key: Key, _hook: int) -> Flow:
        return Flow(
            number=1,
            transport="tcp" if key[0] == ip.TCP else "udp",
            direction="outbound",
            local=Address("10.0.0.1", key[2]),
            remote=Address("10.0.0.2", key[4]),
            started=0.0,
        )

    def tcp(
        self, number: int, sequence: int, flags: int, payload: bytes = b"", port: int = 1024, back: bool = False
    ) -> None:
        ends = (port, 7) if not back else (7, port)
        tcp = struct.pack(">HHIIBBHHH", *ends, sequence & 0xFFFFFFFF, 0, 0x50, flags, 100, 0, 0) + payload
        source, destination = (SERVER, CLIENT) if back else (CLIENT, SERVER)
        head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0, source, destination)
        self.flows.packet(Queued(number, head + tcp, 2, OTHERS_MARK))

    def udp(self, number: int, payload: bytes) -> None:
        head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 0, 0, 64, 17, 0, CLIENT, SERVER)
        datagram = struct.pack(">HHHH", 1024, 7, 8 + len(payload), 0) + payload
        self.flows.packet(Queued(number, head + datagram, 2, OTHERS_MARK))


def marked(*packets: int, mark: int) -> list[tuple[int, int, int]]:
    return [(packet, REPEAT, OTHERS_MARK | mark) for packet in packets]


def dropped(*packets: int) -> list[tuple[int, int, int]]:
    return [(packet, DROP, 0) for packet in packets]


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def host(loop: Loop) -> _Host:
    return _Host(loop, fail_open=True)


def test_an_opening_waits_for_the_verdict_and_its_repetition_is_dropped(host: _Host) -> None:
    host.tcp(1, 100, ip.SYN)
    host.tcp(2, 100, ip.SYN)
    assert host.verdicts == dropped(2)
    host.session.answer(Allow())
    host.tcp(3, 101, ip.ACK)
    assert host.verdicts[1:] == marked(1, 3, mark=ALLOWED)


def test_segments_out_of_order_are_shown_as_one_stream_and_go_on_in_order(host: _Host) -> None:
    host.tcp(1, -2, ip.SYN)
    host.session.answer(Peek(outbound=6))
    host.tcp(2, 1, ip.ACK, b"cd")
    host.tcp(3, 3, ip.ACK | ip.FIN, b"ef")
    host.tcp(4, -1, ip.ACK, b"ab")
    assert host.verdicts == marked(1, mark=WATCHED)
    shown = [host.session.answer(verdict) for verdict in (Peek(outbound=6), Allow())]
    assert [cast(messages.Data, one).data for one in shown] == [b"ab", b"abcdef"]
    assert host.verdicts[1:] == marked(4, 2, 3, mark=ALLOWED)


def test_what_has_no_bytes_passes_while_bytes_wait(host: _Host) -> None:
    host.tcp(1, 0, ip.SYN)
    host.session.answer(Peek(outbound=100))
    host.tcp(2, 50, ip.SYN | ip.ACK, back=True)
    host.tcp(3, 1, ip.ACK)
    host.tcp(4, 1, ip.ACK, b"hello")
    host.tcp(5, 51, ip.ACK, back=True)
    assert host.verdicts == marked(1, 2, 3, 5, mark=WATCHED)


def test_a_flow_dropped_over_its_bytes_is_reset_and_marked(host: _Host) -> None:
    host.tcp(1, 0, ip.SYN)
    host.session.answer(Peek(outbound=100))
    host.tcp(2, 1, ip.ACK, b"dam")
    host.tcp(3, 4, ip.ACK, b"n")
    host.session.answer(Drop("it swears"))
    assert host.verdicts[1:] == marked(2, mark=REFUSED) + dropped(3)
    assert host.marked == [(FlowKey(6, CLIENT, 1024, SERVER, 7), REFUSED)]


def test_datagrams_wait_together_and_pass_as_they_came(host: _Host) -> None:
    for number in (1, 2):
        host.udp(number, b"x" * number)
    host.session.answer(Peek(outbound=3))
    host.session.answer(Peek(outbound=3))
    host.session.answer(Allow())
    assert host.verdicts == marked(1, 2, mark=ALLOWED)


def test_ports_that_are_used_again_are_a_new_flow(host: _Host) -> None:
    host.tcp(1, 100, ip.SYN)
    host.session.answer(Allow())
    host.tcp(2, 5000, ip.SYN)
    assert [report.verdict for report in host.reports] == ["allowed"]
    host.session.answer(Drop("not again"))
    assert host.verdicts == marked(1, mark=ALLOWED) + marked(2, mark=REFUSED)


def test_an_answer_about_an_opening_that_was_given_up_touches_nothing_of_the_new_one(host: _Host) -> None:
    host.tcp(1, 100, ip.SYN)
    host.tcp(2, 5000, ip.SYN)
    assert host.verdicts == dropped(1)
    host.session.answer(Drop("late"))
    assert len(host.flows) == 1
    host.session.answer(Allow())
    assert host.verdicts[1:] == marked(2, mark=ALLOWED)


@pytest.mark.parametrize("fail_open", [True, False])
def test_undecided_flows_are_bounded(loop: Loop, monkeypatch: pytest.MonkeyPatch, fail_open: bool) -> None:
    monkeypatch.setattr(host_flows, "MOST_UNDECIDED", 10)
    host = _Host(loop, fail_open=fail_open)
    for number in range(12):
        host.tcp(number, 0, ip.SYN, port=2000 + number)
    assert host.verdicts == (marked(10, 11, mark=ALLOWED) if fail_open else dropped(10, 11))


def test_the_oldest_of_too_many_flows_is_reported_and_forgotten(host: _Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_flows, "MOST_FOLLOWED", 10)
    for number in range(12):
        host.tcp(number, 0, ip.SYN, port=2000 + number)
        host.session.answer(Allow())
    assert len(host.flows) == 10
    assert [report.flow.local.port for report in host.reports] == [2000, 2001]
    assert "no longer followed" in (host.reports[0].error or "")


@pytest.mark.parametrize("translated", [False, True])
def test_the_end_is_told_with_its_counts_also_where_the_destination_was_translated(
    host: _Host, translated: bool
) -> None:
    host.tcp(1, 100, ip.SYN)
    host.session.answer(Allow())
    seen = FlowKey(6, CLIENT, 1024, SERVER, 7)
    opened = FlowKey(6, CLIENT, 1024, b"\x0a\0\0\x63", 70) if translated else seen
    host.flows.ended(Ended(opened, seen.reversed(), 3, 300, 2, 200))
    assert len(host.flows) == 0
    report = host.reports[0]
    assert (report.sent, report.received, report.packets_sent, report.packets_received) == (300, 200, 3, 2)


def test_letting_go_passes_everything_and_ends_every_flow(host: _Host) -> None:
    host.tcp(1, 100, ip.SYN)
    host.session.answer(Peek(outbound=100))
    host.tcp(2, 101, ip.ACK, b"hello")
    host.udp(3, b"hello")
    host.flows.let_go()
    assert host.verdicts == marked(1, mark=WATCHED) + marked(2, 3, mark=ALLOWED)
    assert len(host.flows) == 0
    assert len(host.reports) == 1


def test_what_was_left_unanswered_is_not_asked_about_again(host: _Host) -> None:
    host.tcp(1, 100, ip.SYN)
    host.session.answer(Drop("no", silent=True))
    host.tcp(2, 100, ip.SYN)
    assert host.verdicts == dropped(1, 2)
    assert host.session.asked == []


def test_a_paused_flow_holds_everything_until_it_is_resumed(host: _Host) -> None:
    host.udp(1, b"hello")
    host.session.answer(Pause())
    host.udp(2, b"there")
    assert host.verdicts == []


@pytest.mark.parametrize("data", [b"", b"\x45", bytes(40), b"\x45" + bytes(19), b"\x60" + bytes(60)])
def test_what_is_no_packet_is_dropped(host: _Host, data: bytes) -> None:
    host.flows.packet(Queued(1, data, 2, 0))
    assert host.verdicts == dropped(1)
    assert host.session.asked == []
