"""A content filter on a router: each verdict, both transports and families, with real programs behind it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.support.filters import Author
from tests.support.host_filters import HostFilterProcess, on_node, until
from tests.support.running import python
from tests.support.talking import talk
from tests.support.timing import best_of_several, within

from towpath.testing import Lab
from towpath.testing.plan import Dns, Http, Https, LabPlan, TcpEcho, UdpEcho

ROUTED = (
    LabPlan()
    .router("office")
    .host("client", on="office")
    .host("web", names=("web.test",), serves=[Http(), Https(), TcpEcho(port=7), UdpEcho(port=9000)])
    .host("dns", serves=[Dns()])
)


@pytest.fixture(scope="module")
def routed() -> Iterator[Lab]:
    with Lab(ROUTED) as lab:
        yield lab


@pytest.mark.parametrize("version", [4, 6])
def test_curl_passes_an_allowing_filter_that_knows_the_name(routed: Lab, author: Author, version: int) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            say(to=flow.destination, direction=flow.direction, owner=flow.owner_unknown)
            return Allow()
    """)
    with HostFilterProcess(routed, "office", [mine]) as host_filter:
        done = routed["client"].run(["curl", "-sS", f"-{version}", "http://web.test/"])
        assert "This is web" in done.stdout, done.stderr
        flows = [one for one in host_filter.said if one["to"].endswith(":80")]
        unknown = "a flow that is routed through this host has no process here"
        assert flows == [{"to": "web.test:80", "direction": "outbound", "owner": unknown}]


@pytest.mark.parametrize(
    ("transport", "version", "port", "failure"),
    [
        ("tcp", 4, 7, "ConnectionRefusedError"),
        ("tcp", 6, 7, "ConnectionRefusedError"),
        ("udp", 4, 9000, "OSError"),  # EHOSTUNREACH, as Linux reports "communication administratively prohibited"
        ("udp", 6, 9000, "PermissionError"),
    ],
)
def test_a_flow_that_is_dropped_fails_at_once(
    routed: Lab, author: Author, transport: str, version: int, port: int, failure: str
) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Drop("no")

        def flow_closed(self, report):
            say(verdict=report.verdict, reason=report.reason, by=report.by)
    """)
    address = routed["web"].address4 if version == 4 else routed["web"].address6
    with HostFilterProcess(routed, "office", [mine]) as host_filter:
        done = routed["client"].run(talk(transport, address, port, "hello"))
        assert done.stdout == f"failed {failure}\n"
        host_filter.until_said(lambda said: bool(said), "it was told of the end")
        assert host_filter.said[0] == {"verdict": "dropped", "reason": "no", "by": "mine"}


@pytest.mark.parametrize(("transport", "port"), [("tcp", 7), ("udp", 9000)])
def test_a_silent_drop_is_asked_about_once_and_lets_the_program_wait(
    routed: Lab, author: Author, transport: str, port: int
) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            say(asked=flow.remote.port)
            return Drop("no", silent=True)
    """)
    with HostFilterProcess(routed, "office", [mine]) as host_filter:
        done = routed["client"].run(talk(transport, routed["web"].address4, port, "hello", patience=3))
        assert done.stdout == "failed TimeoutError\n"
        assert host_filter.said == [{"asked": port}]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("transport", "port"), [("tcp", 7), ("udp", 9000)])
def test_what_a_filter_wants_to_see_is_held_until_it_has_decided(
    routed: Lab, author: Author, transport: str, port: int, version: int
) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Peek(outbound=5)

        def handle_outbound_data(self, flow, offset, data):
            say(offset=offset, data=data.decode())
            return Drop("it swears") if b"damn" in data else Allow()
    """)
    address = routed["web"].address4 if version == 4 else routed["web"].address6
    with HostFilterProcess(routed, "office", [mine]) as host_filter:
        seen = len(routed["web"].log)
        assert routed["client"].run(talk(transport, address, port, "hello there")).stdout == "heard b'hello there'\n"
        host_filter.until_said(lambda said: said == [{"offset": 0, "data": "hello"}], "it saw the first bytes")
        assert routed["client"].run(talk(transport, address, port, "damn it")).stdout.startswith("failed")
        assert [record.received for record in routed["web"].log[seen:]] == ([11, 0] if transport == "tcp" else [11])


def test_a_filter_can_wait_for_more_and_nothing_passes_meanwhile(routed: Lab, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Peek(outbound=4)

        def handle_outbound_data(self, flow, offset, data):
            say(data=data.decode())
            return Allow() if len(data) >= 8 else Peek(outbound=8)
    """)
    with HostFilterProcess(routed, "office", [mine]) as host_filter:
        words = talk("tcp", routed["web"].address4, 7, "abcd", "wait0.3", "efgh")
        assert routed["client"].run(words).stdout == "heard b'abcdefgh'\n"
        assert host_filter.said == [{"data": "abcd"}, {"data": "abcdefgh"}]


