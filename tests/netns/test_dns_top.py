"""`towpath dns top`: names, askers, refusals and servers of a run, told by the run itself."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
from pathlib import Path

from tests.support.filters import Author, said
from tests.support.peers import need
from tests.support.running import TOWPATH, Runner

from towpath.cli.dns_top import table


def test_the_names_of_a_run_are_shown_while_it_runs(run: Runner) -> None:
    asking = "for i in 1 2 3; do getent ahostsv4 web.test; getent ahostsv4 tracker.test; done"
    script = f"echo started; read line; {asking}; read line"
    with run.popen("--allow", "web.test:80", command=script, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        words = [TOWPATH, "dns", "top", "--json"]
        with run.host.popen(words, stdout=subprocess.PIPE, text=True) as top:
            assert top.stdout is not None
            assert json.loads(top.stdout.readline())["asked"] == 0
            process.stdin.write("\n")
            process.stdin.flush()
            for line in top.stdout:
                report = json.loads(line)
                names = {one["name"]: one for one in report["names"]}
                if (
                    names.get("web.test", {}).get("asked", 0) >= 3
                    and names.get("tracker.test", {}).get("asked", 0) >= 3
                ):
                    break
            top.terminate()
    assert names["web.test"]["programs"] == ["getent"]
    assert names["web.test"]["cached"] >= 2
    assert names["tracker.test"]["refused"] == names["tracker.test"]["asked"]
    assert report["servers"][0]["answers"] >= 1
    assert report["kept"] >= 1
    assert report["since_start"]["hits"] >= 2
    assert table(report)


def test_a_run_forgets_answers_when_it_is_told_to(run: Runner, tmp_path: Path) -> None:
    need("dig")
    mine = Author(tmp_path)(
        """
        def handle_query(self, query):
            say(asked=query.name)
            if query.name == "git.test":
                self.flush("*.web.test")
            return Forward()
        """,
        base="DNSProxyProvider",
    )

    def flush(*words: str) -> int:
        done = run.host.run([TOWPATH, "dns", "flush", "--json", *words])
        assert done.returncode == 0, done.stderr
        return int(json.loads(done.stdout)["flushed"])

    script = "while read name; do dig +short $name A | head -1; done"
    with run.popen("--dns", mine, command=script, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None

        def ask(*names: str) -> None:
            assert process.stdin is not None
            assert process.stdout is not None
            for name in names:
                process.stdin.write(f"{name}\n")
                process.stdin.flush()
                assert process.stdout.readline() != "\n"

        ask("web.test", "www.web.test", "tracker.test", "web.test", "www.web.test", "tracker.test")
        assert flush("www.web.test", "nowhere.test") == 1
        assert flush("*.web.test") == 0
        ask("www.web.test", "web.test")
        assert flush() == 3
        ask("web.test", "www.web.test", "git.test")  # at git.test the proxy itself forgets *.web.test
        ask("www.web.test", "web.test")
        refused = run.host.run([TOWPATH, "dns", "flush", "a..b"])
        assert refused.returncode == 125
        assert "not a domain name" in refused.stderr
        process.stdin.close()
        asked = [fact["asked"] for fact in said(process.stderr.read())]
    assert asked == ["web.test", "www.web.test", "tracker.test", "www.web.test", "web.test", "www.web.test", "git.test",
                     "www.web.test"]  # fmt: skip


def test_a_key_forgets_all_answers_and_another_ends_it(run: Runner) -> None:
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    script = "getent ahostsv4 web.test; echo started; read line"

    def until(words: bytes) -> None:
        seen = b""
        while words not in seen:
            assert select.select([master], [], [], 60)[0], (words, seen)
            seen += os.read(master, 65536)

    with run.popen(command=script, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "started\n":
            pass
        with run.host.popen([TOWPATH, "dns", "top"], stdin=terminal, stdout=terminal, stderr=terminal) as top:
            os.close(terminal)
            try:
                until(b"since the start")
                os.write(master, b"f")
                until(b"answers forgotten")
                os.write(master, b"q")
                assert top.wait(60) == 0
            finally:
                top.kill()
    os.close(master)


def test_without_a_run_there_is_nothing_to_show(run: Runner) -> None:
    done = run.host.run([TOWPATH, "dns", "top", "999999", "--json"])
    assert done.returncode == 125
    assert "no run of yours" in done.stderr
