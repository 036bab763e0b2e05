"""The guide to tunnels says what is true: its protocol works, and is as short as it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.tunnel_lab import Key

from towpath.cli.parser import build
from towpath.hosting.bundle import find_tunnel
from towpath.hosting.check import check_extension, check_tunnel
from towpath.hosting.hooks import TUNNEL_HOOKS
from towpath.providers import PacketTunnelProvider

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "tunnel.md"
TEXT = GUIDE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
FILES = {found[1]: text for _, text in BLOCKS if (found := re.match(r"# ([\w.]+)\n", text))}
COMMANDS = [shlex.split(line, comments=True) for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_block_is_a_file_or_commands() -> None:
    servers = ["gate.conf", "server.toml"]
    assert sorted(FILES) == sorted(["gateway.py", "knot.py", "knot.toml", "test_knot.py", "wg0.conf", *servers])
    assert len(COMMANDS) == 4


def test_the_pair_of_files_fits_together(folder: Path) -> None:
    client, server = Key.make(), Key.make()
    words = {"CLIENT": client, "SERVER": server}
    for name in ("wg0.conf", "gate.conf"):
        text = FILES[name]
        for word, key in words.items():
            text = text.replace(f"{word}_PRIVATE", key.secret).replace(f"{word}_PUBLIC", key.public)
        (folder / name).write_text(text)
    here, there = check_tunnel("wg0.conf"), check_tunnel("gate.conf")
    assert here["peers"] == [f"{there['public_key']} at vpn.example.org:51820 for 10.80.0.0/24, fd80::/64"]
    assert there["peers"][0].startswith(here["public_key"])
    assert 'HostTunnel(find_tunnel("gate.conf"), device="wg0")' in TEXT, "a server takes no kill switch"
    assert [here["ignored"], there["ignored"]] == [[], []]


def test_the_protocol_passes_its_test(folder: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_the_protocol_is_sixty_lines() -> None:
    lines = [line for line in FILES["knot.py"].splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 66
    body = "\n".join(lines).partition("class Knot")[2].splitlines()
    assert len(body) <= 60


def test_the_commands_of_the_guide_are_understood(folder: Path) -> None:
    options = build(["run"]).parse_args(COMMANDS[0][1:])
    assert find_tunnel(options.tunnel).manifest.kind == "packet-tunnel"
    assert check_extension(COMMANDS[1][-1]).class_name == "Knot"


def test_the_table_of_hooks_is_whole() -> None:
    for hook in TUNNEL_HOOKS:
        assert hasattr(PacketTunnelProvider, hook)
        assert f"`{hook}(" in TEXT or hook == "describe_config"