def test_who_waits_for_more_than_comes_is_asked_for_a_last_word(routed: Lab, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Peek(outbound=100)

        def handle_outbound_data(self, flow, offset, data):
            return Peek(outbound=200)

        def data_complete(self, flow, direction):
            say(complete=direction)
            return Allow()
    """)
    with HostFilterProcess(routed, "office", [mine]) as host_filter:
        assert routed["client"].run(talk("tcp", routed["web"].address4, 7, "short")).stdout == "heard b'short'\n"
        assert host_filter.said == [{"complete": "outbound"}]


def test_an_answer_can_be_seen_before_the_program_sees_it(routed: Lab, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Peek(inbound=1000)

        def handle_inbound_data(self, flow, offset, data):
            say(status=data.split(b"\\r\\n")[0].decode())
            return Drop("not for you") if b"This is web" in data else Peek(inbound=4000)
    """)
    with HostFilterProcess(routed, "office", [mine]) as host_filter:
        words = ["curl", "-sS", f"http://{routed['web'].address4}/"]
        with routed["client"].popen(words, text=True, stdout=subprocess.PIPE) as curl:
            host_filter.until_said(lambda said: said[:1] == [{"status": "HTTP/1.1 200 OK"}], "it saw the answer")
            with contextlib.suppress(subprocess.TimeoutExpired):
                curl.wait(1)
            curl.kill()
            assert curl.stdout is not None
            assert curl.stdout.read() == ""


