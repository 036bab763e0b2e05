"""Content filters in a run: each verdict, both transports and families, both directions, with real programs."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from tests.support.filters import Author, said
from tests.support.running import Runner, python
from tests.support.talking import talk
from tests.support.timing import best_of_several, within

from towpath.testing import Lab


def test_a_name_that_is_dropped_does_not_resolve_and_says_by_whom(run: Runner, author: Author) -> None:
    mine = author("""
        def handle_name(self, question):
            return Drop("an advertiser's") if question.name == "tracker.test" else Allow()
    """)
    done = run("--filter", mine, command="curl -sS http://tracker.test/; curl -sS http://web.test/")
    assert "Could not resolve host: tracker.test" in done.err
    assert "This is web." in done.out
    refused = [flow for flow in done.flows if flow["verdict"] == "refused"]
    assert {flow["reason"] for flow in refused} == {"the filter mine: an advertiser's"}


@pytest.mark.parametrize(
    ("transport", "version", "port", "failure"),
    [
        ("tcp", 4, 7, "ConnectionRefusedError"),
        ("tcp", 6, 7, "ConnectionRefusedError"),
        ("udp", 4, 9000, "OSError"),  # EHOSTUNREACH, as Linux reports "communication administratively prohibited"
        ("udp", 6, 9000, "PermissionError"),
    ],
)
def test_a_flow_that_is_dropped_fails_as_by_policy(
    run: Runner, author: Author, world: Lab, transport: str, version: int, port: int, failure: str
) -> None:
    mine = author(f"""
        def handle_new_flow(self, flow):
            return Drop("no") if flow.remote.port == {port} else Allow()
    """)
    address = world["services"].address4 if version == 4 else world["services"].address6
    done = run("--filter", mine, command=talk(transport, address, port, "hello"))
    assert done.out == f"failed {failure}\n"
    assert done.only(verdict="refused")["reason"] == "the filter mine: no"


def test_a_silent_drop_lets_the_program_wait_until_it_gives_up(run: Runner, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Drop("no", silent=True)
    """)
    for transport, host, port in (("tcp", "echo.test", 7), ("udp", "time.test", 9000)):
        done = run("--filter", mine, command=talk(transport, host, port, "hello", patience=1))
        assert done.out == "failed TimeoutError\n", transport


@pytest.mark.parametrize(("transport", "host", "port"), [("tcp", "echo.test", 7), ("udp", "time.test", 9000)])
def test_what_a_filter_wants_to_see_is_held_until_it_has_decided(
    run: Runner, author: Author, transport: str, host: str, port: int
) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Peek(outbound=5)

        def handle_outbound_data(self, flow, offset, data):
            say(offset=offset, data=data.decode())
            return Drop("it swears") if b"damn" in data else Allow()
    """)
    done = run("--filter", mine, command=talk(transport, host, port, "hello there"))
    assert said(done.err) == [{"offset": 0, "data": "hello"}]
    assert done.out == "heard b'hello there'\n"
    assert done.only(transport=transport)["sent"] == 11
    done = run("--filter", mine, command=talk(transport, host, port, "damn it", patience=5))
    assert done.out.startswith("failed")
    flow = done.only(transport=transport)
    assert (flow["verdict"], flow["reason"], flow["sent"]) == ("refused", "the filter mine: it swears", 0)


def test_a_filter_can_wait_for_more_and_nothing_passes_meanwhile(run: Runner, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Peek(outbound=4)

        def handle_outbound_data(self, flow, offset, data):
            say(data=data.decode())
            return Allow() if len(data) >= 6 else Peek(outbound=8)
    """)
    done = run("--filter", mine, command=talk("tcp", "echo.test", 7, "abcd", "wait0.3", "efgh"))
    assert [one["data"] for one in said(done.err)][0] == "abcd"
    assert [one["data"] for one in said(done.err)][-1] == "abcdefgh"
    assert done.out == "heard b'abcdefgh'\n"


def test_who_waits_for_more_than_comes_is_asked_for_a_last_word(run: Runner, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Peek(outbound=100)

        def handle_outbound_data(self, flow, offset, data):
            return Peek(outbound=200)

        def data_complete(self, flow, direction):
            say(complete=direction)
            return Allow()
    """)
    done = run("--filter", mine, command=talk("tcp", "echo.test", 7, "short"))
    assert said(done.err) == [{"complete": "outbound"}]
    assert done.out == "heard b'short'\n"


def test_an_answer_can_be_seen_before_the_program_sees_it(run: Runner, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Peek(inbound=1000)

        def handle_inbound_data(self, flow, offset, data):
            say(status=data.split(b"\\r\\n")[0].decode())
            return Drop("not for you") if b"This is web" in data else Peek(inbound=4000)
    """)
    done = run("--filter", mine, command="curl -sS http://web.test/")
    assert "This is web" not in done.out
    assert said(done.err)[0] == {"status": "HTTP/1.1 200 OK"}
    assert done.only(port=80)["reason"] == "the filter mine: not for you"


