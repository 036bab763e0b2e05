"""The filters and the DNS proxy of one run: found and given a zygote before all else, started before the command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from towpath.errors import TowpathError
from towpath.hosting import imports, worker
from towpath.hosting.bundle import Bundle, find_again, find_bundle
from towpath.hosting.dns_provider import DnsProvider
from towpath.hosting.filters import Filters
from towpath.hosting.loop import IN
from towpath.hosting.nursery import Nursery, named_files
from towpath.hosting.outputs import Outputs
from towpath.hosting.system_dns import system_settings
from towpath.hosting.zygote import Zygote
from towpath.kernel import system
from towpath.providers.reasons import StopReason
from towpath.sandbox import ruleset
from towpath.sandbox.filtering import Filtering
from towpath.sandbox.prompting import Prompter

if TYPE_CHECKING:
    from towpath.hosting.loop import Loop
    from towpath.sandbox.judge import Judge
    from towpath.sandbox.options import RunOptions
    from towpath.sandbox.report import Ledger

__all__ = ["FilterRun"]

_SETTLE = 0.1
"""Seconds after a change of a file in which an editor may still be writing others."""
_STOP_PATIENCE = 2.0


class FilterRun:
    """To be made first of all, while the process holds nothing; `begin` needs the loop. Raises `ConfigInvalid`."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._bundles = [find_bundle(text, kind="content-filter") for text in options.filters]
        self._proxy_bundle = find_bundle(options.dns, "--dns", "dns-proxy") if options.dns is not None else None
        self.proxy: DnsProvider | None = None
        """The DNS proxy, once `begin` has returned."""
        self._outputs = Outputs()
        self._zygote = Zygote(worker.live, imports.close)
        self._filters: Filters | None = None
        self._prompter: Prompter | None = None
        self._watch = system.watch.FileWatch(self._paths()) if options.reload else None

    @property
    def files(self) -> list[str]:
        """What the command must not be able to change: the next worker loads it again, as the next run does."""
        found = []
        for bundle in self._all:
            ways = (bundle.folder or bundle.file, bundle.given, bundle.config_file, bundle.config_given)
            found += [path for path in ways if path]
            found += named_files(bundle.config, bundle.home)
        return found

    @property
    def outputs(self) -> list[str]:
        """What they write to, once they have begun: they read their own words there, or somebody else does."""
        return [*(self._filters.outputs if self._filters is not None else []), *self._outputs.paths]

    @property
    def _all(self) -> list[Bundle]:
        return [*self._bundles, *([self._proxy_bundle] if self._proxy_bundle else [])]

    def begin(self, loop: Loop, ledger: Ledger) -> None:
        """Starts every provider and waits for them. Raises what kept one from starting."""
        self._loop = loop
        self._ledger = ledger
        outcome: list[TowpathError | None] = []

        def started(error: TowpathError | None) -> None:
            outcome.append(error)
            loop.stop()

        self._prompter = Prompter(loop, self._options.ask_with, has_terminal=self._options.has_terminal)
        nursery = Nursery(loop, self._zygote)
        if self._bundles:
            self._filters = Filters(
                loop,
                nursery,
                self._bundles,
                self._options.on_failure,
                say=ledger.say,
                prompt=self._prompter.ask,
                started=started,
            )
        if self._proxy_bundle is not None:
            self.proxy = DnsProvider(
                loop,
                nursery,
                self._proxy_bundle,
                self._options.on_failure,
                system_settings(),
                say=ledger.say,
                prompt=self._prompter.ask,
                output=self._outputs.open,
                started=started,
            )
        for _ in range(bool(self._bundles) + bool(self._proxy_bundle)):
            while not outcome:
                loop.run()
            error = outcome.pop(0)
            if error is not None:
                raise error
        if self._watch is not None:
            self._follow(self._watch)

    def static_table(self) -> list[list[str]]:
        """What static rules drop, for the kernel; nothing where new code may come with other rules."""
        if self._filters is None or self._options.reload:
            return []
        return ruleset.static_lines([session.settings for session in self._filters.sessions])

    def filtering(self, judge: Judge, ledger: Ledger) -> Filtering | None:
        """The filters as the run's services ask them."""
        return Filtering(self._filters, judge, ledger) if self._filters is not None else None

    def _paths(self) -> list[str]:
        found = [path for bundle in self._all for path in (bundle.file, bundle.config_file) if path]
        return [*found, *(self._lists() if self._proxy_bundle else [])]

    def _lists(self) -> list[str]:
        """The files that the config of the DNS proxy names: block lists change more often than what names them."""
        bundle = self._proxy_bundle
        assert bundle is not None
        return list(named_files(bundle.config, bundle.home))

    def _follow(self, watch: system.watch.FileWatch) -> None:
        def ready(_events: int) -> None:
            watch.drain()
            self._loop.later(_SETTLE, self._look_again)

        self._loop.watch(watch.fileno(), IN, ready)
        self._look_again()  # a change while the filters started

    def _look_again(self) -> None:
        changed = self._watch.changed() if self._watch is not None else []
        lists = set(self._lists()) if self._proxy_bundle else set()

        def has_new_config(bundle: Bundle) -> bool:
            return bundle.config_file in changed or (
                bundle.manifest.kind == "dns-proxy" and not lists.isdisjoint(changed)
            )

        self._reload(lambda bundle: bundle.file in changed, has_new_config)

    def reload(self) -> None:
        """Takes over the code of every filter again, as it is now."""
        self._reload(lambda _bundle: True, lambda _bundle: False)

    def _reload(self, has_new_code: Callable[[Bundle], bool], has_new_config: Callable[[Bundle], bool]) -> None:
        if self.proxy is not None:
            self._reload_proxy(self.proxy, has_new_code, has_new_config)
        for index, session in enumerate(self._filters.sessions if self._filters is not None else []):
            old = self._bundles[index]
            if not (has_new_code(old) or has_new_config(old)):
                continue
            try:
                new = find_again(old)
            except TowpathError as error:
                self._ledger.say("error", f"{session.name}: the change was not taken over: {error}")
                continue
            self._bundles[index] = new
            if has_new_code(old) or session.settings.rules:
                session.reload(new)
            else:
                session.change_rules(new)

    def _reload_proxy(
        self, proxy: DnsProvider, has_new_code: Callable[[Bundle], bool], has_new_config: Callable[[Bundle], bool]
    ) -> None:
        old = proxy.session.bundle
        if not (has_new_code(old) or has_new_config(old)):
            return
        try:
            new = find_again(old, "--dns")
        except TowpathError as error:
            self._ledger.say("error", f"{proxy.name}: the change was not taken over: {error}")
            return
        # A new worker each time: its settings may be others, and it reads long lists while the old one serves.
        proxy.session.reload(new)

    def stop(self) -> None:
        """Tells every filter that the run is over and gives them a moment."""
        sessions = [*(self._filters.sessions if self._filters else []), *([self.proxy.session] if self.proxy else [])]
        if not sessions:
            return
        left = len(sessions)

        def done() -> None:
            nonlocal left
            left -= 1
            if not left:
                self._loop.stop()

        self._loop.later(_STOP_PATIENCE, self._loop.stop)
        for session in sessions:
            session.disable(StopReason.NONE, done)
        if left:
            self._loop.run()
        self._close_prompter()

    def _close_prompter(self) -> None:
        prompter, self._prompter = self._prompter, None
        if prompter is not None:
            prompter.close()

    def close(self) -> None:
        """Nothing is left of it afterwards."""
        self._close_prompter()
        if self._filters is not None:
            self._filters.close()
        self._outputs.close()
        if self._watch is not None:
            self._watch.close()
        self._zygote.close()
