"""A DNS proxy: a class that answers for the names that programs ask for."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Generic

from towpath.providers.dns import DNSProxySettings, DNSVerdict, Forward, SystemDNSSettings
from towpath.providers.flow import Question
from towpath.providers.provider import Config, Provider
from towpath.providers.reasons import StopReason

__all__ = ["DNSProxyProvider"]


class DNSProxyProvider(Provider[Config], Generic[Config]):
    """Answers, forwards or refuses questions. Override what you need; what you leave out forwards.

    ::

        from towpath.providers import Answer, DNSProxyProvider, DNSVerdict, Forward, Question, Refuse

        class Mine(DNSProxyProvider):
            def handle_query(self, query: Question) -> DNSVerdict:
                if query.name == "printer.home.test":
                    return Answer(("192.0.2.9",))
                return Refuse("an advertiser's") if query.name.endswith(".ads.test") else Forward()

    Every datagram and connection to port 53 comes here, whatever server the program addresses. A question is put to
    `handle_query` when neither the cache nor a rule of the settings decides it; what it answers is kept for as long as
    the answer says, and given to others who ask the same. A question is due an answer within 5 s; a provider that
    fails to give one is overruled by the user's `--on-failure`: nothing is resolved, or everything is forwarded.

    The provider has no network: what it forwards is carried by whoever runs it.
    """

    def start(self) -> DNSProxySettings | None | Awaitable[DNSProxySettings | None]:
        """Called before anything else. `system_dns_settings` is there already."""
        return None

    def stop(self, reason: StopReason) -> None | Awaitable[None]:
        """Called last, at most once; the process may be killed 5 s later."""
        return None

    def handle_query(self, query: Question) -> DNSVerdict | Awaitable[DNSVerdict]:
        """A program wants a name resolved, and the policy and the filters allow it."""
        return Forward()

    def system_dns_settings_changed(self) -> None | Awaitable[None]:
        """`system_dns_settings` has changed."""
        return None

    def sleep(self) -> None | Awaitable[None]:
        """The machine is about to sleep; it does 5 s later, at the latest."""
        return None

    def wake(self) -> None | Awaitable[None]:
        """The machine was asleep."""
        return None

    def rules_changed(self) -> None | Awaitable[None]:
        """The config, or a file that it names, has changed; `self.config` is the new one already.

        Answers that were kept are forgotten afterwards. The settings of `start` stay as they are.
        """
        return None

    def flush(self, *names: str) -> None:
        """Forgets the answers that were kept for these names, without any all of them; "*.domain" is all below it.

        Also the proxy's own: its hook is asked again. For who learns that answers have changed before their time.
        """
        self.context.flush(tuple(name.strip(".").lower() for name in names))

    system_dns_settings: SystemDNSSettings = SystemDNSSettings()
    """What the system would ask."""
