"""A filter in the harness meets what it would meet in a run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from towpath.errors import ConfigInvalid, Misuse, TimedOut
from towpath.hosting.manifest import Capability
from towpath.providers import (
    Allow,
    ContentFilterProvider,
    Direction,
    Drop,
    FilterSettings,
    Flow,
    FlowReport,
    FlowVerdict,
    NetworkRule,
    Pause,
    Peek,
    Prompt,
    Question,
    StopReason,
)
from towpath.testing import FilterHarness, FlowRun


class Scripted(ContentFilterProvider):
    """Answers what a test has put into `answers`, by hook, and notes how it was called."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.calls: list[tuple[Any, ...]] = []

    def _answer(self, hook: str, *facts: object) -> Any:
        self.calls.append((hook, *facts))
        answer = self.answers.get(hook, Allow())
        return answer() if callable(answer) else answer

    def handle_name(self, question: Question) -> Any:
        return self._answer("name", question.name, question.type)

    def handle_new_flow(self, flow: Flow) -> Any:
        return self._answer("flow", flow.destination)

    def handle_outbound_data(self, flow: Flow, offset: int, data: bytes) -> Any:
        return self._answer("out", offset, data)

    def handle_inbound_data(self, flow: Flow, offset: int, data: bytes) -> Any:
        return self._answer("in", offset, data)

    def data_complete(self, flow: Flow, direction: Direction) -> Any:
        return self._answer("complete", direction)

    def flow_closed(self, report: FlowReport) -> None:
        self._answer("closed", report.verdict, report.reason)

    def stop(self, reason: StopReason) -> None:
        self._answer("stop", reason)

    def rules_changed(self) -> None:
        self._answer("changed")


def opened(harness: FilterHarness[Scripted], verdict: FlowVerdict, transport: str = "tcp") -> FlowRun:
    harness.provider.answers["flow"] = verdict
    return harness.flow("udp" if transport == "udp" else "tcp", "192.0.2.7", 443, name="news.test")


def test_a_filter_without_hooks_allows_everything() -> None:
    class Nothing(ContentFilterProvider):
        pass

    with FilterHarness(Nothing) as harness:
        assert harness.question("a.test") == Allow()
        flow = harness.flow("tcp", "192.0.2.7", 443).send(b"x").receive(b"y").close()
        assert (flow.verdict, flow.passed_out, flow.passed_in, flow.dropped) == (Allow(), b"x", b"y", False)


def test_names_are_asked_about_as_a_run_writes_them() -> None:
    with FilterHarness(Scripted) as harness:
        harness.provider.answers["name"] = Drop("no")
        assert harness.question("WWW.Ads.test.", "AAAA") == Drop("no")
        assert harness.provider.calls == [("name", "www.ads.test", "AAAA")]


def test_a_dropped_flow_passes_nothing_and_is_closed() -> None:
    with FilterHarness(Scripted) as harness:
        flow = opened(harness, Drop("no")).send(b"x").receive(b"y")
        assert (flow.dropped, flow.reason, flow.passed_out, flow.passed_in) == (True, "no", b"", b"")
        assert harness.provider.calls == [("flow", "news.test:443"), ("closed", "dropped", "no")]


def test_bytes_are_held_shown_and_passed_as_peek_says() -> None:
    with FilterHarness(Scripted) as harness:
        flow = opened(harness, Peek(outbound=8))
        harness.provider.answers.update({"out": Peek(outbound=8), "in": Allow()})
        flow.send(b"GET").receive(b"220")
        assert (flow.passed_out, flow.passed_in, flow.allowed) == (b"", b"220", False)
        harness.provider.answers["out"] = Peek(inbound=5)
        flow.send(b" /")
        flow.receive(b"4")
        assert (flow.passed_out, flow.passed_in, flow.allowed) == (b"GET /", b"2204", True)
        assert harness.provider.calls[1:] == [("out", 0, b"GET"), ("out", 0, b"GET /"), ("in", 3, b"4")]


@pytest.mark.parametrize("how", ["quiet", "end_sending"])
def test_a_direction_that_ends_or_falls_silent_is_complete(how: str) -> None:
    with FilterHarness(Scripted) as harness:
        flow = opened(harness, Peek(outbound=8))
        harness.provider.answers.update({"out": Peek(outbound=8), "complete": Drop("too little")})
        flow.send(b"x")
        if how == "quiet":
            harness.advance(0.9)
            flow.send(b"y")
            harness.advance(0.9)
            assert not flow.dropped
            harness.advance(0.2)
        else:
            flow.end_sending()
        assert flow.reason == "too little"
        assert harness.provider.calls[-2][0] == "complete"


