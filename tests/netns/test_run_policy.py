"""Allow lists in a run: what passes, what is refused, and how a refusal says that it is policy."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.peers import need
from tests.support.running import TOWPATH, Runner, python
from tests.support.timing import best_of_several, within

from towpath.testing import Lab
from towpath.wire import dns

_CURL = "curl -sS -o /dev/null -w %{http_code}"
_GREETING = "exec bash -c 'exec 3<>/dev/tcp/git.test/22 && read -t 60 -u 3 && case $REPLY in SSH*) printf 200; esac'"
_ECHO = "exec bash -c 'exec 3<>/dev/udp/time.test/9000 && echo 200 >&3 && timeout 60 head -1 <&3'"


@pytest.mark.parametrize(
    ("rule", "command", "passes"),
    [
        ("web.test:80", f"{_CURL} http://web.test/", True),
        ("web.test:443", f"{_CURL} https://web.test/", True),
        ("web.test", f"{_CURL} https://web.test/", True),
        ("web.test", f"{_CURL} http://web.test/", True),
        ("*.web.test:80", f"{_CURL} http://www.web.test/", True),
        ("*.web.test:80", f"{_CURL} http://web.test/", False),
        ("WEB.Test.:80", f"{_CURL} http://web.test/", True),
        ("web.test:80", f"{_CURL} https://web.test/", False),
        ("web.test:80", f"{_CURL} http://web.test:8080/", False),
        ("http://web.test:8080", f"{_CURL} http://web.test:8080/", True),
        ("tls://web.test", f"{_CURL} https://web.test/", True),
        ("tcp://web.test:443", f"{_CURL} https://web.test/", True),
        ("web.test:443", f"{_CURL} https://tracker.test/", False),
        ("git.test:22", _GREETING, True),
        ("git.test:23", _GREETING, False),
        ("udp://time.test:9000", _ECHO, True),
        ("time.test:9000", _ECHO, False),
        ("icmp://web.test", "ping -4 -c1 -W60 web.test >/dev/null && printf 200", True),
        ("web.test", "ping -4 -c1 -W60 web.test >/dev/null && printf 200", False),
        ("*", f"{_CURL} https://tracker.test/", True),
    ],
)
def test_a_rule_admits_what_it_names_and_nothing_else(run: Runner, rule: str, command: str, passes: bool) -> None:
    need(*(word for word in ("bash", "ping") if f"{word} " in command))
    done = run("--allow", rule, command=command)
    assert ("200" in done.out) == passes, done
    if not passes:
        assert "towpath: refused" in done.err


def test_rules_hold_for_ipv6_as_for_ipv4(run: Runner, world: Lab) -> None:
    for option, address in (("-4", world["web"].address4), ("-6", f"[{world['web'].address6}]")):
        assert run("--allow", "web.test:80", command=f"{_CURL} {option} http://web.test/").out == "200"
        assert run("--allow", "web.test:80", command=f"{_CURL} {option} http://{address}:8080/").code == 7


def test_a_deny_comes_before_an_allow_of_the_same_place(run: Runner) -> None:
    both = f"{_CURL} http://web.test/; {_CURL} http://tracker.test/"
    done = run("--allow", "*.test", "--deny", "tracker.test", command=both)
    assert done.out == "200000"
    assert done.only(type="dns", name="tracker.test", question="A")["rule"] == "tracker.test"


def test_deny_alone_leaves_everything_else_open(run: Runner) -> None:
    done = run("--deny", "tracker.test", command=f"{_CURL} https://web.test/; {_CURL} https://tracker.test/")
    assert done.out == "200000"


def test_a_denied_name_is_caught_by_its_hello_when_the_address_is_hard_coded(run: Runner, world: Lab) -> None:
    address = world["tracker"].address4
    done = run("--deny", "tracker.test", command=f"{_CURL} --resolve tracker.test:443:{address} https://tracker.test/")
    assert done.code == 35
    assert done.only(name="tracker.test", verdict="refused")["name_from"] == "sni"


def test_a_policy_file_is_a_policy(run: Runner, tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('allow = ["web.test:80"]\n\n[[rule]]\nallow = ["tracker.test:80"]\n')
    done = run("--policy", str(file), command=f"{_CURL} http://web.test/; {_CURL} http://tracker.test/")
    assert done.out == "200200"
    assert done.only(name="tracker.test")["where"].startswith(str(file))


def test_an_error_in_a_policy_file_names_file_line_and_column(run: Runner, tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('allow = [\n  "web.test:80",\n  "https://web.test",\n]\n')
    done = run("--policy", str(file), command=["true"])
    assert done.code == 125
    assert f"{file}:3:3" in done.err


@best_of_several
def test_a_tcp_refusal_is_a_reset_at_once(run: Runner, world: Lab) -> None:
    source = f"""
