"""`towpath run --learn`: what is written lets the same run pass, with nothing refused."""

from __future__ import annotations

from pathlib import Path

from tests.support.running import Runner

from towpath.testing import Lab


def test_a_run_under_what_was_learnt_from_it_has_nothing_refused(run: Runner, world: Lab, tmp_path: Path) -> None:
    learnt = tmp_path / "learnt.toml"
    command = (
        "curl -sS http://web.test http://www.web.test https://web.test http://web.test:8080; "
        "echo hi | nc -N echo.test 7; echo hi | nc -uw1 time.test 9000; echo | nc -N git.test 22; "
        f"curl -sS http://{world['tracker'].address4}/; getent hosts internal.test; getent hosts nothing.test; "
        "ping -c1 web.test >/dev/null"
    )
    first = run("--learn", str(learnt), command=command)
    rules = [line.split('"')[1] for line in learnt.read_text().splitlines() if line.startswith("    ")]
    assert set(rules) == {
        "web.test:80", "www.web.test:80", "tls://web.test:443", "http://web.test:8080", "echo.test:7",
        "udp://time.test:9000", "git.test:22", f"{world['tracker'].address4}:80", "icmp://web.test",
        "udp://internal.test:53", "udp://nothing.test:53",
    }  # fmt: skip
    again = run("--policy", str(learnt), command=command)
    assert "refused" not in again.err
    refused = [flow["name"] for flow in again.flows if flow["verdict"] == "refused"]
    assert [name for name in refused if not name.endswith(".arpa")] == []  # ping does without the name of an address
    assert again.out.count("This is") == first.out.count("This is")


def test_two_hosts_on_one_connection_are_both_learnt(run: Runner, tmp_path: Path) -> None:
    learnt = tmp_path / "learnt.toml"
    first, second = "http://web.test -o /dev/null", "-H 'Host: www.web.test' http://web.test -o /dev/null"
    command = f"getent ahostsv4 www.web.test; curl -sS -4 {first} --next -sS -4 {second}"
    run("--learn", str(learnt), command=command)
    assert "www.web.test:80" in learnt.read_text()


def test_requests_are_learnt_where_that_is_asked_for(run: Runner, tmp_path: Path) -> None:
    learnt = tmp_path / "learnt.toml"
    command = "curl -sS http://web.test/a?b=c http://web.test:8080/d -o /dev/null; curl -sSI http://web.test/a"
    run("--learn", str(learnt), "--learn-requests", command=command)
    rules = [line.split('"')[1] for line in learnt.read_text().splitlines() if line.startswith("    ")]
    assert rules == ["GET http://web.test/a", "HEAD http://web.test/a", "GET http://web.test:8080/d"]
    again = run("--policy", str(learnt), command=command)
    assert "refused" not in again.err


def test_an_existing_file_is_not_written_over(run: Runner, tmp_path: Path) -> None:
    learnt = tmp_path / "learnt.toml"
    learnt.write_text("mine")
    done = run("--learn", str(learnt), command="echo started")
    assert (done.code, done.out) == (125, "")
    assert "exists already" in done.err
    assert learnt.read_text() == "mine"
