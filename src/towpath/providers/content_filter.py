"""The class that the author of a content filter writes."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Generic

from towpath.providers.flow import Direction, Flow, FlowReport, Question
from towpath.providers.provider import Config, Provider
from towpath.providers.reasons import StopReason
from towpath.providers.settings import FilterSettings
from towpath.providers.verdict import Allow, FlowVerdict, NameVerdict

__all__ = ["ContentFilterProvider"]


class ContentFilterProvider(Provider[Config], Generic[Config]):
    """Decides about names and flows. Override what you need; what you leave out allows.

    ::

        from towpath.providers import Allow, ContentFilterProvider, Drop, Flow

        class NoAds(ContentFilterProvider):
            def handle_new_flow(self, flow: Flow) -> Allow | Drop:
                if flow.host.endswith(".ads.test"):
                    return Drop("an advertiser's")
                return Allow()

    With a config of its own, `class NoAds(ContentFilterProvider[Settings])`, where `Settings` is a `msgspec.Struct` or
    a dataclass; `self.config` is one.

    Each hook is a plain function or an `async def`. The hooks of one flow are called one after the other; those of
    different flows in the order of their questions, and where they are `async` they overlap while they wait. An answer
    is due within 5 s: a filter that leaves a question open for longer, or raises, has failed, and the user's
    `--on-failure` decides about everything undecided. Answer `Pause()` and `resume` later to take longer.
    """

    def start(self) -> FilterSettings | None | Awaitable[FilterSettings | None]:
        """Called before anything else. The settings say which flows to be asked about: all by default."""
        return None

    def stop(self, reason: StopReason) -> None | Awaitable[None]:
        """Called last, at most once; the process may be killed 5 s later."""
        return None

    def handle_name(self, question: Question) -> NameVerdict | Awaitable[NameVerdict]:
        """A program wants a name resolved. `Drop` answers that it does not exist."""
        return Allow()

    def handle_new_flow(self, flow: Flow) -> FlowVerdict | Awaitable[FlowVerdict]:
        """A flow begins. Nothing of it has left or arrived yet."""
        return Allow()

    def handle_outbound_data(self, flow: Flow, offset: int, data: bytes) -> FlowVerdict | Awaitable[FlowVerdict]:
        """What is held of the outbound bytes: `data` begins `offset` bytes after the flow's start. See `Peek`.

        Those before `offset` have passed. What was shown before and not let pass is shown again, with what came after.
        """
        return Allow()

    def handle_inbound_data(self, flow: Flow, offset: int, data: bytes) -> FlowVerdict | Awaitable[FlowVerdict]:
        """The same for inbound bytes."""
        return Allow()

    def data_complete(self, flow: Flow, direction: Direction) -> FlowVerdict | Awaitable[FlowVerdict]:
        """No more is to be expected of a direction that is held: it ended, or nothing came for a second.

        The answer must be final for this direction: `Allow`, `Drop`, or a `Peek` that asks only for the other one.
        """
        return Allow()

    def flow_closed(self, report: FlowReport) -> None | Awaitable[None]:
        """A flow has ended that this filter was asked about."""
        return None

    def rules_changed(self) -> None | Awaitable[None]:
        """The config file has changed; `self.config` is the new one already."""
        return None

    def resume(self, flow: Flow, verdict: FlowVerdict) -> None:
        """Gives the verdict of a flow that was paused: `Allow`, `Drop` or `Peek`. From any thread.

        A flow that is not paused raises `Misuse`, and so does one that has ended: `flow_closed` said so.
        """
        self.context.resume(flow.number, verdict)

    def update(self, flow: Flow, verdict: NameVerdict) -> None:
        """Changes the verdict of a flow that was decided; one that has ended is left alone. From any thread."""
        self.context.update(flow.number, verdict)
