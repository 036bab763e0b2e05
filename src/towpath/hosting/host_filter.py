"""Content filters for a whole host, or for what it routes: they decide, the kernel carries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from towpath.errors import HostFault, Misuse, TimedOut, TowpathError
from towpath.hosting.filters import Filters
from towpath.hosting.host_attachment import HostAttachment
from towpath.hosting.host_thread import HostThread, new_future, nobody, write
from towpath.hosting.names import NameEvidence
from towpath.providers.reasons import StopReason

if TYPE_CHECKING:
    from towpath.hosting.bundle import Bundle
    from towpath.hosting.host_rules import Hook
    from towpath.hosting.loop import Loop
    from towpath.hosting.session import FilterSession, OnFailure
    from towpath.kernel.system import host_table

__all__ = ["QUEUE", "HostFilter"]

QUEUE = 7421
"""The number of the packet queue, and of the log group, unless another is asked for."""
_LONGEST = 4.5
"""Seconds after which every operation has an outcome, and the one who asked for it hears of it."""


class HostFilter:
    """The filters of `bundles` in this process's network namespace, from `start` to `close`.

    ::

        bundles = [find_bundle("no_ads.py")]
        with HostFilter(bundles, "pass") as host_filter:    # started
            host_filter.disable().result()                  # everything passes
            host_filter.enable().result()

    Each of `start`, `enable`, `disable`, `reload` and `close` may be called from any thread and inside any event loop
    (`await asyncio.wrap_future(host_filter.disable())`). It gives a future that completes exactly once and within 5 s,
    however a provider behaves: with `None`, or with the `TowpathError` that kept it from happening. Callbacks of these
    futures run in the filter's own thread and must not wait.

    `hooks` are where flows are met: "forward" for those that this host routes, "output" for those its own programs open
    and "input" for those that reach them. `on_failure` is for filters that fail. It does not concern this process: its
    death, however it comes, takes the rules along, and with `"pass"` flows pass too when it has done nothing for 4 s.
    `owners` looks up the process behind each flow. `say(level, text)` is called in the filter's own thread.

    What a filter wants to see waits as whole packets: a TCP handshake passes, then each packet that brings bytes is
    held until they were judged, in both directions as `Peek` says, and those that wait are sent on in order and
    unchanged. Nothing is acknowledged in the name of a receiver that has not got it, so a program that waits for an
    acknowledgement before it sends more (RFC 9293, section 3.7.4) is judged by what it sent first: after a second
    `data_complete` asks for the last word. A flow that is dropped after it has begun is reset when one of its packets
    comes next. Names are learnt from DNS answers that pass, over UDP and TCP; `handle_name` is not asked. Where names
    share an address, a `HostDns(..., asked=host_filter.asked)` of this process tells which of them a program meant.
    Reports count the bytes of whole packets, as connection tracking does. A program that was left unanswered
    (`Drop(silent=True)`) is not asked about again while it repeats itself.

    Make it while this process has one thread: its workers are forked from a copy of it. Raises `Misuse` otherwise. Its
    own thread begins with `start`, so that a `HostDns` or a `HostTunnel` can be made beside it before.
    """

    def __init__(
        self,
        bundles: Sequence[Bundle],
        on_failure: OnFailure,
        *,
        hooks: Sequence[Hook] = ("forward", "output", "input"),
        queue: int = QUEUE,
        owners: bool = True,
        say: Callable[[str, str], None] | None = None,
        ways: Sequence[host_table.Way] = ("xt", "nft"),
    ) -> None:
        if not bundles:
            raise Misuse("HostFilter: no filter was given")
        self._bundles = list(bundles)
        self._on_failure: OnFailure = on_failure
        self._hooks = tuple(hooks)
        self._queue = queue
        self._owners = owners
        self._say = say or write
        self._ways = tuple(ways)
        self._names = NameEvidence()
        self._filters: Filters | None = None
        self._attachment: HostAttachment | None = None
        self._on = False
        """What was asked for last."""
        self._starting: list[_Outcome] = []
        self._stopping: set[object] = set()
        self._await_stop: list[_Outcome] = []
        self._outcomes: set[_Outcome] = set()
        self._thread = HostThread("HostFilter")
        self._loop = self._thread.loop
        self._thread.prepare("towpath-host-filter", self._end, self._clean)

    # Asked for by any thread.

    def start(self) -> Future[None]:
        """Starts the filters and attaches them."""
        return self._submit(self._enable)

    def enable(self) -> Future[None]:
        """Starts them again after `disable`; the same as `start`."""
        return self._submit(self._enable)

    def disable(self, reason: StopReason = StopReason.PROVIDER_DISABLED) -> Future[None]:
        """Everything passes at once, and no rule is left; done when the providers have stopped, or 4.5 s have passed.

        A provider that never returns from `stop` is killed.
        """
        return self._submit(lambda outcome: self._disable(reason, outcome))

    def reload(self, bundle: Bundle) -> Future[None]:
        """Takes over new code for the filter with the same id; the old serves until the new one has started."""
        return self._submit(lambda outcome: self._reload(bundle, outcome))

    def asked(self, pid: int, name: str) -> None:
        """A program asks for a name: of those that share an address it means this one. For `HostDns` to call."""
        self._loop.post(lambda: self._names.asked(pid, name))

    def close(self) -> Future[None]:
        """`disable`, and the end of every worker and of the thread. Further calls give the same future."""
        return self._thread.close()

    def __enter__(self) -> HostFilter:
        self.start().result()
        return self

    def __exit__(self, *_: object) -> None:
        self.close().result()

    def _submit(self, operation: Callable[[_Outcome], None]) -> Future[None]:
        return self._thread.submit(lambda future: operation(self._outcome(future)))

    # In the thread of the loop.

    def _end(self) -> None:
        stopped = new_future()
        stopped.add_done_callback(lambda _stopped: self._loop.stop())
        self._disable(StopReason.NONE, self._outcome(stopped))

    def _clean(self) -> None:
        if self._attachment is not None:
            self._attachment.close()
        if self._filters is not None:
            self._filters.close()
        for outcome in list(self._outcomes):
            outcome.set(TowpathError("the filters have ended"))

    def _outcome(self, future: Future[None]) -> _Outcome:
        outcome = _Outcome(self._loop, future)
        self._outcomes.add(outcome)
        future.add_done_callback(lambda _future: self._outcomes.discard(outcome))
        return outcome

    def _enable(self, outcome: _Outcome) -> None:
        if self._on and self._attachment is not None:
            outcome.set(None)
            return
        self._starting.append(outcome)
        outcome.too_late = lambda: self._failed(TimedOut("starting the filters", _LONGEST))
        if self._on:
            return
        self._on = True
        if self._filters is None:
            self._make_filters()
        else:
            self._start_sessions(self._filters)

    def _make_filters(self) -> None:
        self._filters = Filters(
            self._loop,
            self._thread.nursery,
            self._bundles,
            self._on_failure,
            say=self._say,
            prompt=nobody,
            started=self._started,
            settings_changed=self._renew,
        )

    def _start_sessions(self, filters: Filters) -> None:
        waiting = len(filters.sessions)

        def started(error: TowpathError | None) -> None:
            nonlocal waiting
            waiting -= 1
            if error is not None or waiting == 0:
                self._started(error)

        for session in filters.sessions:
            session.enable(started)

    def _started(self, error: TowpathError | None) -> None:
        if not self._on or self._attachment is not None:
            return
        if error is not None:
            self._failed(error)
            return
        assert self._filters is not None
        try:
            self._attachment = HostAttachment(
                self._loop,
                self._filters,
                self._names,
                self._say,
                hooks=self._hooks,
                queue=self._queue,
                fail_open=self._on_failure == "pass",
                owners=self._owners,
                ways=self._ways,
            )
        except (HostFault, OSError) as fault:
            known = fault if isinstance(fault, TowpathError) else HostFault("attach", fault.errno or 0, str(fault))
            self._failed(known)
            return
        self._finish(self._starting, None)

    def _failed(self, error: TowpathError) -> None:
        self._finish(self._starting, error)
        self._turn_off(StopReason.PROVIDER_FAILED)

    def _disable(self, reason: StopReason, outcome: _Outcome) -> None:
        self._turn_off(reason)
        self._finish(self._starting, TowpathError("the filters were switched off before they had started"))
        if self._stopping:
            self._await_stop.append(outcome)
            outcome.too_late = lambda: outcome.set(None)
        else:
            outcome.set(None)

    def _turn_off(self, reason: StopReason) -> None:
        self._on = False
        if self._filters is None:
            return
        # Questions that are open are answered before the queue goes, so that their packets pass.
        for session in self._filters.sessions:
            if session.state != "off":
                self._stop_session(session, reason)
        attachment, self._attachment = self._attachment, None
        if attachment is not None:
            attachment.close()

    def _stop_session(self, session: FilterSession, reason: StopReason) -> None:
        token = object()
        self._stopping.add(token)

        def done() -> None:
            self._stopping.discard(token)
            if not self._stopping:
                self._finish(self._await_stop, None)

        session.disable(reason, done)

    def _reload(self, bundle: Bundle, outcome: _Outcome) -> None:
        for index, known in enumerate(self._bundles):
            if known.manifest.id != bundle.manifest.id:
                continue
            self._bundles[index] = bundle
            if self._filters is None:
                outcome.set(None)
            elif self._on:
                self._filters.sessions[index].reload(bundle, outcome.set)
            else:
                self._filters.sessions[index].bundle = bundle
                outcome.set(None)
            return
        names = ", ".join(one.manifest.id for one in self._bundles)
        outcome.set(Misuse(f"there is no filter {bundle.manifest.id!r} here; there is {names}"))

    def _renew(self) -> None:
        if self._attachment is not None and self._on:
            try:
                self._attachment.renew_rules()
            except HostFault as fault:
                self._say("error", f"static rules stay as they were: {fault}")

    def _finish(self, outcomes: list[_Outcome], error: TowpathError | None) -> None:
        waiting = outcomes[:]
        outcomes.clear()
        for outcome in waiting:
            outcome.set(error)


class _Outcome:
    """The one outcome of an operation, at the latest `_LONGEST` after it began. Lives in the loop's thread."""

    def __init__(self, loop: Loop, future: Future[None]) -> None:
        self._future: Future[None] | None = future
        self.too_late: Callable[[], None] = lambda: self.set(TimedOut("what was asked of the filters", _LONGEST))
        self._timer = loop.later(_LONGEST, lambda: self.too_late())

    def set(self, error: TowpathError | None) -> None:
        """The first call counts."""
        future, self._future = self._future, None
        if future is None:
            return
        self._timer.cancel()
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
