"""The provider of a tunnel is handed what it needs, and has no other way to anything."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.running import Runner
from tests.support.tunnel_lab import PLAN

from towpath.testing import Lab

_PROVIDER = """\
import errno, os, socket, struct
from towpath.providers import DisconnectCause, PacketTunnelProvider, TunnelFailed


class Curious(PacketTunnelProvider):
    async def start(self, options):
        link = await self.connect("VPN", 9000)
        made = link._made.socket
        told = []

        def attempt(name, action):
            try:
                action()
                told.append(name + "=done")
            except OSError as error:
                told.append(name + "=" + errno.errorcode[error.errno])

        attempt("send", lambda: made.send(b"x"))
        attempt("sendto", lambda: made.sendto(b"x", ("WEB", 9000)))
        attempt("sendmsg", lambda: made.sendmsg([b"x"], (), 0, ("WEB", 9000)))
        attempt("connect", lambda: made.connect(("WEB", 9000)))
        attempt("bind", lambda: made.bind(("", 0)))
        attempt("socket", lambda: socket.socket())
        attempt("read", lambda: open("/etc/passwd").read())
        attempt("write", lambda: open("/tmp/x", "w"))
        attempt("fork", os.fork)
        raise TunnelFailed(DisconnectCause.NEGOTIATION_FAILED, " ".join(told))
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be opened by this user")
    with Lab(PLAN) as lab:
        yield lab


def test_a_provider_sends_to_its_server_and_does_nothing_else(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "curious.py"
    file.write_text(_PROVIDER.replace("VPN", lab["vpn"].address4).replace("WEB", lab["web"].address4))
    done = Runner(lab, "client", tmp_path)("--tunnel", str(file), command=["true"])
    assert done.code == 125
    told = dict(re.findall(r"(\w+)=(\w+)", done.err))
    assert told.pop("send") == "done", done.err
    assert told == {
        "sendto": "EPERM",
        "sendmsg": "EPERM",
        "connect": "EPERM",
        "bind": "EPERM",
        "socket": "EPERM",
        "read": "EACCES",
        "write": "EACCES",
        "fork": "EPERM",
    }
    assert lab["web"].log == []


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def start(self, options): raise ValueError('no idea')", "start raised ValueError: no idea"),
        ("def start(self): pass", "start(self) is called with (self, options)"),
        ("def strat(self, options): pass", "is it start?"),
        ("async def start(self, options): await self.connect('nowhere.test', 1)", "nowhere.test"),
        ("async def start(self, options): await self.set_settings(None); import os; os._exit(3)", "has ended"),
    ],
)
def test_a_provider_that_is_wrong_ends_the_run_before_the_command(
    lab: Lab, tmp_path: Path, source: str, says: str
) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(
        f"from towpath.providers import PacketTunnelProvider\n\n\nclass Wrong(PacketTunnelProvider):\n    {source}\n"
    )
    done = Runner(lab, "client", tmp_path)("--tunnel", str(file), command=["touch", str(tmp_path / "ran")])
    assert done.code == 125
    assert says in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "ran").exists()


def test_a_filter_is_no_tunnel_and_a_tunnel_no_filter(lab: Lab, tmp_path: Path) -> None:
    run = Runner(lab, "client", tmp_path)
    assert "ask is a content-filter" in run("--tunnel", "ask", command=["true"]).err
    assert "wireguard is a packet-tunnel" in run("--filter", "wireguard", command=["true"]).err