def test_the_name_in_a_hello_is_known_when_its_bytes_are_shown(routed: Lab, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Peek(outbound=3000) if flow.remote.port == 443 else Allow()

        def handle_outbound_data(self, flow, offset, data):
            say(name=flow.name, source=flow.name_from)
            return Allow() if flow.name_from == "sni" else Peek(outbound=3000 + len(data))
    """)
    with HostFilterProcess(routed, "office", [mine]) as host_filter:
        done = routed["client"].run(["curl", "-sS", "https://web.test/"])
        assert "This is web" in done.stdout, done.stderr
        assert host_filter.said[-1] == {"name": "web.test", "source": "sni"}


SPLIT_HELLO = """
import socket, ssl, sys, time
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(incoming, outgoing, server_hostname="web.test")
try:
    tls.do_handshake()
except ssl.SSLWantReadError:
    pass
hello = outgoing.read()
s = socket.create_connection((sys.argv[1], 443), timeout=120)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for at in range(0, len(hello), 100):
    s.sendall(hello[at:at + 100])
    time.sleep(0.005)
try:
    print("heard", s.recv(1)[0])
except OSError as error:
    print("failed", type(error).__name__)
"""


@pytest.mark.parametrize(
    ("verdict", "heard"), [("Allow()", "heard 22\n"), ("Drop('no')", "failed ConnectionResetError\n")]
)
def test_a_hello_over_many_segments_is_one_hello(routed: Lab, author: Author, verdict: str, heard: str) -> None:
    mine = author(f"""
        def handle_new_flow(self, flow):
            return Peek(outbound=60)

        def handle_outbound_data(self, flow, offset, data):
            if flow.name_from == "sni":
                return {verdict}
            return Peek(outbound=len(data) + 60)
    """)
    with HostFilterProcess(routed, "office", [mine]):
        assert routed["client"].run([*python(SPLIT_HELLO), routed["web"].address4]).stdout == heard


@pytest.mark.parametrize(("transport", "port"), [("tcp", 7), ("udp", 9000)])
@pytest.mark.parametrize(("verdict", "heard"), [("Allow()", "heard b'hello'"), ("Drop('no')", "failed")])
def test_a_paused_flow_waits_for_its_verdict(
    routed: Lab, author: Author, transport: str, port: int, verdict: str, heard: str
) -> None:
    mine = author(f"""
        def handle_new_flow(self, flow):
            threading.Timer(0.3, lambda: self.resume(flow, {verdict})).start()
            return Pause()
    """)
    with HostFilterProcess(routed, "office", [mine]):
        done = routed["client"].run(talk(transport, routed["web"].address4, port, "hello"))
        assert done.stdout.startswith(heard)


CHATTER = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], 7), timeout=120)
print("begun", flush=True)
try:
    while True:
        s.sendall(b"x")
        s.recv(1)
        time.sleep(0.001)
except OSError:
    print(time.monotonic(), flush=True)
"""


@best_of_several
def test_a_flow_that_the_kernel_carries_ends_within_100_ms_of_an_update(routed: Lab, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            def change():
                say(at=time.monotonic())
                self.update(flow, Drop("enough"))
            threading.Timer(0.5, change).start()
            return Allow()

        def flow_closed(self, report):
            say(verdict=report.verdict, reason=report.reason)
    """)
    with HostFilterProcess(routed, "office", [mine]) as host_filter:
        done = routed["client"].run([*python(CHATTER), routed["web"].address4], timeout=120)
        host_filter.until_said(lambda said: bool(said), "it changed its mind")
        late = float(done.stdout.split()[-1]) - host_filter.said[0]["at"]
        assert late >= 0
        within(0.1, late)


def test_the_end_of_a_flow_is_reported_with_what_the_kernel_counted(routed: Lab, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Allow()

        def flow_closed(self, report):
            say(sent=report.sent, received=report.received, packets=[report.packets_sent, report.packets_received])
    """)
    with HostFilterProcess(routed, "office", [mine]) as host_filter:
        with on_node(routed, "office", ["sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=1"]) as setting:
            assert setting.wait() == 0
        routed["client"].run(talk("udp", routed["web"].address4, 9000, "hello"))

        def forgotten() -> bool:
            # The kernel sweeps once a minute, and whenever somebody lists its flows.
            with on_node(routed, "office", [sys.executable, "-c", LIST_FLOWS]) as listing:
                assert listing.wait() == 0
            return bool(host_filter.said)

        until(forgotten, "conntrack forgot the flow")
        assert host_filter.said[0] == {"sent": 33, "received": 33, "packets": [1, 1]}


LIST_FLOWS = """
from towpath.linux.netlink import NETLINK_NETFILTER, NetlinkSocket
NetlinkSocket(NETLINK_NETFILTER).dump("list flows", 1 << 8 | 1, bytes(4))
"""

STATIC = """
    def start(self):
        return FilterSettings((
            NetworkRule("drop", port=7, transport="tcp"),
            {more}
            NetworkRule("allow", "{allowed}"),
            NetworkRule("allow", "{allowed6}"),
            NetworkRule("filter", port=53),
        ), default="drop")

    def handle_new_flow(self, flow):
        say(asked=flow.destination)
        return Allow()
"""


@pytest.mark.parametrize("rules", [0, 996])
def test_what_static_rules_decide_wakes_nobody(routed: Lab, author: Author, rules: int) -> None:
    more = "".join(f'NetworkRule("allow", "10.9.{one // 250}.{one % 250}", port=99),' for one in range(rules))
    if rules:
        more = more.replace('NetworkRule("allow", "10.9.0.0", port=99),', "", 1)
    web = routed["web"]
    mine = author(STATIC.format(more=more, allowed=web.address4, allowed6=f"{web.address6}/128"))
    client = routed["client"]
    with HostFilterProcess(routed, "office", [mine]) as host_filter:
        for address in (web.address4, web.address6):
            assert client.run(talk("udp", address, 9000, "hello")).stdout == "heard b'hello'\n"
            assert client.run(talk("tcp", address, 80, "GET / HTTP/1.0\r\n\r\n")).stdout.startswith("heard b'HTTP")
            assert client.run(talk("tcp", address, 7, "hello")).stdout == "failed ConnectionRefusedError\n"
        assert client.run(talk("tcp", routed["dns"].address4, 80)).stdout == "failed ConnectionRefusedError\n"
        assert host_filter.said == []
        assert client.run(["curl", "-sS", "http://web.test/"]).returncode == 0
        assert {one["asked"] for one in host_filter.said} == {f"{routed['dns'].address4}:53"}


def test_new_code_brings_its_own_static_rules(routed: Lab, author: Author) -> None:
    web = routed["web"].address4
    mine = author("""
        def start(self):
            return FilterSettings((NetworkRule("drop", port=7),))
    """)
    with HostFilterProcess(routed, "office", [mine]) as host_filter:
        assert routed["client"].run(talk("tcp", web, 7, "hello")).stdout == "failed ConnectionRefusedError\n"
        author("""
            def start(self):
                return FilterSettings((NetworkRule("drop", port=80),))
        """)
        host_filter.do("reload", file=mine)
        assert routed["client"].run(talk("tcp", web, 7, "hello")).stdout == "heard b'hello'\n"
        assert routed["client"].run(talk("tcp", web, 80, "hello")).stdout == "failed ConnectionRefusedError\n"


def test_the_first_of_several_filters_that_drops_wins(routed: Lab, author: Author) -> None:
    first = author(
        """
        def start(self):
            return FilterSettings((NetworkRule("allow", port=7),))

        def handle_new_flow(self, flow):
            return Drop("the first")
    """,
        name="first",
    )
    second = author(
        """
        def handle_new_flow(self, flow):
            say(asked=flow.remote.port)
            return Allow()
    """,
        name="second",
    )
    with HostFilterProcess(routed, "office", [first, second]) as host_filter:
        assert routed["client"].run(talk("tcp", routed["web"].address4, 7, "hello")).stdout == "heard b'hello'\n"
        assert routed["client"].run(talk("tcp", routed["web"].address4, 80)).stdout.startswith("failed")
        assert host_filter.said == [{"asked": 7}]


@pytest.mark.parametrize("hook", ["output", "input"])
def test_on_a_host_each_flow_has_its_process(routed: Lab, author: Author, hook: str) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            if flow.remote.port == 7 or flow.local.port == 7:
                say(direction=flow.direction, program=flow.owner.program if flow.owner else flow.owner_unknown)
            return Allow()
    """)
    node = "client" if hook == "output" else "web"
    with HostFilterProcess(routed, node, [mine]) as host_filter:
        for address in (routed["web"].address4, routed["web"].address6):
            assert routed["client"].run(talk("tcp", address, 7, "hello")).stdout == "heard b'hello'\n"
        assert host_filter.said[0]["direction"] == ("outbound" if hook == "output" else "inbound")
        assert {one["program"] for one in host_filter.said} == {"python3" if hook == "output" else "python"}


def test_loopback_is_nobody_elses_business_unless_a_rule_names_it(routed: Lab, author: Author) -> None:
    body = """
        def start(self):
            return FilterSettings(({rule}NetworkRule("drop", port=7),))

        def handle_new_flow(self, flow):
            say(asked=flow.destination)
            return Allow()
    """
    with HostFilterProcess(routed, "web", [author(body.format(rule=""))]) as host_filter:
        for address in ("127.0.0.1", "::1"):
            assert routed["web"].run(talk("tcp", address, 7, "hello")).stdout == "heard b'hello'\n"
        assert host_filter.said == []
    with HostFilterProcess(routed, "web", [author(body.format(rule='NetworkRule("drop", "::1"),'))]):
        assert routed["web"].run(talk("tcp", "127.0.0.1", 7, "hello")).stdout == "heard b'hello'\n"
        assert routed["web"].run(talk("tcp", "::1", 7, "hello")).stdout == "failed ConnectionRefusedError\n"


def test_pings_and_their_errors_pass(routed: Lab, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Drop("no")
    """)
    with HostFilterProcess(routed, "office", [mine]):
        for address in (routed["web"].address4, routed["web"].address6):
            assert routed["client"].run(["ping", "-c1", "-W60", address]).returncode == 0


def test_a_datagram_in_fragments_is_one_datagram(routed: Lab, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Peek(outbound=5000)

        def handle_outbound_data(self, flow, offset, data):
            say(length=len(data))
            return Allow()
    """)
    for address in (routed["web"].address4, routed["web"].address6):
        with HostFilterProcess(routed, "office", [mine]) as host_filter:
            done = routed["client"].run(talk("udp", address, 9000, "x" * 4000))
            assert done.stdout.startswith("heard b'xxx"), host_filter.lines
            assert host_filter.said == [{"length": 4000}]
