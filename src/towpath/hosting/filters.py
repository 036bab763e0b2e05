"""The filters of one run (or one host) as one: names and flows are put to them in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from towpath.hosting import messages
from towpath.hosting.outputs import Outputs
from towpath.hosting.screening import Screening
from towpath.hosting.session import FilterSession, OnFailure, Services
from towpath.providers.flow import Flow, FlowReport, Question
from towpath.providers.verdict import Allow, Drop, FlowVerdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from towpath.errors import TowpathError
    from towpath.hosting.bundle import Bundle
    from towpath.hosting.loop import Loop
    from towpath.hosting.nursery import Nursery
    from towpath.hosting.outputs import Prompter

__all__ = ["Filters"]


class Filters:
    """Starts a session for each bundle; the order of `bundles` is the order of questions.

    `started(error)` is called once, when all have started or the first has failed. `say(level, text)` tells the person
    who started the run, `prompt` asks that person. `settings_changed` is called whenever another provider, or none, is
    in force.
    """

    def __init__(
        self,
        loop: Loop,
        nursery: Nursery,
        bundles: Sequence[Bundle],
        on_failure: OnFailure,
        *,
        say: Callable[[str, str], None],
        prompt: Prompter,
        started: Callable[[TowpathError | None], None],
        settings_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._nursery = nursery
        self._numbers = 0
        self._live: dict[int, Screening] = {}
        self._outputs = Outputs()
        self._started: Callable[[TowpathError | None], None] | None = started
        self._to_start = len(bundles)
        self._settings_changed = settings_changed
        services = Services(
            say=say,
            prompt=prompt,
            output=self._outputs.open,
            resume=self._resume,
            update=self._update,
            asked_again=self._ask_again,
        )
        self.sessions = [
            FilterSession(loop, nursery, bundle, on_failure, services, self._one_started) for bundle in bundles
        ]

    @property
    def outputs(self) -> list[str]:
        """The files that they have opened to write to, absolute."""
        return self._outputs.paths

    def _one_started(self, error: TowpathError | None) -> None:
        self._to_start -= 1
        if self._started is not None and (error is not None or self._to_start == 0):
            started, self._started = self._started, None
            started(error)

    # Questions.

    def number(self) -> int:
        """A number for the next flow or question."""
        self._numbers += 1
        return self._numbers

    def screen(self, flow: Flow, decided: Callable[[Screening, Drop | None], None]) -> Screening:
        """Puts a new flow to the filters. `closed` must be called for it when it is over, dropped or not."""

        def settled(drop: Drop | None) -> None:
            decided(screening, drop)

        screening = Screening(self._loop, flow, self.sessions, settled)
        self._live[flow.number] = screening
        screening.begin()
        return screening

    def closed(self, screening: Screening, report: FlowReport) -> None:
        """The flow is over: the filters that were asked about it are told."""
        if self._live.pop(screening.flow.number, None) is None:
            return
        for session in screening.asked():
            session.tell_closed(report)

    def name(self, question: Question, answered: Callable[[Drop | None, str], None]) -> None:
        """Puts a DNS question to the filters; `answered(drop, by)` is called once."""
        self._ask_name(0, question, answered)

    def _ask_name(self, index: int, question: Question, answered: Callable[[Drop | None, str], None]) -> None:
        while index < len(self.sessions) and not self.sessions[index].wants("handle_name"):
            index += 1
        if index == len(self.sessions):
            answered(None, "")
            return
        session = self.sessions[index]

        def heard(verdict: FlowVerdict) -> None:
            if isinstance(verdict, Allow):
                self._ask_name(index + 1, question, answered)
            else:
                drop = verdict if isinstance(verdict, Drop) else Drop(f"{session.name} may only allow or drop a name")
                answered(drop, session.name)

        session.ask(lambda number: messages.NewName(number, question), heard)

    # What sessions need.

    def _resume(self, session: FilterSession, flow: int, verdict: FlowVerdict) -> bool:
        screening = self._live.get(flow)
        return screening is not None and screening.resume(session, verdict)

    def _update(self, session: FilterSession, flow: int, verdict: FlowVerdict) -> bool:
        screening = self._live.get(flow)
        if screening is None:
            return False
        screening.update(session, verdict)
        return True

    def _ask_again(self, session: FilterSession) -> None:
        self._settings_changed()
        for screening in list(self._live.values()):
            screening.ask_again(session)

    def close(self) -> None:
        """The run is over; workers die with the zygote."""
        self._outputs.close()
