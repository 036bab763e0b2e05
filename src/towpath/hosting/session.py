"""One filter while a run lasts: its worker, the questions it has not answered, and what happens when it fails.

A worker that dies, breaks the protocol or leaves its oldest question for 5 s is replaced, and the new one is asked
again about everything undecided. New code is taken over the same way, except that the old worker serves until the new
one has started. Who fails too often is not started again, and the user's failure policy decides in its place.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from towpath.errors import ConfigInvalid, TimedOut, TowpathError
from towpath.hosting import messages
from towpath.hosting.failure import Failure
from towpath.hosting.link import WorkerLink
from towpath.providers.dns import NO_SYSTEM_DNS, Answer, DNSProxySettings, Forward, Refuse, SystemDNSSettings
from towpath.providers.reasons import StopReason
from towpath.providers.settings import FilterSettings
from towpath.providers.verdict import Allow, Drop, FlowVerdict, Pause, Peek

if TYPE_CHECKING:
    from towpath.hosting.bundle import Bundle
    from towpath.hosting.loop import Loop, Timer
    from towpath.hosting.nursery import Nursery
    from towpath.providers.flow import FlowReport
    from towpath.providers.provider import Prompt, Reply

__all__ = ["DNS_VERDICTS", "PASSED_ON_FAILURE", "FilterSession", "OnFailure", "Services", "Vocabulary"]

OnFailure: TypeAlias = Literal["block", "pass"]

PASSED_ON_FAILURE = Allow()
"""An allow that no filter has given; told from theirs by being this object."""

_PATIENCE = 5.0
_LOOK_INTERVAL = 0.25
_START_PATIENCE = 10.0
_STOP_PATIENCE = 5.0
_MOST_FAILURES, _FAILURE_WINDOW = 5, 60.0
_MOST_TRIES = 2
_MOST_STRAY = 10_000


class Services(NamedTuple):
    """What a session needs of the run it is in.

    `say(level, text)` tells the person who started it; `prompt` asks that person; `output` opens a file that the config
    names, or raises `OSError`; `resume` and `update` concern a flow by its number and give whether there was one.
    """

    say: Callable[[str, str], None]
    prompt: Callable[[Prompt, Callable[[Reply], None]], None]
    output: Callable[[Bundle, str], int]
    resume: Callable[[FilterSession, int, FlowVerdict], bool]
    update: Callable[[FilterSession, int, FlowVerdict], bool]
    asked_again: Callable[[FilterSession], None]
    """A new worker has taken over: paused flows are to be asked about again."""
    flush: Callable[[tuple[str, ...]], None] = lambda _names: None
    """A DNS proxy wants answers forgotten."""


class Vocabulary(NamedTuple):
    """What a provider may answer, and what stands for its answer when it has failed and failures block."""

    verdicts: tuple[type, ...]
    failure: Callable[[str], Any]


FILTER_VERDICTS = Vocabulary((Allow, Drop, Peek, Pause), Drop)
DNS_VERDICTS = Vocabulary((Answer, Forward, Refuse, Drop), Failure)


class _Question:
    __slots__ = ("answered", "build", "since", "tries")

    def __init__(self, build: Callable[[int], messages.FromManager], answered: Callable[[Any], None]) -> None:
        self.build = build
        self.answered = answered
        self.since = time.monotonic()
        self.tries = 0


class _Worker:
    """A link with what is known of its worker."""

    __slots__ = ("bundle", "dns", "hooks", "link", "ready", "settings", "stopping", "stray", "timer")

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.link: WorkerLink
        self.ready = False
        self.stopping = False
        self.stray = 0
        self.hooks: frozenset[str] = frozenset()
        self.settings = FilterSettings()
        self.dns = DNSProxySettings()
        self.timer: Timer | None = None


class FilterSession:
    """Asks the filter of `bundle`; to be used from the loop's thread.

    `state` is "starting", "running", "off" (switched off, everything passes it) or "failed" (the failure policy holds).
    """

    def __init__(
        self,
        loop: Loop,
        nursery: Nursery,
        bundle: Bundle,
        on_failure: OnFailure,
        services: Services,
        started: Callable[[TowpathError | None], None],
        vocabulary: Vocabulary = FILTER_VERDICTS,
        system_dns: SystemDNSSettings = NO_SYSTEM_DNS,
    ) -> None:
        self._vocabulary = vocabulary
        self.system_dns = system_dns
        self.name = bundle.manifest.id
        self.bundle = bundle
        self.state: Literal["starting", "running", "off", "failed"] = "starting"
        self.on_failure: OnFailure = on_failure
        self._loop = loop
        self._nursery = nursery
        self._services = services
        self._started: Callable[[TowpathError | None], None] | None = started
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Question] = {}
        self._watching = False
        self._failures: deque[float] = deque()
        self._worker: _Worker | None = None
        self._successor: _Worker | None = None
        self._leaving: dict[_Worker, Callable[[], None]] = {}
        self._successor = self._make(bundle)

    @property
    def settings(self) -> FilterSettings:
        """The static rules of the provider that is in force."""
        return self._worker.settings if self._worker is not None else FilterSettings()

    @property
    def dns(self) -> DNSProxySettings:
        """The settings of the DNS proxy that is in force."""
        return self._worker.dns if self._worker is not None else DNSProxySettings()

    def tell(self, message: messages.FromManager) -> None:
        """Says something to the worker that is in force, if there is one."""
        if self._worker is not None:
            self._worker.link.send(message)

    def wants(self, hook: str) -> bool:
        """Whether the filter has anything to say in `hook`: one that it left out is not asked."""
        return self.state != "off" and (self._worker is None or hook in self._worker.hooks)

    # Questions.

    def ask(self, build: Callable[[int], messages.FromManager], answered: Callable[[Any], None]) -> None:
        """Puts the message that `build` makes for a number; `answered` is called once, perhaps at once."""
        question = _Question(build, answered)
        if self.state == "off":
            answered(Allow())
        elif self.state == "failed":
            answered(self._policy("it has failed too often"))
        else:
            self._put(question)

    def tell_closed(self, report: FlowReport) -> None:
        if self._worker is not None and "flow_closed" in self._worker.hooks:
            self._worker.link.send(messages.Closed(report))

    def _policy(self, why: str) -> Any:
        if self.on_failure == "pass":
            return PASSED_ON_FAILURE
        return self._vocabulary.failure(f"no answer ({why}), and --on-failure is block")

    def _put(self, question: _Question) -> None:
        number = next(self._numbers)
        self._waiting[number] = question
        if self._worker is not None:
            question.since = time.monotonic()
            self._worker.link.send(question.build(number))
        if not self._watching:
            self._watching = True
            self._loop.later(_LOOK_INTERVAL, self._look)

    def _look(self) -> None:
        """Is the oldest question too old? While no worker is ready, its own deadline decides instead."""
        self._watching = bool(self._waiting)
        if not self._waiting:
            return
        self._loop.later(_LOOK_INTERVAL, self._look)
        if self._worker is None:
            return
        number, question = next(iter(self._waiting.items()))
        if time.monotonic() - question.since > _PATIENCE:
            del self._waiting[number]
            question.answered(self._policy(f"none within {_PATIENCE:g} s"))
            self._replace(self._worker, f"a question has waited for {_PATIENCE:g} s")

    def _answer(self, number: int, verdict: Any) -> bool:
        question = self._waiting.pop(number, None)
        if question is None:
            return False
        question.answered(verdict)
        return True

    # Workers.

    def _make(self, bundle: Bundle) -> _Worker:
        worker = _Worker(bundle)
        worker.link = WorkerLink(
            self._loop,
            lambda message: self._hear(worker, message),
            self._say,
            lambda reason: self._gone(worker, reason),
        )
        worker.timer = self._loop.later(_START_PATIENCE, lambda: self._too_slow(worker))
        self._nursery.make(worker.link, bundle, self.system_dns)
        return worker

    def _say(self, level: str, text: str) -> None:
        self._services.say(level, f"{self.name}: {text}")

    def _too_slow(self, worker: _Worker) -> None:
        worker.link.drop()
        self._start_failed(worker, TimedOut(f"starting the filter {self.name}", _START_PATIENCE))

    def _hear(self, worker: _Worker, message: messages.FromWorker) -> None:
        if worker is not self._worker and isinstance(message, messages.Verdict | messages.Failed | messages.Resume):
            self._stray(worker)  # it was replaced, and the new one is asked
        elif isinstance(message, messages.Verdict):
            verdict: Any = message.verdict
            if not isinstance(verdict, self._vocabulary.verdicts):
                verdict = self._policy("a verdict of another kind of provider")
            if not self._answer(message.ask, verdict):
                self._stray(worker)
        elif isinstance(message, messages.Failed):
            question = self._waiting.get(message.ask)
            if question is None:
                self._stray(worker)
                return
            self._say("error", message.reason)
            self._answer(message.ask, self._policy(message.reason))
        elif isinstance(message, messages.Ready):
            self._ready(worker, message)
        elif isinstance(message, messages.Broken):
            worker.link.drop()
            self._start_failed(worker, ConfigInvalid(message.where, message.reason, message.hint))
        elif isinstance(message, messages.Said):
            self._say(message.level, message.text)
        elif isinstance(message, messages.Ended):
            self._left(worker)
        elif isinstance(message, messages.Resume):
            if not self._services.resume(self, message.flow, message.verdict):
                self._stray(worker)
        elif isinstance(message, messages.Update):
            if not self._services.update(self, message.flow, message.verdict):
                self._stray(worker)
        elif isinstance(message, messages.Flush):
            self._services.flush(message.names)
        elif isinstance(message, messages.PromptAsked):
            number = message.number
            self._services.prompt(message.prompt, lambda reply: worker.link.send(messages.Answered(number, reply)))
        elif isinstance(message, messages.OutputWanted):
            self._open_output(worker, message)

    def _open_output(self, worker: _Worker, wanted: messages.OutputWanted) -> None:
        try:
            descriptor = self._services.output(worker.bundle, wanted.path)
        except OSError as error:
            worker.link.send(messages.OutputOpened(wanted.number, error.errno or 1))
        else:
            worker.link.send_descriptor(messages.OutputOpened(wanted.number, 0), descriptor)

    def _stray(self, worker: _Worker) -> None:
        """An answer to nothing: late after a replacement, which is right, or a flood, which is not."""
        worker.stray += 1
        if worker.stray == _MOST_STRAY:
            worker.link.kill()

    def _ready(self, worker: _Worker, message: messages.Ready) -> None:
        if worker is not self._successor:
            return
        if worker.timer is not None:
            worker.timer.cancel()
        worker.ready = True
        worker.hooks = frozenset(message.hooks)
        worker.settings = message.settings or FilterSettings()
        worker.dns = message.dns or DNSProxySettings()
        old, self._worker, self._successor = self._worker, worker, None
        self.bundle = worker.bundle
        self.state = "running"
        self._ask_again()
        if old is not None:
            self._say("warning", "the new code has taken over")
            self._dismiss(old, StopReason.EXTENSION_UPDATE)
        started, self._started = self._started, None
        if started is not None:
            started(None)

    def _ask_again(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for question in waiting.values():
            if question.tries >= _MOST_TRIES:
                question.answered(self._policy("its worker ended twice over it"))
            else:
                self._put(question)
        self._services.asked_again(self)

    def _start_failed(self, worker: _Worker, error: TowpathError) -> None:
        if worker.timer is not None:
            worker.timer.cancel()
        if worker is not self._successor:
            return
        self._successor = None
        started, self._started = self._started, None
        if self._worker is not None:
            self._say("error", f"the new code was not taken over, the old stays: {error}")
        elif started is not None:
            self.state = "failed"
        else:
            self._failed(str(error))
        if started is not None:
            started(error)

    def _gone(self, worker: _Worker, reason: str) -> None:
        if worker in self._leaving:
            self._left(worker)
        elif worker is self._successor:
            self._start_failed(worker, ConfigInvalid(worker.bundle.file, f"its worker did not start: {reason}"))
        elif worker is self._worker:
            self._replace(worker, reason)

    def _replace(self, worker: _Worker, reason: str) -> None:
        worker.link.drop()
        self._worker = None
        for question in self._waiting.values():
            question.tries += 1
        self._failed(reason)

    def _failed(self, reason: str) -> None:
        now = time.monotonic()
        self._failures.append(now)
        while self._failures[0] < now - _FAILURE_WINDOW:
            self._failures.popleft()
        if self.state == "off":
            return
        if len(self._failures) >= _MOST_FAILURES:
            self._give_up(reason)
            return
        self._say("error", f"{reason}: a new worker takes over")
        if self._successor is None:
            self._successor = self._make(self.bundle)

    def _give_up(self, reason: str) -> None:
        self.state = "failed"
        means = "passes" if self.on_failure == "pass" else "is refused"
        self._say(
            "error",
            f"{reason}: it failed {_MOST_FAILURES} times within a minute and is not started again; what it would have "
            f"decided {means} (--on-failure {self.on_failure})",
        )
        waiting, self._waiting = self._waiting, {}
        for question in waiting.values():
            question.answered(self._policy("it has failed too often"))
        self._services.asked_again(self)

    # What the user does.

    def reload(self, bundle: Bundle, started: Callable[[TowpathError | None], None] | None = None) -> None:
        """Takes over new code: the old worker serves until the new one has started.

        `started` is called once, with what was wrong if it did not.
        """
        if self._successor is not None:
            self._abandon(self._successor)
        if self.state == "failed":
            self._failures.clear()
            self.state = "starting"
        self._started = started
        self._successor = self._make(bundle)

    def change_rules(self, bundle: Bundle) -> None:
        """The config has changed, the code has not."""
        self.bundle = bundle
        if self._worker is not None:
            self._worker.bundle = bundle
            self._worker.link.send(messages.RulesChanged(bundle.config))

    def disable(self, reason: StopReason, done: Callable[[], None]) -> None:
        """Lets everything pass from here on; `done` is called once, within 5 s, however the provider behaves."""
        self.state = "off"
        waiting, self._waiting = self._waiting, {}
        for question in waiting.values():
            question.answered(Allow())
        self._services.asked_again(self)
        if self._successor is not None:
            self._abandon(self._successor)
            self._successor = None
        worker, self._worker = self._worker, None
        if worker is None:
            done()
        else:
            self._dismiss(worker, reason, done)

    def enable(self, started: Callable[[TowpathError | None], None]) -> None:
        """Starts it again after `disable`; `started` is called once, with what was wrong if it did not."""
        if self.state not in ("off", "failed"):
            started(None)
            return
        self.state = "starting"
        self._failures.clear()
        self._started = started
        self._successor = self._make(self.bundle)

    def _abandon(self, worker: _Worker) -> None:
        if worker.timer is not None:
            worker.timer.cancel()
        worker.link.drop()
        started, self._started = self._started, None
        if started is not None:
            started(TowpathError(f"{self.name} was switched off, or replaced, before it had started"))

    def _dismiss(self, worker: _Worker, reason: StopReason, done: Callable[[], None] = lambda: None) -> None:
        worker.stopping = True
        self._leaving[worker] = done
        worker.link.send(messages.Stop(int(reason)))
        worker.timer = self._loop.later(_STOP_PATIENCE, lambda: self._left(worker))

    def _left(self, worker: _Worker) -> None:
        done = self._leaving.pop(worker, None)
        if done is None:
            return
        if worker.timer is not None:
            worker.timer.cancel()
        worker.link.drop()
        done()
