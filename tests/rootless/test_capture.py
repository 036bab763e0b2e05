"""A capture needs no right: an ordinary user takes one of his own run, and the command has no such socket."""

from __future__ import annotations

from tests.support.rootless_lab import RootlessLab


def test_an_ordinary_user_may_capture_his_run(lab: RootlessLab) -> None:
    attempt = "import socket\ntry:\n    socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n    print('had one')\n"
    attempt += "except OSError as error:\n    print('refused')\n"
    file = lab.user.home / "run.pcapng"
    command = ["sh", "-c", f'curl -sS -o /dev/null http://web.test/; {lab.user.python} -c "{attempt}"']
    done = lab.on_client([lab.user.towpath, "run", "--capture", str(file), "--allow", "web.test:80", "--", *command])
    assert done.out == "refused\n", done.err
    captured = file.read_bytes()
    file.unlink()
    assert b"GET / HTTP/1.1" in captured
    assert b"curl[" in captured
