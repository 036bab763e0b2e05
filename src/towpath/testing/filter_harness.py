"""A content filter in memory: scripted names and flows, a clock that a test moves, no worker and no kernel."""

from __future__ import annotations

from typing import Any, TypeVar

from towpath.errors import Misuse
from towpath.providers import (
    Address,
    Allow,
    ContentFilterProvider,
    Direction,
    Drop,
    FilterSettings,
    Flow,
    FlowVerdict,
    NameSource,
    NameVerdict,
    Owner,
    Question,
    Transport,
)
from towpath.testing.flow_run import FlowRun
from towpath.testing.provider_harness import HOOK_SECONDS, LogLine, ProviderHarness

__all__ = ["HOOK_SECONDS", "FilterHarness", "LogLine"]

P = TypeVar("P", bound=ContentFilterProvider[Any])


class FilterHarness(ProviderHarness[P]):
    """Runs a filter's class as a run would, and tells a test what became of each name, flow and byte.

    >>> from towpath.providers import Allow, ContentFilterProvider, Drop, Peek
    >>> class NoTelnet(ContentFilterProvider):
    ...     def handle_new_flow(self, flow):
    ...         return Peek(outbound=2)
    ...     def handle_outbound_data(self, flow, offset, data):
    ...         return Drop("telnet") if data.startswith(b"\\xff") else Allow()
    >>> with FilterHarness(NoTelnet) as harness:
    ...     flow = harness.flow("tcp", "192.0.2.7", 23).send(b"\\xff\\xfd")
    ...     flow.dropped, flow.reason, flow.passed_out
    (True, 'telnet', b'')

    `config` is a table as in a TOML file, or a value of the filter's config type. `capabilities` are those that the
    manifest in the class's own file claims; a file without a manifest may do all.

    A call returns when the hooks that it led to have answered. The clock moves by `advance`, and while a hook waits for
    it, up to `HOOK_SECONDS`: then `TimedOut` is raised. What a hook raises is raised in the test, an answer that is
    none is `Misuse`. `logs`, `prompts` and the files in `folder` are what the filter did besides. Not for use from
    inside a running event loop.
    """

    _settings_kinds = (FilterSettings,)
    _settings = FilterSettings()

    def _started(self, settings: FilterSettings | None) -> None:
        self._settings = settings or FilterSettings()
        self._flows: dict[int, FlowRun] = {}

    def question(self, name: str, type: str = "A", *, owner: Owner | None = None) -> NameVerdict:
        """A program wants a name resolved; the filter's verdict."""
        self._questions += 1
        verdict = self._run(
            "handle_name",
            (Allow, Drop),
            Question(
                number=self._questions,
                name=name.rstrip(".").lower(),
                type=type,
                transport="udp",
                server=Address("192.0.2.2", 53),
                owner=owner,
                owner_unknown=None if owner else "the test names none",
            ),
        )
        assert isinstance(verdict, Allow | Drop)
        return verdict

    def flow(
        self,
        transport: Transport,
        ip: str,
        port: int,
        *,
        name: str | None = None,
        name_from: NameSource = "dns",
        names: tuple[str, ...] | None = None,
        owner: Owner | None = None,
        direction: Direction = "outbound",
    ) -> FlowRun:
        """A flow begins. `ip` and `port` are the remote side's, `names` (or `name`) what DNS answers gave it."""
        number = len(self._flows) + 1
        run = self._flows[number] = FlowRun(
            self,
            Flow(
                number=number,
                transport=transport,
                direction=direction,
                local=Address("2001:db8:746f:7770::1" if ":" in ip else "192.0.2.1", 40000 + number % 20000),
                remote=Address(ip, port),
                started=self.now(),
                name=name,
                name_from=name_from if name else None,
                name_unknown=None if name else "the test names none",
                names=((name,) if name else ()) if names is None else names,
                owner=owner,
                owner_unknown=None if owner else "the test names none",
            ),
        )
        settled: dict[str, FlowVerdict] = {"allow": Allow(), "drop": Drop("the filter's settings drop it")}
        run.begin(settled.get(self._settings.decide(transport, direction, ip, port)))
        return run

    def flow_of(self, number: int) -> FlowRun:
        if number not in self._flows:
            raise Misuse(f"there is no flow {number}")
        return self._flows[number]