@pytest.mark.parametrize(("transport", "host", "port"), [("tcp", "echo.test", 7), ("udp", "time.test", 9000)])
def test_a_paused_flow_goes_on_when_it_is_resumed_from_any_thread(
    run: Runner, author: Author, transport: str, host: str, port: int
) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            threading.Timer(0.2, self.resume, (flow, Allow())).start()
            return Pause()
    """)
    assert run("--filter", mine, command=talk(transport, host, port, "hello")).out == "heard b'hello'\n"


def test_a_paused_udp_flow_is_dropped_after_ten_seconds(run: Runner, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Pause()
    """)
    begun = time.monotonic()
    done = run("--filter", mine, command=talk("udp", "time.test", 9000, "hello"))
    assert done.out.startswith("failed")
    assert "Timeout" not in done.out
    assert time.monotonic() - begun > 9.5
    assert "paused for more than 10 s" in done.only(port=9000)["reason"]


@best_of_several
def test_an_allowed_flow_can_be_dropped_later_within_a_tenth_of_a_second(run: Runner, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            self.context.later(0.3, lambda: (say(at=time.time()), self.update(flow, Drop("changed my mind"))))
            return Allow()
    """)
    program = """
import socket, time
s = socket.create_connection(("echo.test", 7))
s.sendall(b"hello")
print(s.recv(100))
try:
    s.recv(100)
except ConnectionResetError:
    print(time.time())
"""
    done = run("--filter", mine, command=python(program))
    heard, cut = done.out.splitlines()
    assert heard == "b'hello'"
    within(0.1, float(cut) - said(done.err)[0]["at"])
    flow = done.only(port=7)
    assert (flow["reason"], flow["rule"]) == ("the filter mine: changed my mind", "filter mine")
    assert (flow["sent"], flow["received"]) == (5, 5)
    assert flow["seconds"] > 0.2


def test_the_policy_comes_first_then_filters_in_their_order_and_the_first_drop_wins(
    run: Runner, author: Author
) -> None:
    first = author(
        """
        def handle_new_flow(self, flow):
            say(first=flow.remote.port)
            return Drop("first says no") if flow.remote.port == 8080 else Allow()
    """,
        name="first",
    )
    second = author(
        """
        def handle_new_flow(self, flow):
            say(second=flow.remote.port)
            return Drop("second says no") if flow.remote.port == 80 else Allow()
    """,
        name="second",
    )
    command = "for port in 7 80 8080 443; do curl -4 -sS -m 60 telnet://web.test:$port </dev/null; done"
    allowed = ["--allow", "tcp://web.test:80", "--allow", "tcp://web.test:8080", "--allow", "tcp://web.test:443"]
    done = run(*allowed, "--filter", first, "--filter", second, command=command)
    assert said(done.err) == [
        {"first": 80}, {"second": 80}, {"first": 8080}, {"first": 443}, {"second": 443},
    ]  # fmt: skip
    assert done.only(port=80)["reason"] == "the filter second: second says no"
    assert done.only(port=8080)["reason"] == "the filter first: first says no"
    assert done.only(port=7)["reason"].startswith("no rule")


def test_connections_to_published_ports_are_flows_too(run: Runner, author: Author, world: Lab) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            say(direction=flow.direction, local=flow.local.port, owner=flow.owner, why=flow.owner_unknown)
            return Peek(inbound=3)

        def handle_inbound_data(self, flow, offset, data):
            say(data=data.decode())
            return Drop("no") if data == b"bad" else Allow()
    """)
    server = python("""
import socket
s = socket.create_server(("127.0.0.1", 8000))
while True:
    c, _ = s.accept()
    c.sendall(b"got " + c.recv(100))
    c.close()
""")
    knock = """
import socket, sys, time
word, deadline = sys.argv[1].encode(), time.monotonic() + 60
while time.monotonic() < deadline:
    try:
        s = socket.create_connection(("127.0.0.1", 18088))
        s.sendall(word)
        print(s.recv(100))
        break
    except ConnectionError as error:
        print(type(error).__name__)
        if word == b"bad one" and isinstance(error, ConnectionResetError):
            break
    time.sleep(0.02)
"""
    with run.popen("--publish", "18088:8000", "--filter", mine, command=server, stderr=subprocess.PIPE) as process:
        good = run.host.run([*python(knock), "good one"], timeout=120).stdout.splitlines()
        bad = run.host.run([*python(knock), "bad one"], timeout=120).stdout.splitlines()
        process.terminate()
        heard = said(process.communicate()[1])
    assert good[-1] == "b'got good one'"
    assert bad[-1] == "ConnectionResetError", heard
    assert heard[0] == {"direction": "inbound", "local": 8000, "owner": None, "why": "it comes from outside of the run"}
    assert {"data": "goo"} in heard
    assert {"data": "bad"} in heard


