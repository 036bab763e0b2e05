"""A DNS proxy in memory: scripted questions, a clock that a test moves, no worker, no server and no kernel."""

from __future__ import annotations

from typing import Any, TypeVar

from towpath.providers import (
    Address,
    Answer,
    DNSProxyProvider,
    DNSProxySettings,
    DNSVerdict,
    Drop,
    Forward,
    Owner,
    Question,
    Refuse,
    SystemDNSSettings,
)
from towpath.testing.provider_harness import ProviderHarness

__all__ = ["DNSHarness"]

P = TypeVar("P", bound=DNSProxyProvider[Any])


class DNSHarness(ProviderHarness[P]):
    """Runs a DNS proxy's class as a run would, and tells a test what it makes of questions.

    >>> from towpath.providers import DNSProxyProvider, Forward, Refuse
    >>> class NoAds(DNSProxyProvider):
    ...     def handle_query(self, query):
    ...         return Refuse("an advertiser's") if query.name.endswith(".ads.test") else Forward()
    >>> with DNSHarness(NoAds) as harness:
    ...     harness.query("www.ads.test"), harness.query("news.test")
    (Refuse(reason="an advertiser's", how='nxdomain', ttl=60), Forward(servers=()))

    `settings` is what `start` gave, `flushed` the names that it wanted forgotten, () for all. Everything else is as in
    `FilterHarness`: `logs`, `advance`, `change_config`.
    """

    _settings_kinds = (DNSProxySettings,)
    settings = DNSProxySettings()

    def _started(self, settings: DNSProxySettings | None) -> None:
        self.settings = settings or DNSProxySettings()

    def query(self, name: str, type: str = "A", *, owner: Owner | None = None) -> DNSVerdict:
        """A program wants a name resolved that neither the cache nor a rule decides; what the proxy answers."""
        self._questions += 1
        verdict: DNSVerdict = self._run(
            "handle_query",
            (Answer, Forward, Refuse, Drop),
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
        return verdict

    def change_system(self, *servers: str, search: tuple[str, ...] = ()) -> None:
        """The system asks other servers now."""
        self.provider.system_dns_settings = SystemDNSSettings(servers, search)
        self._run("system_dns_settings_changed", (type(None),))

    def sleep(self) -> None:
        """The machine is about to sleep."""
        self._run("sleep", (type(None),))

    def wake(self) -> None:
        """The machine was asleep."""
        self._run("wake", (type(None),))
