"""The shipped DNS proxy: lists in each syntax, what wins, rewrites, programs, and how a million names do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import ConfigInvalid
from towpath.extensions.secure_dns import SecureDns
from towpath.extensions.support.block_list import BlockList
from towpath.providers import Answer, DNSSettings, Forward, Owner, Refuse
from towpath.testing import DNSHarness


@pytest.mark.parametrize(
    ("line", "blocked", "passed"),
    [
        ("0.0.0.0 ads.test", ["ads.test"], ["www.ads.test", "ds.test", "test"]),
        ("127.0.0.1\tads.test track.test # both", ["ads.test", "track.test"], ["x.track.test"]),
        ("::1 ads.test", ["ads.test"], []),
        ("0.0.0.0 ADS.Test", ["ads.test"], []),
        ("ads.test", ["ads.test", "a.b.ads.test"], ["badads.test", "test"]),
        ("*.ads.test", ["ads.test", "www.ads.test"], ["test"]),
        ("||ads.test^", ["ads.test", "www.ads.test"], ["badads.test"]),
        ("||ads.test^$important", ["ads.test"], []),
        ("|ads.test^", ["ads.test"], ["www.ads.test"]),
        ("||*.ads.test^", ["www.ads.test"], []),
        ("! 0.0.0.0 ads.test", [], ["ads.test"]),
        ("# ads.test", [], ["ads.test"]),
        ("[Adblock Plus 2.0]", [], ["adblock"]),
        ("ads.test##.banner", [], ["ads.test"]),
        ("||ads.test/banner.js", [], ["ads.test"]),
        ("||ads.test^$domain=news.test", [], ["ads.test"]),
        ("127.0.0.1 localhost", [], ["localhost"]),
        ("0.0.0.0 0.0.0.0", [], ["0.0.0.0"]),
        ("/ads[0-9]+/", [], ["ads1.test"]),
    ],
)
def test_each_line_blocks_what_its_kind_says(line: str, blocked: list[str], passed: list[str]) -> None:
    names = BlockList()
    names.add_lines("list", [line.encode() + b"\r\n"])
    names.seal()
    assert [name for name in (*blocked, *passed) if names.find(name)] == blocked


def test_what_is_allowed_is_not_blocked_whatever_the_order() -> None:
    names = BlockList()
    names.add_lines("list", [b"@@||cdn.ads.test^\n", b"||ads.test^\n", b"0.0.0.0 track.test\n"])
    names.add_lines("good", [b"0.0.0.0 track.test\n"], allow=True)
    names.seal()
    assert names.find("ads.test") == "list"
    assert names.find("x.cdn.ads.test") is None
    assert names.find("track.test") is None


@given(st.lists(st.binary(max_size=60), max_size=20), st.text(max_size=40))
def test_any_bytes_are_a_list(lines: list[bytes], name: str) -> None:
    names = BlockList()
    count, skipped = names.add_lines("list", lines)
    names.seal()
    assert count >= 0
    assert skipped <= len(lines)
    names.find(name)


@given(st.sets(st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,5}){1,3}", fullmatch=True), max_size=50))
def test_a_list_blocks_its_names_and_no_others(domains: set[str]) -> None:
    names = BlockList()
    names.add_lines("list", [f"0.0.0.0 {domain}\n".encode() for domain in domains])
    names.seal()
    assert all(names.find(domain) == "list" for domain in domains)
    assert names.find("x." + next(iter(domains), "y.test")) is None


def test_a_million_names_are_read_in_5_seconds_into_150_mb(tmp_path: Path) -> None:
    """Bounds of the purpose, far above what is measured, so that a mistake of an order of magnitude is seen."""
    program = """
import resource, sys, time
from towpath.extensions.support.block_list import BlockList
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begun = time.process_time()
names = BlockList()
lines = (b"0.0.0.0 n%d.ads%d.test\\n" % (at, at % 997) if at % 2 else b"||x%d.test^\\n" % at for at in range(1_000_000))
assert names.add_lines("list", lines) == (1_000_000, 0)
names.seal()
assert names.find("n7.ads7.test") == names.find("a.x8.test") == "list"
print(time.process_time() - begun, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    _seconds, megabytes = map(float, done.stdout.split())
    assert megabytes < 150


def harness(config: Mapping[str, object], folder: Path) -> DNSHarness[SecureDns]:
    return DNSHarness(SecureDns, dict(config), folder=folder)


def test_blocked_names_say_which_list(tmp_path: Path) -> None:
    (tmp_path / "ads.txt").write_text("||ads.test^\nads.test##.x\n")
    with harness({"block_lists": ["ads.txt"], "block": ["track.test"], "blocked": "zero"}, tmp_path) as proxy:
        assert proxy.query("www.ads.test") == Refuse("it is on ads.txt", "zero")
        assert proxy.query("track.test") == Refuse("it is on block", "zero")
        assert proxy.query("news.test") == Forward()
        assert [line.text for line in proxy.logs] == ["ads.txt: 1 names, 1 lines are of another kind"]


def test_rewrites_come_first(tmp_path: Path) -> None:
    rewrites: dict[str, object] = {
        "printer.home": ["192.0.2.9"],
        "*.old.test": "new.test",
        "www.search.test": "safe.search.test",
    }
    with harness({"rewrites": rewrites, "block": ["printer.home"]}, tmp_path) as proxy:
        assert proxy.query("printer.home") == Answer(("192.0.2.9",))
        assert proxy.query("a.b.old.test") == Answer(alias="new.test")
        assert proxy.query("www.search.test") == Answer(alias="safe.search.test")
        assert proxy.query("old.test") == Forward()


def test_a_program_has_rules_of_its_own(tmp_path: Path) -> None:
    apps = [
        {"program": "curl", "action": "allow"},
        {"program": "/opt/game/*", "action": "block"},
        {"program": "py*", "block": ["pypi.test"]},
    ]
    with harness({"block": ["ads.test"], "apps": apps}, tmp_path) as proxy:
        curl, game = Owner(2, "curl", "/usr/bin/curl"), Owner(3, "game", "/opt/game/bin/game")
        python = Owner(4, "python3", "/usr/bin/python3")
        assert proxy.settings.per_asker
        assert proxy.query("ads.test", owner=curl) == Forward()
        assert proxy.query("news.test", owner=game) == Refuse("nothing is resolved for /opt/game/*")
        assert proxy.query("pypi.test", owner=python) == Refuse("apps: py* block it")
        assert proxy.query("ads.test", owner=python) == Refuse("it is on block")
        assert proxy.query("ads.test") == Refuse("it is on block")


def test_servers_are_grouped_by_domain(tmp_path: Path) -> None:
    config = {
        "servers": ["tls://dns.test@192.0.2.53"],
        "mode": "race",
        "domains": [{"match": ["corp.test"], "servers": ["198.51.100.53"], "allow_failover": True}],
    }
    with harness(config, tmp_path) as proxy:
        assert proxy.settings.settings == (
            DNSSettings(("tls://dns.test@192.0.2.53",), mode="race"),
            DNSSettings(("198.51.100.53",), ("corp.test",), allow_failover=True),
        )


def test_a_misspelt_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="block_list"):
        harness({"block_list": ["ads.txt"]}, tmp_path)