def test_static_rules_decide_without_asking(run: Runner, author: Author, world: Lab) -> None:
    mine = author(f"""
        def start(self):
            return FilterSettings((
                NetworkRule("drop", remote="{world["tracker"].address4}"),
                NetworkRule("allow", port=80),
            ))

        def handle_new_flow(self, flow):
            say(asked=flow.remote.port)
            return Allow()
    """)
    done = run(
        "--filter",
        mine,
        command="for url in http://web.test http://tracker.test https://web.test; do curl -4skS -m 60 $url; done",
    )
    assert said(done.err) == [{"asked": 443}]
    assert "tracker.test port 80" in done.err
    assert [flow["port"] for flow in done.flows] == [80, 443]  # the dropped one never left the kernel


def test_a_thousand_static_rules_are_the_kernels(run: Runner, author: Author, world: Lab) -> None:
    mine = author(f"""
        def start(self):
            rules = [NetworkRule("drop", f"203.0.113.{{number % 250}}", 1 + number) for number in range(998)]
            return FilterSettings((
                NetworkRule("allow", remote="{world["web"].address6}"),
                *rules,
                NetworkRule("drop", remote="2001:db8::/32", transport="tcp"),
            ))

        def handle_new_flow(self, flow):
            say(asked=flow.remote.ip)
            return Allow()
    """)
    urls = f"http://[{world['web'].address6}] http://[{world['tracker'].address6}] http://{world['tracker'].address4}"
    done = run("--filter", mine, command=f"for url in {urls}; do curl -sS -m 60 $url | head -c 15; done")
    assert done.out.count("<!doctype html>") == 2
    assert said(done.err) == [{"asked": world["tracker"].address4}]
    assert len(done.flows) == 2


def test_a_filter_knows_who_opened_a_flow_and_where_its_name_came_from(run: Runner, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            owner = flow.owner
            say(name=flow.name, source=flow.name_from, names=flow.names, program=owner.program,
                command=owner.command[0], parents=[one.program for one in owner.parents], uid=owner.uid,
                cgroup=owner.cgroup is not None, executable=owner.executable, number=flow.number,
                local=flow.local.port > 1023, started=abs(flow.started - time.time()) < 60)
            return Peek(outbound=2000)

        def handle_outbound_data(self, flow, offset, data):
            say(name=flow.name, source=flow.name_from)
            return Allow()

        def flow_closed(self, report):
            say(verdict=report.verdict, sent=report.sent, received=report.received > 100,
                packets=report.packets_sent > 1 and report.packets_received > 1, by=report.by)
    """)
    done = run("--filter", mine, command="sh -c 'curl -sk https://web.test/ >/dev/null; exit 0'")
    new, data, closed = said(done.err)
    assert new == {
        "name": "web.test", "source": "dns", "names": ["web.test"], "program": "curl", "command": "curl",
        "parents": ["sh", "sh"], "uid": 0, "cgroup": True, "executable": "/usr/bin/curl", "number": new["number"],
        "local": True, "started": True,
    }  # fmt: skip
    assert data == {"name": "web.test", "source": "sni"}
    assert closed == {
        "verdict": "allowed", "sent": closed["sent"], "received": True, "packets": True, "by": "",
    }  # fmt: skip
    assert closed["sent"] == done.only(port=443)["sent"]


def test_what_is_not_known_is_none_with_a_reason(run: Runner, author: Author, world: Lab) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            say(name=flow.name, why=flow.name_unknown)
            return Allow()
    """)
    done = run("--filter", mine, command=talk("tcp", world["services"].address4, 7, "hello"))
    assert said(done.err) == [{"name": None, "why": "no DNS answer of this run gave this address"}]