def test_only_a_paused_flow_is_resumed_and_once() -> None:
    with FilterHarness(Scripted) as harness:
        flow = opened(harness, Pause()).send(b"x")
        assert (flow.paused, flow.passed_out) == (True, b"")
        with pytest.raises(Misuse, match="not by Pause"):
            harness.provider.resume(flow.flow, Pause())
        harness.advance(3600)
        harness.provider.resume(flow.flow, Allow())
        assert (flow.paused, flow.allowed, flow.passed_out) == (False, True, b"x")
        with pytest.raises(Misuse, match="news.test:443 is not paused"):
            harness.provider.resume(flow.flow, Allow())


def test_a_flow_that_ended_is_not_paused_any_more() -> None:
    with FilterHarness(Scripted) as harness:
        flow = opened(harness, Pause()).send(b"x").close("reset")
        with pytest.raises(Misuse, match="is not paused"):
            harness.provider.resume(flow.flow, Allow())
        assert (flow.paused, flow.allowed, flow.passed_out) == (False, False, b"")
        assert harness.provider.calls[1:] == [("closed", "allowed", "")]


def test_a_paused_udp_flow_is_dropped_after_ten_seconds() -> None:
    with FilterHarness(Scripted) as harness:
        lost, kept = opened(harness, Pause(), "udp"), opened(harness, Pause(), "udp")
        harness.advance(9.9)
        harness.provider.resume(kept.flow, Allow())
        assert not lost.dropped
        harness.advance(0.2)
        assert (lost.dropped, lost.reason) == (True, "paused for longer than 10 s")
        assert kept.send(b"x").passed_out == b"x"


def test_a_decided_flow_can_be_dropped_later() -> None:
    with FilterHarness(Scripted) as harness:
        waiting, flow = opened(harness, Pause()), opened(harness, Allow())
        harness.provider.update(flow.send(b"x").flow, Drop("enough"))
        flow.send(b"y")
        assert (flow.passed_out, flow.reason) == (b"x", "enough")
        harness.provider.update(flow.flow, Allow())
        assert flow.dropped
        with pytest.raises(Misuse, match="is not decided yet"):
            harness.provider.update(waiting.flow, Allow())


def test_the_report_counts_what_the_local_program_sent_and_received() -> None:
    reports: list[FlowReport] = []

    class Reporting(ContentFilterProvider):
        async def flow_closed(self, report: FlowReport) -> None:
            reports.append(report)

    with FilterHarness(Reporting) as harness:
        harness.flow("tcp", "192.0.2.7", 80).send(b"12345").receive(b"123").close()
        harness.flow("tcp", "192.0.2.7", 80, direction="inbound").send(b"12345").receive(b"123").close("reset")
    assert [(one.sent, one.received, one.error) for one in reports] == [(5, 3, None), (3, 5, "reset")]
    assert reports[0].ended == reports[0].flow.started


def test_settings_decide_before_the_filter_is_asked() -> None:
    class Settled(Scripted):
        def start(self) -> FilterSettings:
            return FilterSettings((NetworkRule("drop", port=25), NetworkRule("allow", "192.0.2.0/24")))

    with FilterHarness(Settled) as harness:
        assert harness.flow("tcp", "192.0.2.7", 25).reason == "the filter's settings drop it"
        assert harness.flow("tcp", "192.0.2.7", 80).allowed
        assert not [call for call in harness.provider.calls if call[0] == "flow"]
        harness.flow("tcp", "198.51.100.1", 80)
        assert harness.provider.calls[-1] == ("flow", "198.51.100.1:80")


@pytest.mark.parametrize("seconds", [0.0, 4.9, 5.1])
def test_async_hooks_have_five_seconds_of_the_clock(seconds: float) -> None:
    class Slow(ContentFilterProvider):
        async def handle_new_flow(self, flow: Flow) -> Drop:
            await asyncio.sleep(seconds)
            return Drop("slow")

    with FilterHarness(Slow) as harness:
        before = harness.now()
        if seconds > 5:
            with pytest.raises(TimedOut, match="handle_new_flow took longer than 5 s"):
                harness.flow("tcp", "192.0.2.7", 80)
        else:
            assert harness.flow("tcp", "192.0.2.7", 80).dropped
        assert harness.now() - before == pytest.approx(min(seconds, 5.0))


def raises() -> None:
    raise KeyError("x")


