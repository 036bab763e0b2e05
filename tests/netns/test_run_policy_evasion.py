"""Ways round a name rule that were tried and fail. Whatever the client is told, the server is asked what reached it."""

from __future__ import annotations

import pytest
from tests.support.evasions import EVADE
from tests.support.running import Finished, Runner, python

from towpath.testing import Lab


class Evader:
    """Runs evasions, and knows what reached a host meanwhile."""

    def __init__(self, run: Runner, world: Lab) -> None:
        self.run = run
        self.world = world
        self._before = {host.name: len(host.log) for host in world}

    def __call__(self, program: str, *options: str) -> Finished:
        done = self.run(*options, command=python(EVADE + program))
        assert "Traceback" not in done.err, done.err
        return done

    def requests(self, host: str) -> list[str]:
        """The request lines (of DNS the questions) that have reached the host's services since."""
        return [line for record in self.world[host].log[self._before[host] :] for line in record.requests]

    def heard(self, host: str) -> int:
        """How many bytes have reached the host's services since, beneath TLS where it came about."""
        return sum(record.received for record in self.world[host].log[self._before[host] :])

    def names(self, host: str) -> list[str | None]:
        """The names in the ClientHellos that have reached the host since; `None` for a connection without one."""
        return [record.sni for record in self.world[host].log[self._before[host] :] if record.service == "https"]


@pytest.fixture
def evade(run: Runner, world: Lab) -> Evader:
    return Evader(run, world)


# --- plain HTTP ---

GOOD = "GET /big?bytes=1 HTTP/1.1\r\nHost: web.test\r\n\r\n"
REFUSED = {
    "another host": "GET / HTTP/1.1\r\nHost: www.web.test\r\n\r\n",
    "a host that is nowhere": "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "a longer name": "GET / HTTP/1.1\r\nHost: web.test.evil.test\r\n\r\n",
    "a shorter name": "GET / HTTP/1.1\r\nHost: eb.test\r\n\r\n",
    "a trailing dot": "GET / HTTP/1.1\r\nHost: www.web.test.\r\n\r\n",
    "user and host": "GET / HTTP/1.1\r\nHost: web.test@www.web.test\r\n\r\n",
    "two names in one": "GET / HTTP/1.1\r\nHost: web.test, www.web.test\r\n\r\n",
    "its address": "GET / HTTP/1.1\r\nHost: ADDRESS\r\n\r\n",
    "absolute form": "GET http://www.web.test/ HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "absolute form of an allowed host": "GET http://web.test/ HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "two hosts": "GET / HTTP/1.1\r\nHost: web.test\r\nHost: www.web.test\r\n\r\n",
    "the same host twice": "GET / HTTP/1.1\r\nHost: web.test\r\nHost: web.test\r\n\r\n",
    "no host": "GET / HTTP/1.1\r\n\r\n",
    "no host in HTTP/1.0": "GET / HTTP/1.0\r\n\r\n",
    "HTTP/0.9": "GET /\r\n",
    "an empty host": "GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "space before the colon": "GET / HTTP/1.1\r\nHost : web.test\r\n\r\n",
    "a folded host": "GET / HTTP/1.1\r\nHost:\r\n www.web.test\r\n\r\n",
    "an empty line first": "\r\nGET / HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "junk first": "\x00\x00GET / HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "spaces first": "  GET / HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "line feeds only": "GET / HTTP/1.1\nHost: web.test\n\n",
    "a bare carriage return": "GET / HTTP/1.1\r\nHost: web.test\rHost: www.web.test\r\n\r\n",
    "a tab in the request line": "GET\t/ HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "CONNECT": "CONNECT www.web.test:443 HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "CONNECT to itself": "CONNECT web.test:80 HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "an upgrade to h2c and another": "GET / HTTP/1.1\r\nHost: web.test\r\nUpgrade: h2c, websocket\r\n"
    "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    "two upgrades": "GET / HTTP/1.1\r\nHost: web.test\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\n\r\n",
    "settings of HTTP/2 alone": "GET / HTTP/1.1\r\nHost: web.test\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    "HTTP/2 at once": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an upgrade to TLS": "GET / HTTP/1.1\r\nHost: web.test\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade\r\n\r\n",
    "length and chunks": "POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 4\r\n"
    "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: www.web.test\r\n\r\n",
    "two lengths": "POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "a negative length": "POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: -1\r\n\r\n",
    "a length with a plus": "POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: +5\r\n\r\nhello",
    "chunked twice": "POST / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked in disguise": "POST / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "another coding": "POST / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: identity\r\n\r\n",
    "a chunk size too long": "POST / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n"
    "FFFFFFFFFFFFFFFFF\r\n",
    "a second request to another host": GOOD + "GET /second HTTP/1.1\r\nHost: www.web.test\r\n\r\n",
}


