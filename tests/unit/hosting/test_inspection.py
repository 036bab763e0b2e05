"""What a filter that looks at bytes lets pass, and when: the meaning of `Peek`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import Misuse
from towpath.hosting.inspection import Complete, FlowInspection, Inspection, Pass, Show, Step
from towpath.providers import MOST_PEEK, Allow, Direction, Drop, FlowVerdict, Pause, Peek

OUT, IN = "outbound", "inbound"
Event = tuple[str, ...]


def out(*chunks: bytes, ended: bool = False) -> Pass:
    return Pass("outbound", chunks, ended)


def back(*chunks: bytes, ended: bool = False) -> Pass:
    return Pass("inbound", chunks, ended)


def show(data: bytes, offset: int = 0) -> Show:
    return Show("outbound", offset, data)


def show_back(data: bytes, offset: int = 0) -> Show:
    return Show("inbound", offset, data)


Row = tuple[FlowVerdict | tuple[str, bytes] | tuple[str], list[Step]]

SCRIPTS: dict[str, list[Row]] = {
    "allowed flows pass as they come": [
        (Allow(), []),
        ((OUT, b"a"), [out(b"a")]),
        ((IN, b"b"), [back(b"b")]),
        ((OUT,), [out(ended=True)]),
    ],
    "what comes before the first verdict is held": [
        ((OUT, b"a"), []),
        ((OUT,), []),
        ((IN, b"b"), []),
        (Allow(), [out(b"a", ended=True), back(b"b")]),
    ],
    "a dropped flow passes nothing": [
        ((OUT, b"a"), []),
        (Drop("no"), []),
        ((OUT, b"b"), []),
        ((OUT,), []),
    ],
    "nothing asked for is as good as allowed": [(Peek(), []), ((OUT, b"a"), [out(b"a")])],
    "more is asked for until it is enough, and all that is held is shown again": [
        (Peek(outbound=4), []),
        ((OUT, b"ab"), [show(b"ab")]),
        (Peek(outbound=4), []),
        ((OUT, b"c"), [show(b"abc")]),
        (Peek(outbound=3), [out(b"ab", b"c")]),
    ],
    "no more is shown than was asked for, and the rest waits with it": [
        (Peek(outbound=2), []),
        ((OUT, b"abcd"), [show(b"ab")]),
        (Peek(outbound=3), [show(b"abc")]),
        (Peek(outbound=3), [out(b"abcd")]),
    ],
    "what arrives while a question is open is shown by the next": [
        (Peek(outbound=9), []),
        ((OUT, b"a"), [show(b"a")]),
        ((OUT, b"b"), []),
        (Peek(outbound=9), [show(b"ab")]),
        (Allow(), [out(b"a", b"b")]),
    ],
    "the other direction passes meanwhile": [
        (Peek(outbound=9), []),
        ((IN, b"220"), [back(b"220")]),
        ((OUT, b"a"), [show(b"a")]),
        ((IN, b"250"), [back(b"250")]),
    ],
    "the request passes and the answer is shown": [
        (Peek(outbound=9), []),
        ((OUT, b"GET"), [show(b"GET")]),
        (Peek(inbound=4), [out(b"GET")]),
        ((OUT, b"!"), [out(b"!")]),
        ((IN, b"HTTP"), [show_back(b"HTTP")]),
        (Allow(), [back(b"HTTP")]),
    ],
    "a direction that passes is held again from where a later verdict asks for more": [
        (Peek(outbound=9), []),
        ((IN, b"220"), [back(b"220")]),
        ((OUT, b"a"), [show(b"a")]),
        (Peek(inbound=8), [out(b"a")]),
        ((IN, b"45678+"), [show_back(b"45678", 3)]),
        (Peek(outbound=9), [back(b"45678+")]),
        ((OUT, b"b"), [show(b"b", 1)]),
    ],
    "what has passed already is not asked for": [
        (Peek(outbound=9), []),
        ((IN, b"220"), [back(b"220")]),
        ((OUT, b"a"), [show(b"a")]),
        (Peek(inbound=3), [out(b"a")]),
        ((IN, b"4"), [back(b"4")]),
    ],
    "questions come one at a time": [
        (Peek(outbound=9, inbound=9), []),
        ((OUT, b"a"), [show(b"a")]),
        ((IN, b"b"), []),
        (Peek(outbound=9, inbound=9), [show_back(b"b")]),
        (Peek(outbound=9), [back(b"b")]),
        (("quiet", b"outbound"), [Complete("outbound")]),
        (Peek(), [out(b"a")]),
    ],
    "the end of a direction is complete once all of it was shown": [
        (Peek(outbound=9), []),
        ((OUT, b"a"), [show(b"a")]),
        ((OUT, b"b"), []),
        ((OUT,), []),
        (Peek(outbound=9), [show(b"ab")]),
        (Peek(outbound=9), [Complete("outbound")]),
        (Allow(), [out(b"a", b"b", ended=True)]),
    ],
    "an end without a byte is complete as well": [
        (Peek(inbound=9), []),
        ((IN,), [Complete("inbound")]),
        (Peek(outbound=2), [back(ended=True)]),
        ((OUT, b"a"), [show(b"a")]),
        (Peek(inbound=9), [out(b"a")]),
    ],
    "silence is complete only where bytes wait": [
        (Peek(outbound=9), []),
        (("quiet", b"outbound"), []),
        ((OUT, b"a"), [show(b"a")]),
        (("quiet", b"outbound"), []),
        (Peek(outbound=9), []),
        (("quiet", b"outbound"), [Complete("outbound")]),
        ((OUT, b"b"), []),
        (Peek(outbound=1), [out(b"a", b"b")]),
    ],
    "a direction that was complete can be asked for again": [
        (Peek(outbound=9), []),
        ((OUT, b"a"), [show(b"a")]),
        (Peek(outbound=9), []),
        (("quiet", b"outbound"), [Complete("outbound")]),
        (Peek(inbound=9), [out(b"a")]),
        ((IN, b"b"), [show_back(b"b")]),
        (Peek(outbound=9), [back(b"b")]),
        ((OUT, b"c"), [show(b"c", 1)]),
    ],
    "a final answer may repeat a count that has passed already": [
        (Peek(inbound=9), []),
        ((OUT, b"abcde"), [out(b"abcde")]),
        ((IN, b"1"), [show_back(b"1")]),
        (Peek(outbound=9), [back(b"1")]),
        ((OUT,), [Complete("outbound")]),
        (Peek(outbound=4), [out(ended=True)]),
    ],
    "another instance is asked again, and shown again what is held": [
        (Peek(outbound=9), []),
        ((IN, b"220"), [back(b"220")]),
        ((OUT, b"a"), [show(b"a")]),
        (("restart",), []),
        ((IN, b"4"), []),
        ((OUT, b"b"), []),
        (Peek(outbound=1), [back(b"4"), show(b"a")]),
        (("restart",), []),
        (Pause(), []),
        (("restart",), []),
        (Allow(), [out(b"a", b"b")]),
        (("restart",), []),
        ((OUT, b"c"), [out(b"c")]),
    ],
    "a final question is not final for another instance": [
        (Peek(outbound=9), []),
        ((OUT,), [Complete("outbound")]),
        (("restart",), []),
        (Peek(outbound=9), [Complete("outbound")]),
    ],
    "a pause holds both directions until it is resumed": [
        (Pause(), []),
        ((OUT, b"a"), []),
        ((IN, b"b"), []),
        (("quiet", b"outbound"), []),
        (Peek(outbound=9), [back(b"b"), show(b"a")]),
        (Pause(), []),
        ((IN, b"c"), []),
        (Allow(), [out(b"a"), back(b"c")]),
    ],
}


def play(flow: FlowInspection, event: FlowVerdict | tuple[str, bytes] | tuple[str]) -> list[Step]:
    if not isinstance(event, tuple):
        return flow.verdict(event)
    direction: Direction = "inbound" if IN in event or b"inbound" in event else "outbound"
    if event[0] == "restart":
        flow.restart()
        return []
    if event[0] == "quiet":
        return flow.quiet(direction)
    return flow.take(direction, event[1]) if len(event) == 2 else flow.end(direction)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_flow_is_inspected_step_by_step(script: str) -> None:
    flow = FlowInspection()
    for at, (event, steps) in enumerate(SCRIPTS[script]):
        assert play(flow, event) == steps, f"step {at}: {event}"


def test_the_answer_of_data_complete_is_final() -> None:
    flow = FlowInspection()
    flow.verdict(Peek(outbound=9))
    flow.take("outbound", b"a")
    flow.verdict(Peek(outbound=9))
    assert flow.waits("outbound")
    flow.quiet("outbound")
    with pytest.raises(Misuse, match="waits for more of what is over"):
        flow.verdict(Peek(outbound=9))
    flow.verdict(Pause())
    with pytest.raises(Misuse, match="waits for more of what is over"):
        flow.verdict(Peek(outbound=2))
    assert flow.verdict(Peek(outbound=1)) == [out(b"a")]
    assert flow.allowed


def test_a_verdict_that_nobody_asked_for_is_refused() -> None:
    flow = FlowInspection()
    flow.verdict(Peek(outbound=9))
    with pytest.raises(Misuse, match="nothing was asked"):
        flow.verdict(Allow())
    with pytest.raises(Misuse, match="nothing is fresh"):
        flow.direction("outbound").show()


def test_a_stream_of_single_bytes_is_shown_whole_and_not_too_often() -> None:
    flow = FlowInspection()
    flow.verdict(Peek(outbound=MOST_PEEK))
    shown: list[int] = []
    for _ in range(MOST_PEEK - 1):
        for step in flow.take("outbound", b"x"):
            assert isinstance(step, Show)
            shown.append(len(step.data))
            flow.verdict(Peek(outbound=MOST_PEEK))
    assert shown[:64] == list(range(1, 65))
    assert len(shown) < 160
    assert sum(shown) < 10 * MOST_PEEK
    assert flow.waits("outbound")
    (last,) = flow.quiet("outbound")
    assert isinstance(last, Show)
    assert len(last.data) == MOST_PEEK - 1
    flow.verdict(Peek(outbound=MOST_PEEK))
    assert flow.quiet("outbound") == [Complete("outbound")]


@pytest.mark.parametrize("how", ["end", "full"])
def test_the_last_bytes_are_shown_at_once_however_few(how: str) -> None:
    flow = FlowInspection()
    count = 200
    flow.verdict(Peek(outbound=count))
    while flow.direction("outbound").held < count - 1:
        if flow.take("outbound", b"x"):
            flow.verdict(Peek(outbound=count))
    assert flow.direction("outbound").fresh
    steps = flow.end("outbound") if how == "end" else flow.take("outbound", b"x")
    assert steps == [show(b"x" * (count - (how == "end")))]


def test_a_stream_need_not_be_read_beyond_what_would_be_shown() -> None:
    direction = Inspection()
    assert (direction.holding, direction.room) == (True, 0)
    direction.judge(10)
    direction.take(b"abc")
    assert direction.room == 7
    direction.take(bytes(20))
    assert direction.room == 0


def test_a_direction_is_starved_when_all_that_may_be_shown_was_shown() -> None:
    direction = Inspection()
    assert not direction.starved
    direction.judge(4)
    assert not direction.starved
    direction.take(b"a")
    assert not direction.starved
    direction.show()
    assert direction.starved
    direction.judge(0)
    assert not direction.starved


@given(st.data(), st.binary(max_size=60))
def test_what_passes_and_what_is_held_is_always_the_stream_itself(data: st.DataObject, stream: bytes) -> None:
    """Whatever the chunks and verdicts: in order, nothing twice, nothing lost, nothing before it was judged."""
    flow = FlowInspection()
    counts = st.integers(0, 70)
    verdicts = st.one_of(st.builds(Peek, counts, counts), st.just(Pause()), st.just(Allow()))
    streams: dict[Direction, bytes] = {"outbound": stream, "inbound": stream[::-1]}
    taken: dict[Direction, int] = {"outbound": 0, "inbound": 0}
    passed: dict[Direction, bytes] = {"outbound": b"", "inbound": b""}
    ended: dict[Direction, int] = {"outbound": 0, "inbound": 0}
    for _ in range(data.draw(st.integers(0, 30))):
        before = dict(passed)
        direction: Direction = data.draw(st.sampled_from(("outbound", "inbound")))
        holding = flow.direction(direction).holding
        kind = data.draw(st.sampled_from(("take", "take", "verdict", "verdict", "quiet", "end")))
        steps: list[Step] = []
        if kind == "take" and not flow.direction(direction).ended:
            size = data.draw(st.integers(1, 20))
            chunk = streams[direction][taken[direction] :][:size]
            taken[direction] += len(chunk)
            steps = flow.take(direction, chunk) if chunk else []
        elif kind == "verdict" and (flow.asked or flow.paused):
            try:
                steps = flow.verdict(data.draw(verdicts))
            except Misuse:
                steps = flow.verdict(Peek())
        elif kind == "quiet":
            steps = flow.quiet(direction)
        elif kind == "end":
            steps = flow.end(direction)
        for step in steps:
            if isinstance(step, Pass):
                passed[step.direction] += b"".join(step.chunks)
                ended[step.direction] += step.ended
            elif isinstance(step, Show):
                assert step.data
                assert step.offset == len(passed[step.direction])
                assert streams[step.direction][step.offset :].startswith(step.data)
        if kind != "verdict" and holding:
            assert passed[direction] == before[direction]
        assert sum(isinstance(step, Show | Complete) for step in steps) <= 1
        for one in passed:
            inspection = flow.direction(one)
            assert streams[one].startswith(passed[one])
            assert (inspection.passed, inspection.passed + inspection.held) == (len(passed[one]), taken[one])
            assert ended[one] == inspection.closed
    while flow.asked or flow.paused:
        for step in flow.verdict(Allow()):
            if isinstance(step, Pass):
                passed[step.direction] += b"".join(step.chunks)
    if flow.allowed:
        assert {one: len(text) for one, text in passed.items()} == taken


@given(st.binary(min_size=1, max_size=50), st.integers(1, 60), st.data())
def test_however_it_is_cut_a_filter_sees_the_same_beginning_and_the_same_stream_passes(
    stream: bytes, count: int, data: st.DataObject
) -> None:
    direction = Inspection()
    passed = list(direction.judge(count))
    at, seen = 0, b""
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream)))
        passed += direction.take(stream[at : at + size])
        at += size
        if direction.due:
            seen = direction.show()[1]
            passed += direction.judge(count)
    passed += direction.judge(0)
    assert seen == stream[:count]
    assert b"".join(passed) == stream
