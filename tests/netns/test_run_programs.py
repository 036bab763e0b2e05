"""Rules for one program: the kernel says who opened a flow, at the first packet; others are refused and told why."""

from __future__ import annotations

from pathlib import Path

from tests.support.running import Runner

CURL = "curl -sS --max-time 60 -o /dev/null -w '%{http_code}\\n'"


def test_a_rule_for_a_program_is_for_no_other(run: Runner) -> None:
    command = f"{CURL} https://web.test; wget -q -T 60 --no-check-certificate -O /dev/null https://web.test; echo $?"
    done = run("--allow", "web.test:443 by curl", command=command)
    assert done.out.splitlines() == ["200", "4"]
    refused = [flow for flow in done.flows if flow["program"] == "wget" and flow["verdict"] == "refused"]
    assert {flow["reason"] for flow in refused} == {
        "--allow 'web.test:443 by curl': it is for curl, not for /usr/bin/wget"
    }
    assert {flow["hint"] for flow in refused} == {"--allow web.test:443"}
    assert done.only(program="curl", verdict="allowed")["rule"] == "web.test:443 by curl"


def test_a_rule_goes_by_the_parent_and_the_command_line(run: Runner, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        '[[rule]]\nparent = "make"\nallow = ["web.test:80"]\n\n[[rule]]\ncommand = "*http://web.test:8080/x"\n'
        'allow = ["http://web.test:8080"]\n'
    )
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"all:\n\t@{CURL} http://web.test/\n")
    command = (
        f"{CURL} http://web.test/; make -s -f {makefile}; {CURL} http://web.test:8080/y; {CURL} http://web.test:8080/x"
    )
    done = run("--policy", str(policy), command=command)
    assert done.out.splitlines() == ["000", "200", "000", "404"]


def test_programs_are_looked_for_only_where_a_rule_for_them_may_match(run: Runner) -> None:
    done = run("--allow", "web.test:443", "--allow", "web.test:80 by wget", command=f"{CURL} https://web.test")
    assert done.out == "200\n"


def test_datagrams_and_pings_have_programs_too(run: Runner) -> None:
    send = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(60)"
    send += "; s.connect(('time.test', 9000)); s.send(b'x'); print(s.recv(9))"
    command = f'/usr/bin/python3 -c "{send}"; ping -c1 -W60 time.test >/dev/null && echo pinged'
    done = run("--allow", "udp://time.test:9000 by python3*", "--allow", "icmp://time.test by ping", command=command)
    assert done.out.splitlines() == ["b'x'", "pinged"]
    refused = run("--allow", "udp://time.test:9000 by nc", "--allow", "icmp://time.test by nc", command=command)
    assert "pinged" not in refused.out
    assert "b'x'" not in refused.out
