"""The start of an extension of one's own."""

from __future__ import annotations

import keyword
import os
import re
import sys

from towpath.errors import ConfigInvalid

__all__ = ["write_content_filter", "write_dns_proxy"]

_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")

_FILTER = '''\
# /// script
# [tool.towpath.extension]
# id = "@ID@"
# version = "0.1"
# kind = "content-filter"
# class = "@CLASS@"
# # "prompt" lets it ask the person, "output" append to files named in its config.
# capabilities = ["content-filter-provider"]
# ///
"""What this filter is for, in one line.

Try it:  towpath run --filter @MODULE@.py -- curl https://example.org/
"""

from __future__ import annotations

import msgspec
from towpath.providers import (
    Allow,
    ContentFilterProvider,
    Direction,
    Drop,
    Flow,
    FlowVerdict,
    NameVerdict,
    Peek,
    Question,
)


class Config(msgspec.Struct):
    """What a user may set, in TOML:  towpath run --filter @MODULE@.py:config.toml"""

    blocked: tuple[str, ...] = ("ads.test",)


class @CLASS@(ContentFilterProvider[Config]):
    """Blocks names, and plain HTTP requests other than GET."""

    def handle_name(self, question: Question) -> NameVerdict:
        """A program wants a name resolved. What is dropped here does not exist for it."""
        if self._blocked(question.name):
            return Drop(f"{question.name} is blocked")
        return Allow()

    def handle_new_flow(self, flow: Flow) -> FlowVerdict:
        """A connection begins, of `flow.owner`. So far only DNS can have named its host, `flow.name`."""
        if self._blocked(flow.host):
            return Drop(f"{flow.host} is blocked")
        if flow.transport == "tcp" and flow.remote.port == 80:
            # Hold what the program sends, and show the first 4 bytes of it.
            return Peek(outbound=4)
        return Allow()

    def handle_outbound_data(self, flow: Flow, offset: int, data: bytes) -> FlowVerdict:
        """The bytes that were asked for, as they come. The first request is seen, not those that follow it."""
        if len(data) < 4:
            return Peek(outbound=4)
        return Allow() if data == b"GET " else Drop("only GET requests pass")

    def data_complete(self, flow: Flow, direction: Direction) -> FlowVerdict:
        """It says no more, and is still no request."""
        return Drop("only GET requests pass")

    def _blocked(self, name: str) -> bool:
        return any(f".{name}".endswith(f".{one}") for one in self.config.blocked)
'''

_TEST = '''\
"""The filter @ID@, without a network:  python -m pytest @TEST@.py"""

from __future__ import annotations

from towpath.providers import Allow, Drop
from towpath.testing import FilterHarness

from @MODULE@ import @CLASS@


def test_blocked_names_do_not_exist() -> None:
    with FilterHarness(@CLASS@, {"blocked": ["ads.test"]}) as harness:
        assert harness.question("www.ads.test") == Drop("www.ads.test is blocked")
        assert harness.question("news.test") == Allow()


def test_only_get_requests_leave() -> None:
    with FilterHarness(@CLASS@) as harness:
        get = harness.flow("tcp", "192.0.2.7", 80, name="news.test")
        get.send(b"GE").send(b"T / HTTP/1.1")
        assert get.passed_out == b"GET / HTTP/1.1"

        post = harness.flow("tcp", "192.0.2.7", 80, name="news.test")
        post.send(b"POST / HTTP/1.1")
        assert post.passed_out == b""
        assert post.reason == "only GET requests pass"
'''


_PROXY = '''\
# /// script
# [tool.towpath.extension]
# id = "@ID@"
# version = "0.1"
# kind = "dns-proxy"
# class = "@CLASS@"
# # "prompt" lets it ask the person, "output" append to files named in its config.
# capabilities = ["dns-proxy"]
# ///
"""What this DNS proxy is for, in one line.

Try it:  towpath run --dns @MODULE@.py -- curl https://example.org/
"""

from __future__ import annotations

import msgspec
from towpath.providers import (
    Answer,
    DNSProxyProvider,
    DNSProxySettings,
    DNSSettings,
    DNSVerdict,
    Forward,
    Question,
    Refuse,
)


class Config(msgspec.Struct):
    """What a user may set, in TOML:  towpath run --dns @MODULE@.py:config.toml"""

    servers: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ("ads.test",)


class @CLASS@(DNSProxyProvider[Config]):
    """Answers for one name, blocks others, and forwards the rest."""

    def start(self) -> DNSProxySettings:
        """Whom to ask: the system's servers, or others, as in tls://dns.test@192.0.2.53."""
        if not self.config.servers:
            return DNSProxySettings()
        return DNSProxySettings((DNSSettings(self.config.servers),))

    def handle_query(self, query: Question) -> DNSVerdict:
        """A program, `query.owner`, wants a name. An answer is kept as long as it says."""
        if query.name == "printer.home":
            return Answer(("192.0.2.9",), ttl=300)
        if any(f".{query.name}".endswith(f".{one}") for one in self.config.blocked):
            return Refuse(f"{query.name} is blocked")
        return Forward()
'''

_PROXY_TEST = '''\
"""The DNS proxy @ID@, without a network:  python -m pytest @TEST@.py"""

from __future__ import annotations

from towpath.providers import Answer, Forward, Refuse
from towpath.testing import DNSHarness

from @MODULE@ import @CLASS@


def test_each_name_has_its_answer() -> None:
    with DNSHarness(@CLASS@, {"blocked": ["ads.test"]}) as harness:
        assert harness.query("printer.home") == Answer(("192.0.2.9",), ttl=300)
        assert harness.query("www.ads.test") == Refuse("www.ads.test is blocked")
        assert harness.query("news.test") == Forward()


def test_the_config_names_servers() -> None:
    with DNSHarness(@CLASS@, {"servers": ["192.0.2.53"]}) as harness:
        assert harness.settings.settings[0].servers == ("192.0.2.53",)
'''


def write_content_filter(name: str, folder: str) -> tuple[str, str]:
    """Writes a filter and its test into a folder, made if need be; gives both paths. Nothing is ever overwritten.

    Raises `ConfigInvalid` for a name that cannot be used, and for a file that exists or cannot be written.
    """
    return _written(name, folder, _FILTER, _TEST)


def write_dns_proxy(name: str, folder: str) -> tuple[str, str]:
    """The same for a DNS proxy."""
    return _written(name, folder, _PROXY, _PROXY_TEST)


def _written(name: str, folder: str, extension: str, test: str) -> tuple[str, str]:
    where = "towpath extension new"
    if not _NAME.fullmatch(name):
        raise ConfigInvalid(where, f"{name!r} is no name for an extension", "small letters, digits and '-': no-ads")
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        raise ConfigInvalid(where, f"{module}.py would hide Python's own {module}", f"for example my-{name}")
    words = {
        "ID": name,
        "MODULE": module,
        "TEST": f"test_{module}",
        "CLASS": "".join(part.capitalize() for part in name.split("-")),
    }
    files = [(os.path.join(folder, f"{module}.py"), extension), (os.path.join(folder, f"test_{module}.py"), test)]
    for path, _ in files:
        if os.path.lexists(path):
            raise ConfigInvalid(path, "is there already", "another name, or another --folder")
    try:
        os.makedirs(folder, exist_ok=True)
        for path, text in files:
            with open(path, "x", encoding="utf-8") as file:
                file.write(re.sub("@([A-Z]+)@", lambda found: words[found[1]], text))
    except OSError as error:
        raise ConfigInvalid(str(error.filename or folder), f"cannot be written: {error.strerror}") from None
    return files[0][0], files[1][0]
