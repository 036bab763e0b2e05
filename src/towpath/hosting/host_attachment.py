"""A filter's kernel objects in the network namespace of this process: made together, and gone together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from towpath.errors import HostFault
from towpath.hosting.host_flows import HostFlows, Key
from towpath.hosting.host_names import learn_from
from towpath.hosting.host_rules import ALIVE, Hook, Step, host_lines, quiet_lines, step_transactions
from towpath.hosting.loop import IN, Loop, Timer
from towpath.hosting.names import NameEvidence
from towpath.hosting.owners import as_seen, host_owners
from towpath.kernel import system
from towpath.kernel.scope import REPEAT
from towpath.providers.flow import Address, Flow, Owner
from towpath.wire import ip

if TYPE_CHECKING:
    from towpath.hosting.filters import Filters
    from towpath.hosting.session import FilterSession
    from towpath.kernel.system import host_table

__all__ = ["TABLE", "HostAttachment"]

TABLE = "towpath"
_KEEP_INTERVAL = 1.0
_FORWARD, _OUTPUT = 2, 3
_NO_NAME = "no DNS answer that passed this host gave this address"
_FROM_OUTSIDE = "it comes from outside of this host"
_ROUTED = "a flow that is routed through this host has no process here"
_NO_OWNER = "its process hides its descriptors, or had ended already"
_NOT_ASKED = "owners are not looked up"

_text = lru_cache(maxsize=4096)(ip.text_of)


class HostAttachment:
    """Attached from when it is made until `close`; both take some milliseconds. Raises `HostFault`.

    Rules come after the listener and go before it. With `fail_open` they pass what is undecided while nobody listens,
    or listens but does not act for 4 s.
    """

    def __init__(
        self,
        loop: Loop,
        filters: Filters,
        names: NameEvidence,
        say: Callable[[str, str], None],
        *,
        hooks: Sequence[Hook],
        queue: int,
        fail_open: bool,
        owners: bool,
        ways: Sequence[host_table.Way],
    ) -> None:
        self._loop = loop
        self._filters = filters
        self._names = names
        self._say = say
        self._steps: list[Step] = []
        self._told_overruns = 0
        self._keeping: Timer | None = None
        self._closers: list[Callable[[], None]] = []
        try:
            self._attach(hooks, queue, fail_open, owners, ways)
        except BaseException:
            self._undo()
            raise

    def _attach(
        self, hooks: Sequence[Hook], queue: int, fail_open: bool, owners: bool, ways: Sequence[host_table.Way]
    ) -> None:
        before = system.conntrack.count_bytes(True)
        self._closers.append(lambda: _count_as_before(before))
        self._conntrack = system.conntrack.Conntrack()
        self._closers.append(self._conntrack.close)
        self._log = system.packet_log.PacketLog(queue)
        self._closers.append(self._log.close)
        self._owners = host_owners() if owners else None
        if self._owners is not None:
            self._closers.append(self._owners.close)
        self._queue = system.nfqueue.PacketQueue(queue, fail_open=fail_open)
        self._closers.append(self._queue.close)
        self._flows = HostFlows(self._filters, self._queue, self, self._describe, fail_open=fail_open)
        lines = host_lines(hooks, queue, fail_open=fail_open)
        self._table = system.host_table.HostTable(TABLE, lines, ways)
        self._closers.append(self._table.close)
        self.renew_rules()
        for watched, ready in (
            (self._queue.fileno(), self._packets),
            (self._conntrack.fileno(), self._ends),
            (self._log.fileno(), self._answers),
        ):
            self._loop.watch(watched, IN, ready)
            self._closers.append(lambda number=watched: self._loop.forget(number))  # type: ignore[misc]
        if fail_open:
            self._keep()

    @property
    def flows(self) -> int:
        """How many flows are followed."""
        return len(self._flows)

    # Rules.

    def _current_steps(self) -> list[Step]:
        return [_step(session) for session in self._filters.sessions]

    def renew_rules(self) -> None:
        """Another provider is in force in one of the sessions, or none."""
        steps = self._current_steps()
        if steps != self._steps:
            for lines in step_transactions(steps):
                self._table.change(lines)
            self._steps = steps

    def _keep(self) -> None:
        """The kernel passes what is undecided once this does not happen any more."""
        self._table.keep(ALIVE, 0)
        self._keeping = self._loop.later(_KEEP_INTERVAL, self._keep)

    # What arrives.

    def _packets(self, _events: int) -> None:
        self._answers(0)  # a flow's DNS answer passed before its first packet did
        for queued in self._queue.receive_hooked():
            self._flows.packet(queued)
        if self._queue.overruns != self._told_overruns:
            self._say(
                "warning", f"{self._queue.overruns - self._told_overruns} times more packets than the queue holds"
            )
            self._told_overruns = self._queue.overruns

    def _ends(self, _events: int) -> None:
        for ended in self._conntrack.receive():
            self._flows.ended(ended)

    def _answers(self, _events: int) -> None:
        for packet in self._log.receive():
            learn_from(packet, self._names)

    def set_mark(self, key: system.conntrack.FlowKey, mark: int, mask: int) -> bool:
        """Marks a flow that the kernel carries; what is refused is said."""
        try:
            return self._conntrack.set_mark(key, mark, mask)
        except HostFault as fault:
            self._say("error", f"a flow could not be dropped: {fault}")
            return False

    def _describe(self, key: Key, hook: int) -> Flow:
        protocol, source, source_port, destination, destination_port = key
        opener, answerer = Address(_text(source), source_port), Address(_text(destination), destination_port)
        inward = hook not in (_FORWARD, _OUTPUT)
        names = () if inward else self._names.of(destination)
        owner, unknown = self._owner(key, hook, inward)
        if owner is not None:
            names = self._names.meant_by(owner.pid, names)
        return Flow(
            number=self._filters.number(),
            transport="tcp" if protocol == ip.TCP else "udp",
            direction="inbound" if inward else "outbound",
            local=answerer if inward else opener,
            remote=opener if inward else answerer,
            started=time.time(),
            name=names[0] if names else None,
            name_from="dns" if names else None,
            name_unknown=None if names else (_FROM_OUTSIDE if inward else _NO_NAME),
            names=names,
            owner=owner,
            owner_unknown=unknown,
        )

    def _owner(self, key: Key, hook: int, inward: bool) -> tuple[Owner | None, str | None]:
        if hook == _FORWARD:
            return None, _ROUTED
        if self._owners is None:
            return None, _NOT_ASKED
        protocol, source, source_port, destination, destination_port = key
        if inward:
            source, source_port, destination, destination_port = destination, destination_port, source, source_port
        found = self._owners.find(protocol, source, source_port, destination, destination_port)
        return (None, _NO_OWNER) if found is None else (as_seen(found.owner), None)

    # The end.

    def close(self) -> None:
        """What waits passes, the rules go, and whoever listened leaves. The sessions are to be off by now."""
        try:
            self._table.change(quiet_lines())
        except HostFault as fault:
            self._say("error", str(fault))
        while waiting := self._queue.receive_hooked():
            for queued in waiting:
                self._queue.verdict(queued.id, REPEAT, queued.mark)
        self._flows.let_go()
        self._undo()

    def _undo(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        while self._closers:
            self._closers.pop()()


def _step(session: FilterSession) -> Step:
    if session.state != "running":
        return Step(None, asks=True)
    return Step(session.settings, asks=session.wants("handle_new_flow"))


def _count_as_before(before: bool) -> None:
    if not before:
        system.conntrack.count_bytes(False)