@pytest.mark.parametrize("request_text", REFUSED.values(), ids=REFUSED.keys())
def test_a_request_that_is_not_for_the_allowed_host_does_not_reach_the_server(
    evade: Evader, world: Lab, request_text: str
) -> None:
    data = request_text.replace("ADDRESS", world["web"].address4).encode("latin-1")
    done = evade(f"tell(lambda: http('web.test', 80, {data!r}))", "--allow", "web.test:80")
    assert done.out in ("DONE ['HTTP/1.1 403 Forbidden by policy']\n", "DONE []\n", "ECONNRESET\n", "EPIPE\n")
    assert evade.heard("web") == 0
    assert "refused" in done.err


def test_an_offer_of_http2_is_taken_out_of_a_request_that_passes(evade: Evader) -> None:
    """Java's HTTP client makes one with every first request; no server gets the chance to agree."""
    text = (
        "GET /headers HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings, close\r\nHost: web.test\r\n"
        "HTTP2-Settings: AAMAAABkAAQAAP__\r\nUpgrade: h2c\r\nX-Kept: yes\r\n\r\n"
    )
    done = evade(
        f"s = dial('web.test', 80); s.sendall({text.encode()!r}); print(everything(s).decode())",
        "--allow",
        "web.test:80",
    )
    seen = done.out.lower()
    assert "http/1.1 200" in seen
    assert "x-kept: yes" in seen
    assert "connection: close" in seen
    assert "upgrade" not in seen
    assert "http2-settings" not in seen


def test_a_second_request_to_another_host_is_stopped_when_it_comes_later(evade: Evader) -> None:
    later = "GET /second HTTP/1.1\r\nHost: www.web.test\r\n\r\n"
    done = evade(
        f"tell(lambda: in_turn('web.test', 80, {GOOD.encode()!r}, {later.encode()!r}))", "--allow", "web.test:80"
    )
    assert "HTTP/1.1 200 OK" in done.out
    assert evade.requests("web") == ["GET /big?bytes=1 HTTP/1.1"]


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_refused_request_in_small_pieces_is_refused(evade: Evader, size: int) -> None:
    data = REFUSED["two hosts"].encode()
    pieces = ", ".join(repr(data[at : at + size]) for at in range(0, len(data), size))
    done = evade(f"tell(lambda: http('web.test', 80, {pieces}))", "--allow", "web.test:80")
    assert "200" not in done.out
    assert evade.heard("web") == 0


def test_a_smuggled_request_in_a_body_is_a_body(evade: Evader) -> None:
    inner = "GET /smuggled HTTP/1.1\r\nHost: www.web.test\r\n\r\n"
    outer = f"POST /first HTTP/1.1\r\nHost: web.test\r\nContent-Length: {len(inner)}\r\n\r\n{inner}"
    evade(f"tell(lambda: http('web.test', 80, {outer.encode()!r}, answers=1))", "--allow", "web.test:80")
    assert [line.split()[1] for line in evade.requests("web")] == ["/first"]


def test_names_that_share_an_address_are_told_apart_by_the_request(evade: Evader) -> None:
    other = b"GET /other HTTP/1.1\r\nHost: www.web.test\r\n\r\n"
    program = f"tell(lambda: http('web.test', 80, {GOOD.encode()!r}, answers=1))\n"
    program += f"tell(lambda: http('www.web.test', 80, {other!r}))"
    done = evade(program, "--allow", "*.web.test:80", "--deny", "www.web.test:80", "--allow", "web.test:80")
    assert done.out.splitlines()[0] == "DONE ['HTTP/1.1 200 OK']"
    assert "200" not in done.out.splitlines()[1]
    assert evade.requests("web") == ["GET /big?bytes=1 HTTP/1.1"]


