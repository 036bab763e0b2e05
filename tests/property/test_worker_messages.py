"""What a worker sends may be anything: messages or a violation, and nothing is decided twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from towpath.errors import PeerViolation
from towpath.hosting import messages
from towpath.hosting.screening import Screening
from towpath.providers.dns import Answer, Forward, Refuse
from towpath.providers.flow import Address, Direction, Flow
from towpath.providers.settings import FilterSettings
from towpath.providers.verdict import Allow, Drop, Pause, Peek

VERDICTS = st.one_of(
    st.just(Allow()),
    st.builds(Drop, st.text(max_size=20), st.booleans()),
    st.builds(Peek, st.integers(0, 65536), st.integers(0, 65536)),
    st.just(Pause()),
)
DNS_VERDICTS = st.one_of(
    st.builds(Answer, st.just(("192.0.2.1",)), st.integers(0, 86400)),
    st.just(Forward()),
    st.builds(Refuse, st.text(max_size=20), st.sampled_from(["nxdomain", "zero", "refused"])),
)
FROM_WORKER = st.one_of(
    st.builds(messages.Verdict, st.integers(0, 1 << 40), VERDICTS | DNS_VERDICTS),
    st.builds(messages.Failed, st.integers(0, 1 << 40), st.text(max_size=50)),
    st.builds(messages.Resume, st.integers(0, 1 << 40), VERDICTS),
    st.builds(messages.Said, st.just("info"), st.text(max_size=50)),
    st.just(messages.Ended()),
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(FROM_WORKER, max_size=600))
def test_messages_arrive_as_they_were_sent_in_packets_of_a_bounded_size(batch: list[messages.FromWorker]) -> None:
    packets = messages.batches(batch)
    assert [message for packet in packets for message in messages.from_worker(packet)] == batch
    assert all(len(packet) < 200_000 for packet in packets)


PACKETS = st.lists(FROM_WORKER, min_size=1, max_size=3).map(lambda one: messages.batches(one)[0])


@given(st.binary(max_size=300) | PACKETS)
def test_any_packet_is_messages_or_a_violation(packet: bytes) -> None:
    for cut in range(0, len(packet), 7):
        try:
            heard = messages.from_worker(packet[:cut] + packet[cut + 1 :])
        except PeerViolation:
            continue
        assert isinstance(heard, list)


def test_a_message_nested_without_end_is_a_violation() -> None:
    with pytest.raises(PeerViolation):
        messages.from_worker(b"\x91" * 100_000)


class _Loop:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.timers: list[tuple[_Timer, Any]] = []

    def later(self, _seconds: float, call: object) -> _Timer:
        timer = _Timer()
        self.timers.append((timer, call))
        return timer

    def pass_time(self) -> None:
        due, self.timers = self.timers, []
        for timer, call in due:
            if not timer.cancelled:
                call()


class _Timer:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class _Session:
    """Keeps every question, so that a test answers when and as often as it likes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.settings = FilterSettings()
        self.open: list[Any] = []

    def wants(self, _hook: str) -> bool:
        return True

    def ask(self, build: object, answered: object) -> None:
        self.open.append(answered)


_DIRECTIONS: tuple[Direction, ...] = ("outbound", "inbound")

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("answer"), st.integers(0, 1), VERDICTS),
        st.tuples(st.just("again"), st.integers(0, 1), VERDICTS),
        st.tuples(st.just("resume"), st.integers(0, 1), VERDICTS),
        st.tuples(st.just("update"), st.integers(0, 1), VERDICTS),
        st.tuples(st.just("replaced"), st.integers(0, 1), st.just(Allow())),
        st.tuples(st.just("outbound"), st.binary(min_size=1, max_size=50), st.just(Allow())),
        st.tuples(st.just("inbound"), st.binary(min_size=1, max_size=50), st.just(Allow())),
        st.tuples(st.just("end"), st.sampled_from(("outbound", "inbound")), st.just(Allow())),
        st.tuples(st.just("time"), st.just(0), st.just(Allow())),
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from(("tcp", "udp")))
def test_whatever_filters_answer_and_when_a_flow_is_decided_once_and_its_bytes_stay_in_order(
    steps: list[tuple[str, Any, Any]], transport: Any
) -> None:
    loop: Any = _Loop()
    sessions: list[Any] = [_Session("first"), _Session("second")]
    flow = Flow(
        number=1,
        transport=transport,
        direction="outbound",
        local=Address("192.0.2.1", 40000),
        remote=Address("192.0.2.7", 443),
        started=0.0,
    )
    decided: list[Drop | None] = []
    cuts: list[Drop] = []
    screening = Screening(loop, flow, sessions, decided.append)
    screening.cut = cuts.append
    screening.begin()
    fed: dict[str, bytes] = {"outbound": b"", "inbound": b""}
    passed: dict[str, bytes] = {"outbound": b"", "inbound": b""}
    ended: set[str] = set()
    answered: list[Any] = []
    for what, detail, verdict in steps:
        if what == "answer" and sessions[detail].open:
            answered.append(sessions[detail].open.pop(0))
            answered[-1](verdict)
        elif what == "again" and answered:
            answered[-1](verdict)
        elif what == "resume":
            screening.resume(sessions[detail], verdict)
        elif what == "update" and decided == [None]:
            screening.update(sessions[detail], verdict)
        elif what == "replaced":
            screening.ask_again(sessions[detail])
        elif what in fed and decided == [None] and what not in ended:
            assert isinstance(detail, bytes)
            fed[what] += detail
            screening.take("outbound" if what == "outbound" else "inbound", detail)
        elif what == "end" and decided == [None] and detail not in ended:
            ended.add(str(detail))
            screening.end(detail)
        elif what == "time":
            loop.pass_time()
        for direction in _DIRECTIONS:
            passed[direction] += b"".join(screening.take_passed(direction))
            assert fed[direction].startswith(passed[direction])
        assert len(decided) <= 1
        assert len(cuts) <= 1
        if screening.dropped is not None:
            assert screening.by in ("first", "second")
            assert decided == [screening.dropped] or cuts == [screening.dropped]
        elif decided == [None] and screening.transparent:
            assert passed == fed