def test_a_filter_has_a_config_of_its_own_type(run: Runner, author: Author, tmp_path: Path) -> None:
    mine = author(
        """
        def handle_name(self, question):
            return Drop("listed") if question.name in self.config.blocked else Allow()
    """,
        head="""
        import msgspec


        class Settings(msgspec.Struct):
            blocked: list[str]
    """,
        base="ContentFilterProvider[Settings]",
    )
    config = tmp_path / "mine.toml"
    config.write_text('blocked = ["tracker.test"]\n')
    done = run("--filter", f"{mine}:{config}", command="curl -sS http://tracker.test/; curl -sS http://web.test/")
    assert "Could not resolve host: tracker.test" in done.err
    assert "This is web." in done.out
    config.write_text("blocked = 7\n")
    done = run("--filter", f"{mine}:{config}", command="echo started")
    assert (done.code, done.out) == (125, "")
    assert "mine.toml" in done.err
    assert "blocked" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import nothing_such\n", ["mine.py:1", "nothing_such"]),
        ("def broken(:\n", ["mine.py:1", "not Python"]),
        ("x = 1\n", ["mine.py", "no provider"]),
        (
            "from towpath.providers import *\n\nclass M(ContentFilterProvider):\n    def start(self):\n        1 / 0\n",
            ["mine.py:5", "start", "division by zero"],
        ),
        (
            "# /// script\n# [tool.towpath.extension]\n# id = 'mine'\n# capabilities = ['everything']\n# ///\n",
            ["mine.py:4", "everything", "content-filter-provider"],
        ),
    ],
    ids=["import", "syntax", "no-class", "start", "capability"],
)
def test_code_that_cannot_be_used_is_one_error_and_nothing_is_started(
    run: Runner, tmp_path: Path, source: str, words: list[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(source)
    done = run("--filter", str(file), command="echo started")
    assert (done.code, done.out) == (125, "")
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


def test_the_command_cannot_change_the_filter_that_judges_it(run: Runner, author: Author) -> None:
    mine = author("""
        def handle_name(self, question):
            return Drop("no")
    """)
    done = run("--filter", mine, command=f"echo x >> {mine}; mv {mine} {mine}.old; rm {mine}; ls {mine}")
    assert done.out == f"{mine}\n"
    assert done.err.count("Read-only file system") + done.err.count("busy") >= 3


def test_a_run_with_a_filter_leaves_nothing_behind(run: Runner, author: Author, world: Lab) -> None:
    mine = author("""
        def stop(self, reason):
            say(stopped=int(reason))
    """)
    before = world["client"].run(["ls", "/proc"]).stdout.split()
    done = run("--filter", mine, command="true")
    assert said(done.err) == [{"stopped": 0}]
    assert len(world["client"].run(["ls", "/proc"]).stdout.split()) <= len(before) + 1


def test_a_hello_in_two_pieces_is_shown_whole_and_names_the_flow(run: Runner, author: Author, world: Lab) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Peek(outbound=8192)

        def handle_outbound_data(self, flow, offset, data):
            say(offset=offset, length=len(data), name=flow.name, source=flow.name_from)
            return Allow() if flow.name_from == "sni" else Peek(outbound=8192)
    """)
    program = f"""
import socket, ssl, time
context = ssl._create_unverified_context()
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(incoming, outgoing, server_hostname="web.test")
try:
    tls.do_handshake()
except ssl.SSLWantReadError:
    hello = outgoing.read()
s = socket.create_connection(("{world["web"].address4}", 443))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
s.sendall(hello[:100])
time.sleep(0.3)
s.sendall(hello[100:])
print(s.recv(1)[0], len(hello))
"""
    done = run("--filter", mine, command=python(program))
    kind, length = map(int, done.out.split())
    assert kind == 22  # the server's part of the handshake
    shown = said(done.err)
    assert shown[0] == {"offset": 0, "length": 100, "name": None, "source": None}
    assert shown[-1] == {"offset": 0, "length": length, "name": "web.test", "source": "sni"}


def test_a_flow_has_the_name_that_its_own_program_asked_for(run: Runner, author: Author) -> None:
    """Two names of one address; another program asked for the other one last."""
    mine = author("""
        def handle_new_flow(self, flow):
            say(name=flow.name, names=flow.names)
            return Allow()
    """)
    program = """
import socket, subprocess
address = socket.getaddrinfo("web.test", 80, socket.AF_INET)[0][4][0]
subprocess.run(["getent", "ahostsv4", "www.web.test"], stdout=subprocess.DEVNULL)
socket.create_connection((address, 80)).close()
"""
    done = run("--filter", mine, command=python(program))
    (fact,) = said(done.err)
    assert fact["name"] == "web.test"
    assert fact["names"] == ["web.test", "www.web.test"]