PATHS = {
    "another method": "POST /public/x HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\r\n\r\n",
    "a method in lower case": "get /public/x HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "another path": "GET /secret HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "dot segments": "GET /public/../secret HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "encoded dot segments": "GET /public/%2e%2e/secret HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "an encoded slash": "GET /public%2f..%2fsecret HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "two slashes": "GET //public/x HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "a backslash": "GET /public/..\\secret HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "a fragment": "GET /public/x#/../../secret HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "an absolute form": "GET http://web.test/public/x HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "the path in the query": "GET /secret?/public/x HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "another method by a header": "GET /public/x HTTP/1.1\r\nHost: web.test\r\nX-HTTP-Method-Override: DELETE\r\n\r\n",
    "another path by a header": "GET /public/x HTTP/1.1\r\nHost: web.test\r\nX_Original_URL: /secret\r\n\r\n",
    "the server itself": "OPTIONS * HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "pipelined behind an allowed one": "GET /public/x HTTP/1.1\r\nHost: web.test\r\n\r\n"
    "GET /secret HTTP/1.1\r\nHost: web.test\r\n\r\n",
}


@pytest.mark.parametrize("request_text", PATHS.values(), ids=PATHS.keys())
def test_a_request_for_another_method_or_path_does_not_reach_the_server(evade: Evader, request_text: str) -> None:
    data = request_text.encode("latin-1")
    done = evade(f"tell(lambda: http('web.test', 80, {data!r}))", "--allow", "GET http://web.test/public/*")
    assert done.out in ("DONE ['HTTP/1.1 403 Forbidden by policy']\n", "DONE []\n", "ECONNRESET\n", "EPIPE\n")
    assert evade.heard("web") == 0
    assert "refused" in done.err


def test_every_request_of_a_connection_is_judged_by_method_and_path(evade: Evader) -> None:
    first, second, third = (
        f"GET {path} HTTP/1.1\r\nHost: web.test\r\n\r\n".encode() for path in ("/public/1", "/public/2", "/secret")
    )
    program = f"tell(lambda: in_turn('web.test', 80, {first!r}, {second!r}, {third!r}))"
    done = evade(program, "--allow", "GET http://web.test/public/*")
    assert evade.requests("web") == ["GET /public/1 HTTP/1.1", "GET /public/2 HTTP/1.1"]
    assert "to allow it: --allow 'GET http://web.test/secret'" in done.err
    flow = done.only(transport="tcp")
    assert (flow["verdict"], flow["requests"]) == (
        "refused",
        ["GET web.test /public/1", "GET web.test /public/2", "GET web.test /secret"],
    )


# --- TLS ---