import socket, time
start = time.monotonic()
try: socket.create_connection(({world["web"].address4!r}, 80), 60)
except ConnectionRefusedError: print("refused", time.monotonic() - start)
"""
    refused, seconds = run("--allow", "git.test:22", command=python(source)).out.split()
    assert refused == "refused"
    within(1, float(seconds))


def test_a_udp_refusal_is_an_icmp_error(run: Runner, world: Lab) -> None:
    source = """
import errno, socket, sys
for address in sys.argv[1:]:
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(60)
    s.connect((address, 9000)); s.send(b"x")
    try: s.recv(1)
    except OSError as error: print(errno.errorcode.get(error.errno, "timeout"))
"""
    addresses = [world["services"].address4, world["services"].address6]
    assert run("--allow", "git.test:22", command=[*python(source), *addresses]).out == "EHOSTUNREACH\nEACCES\n"


def _ask(name: str, kind: str, server: str) -> list[str]:
    """A program that sends one DNS question and prints the answer's bytes."""
    question = dns.query(name, kind, 7).hex()
    return python(f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(60)
s.sendto(bytes.fromhex({question!r}), ({server!r}, 53))
print(s.recv(4096).hex())
""")


def test_a_dns_refusal_is_nxdomain_with_the_reason_as_extended_error(run: Runner) -> None:
    answer = bytes.fromhex(run("--allow", "web.test:80", command=_ask("tracker.test", "A", "192.0.2.2")).out)
    assert answer[3] & 15 == 3
    assert b"refused by the network policy" in answer
    assert b"\x00\x12" in answer, "extended error 18, Prohibited (RFC 8914)"


def test_an_http_refusal_is_a_403_that_says_so(run: Runner) -> None:
    done = run("--allow", "web.test:80", command="curl -sS -i -H 'Host: tracker.test' http://web.test/")
    assert done.out.startswith("HTTP/1.1 403 ")
    assert "network policy of this run (towpath)" in done.out
    assert "asks for tracker.test" in done.out
    assert "the address is web.test's" in done.out


def test_one_line_names_program_destination_and_remedy_and_repeats_are_folded(run: Runner) -> None:
    done = run("--allow", "web.test:80", command="for i in 1 2 3 4 5; do curl -s -4 http://web.test:8080/; done")
    first, *rest = done.err.splitlines()
    assert first.startswith("towpath: refused curl[")
    assert "-> web.test:8080 tcp: " in first
    assert first.endswith("; to allow it: --allow web.test:8080")
    assert len(rest) == 1
    assert rest[0].startswith("towpath: 4 more of: curl -> web.test:8080 tcp")


def test_what_the_line_proposes_is_enough(run: Runner) -> None:
    command = "curl -sS -o /dev/null -w %{http_code} http://web.test:8080/"
    refused = run("--allow", "web.test:80", command=command)
    proposed = refused.err.splitlines()[0].rpartition("--allow ")[2]
    assert run("--allow", "web.test:80", "--allow", f"tcp://{proposed}", command=command).out == "200"
    assert run("--allow", "web.test:80", "--allow", proposed, command=command).out == "200"


def test_an_empty_allow_list_refuses_everything(run: Runner, tmp_path: Path) -> None:
    file = tmp_path / "nothing.toml"
    file.write_text("allow = []\n")
    assert run("--policy", str(file), command="curl -s http://web.test/").code == 6


def test_a_rule_about_the_loopback_is_answered_with_the_option_that_was_meant(run: Runner) -> None:
    assert "--allow-local 8080" in run("--allow", "127.0.0.1:8080", command=["true"]).err


def test_every_port_may_be_listened_on(run: Runner) -> None:
    source = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 80)); s.listen(); print('listening')"
    assert run(command=python(source)).out == "listening\n"


def test_quiet_says_nothing_and_still_refuses(run: Runner) -> None:
    done = run("--quiet", "--allow", "git.test:22", command="curl -s http://web.test/")
    assert (done.code, done.err) == (6, "")


def test_the_report_tells_of_every_flow_what_was_decided_and_why(run: Runner) -> None:
    done = run("--allow", "web.test:443", command=f"{_CURL} https://web.test/; {_CURL} https://tracker.test/")
    passed = done.only(name="web.test")
    assert passed["verdict"] == "allowed"
    assert (passed["program"], passed["transport"], passed["port"]) == ("curl", "tcp", 443)
    assert (passed["name_from"], passed["rule"], passed["where"]) == ("sni", "web.test:443", "--allow")
    assert passed["sent"] > 300
    assert passed["received"] > 300
    refused = done.only(name="tracker.test", question="A")
    assert (refused["verdict"], refused["type"], refused["hint"]) == ("refused", "dns", "--allow tracker.test")


def test_the_table_goes_to_standard_error_or_a_file(run: Runner, tmp_path: Path) -> None:
    before, after = [TOWPATH, "run", "--report", "table"], ["--", "curl", "-s", "-o", "/dev/null", "http://web.test/"]
    done = run.host.run([*before, *after])
    assert done.stdout == ""
    assert "web.test:80" in done.stderr
    done = run.host.run([*before, "--report-file", str(tmp_path / "table"), *after])
    assert done.stderr == ""
    assert "web.test:80" in (tmp_path / "table").read_text()


@pytest.mark.parametrize(
    ("name", "found"),
    [("rebind.test", "198.51.100.3\n"), ("metadata.test", ""), ("internal.test", ""), ("mapped.test", "")],
)
def test_private_and_local_addresses_are_taken_out_of_answers_for_public_names(
    run: Runner, name: str, found: str
) -> None:
    done = run("--allow", "*.test", command=f"getent ahosts {name} | cut -d' ' -f1 | sort -u")
    assert done.out == found
    assert f"from the DNS answer for {name}" in done.err


def test_a_rule_that_names_a_private_address_lets_it_through_dns(run: Runner) -> None:
    rules = ["--allow", "internal.test:80", "--allow", "tcp://10.1.2.3:80"]
    assert run(*rules, command="getent ahostsv4 internal.test").out.startswith("10.1.2.3")


def test_encrypted_hellos_are_not_offered(run: Runner) -> None:
    asked = _ask("modern.test", "HTTPS", "9.9.9.9")
    plain, screened = (run(*options, command=asked).out.strip() for options in ([], ["--allow", "modern.test:443"]))
    assert plain
    assert len(screened) < len(plain)
    assert "000100" in screened, "alpn stays"


def test_no_question_for_another_name_leaves(run: Runner, world: Lab) -> None:
    before = len(world["dns"].log)
    run("--allow", "web.test:80", command="getent hosts secret.data.evil.test; getent hosts web.test")
    asked = {request.split()[-1] for record in world["dns"].log[before:] for request in record.requests}
    assert asked == {"web.test"}


def test_a_name_server_that_the_program_chose_is_ours_too(run: Runner, world: Lab) -> None:
    need("dig")
    command = "dig +short +time=60 +tries=1 @8.8.8.8 web.test; dig +tcp +short @1.1.1.1 web.test"
    assert run("--allow", "web.test:80", command=command).out == f"{world['web'].address4}\n" * 2


def _open(address: str, port: int) -> list[str]:
    return ["bash", "-c", f"exec 3<>/dev/tcp/{address}/{port} && echo open"]


def test_a_local_service_is_reached_by_its_port_alone(run: Runner, world: Lab) -> None:
    listener = world["client"].socket()
    listener.bind(("127.0.0.1", 5432))
    listener.listen()
    with listener:
        assert run(command=_open("127.0.0.1", 5432)).out == ""
        assert run("--allow-local", "5432", command=_open("127.0.0.1", 5432)).out == "open\n"
        assert run("--allow-local", "5433", command=_open("127.0.0.1", 5433)).code == 1


def test_a_server_inside_is_reached_from_the_hosts_loopback(run: Runner) -> None:
    server = python("""
import http.server as h
h.ThreadingHTTPServer(("127.0.0.1", 8000), h.SimpleHTTPRequestHandler).serve_forever()
""")
    again = ["--retry", "40", "--retry-delay", "0", "--retry-all-errors"]
    with run.popen("--publish", "18000:8000", command=server) as process:
        done = run.host.run(["curl", "-sS", *again, "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:18000/"])
        assert done.stdout.endswith("200"), done
        assert process.poll() is None


def test_a_published_port_that_is_taken_is_said_before_anything_starts(run: Runner, world: Lab) -> None:
    listener = world["client"].socket()
    listener.bind(("127.0.0.1", 18001))
    listener.listen()
    with listener:
        done = run("--publish", "18001:80", command=["true"])
    assert done.code == 125
    assert "127.0.0.1:18001: it is in use" in done.err


def test_the_hosts_own_addresses_are_out_of_reach_unless_a_rule_names_them(run: Runner, world: Lab) -> None:
    own = world["client"].address4
    listener = world["client"].socket()
    listener.bind(("0.0.0.0", 5555))
    listener.listen()
    with listener:
        for address in ("127.0.0.1", own):
            assert run(command=_open(address, 5555)).out == "", address
        assert run("--allow", f"tcp://{own}:5555", command=_open(own, 5555)).out == "open\n"


def test_programs_that_ignore_proxy_variables_are_held_all_the_same(run: Runner, world: Lab) -> None:
    before = len(world["tracker"].log)
    done = run("--allow", "web.test:80", command="env -i curl -s --noproxy '*' http://tracker.test/; true")
    assert "refused curl" in done.err
    assert len(world["tracker"].log) == before


def test_an_address_that_the_hosts_routes_deliver_to_itself_is_the_hosts_own(run: Runner, world: Lab) -> None:
    """No device has it (AnyIP, load balancers), so only the routing table knows."""
    world["client"].run(["ip", "route", "add", "local", "203.0.113.77/32", "dev", "lo"], administrator=True)
    listener = world["client"].socket()
    listener.bind(("0.0.0.0", 5556))
    listener.listen()
    with listener:
        assert run(command=_open("203.0.113.77", 5556)).out == ""
        assert run("--allow", "tcp://*:5556", command=_open("203.0.113.77", 5556)).out == ""
        assert run("--allow", "tcp://203.0.113.77:5556", command=_open("203.0.113.77", 5556)).out == "open\n"


def test_a_report_can_be_pasted(run: Runner, tmp_path: Path) -> None:
    file = tmp_path / "report.md"
    command = ["sh", "-c", "curl -sS -o /dev/null http://web.test; curl -sS https://tracker.test | cat"]
    done = run.host.run(
        [TOWPATH, "run", "--quiet", "--report", "markdown", "--report-file", str(file), "--allow", "web.test:80", "--"]
        + command
    )
    assert done.returncode == 0
    text = file.read_text()
    assert "`towpath run -- sh -c curl -sS -o /dev/null http://web.test; curl -sS https://tracker.test / cat`" in text
    assert "- 1 allowed, 2 refused, 0 failed\n- policy: `allow web.test:80; default deny`" in text
    rows = [line for line in text.splitlines() if line.startswith("| curl")]
    assert rows[0].startswith("| curl | tracker.test | dns | question | refused | (default) | 2 |")
    assert rows[1].startswith("| curl | web.test:80 | tcp | host | allowed | web.test:80 | 1 |")
