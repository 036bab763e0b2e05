"""What the guide to names shows does what it says."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from towpath.cli.parser import build
from towpath.extensions.secure_dns import Config, SecureDns
from towpath.hosting.check import check_extension
from towpath.providers import Answer, Forward, Refuse
from towpath.testing import DNSHarness

GUIDE = (Path(__file__).parents[3] / "docs" / "guides" / "dns.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
CONFIGS = {text.splitlines()[0][2:]: text for kind, text in BLOCKS if kind == "toml"}
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if line.startswith("towpath")]


def test_the_proxy_of_the_guide_can_be_used_and_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = next(text for kind, text in BLOCKS if kind == "python" and text.startswith("# home.py"))
    test = next(text for kind, text in BLOCKS if kind == "python" and "DNSHarness" in text)
    (tmp_path / "home.py").write_text(source)
    assert check_extension(str(tmp_path / "home.py")).hooks == ("start", "handle_query")
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, object] = {}
    exec(f"from home import *\nfrom towpath.providers import Answer\n{test}", names)


def test_the_configs_of_the_guide_are_taken(tmp_path: Path) -> None:
    assert list(CONFIGS) == ["ads.toml", "private.toml", "signed.toml", "house.toml", "office.toml"]
    for name in ("hosts.txt", "adblock.txt"):
        (tmp_path / name).write_text("||ads.example^\n")
    for text in CONFIGS.values():
        with DNSHarness(SecureDns, tomllib.loads(text), folder=tmp_path) as proxy:
            assert isinstance(proxy.provider.config, Config)
    with DNSHarness(SecureDns, tomllib.loads(CONFIGS["ads.toml"]), folder=tmp_path) as proxy:
        assert proxy.query("x.ads.example") == Refuse("it is on hosts.txt")
        assert proxy.query("cdn.ads.example") == Forward()
    with DNSHarness(SecureDns, tomllib.loads(CONFIGS["office.toml"]), folder=tmp_path) as proxy:
        assert proxy.query("printer.home") == Answer(("192.0.2.9",))
        everyone, office = proxy.settings.settings
        assert (everyone.search, office.search) == (("corp.example",), ())
        assert office.match_domains == ("corp.example", "10.in-addr.arpa")
    with DNSHarness(SecureDns, tomllib.loads(CONFIGS["house.toml"]), folder=tmp_path) as proxy:
        assert [one.requires_dnssec for one in proxy.settings.settings] == [True, False]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_guide_are_understood(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    build(words).parse_args(words)