@pytest.mark.parametrize(
    ("hook", "answer", "error", "words"),
    [
        ("flow", lambda: None, Misuse, "answered None; it may be one of Allow, Drop, Peek, Pause"),
        ("flow", lambda: Peek, Misuse, "handle_new_flow answered <class"),
        ("name", lambda: Pause(), Misuse, "answered Pause()"),
        ("flow", raises, KeyError, "x"),
        ("name", raises, KeyError, "x"),
        ("complete", lambda: Peek(outbound=9), Misuse, "waits for more of what is over"),
    ],
)
def test_a_mistake_of_the_filter_is_raised_in_the_test(
    hook: str, answer: object, error: type[Exception], words: str
) -> None:
    with FilterHarness(Scripted) as harness:
        harness.provider.answers[hook] = answer
        harness.provider.answers.setdefault("flow", Peek(outbound=9))
        harness.provider.answers["out"] = Peek(outbound=9)
        with pytest.raises(error) as caught:
            _ = [harness.question("a.test"), harness.flow("tcp", "192.0.2.7", 80).send(b"x").end_sending()]
        assert words in str(caught.value)


def test_a_flow_obeys_the_rules_of_its_transport() -> None:
    with FilterHarness(Scripted) as harness:
        flow = opened(harness, Allow()).end_sending()
        with pytest.raises(Misuse, match="the outbound direction has ended"):
            flow.send(b"x")
        assert flow.receive(b"y").passed_in == b"y"
        flow.close()
        with pytest.raises(Misuse, match="closed"):
            flow.receive(b"z")
        assert flow.close() is flow


class Asking(ContentFilterProvider):
    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def handle_new_flow(self, flow: Flow) -> Pause:
        self.tasks.append(asyncio.get_running_loop().create_task(self._ask(flow)))
        return Pause()

    async def handle_name(self, question: Question) -> Allow | Drop:
        reply = await self.context.prompt(Prompt("name", question.name, ("yes", "no")))
        return Allow() if reply.choice == "yes" else Drop(reply.reason)

    async def _ask(self, flow: Flow) -> None:
        reply = await self.context.prompt(Prompt(flow.host, "may it?", ("yes", "no")))
        self.resume(flow, Allow() if reply.choice == "yes" else Drop(reply.reason))


def test_prompts_are_answered_when_they_wait_or_before() -> None:
    with FilterHarness(Asking) as harness:
        first, second = (harness.flow("tcp", "192.0.2.7", port, name="a.test") for port in (80, 81))
        assert [prompt.key for prompt in harness.prompts] == ["a.test"]
        harness.advance(60)
        assert first.paused
        harness.reply("yes")
        assert (first.allowed, second.allowed) == (True, True)
        harness.reply(None, "nobody is there")
        assert harness.question("b.test") == Drop("nobody is there")
        with pytest.raises(TimedOut):
            harness.question("c.test")


def test_what_the_manifest_does_not_claim_is_refused() -> None:
    claimed: list[Capability] = ["content-filter-provider"]
    with (
        FilterHarness(Asking, capabilities=claimed) as harness,
        pytest.raises(Misuse, match="prompt: the manifest does"),
    ):
        harness.question("a.test")


@dataclass
class Files:
    files: list[str]


class Writing(ContentFilterProvider[Files]):
    def rules_changed(self) -> None:
        self.log(f"now {self.config.files}", "warning")


def test_output_goes_to_files_that_the_config_names(tmp_path: Path) -> None:
    with FilterHarness(Writing, Files(["a.txt"]), folder=tmp_path) as harness:
        with open(harness.provider.context.output("a.txt"), "ab+", buffering=0) as file:
            file.write(b"one")
            file.seek(0)
            assert file.read() == b"one"
        assert (tmp_path / "a.txt").read_bytes() == b"one"
        with pytest.raises(Misuse, match="does not stand in the config"):
            harness.provider.context.output("b.txt")
    with FilterHarness(Writing, Files(["a.txt"]), capabilities=["content-filter-provider"]) as harness:
        with pytest.raises(Misuse, match="output: the manifest does not claim"):
            harness.provider.context.output("a.txt")
        with pytest.raises(Misuse, match="there is no flow 7"):
            harness.provider.context.resume(7, Allow())


def test_a_config_can_change_and_is_checked() -> None:
    with FilterHarness(Writing, {"files": []}) as harness:
        harness.change_config({"files": ["b.txt"]})
        assert harness.logs == [("warning", "now ['b.txt']")]
        with pytest.raises(ConfigInvalid, match="config: files: expected a list"):
            harness.change_config({"files": 7})
    with pytest.raises(ConfigInvalid, match="config: Object missing required field `files`"):
        FilterHarness(Writing)


def test_later_calls_by_the_clock_and_leaving_stops() -> None:
    with FilterHarness(Scripted) as harness:
        called: list[float] = []
        start = harness.now()
        harness.provider.context.later(30, lambda: called.append(harness.now() - start))
        harness.advance(29)
        assert not called
        harness.advance(10)
        assert called == [pytest.approx(30)]
        provider = harness.provider
    assert provider.calls == [("stop", StopReason.NONE)]
