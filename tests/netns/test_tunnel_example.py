"""The example of the reference tunnel and the guide to tunnels run, and say what their text says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.running import TOWPATH

from towpath.testing import Lab
from towpath.testing.plan import Http, LabPlan

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "tunnel.md"


def test_the_walk_through_runs() -> None:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be opened by this user")
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "examples.tunnel"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "anna reads through the tunnel" in done.stdout
    assert "ben reads through the tunnel" in done.stdout


def test_the_guide_taken_at_its_word_carries_a_page(tmp_path: Path) -> None:
    """Its files as they stand, in an empty folder, on two hosts."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be opened by this user")
    for name, text in re.findall(
        r"^```(?:python|toml)\n# ([\w.]+)\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE
    ):
        (tmp_path / name).write_text(text)
    gateway = tmp_path / "gateway.py"
    on_client = 'HostTunnel(find_tunnel("wg0.conf"), device="wg0", kill_switch=True, on_demand=True)'
    on_server = 'HostTunnel(find_tunnel("knot.py:server.toml"), device="knot0")'
    assert f"`{on_server}`" in GUIDE.read_text()
    gateway.write_text(gateway.read_text().replace(on_client, on_server))
    plan = LabPlan().host("client").host("server", serves=[Http(names=("vpn.example.org",))])
    with Lab(plan) as lab:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [sys.executable, "-u", "gateway.py"]
        with lab["server"].popen(command, administrator=True, cwd=tmp_path, text=True, **pipes) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "connected\n"
            words = [TOWPATH, "run", "--tunnel", "knot.py:knot.toml", "--", "curl", "-sS", "http://10.6.0.1/"]
            done = lab["client"].run(words, cwd=tmp_path, timeout=120)
            assert "This is server." in done.stdout, done.stderr
            server.communicate("\n", timeout=120)
            assert server.returncode == 0
