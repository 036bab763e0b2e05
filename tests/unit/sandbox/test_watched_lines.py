"""What a viewer may say to a manager: anything, and it is answered or let go, and the run goes on."""

from __future__ import annotations

import io
import json
import os
import select
import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from towpath.hosting.loop import Loop
from towpath.linux import run_sockets
from towpath.policy.policy import Policy
from towpath.sandbox.report import Ledger
from towpath.sandbox.watched import Watched


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def viewer(loop: Loop) -> Iterator[socket.socket]:
    """Connected, greeted."""
    services = SimpleNamespace(policy=Policy.load(["a.test:443"], [], []), under_way=list)
    watched = Watched(loop, Ledger(io.StringIO(), level="error"), cast(Any, services), ["true"], quic=False)
    (name,) = [name for name, pid in run_sockets.find().items() if pid == os.getpid()]
    made = run_sockets.connect(name)
    assert made is not None
    made.settimeout(0)
    yield made
    made.close()
    watched.end(0, None)


def answer(loop: Loop, viewer: socket.socket) -> dict[str, Any] | None:
    """The next thing that is said; `None` when the viewer was let go."""
    deadline = time.monotonic() + 60
    while not select.select([viewer], [], [], 0)[0]:
        assert time.monotonic() < deadline, "nothing is said"
        loop.later(0.002, loop.stop)
        loop.run()
    try:
        data = viewer.recv(1 << 20)
    except ConnectionResetError:
        return None
    found: dict[str, Any] = json.loads(data.splitlines()[-1]) if data else {}
    return found if data else None


@pytest.mark.parametrize(
    "line",
    [
        b"", b"x", b"[]", b"{}", b"null", b'{"do": []}', b'{"do": {}}', b'{"do": "allow"}', b"[" * 4000, b"\xff\xfe",
        b'{"do": "allow", "rule": {}}', b'{"do": "deny", "rule": ""}', b'{"do": "allow", "rule": "quic://a.test"}',
    ],
)  # fmt: skip
def test_a_line_that_is_no_wish_is_answered(loop: Loop, viewer: socket.socket, line: bytes) -> None:
    assert (answer(loop, viewer) or {})["type"] == "hello"
    viewer.sendall(line + b"\n")
    said = answer(loop, viewer)
    assert said is not None
    assert "error" in said


def test_a_line_without_an_end_is_not_kept(loop: Loop, viewer: socket.socket) -> None:
    answer(loop, viewer)
    viewer.sendall(b"x" * 5000)
    assert answer(loop, viewer) is None
