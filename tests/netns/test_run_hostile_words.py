"""What a program says of itself is told as words: it moves no cursor, forges no line, breaks no report."""

from __future__ import annotations

import pytest
from tests.support.evasions import EVADE
from tests.support.running import TOWPATH, Runner, python

_NAMES = [b"\x1b[2J", b"a\nb", b"\x07\r\x08", b"\xff\xfe", b"[/bold]", b"[red]x", "\u202eabc".encode(), b""]


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("report", ["none", "table", "json"])
def test_a_programs_name_is_shown_and_no_more(run: Runner, name: bytes, report: str) -> None:
    program = f"""
import ctypes
ctypes.CDLL(None).prctl(15, {name!r}, 0, 0, 0)
for port in (81, 82):
    tell(lambda: dial("fe80::1%lo", port, 1))
    tell(lambda: dial("2001:db8::99", port, 1))
"""
    words = [TOWPATH, "run", "--allow", "web.test:80", "--report", report, "--", *python(EVADE + program)]
    done = run.host.run(words)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert set(done.stderr) - {"\n"} == {one for one in done.stderr if one.isprintable()}
    if report == "none":
        assert all(line.startswith("towpath: ") for line in done.stderr.splitlines())
        assert done.stderr.count("[2001:db8::99]:81") == 2, "in what was refused, and in what would allow it"
    if report == "table":
        assert "[2001:db8::99]:81" in done.stderr.split("received\n")[1]
        assert not name.startswith(b"[") or name.decode() in done.stderr


@pytest.mark.parametrize("name", ["\x1b[2Jx", "a\nb", "a.b", "\u009b2J"])
def test_a_name_asked_for_is_shown_escaped(run: Runner, name: str) -> None:
    label = name.encode()
    data = b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + bytes([len(label)]) + label + b"\4test\0\0\1\0\1"
    done = run("--allow", "web.test:80", command=python(EVADE + f"tell(lambda: code(ask('192.0.2.2', {data!r})))"))
    assert done.err.count("\n") == 1
    assert done.err.rstrip("\n").isprintable()


@pytest.mark.parametrize("name", ["\\x1b[2J", "a\\nb", "\\x00", "\\xff"])
def test_a_name_in_a_hello_is_shown_escaped_or_not_at_all(run: Runner, name: str) -> None:
    program = f"""
data = hello("web.testx")[3].replace(b"web.testx", (b"{name}" + b"x" * 9)[:9])
with dial("web.test", 443) as s:
    s.sendall(data); tell(lambda: everything(s))
"""
    done = run("--allow", "web.test:443", command=python(EVADE + program))
    assert "DONE" in done.out
    assert done.err.count("\n") == 1
    assert done.err.rstrip("\n").isprintable()
