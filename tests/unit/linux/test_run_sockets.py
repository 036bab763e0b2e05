"""The sockets at which runs are watched: found by their names, open to the same user alone, gone with their process."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

from towpath.linux import run_sockets

OTHER = 1000


def test_a_run_is_found_by_its_process_and_is_gone_with_its_socket() -> None:
    with run_sockets.listen() as listener:
        (name,) = [name for name, pid in run_sockets.find().items() if pid == os.getpid()]
        with run_sockets.connect(name) or pytest.fail("not connected") as ours:
            theirs = run_sockets.accept(listener)
            assert theirs is not None
            theirs.sendall(b"hello")
            assert ours.recv(5) == b"hello"
            theirs.close()
        assert run_sockets.accept(listener) is None
    assert os.getpid() not in run_sockets.find().values()
    assert run_sockets.connect(name) is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can try as another user")
def test_another_user_is_neither_heard_nor_believed() -> None:
    with run_sockets.listen() as listener:
        (name,) = [name for name, pid in run_sockets.find().items() if pid == os.getpid()]
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setresgid(OTHER, OTHER, OTHER)
            os.setresuid(OTHER, OTHER, OTHER)
            os._exit(0 if run_sockets.connect(name) is None else 1)  # the run is not the user's own
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert select.select([listener], [], [], 60)[0]
        assert run_sockets.accept(listener) is None


def test_a_table_that_lies_is_read_for_what_it_is(tmp_path: Path) -> None:
    table = tmp_path / "unix"
    lines = [
        "Num       RefCount Protocol Flags    Type St Inode Path",
        "0: 00000002 00000000 00010000 0001 01 1 @towpath-run/12/abc",
        "0: 00000002 00000000 00010000 0001 01 2 @towpath-run/x/abc",
        "0: 00000002 00000000 00010000 0001 01 3 @towpath-run/13",
        "0: 00000002 00000000 00010000 0001 01 4 /tmp/@towpath-run/14/abc",
        "0: 00000002 00000000 00010000 0001 01 5 @towpath-run/٣/abc",
        "",
    ]
    table.write_bytes("\n".join(lines).encode() + b"\xff\xfe")
    assert run_sockets.find(str(table)) == {"towpath-run/12/abc": 12}
