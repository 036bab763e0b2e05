"""The folders in which other programs of a user put their sockets."""

from __future__ import annotations

import os

import pytest

from towpath.linux.mounts import socket_folders


def test_those_of_labs_are_among_them_and_of_this_user_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    labs = f"towpath-{os.getuid()}"
    monkeypatch.setattr(os, "listdir", lambda _folder: [labs, f"{labs}9", "ssh-abc", "other"])
    found = {path for path in socket_folders() if path.startswith("/tmp/") and "unix" not in path}
    assert found == {f"/tmp/{labs}", "/tmp/ssh-abc"}