SHAPES = {
    "whole": "lambda data: [data]",
    "a byte a segment": "lambda data: [data[at:at + 1] for at in range(len(data))]",
    "in many records": "lambda data: [records(data, 7)]",
    "in records of a byte": "lambda data: [records(data, 1)]",
    "in both": "lambda data: [records(data, 40)[at:at + 3] for at in range(0, len(records(data, 40)), 3)]",
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_client_hello_of_any_shape_is_judged_by_its_name(evade: Evader, shape: str) -> None:
    program = f"""
tell(lambda: tls("web.test", 443, "web.test", {shape}))
tell(lambda: tls("web.test", 443, "www.web.test", {shape}))
"""
    done = evade(program, "--allow", "web.test:443")
    assert done.out.splitlines()[0] == "DONE tls"
    assert done.out.splitlines()[1] in ("ECONNRESET", "EPIPE", "lost")
    assert [name for name in evade.names("web") if name] == ["web.test"]


NOT_FOR_IT = {
    "another name": 'tls("web.test", 443, "www.web.test")',
    "a longer name": 'tls("web.test", 443, "web.test.evil.test")',
    "no name": 'tls("web.test", 443, None)',
    "its address as the name": 'tls("web.test", 443, socket.gethostbyname("web.test"))',
    "plain HTTP": 'http("web.test", 443, b"GET / HTTP/1.1\\r\\nHost: web.test\\r\\n\\r\\n")',
    "SSH": 'everything((s := dial("web.test", 443), s.sendall(b"SSH-2.0-x\\r\\n"))[0])',
    "bytes": 'everything((s := dial("web.test", 443), s.sendall(bytes(range(1, 200))))[0])',
    "an alert": 'everything((s := dial("web.test", 443), s.sendall(bytes([21, 3, 1, 0, 2, 1, 0])))[0])',
    "data first": 'everything((s := dial("web.test", 443), s.sendall(bytes([23, 3, 3, 0, 2, 1, 0])))[0])',
    "SSL 2": 'everything((s := dial("web.test", 443), s.sendall(bytes([128, 46, 1, 0, 2, 0, 21, 0, 0, 0, 16])))[0])',
    "a hello that lies": 'everything((s := dial("web.test", 443), s.sendall(hello("x")[3][:9] + bytes(999)))[0])',
    "an empty record": 'everything((s := dial("web.test", 443), s.sendall(bytes([22, 3, 1, 0, 0]) * 9 + b"x"))[0])',
}


@pytest.mark.parametrize("expression", NOT_FOR_IT.values(), ids=NOT_FOR_IT.keys())
def test_a_stream_that_is_not_tls_for_the_allowed_name_does_not_reach_the_server(
    evade: Evader, expression: str
) -> None:
    done = evade(f"tell(lambda: {expression})", "--allow", "tls://web.test:443")
    assert done.out.strip() in ("DONE b''", "DONE b'(cut)'", "ECONNRESET", "EPIPE", "lost") or "403" in done.out
    assert [name for name in evade.names("web") if name] == []
    assert evade.heard("web") == 0
    assert "refused" in done.err


def test_tls_does_not_pass_a_rule_for_plain_http(evade: Evader) -> None:
    done = evade('tell(lambda: tls("web.test", 443, "web.test"))', "--allow", "http://web.test:443")
    assert done.out.strip() in ("ECONNRESET", "EPIPE", "lost")
    assert [name for name in evade.names("web") if name] == []


def test_a_server_that_speaks_first_is_not_heard_under_a_tls_rule(evade: Evader) -> None:
    program = 'tell(lambda: dial("git.test", 22, {patience}).recv(100))'
    assert evade(program.format(patience=60), "--allow", "tcp://git.test:22").out.startswith("DONE b'SSH")
    assert evade(program.format(patience=0.7), "--allow", "tls://git.test:22").out == "timeout\n"


def test_names_that_share_an_address_are_told_apart_by_the_hello(evade: Evader) -> None:
    program = """
for name in ("www.web.test", "web.test", "www.web.test"):
    tell(lambda: tls("web.test", 443, name))
"""
    done = evade(program, "--allow", "web.test:443", "--deny", "www.web.test")
    assert [line.startswith("DONE") for line in done.out.splitlines()] == [False, True, False]
    assert [name for name in evade.names("web") if name] == ["web.test"]


# --- addresses and names ---


def test_an_address_without_a_name_of_this_run_is_refused(evade: Evader, world: Lab) -> None:
    """Even though the bytes would bear the allowed name."""
    web, tracker = world["web"].address4, world["tracker"].address4
    program = f"""
tell(lambda: tls({web!r}, 443, "web.test"))
socket.gethostbyname("web.test")
tell(lambda: tls({web!r}, 443, "web.test"))
tell(lambda: tls({tracker!r}, 443, "web.test"))
"""
    done = evade(program, "--allow", "web.test:443")
    assert done.out == "ECONNREFUSED\nDONE tls\nECONNREFUSED\n"
    assert evade.names("tracker") == []


@pytest.mark.parametrize("how", ["ask", "ask_stream"])
@pytest.mark.parametrize("server", ["203.0.113.53", "8.8.8.8", "192.0.2.1", "127.0.0.1", "SERVER"])
def test_questions_to_any_resolver_are_judged_here(evade: Evader, world: Lab, server: str, how: str) -> None:
    address = server.replace("SERVER", world["dns"].address4)
    program = f"""
for name in ("web.test", "tracker.test"):
    tell(lambda: code({how}({address!r}, question(name))))
"""
    done = evade(program, "--allow", "web.test:443")
    assert done.out == "DONE ('answered', 1)\nDONE ('no such name', 0)\n"
    assert evade.requests("dns") == ["A web.test"]


QUESTIONS = {
    "text": 'question("secret.tracker.test", 16)',
    "any": 'question("tracker.test", 255)',
    "a zone transfer": 'question("test", 252)',
    "below an allowed name": 'question("secret.web.test")',
    "the root": 'question("")',
    "backwards": 'question("1.0.0.127.in-addr.arpa", 12)',
    "two questions": 'question("web.test", counts=(2, 0, 0, 0), tail=question("tracker.test")[12:])',
    "with an answer": 'question("web.test", counts=(1, 1, 0, 0), tail=question("tracker.test")[12:] + bytes(6))',
    "a tail": 'question("web.test", tail=b"secret")',
    "an update": 'question("web.test", flags=0x2800)',
    "an answer": 'question("web.test", flags=0x8180)',
    "no question": 'question("web.test", counts=(0, 0, 0, 0))',
    "dots in a label": 'question("web.test").replace(b"\\x03web", b"\\x03w.b")',
    "a label with a null": 'question("web.test").replace(b"\\x03web", b"\\x03w\\0b")',
    "a pointer": 'question("web.test")[:12] + b"\\xc0\\x0c" + bytes([0, 1, 0, 1])',
}


@pytest.mark.parametrize("expression", QUESTIONS.values(), ids=QUESTIONS.keys())
def test_no_other_question_leaves(evade: Evader, expression: str) -> None:
    done = evade(f'tell(lambda: code(ask("192.0.2.2", {expression}, 0.3)))', "--allow", "web.test:443")
    said = ("no such name", "malformed", "not implemented")
    assert done.out in ("timeout\n", *(f"DONE ({word!r}, 0)\n" for word in said))
    assert evade.requests("dns") == []


@pytest.mark.parametrize(
    ("name", "kind", "dropped", "left"),
    [
        ("rebind.test", 1, "127.0.0.1", 1),
        ("metadata.test", 1, "169.254.169.254", 0),
        ("internal.test", 1, "10.1.2.3", 0),
        ("mapped.test", 28, "::ffff:10.0.0.1", 0),
    ],
)
def test_an_answer_does_not_lead_a_public_name_into_a_private_network(
    evade: Evader, name: str, kind: int, dropped: str, left: int
) -> None:
    done = evade(f'tell(lambda: code(ask("192.0.2.2", question({name!r}, {kind}))))', "--allow", f"tcp://{name}:80")
    assert done.out == f"DONE ('answered', {left})\n"
    assert dropped in done.err


def test_a_private_address_that_a_rule_names_is_answered(evade: Evader) -> None:
    options = ("--allow", "tcp://internal.test:80", "--allow", "tcp://10.1.2.3:80")
    done = evade('tell(lambda: code(ask("192.0.2.2", question("internal.test"))))', *options)
    assert done.out == "DONE ('answered', 1)\n"


def test_encrypted_hellos_are_not_offered(evade: Evader) -> None:
    program = 'tell(lambda: b"\\xfe\\x0d" in ask(SERVER, question("modern.test", 65)))'
    direct = evade.run.host.run(python(f"{EVADE}SERVER = {evade.world['dns'].address4!r}\n{program}"))
    assert direct.stdout == "DONE True\n", "the server must offer them, or this proves nothing"
    assert evade("SERVER = '192.0.2.2'\n" + program, "--allow", "modern.test:443").out == "DONE False\n"


@pytest.mark.parametrize("rule", ["web.test:443", "WEB.Test:443", "web.test.:443"])
@pytest.mark.parametrize("asked", ["web.test", "wEb.TesT", "web.test."])
def test_a_name_is_the_same_however_it_is_written(evade: Evader, rule: str, asked: str) -> None:
    program = f"tell(lambda: tls({asked!r}, 443, {asked.rstrip('.')!r}))"
    assert evade(program, "--allow", rule).out == "DONE tls\n"


def test_an_international_name_is_its_ascii_form(evade: Evader) -> None:
    program = """
for name in ("xn--bcher-kva.test", "xn--bcher-kvb.test", "bucher.test"):
    tell(lambda: code(ask("192.0.2.2", question(name))))
"""
    evade(program, "--allow", "bücher.test:443")
    assert evade.requests("dns") == ["A xn--bcher-kva.test"]


def test_a_refused_name_is_refused_behind_an_alias_too(evade: Evader) -> None:
    """alias.test is another name of web.test's address: the bytes decide, not the question."""
    program = """
tell(lambda: tls("alias.test", 443, "alias.test"))
tell(lambda: tls("alias.test", 443, "www.web.test"))
"""
    done = evade(program, "--allow", "alias.test:443")
    assert done.out.splitlines()[0] in ("DONE tls", "lost")
    assert "DONE" not in done.out.splitlines()[1]
    assert [name for name in evade.names("web") if name] == ["alias.test"]
