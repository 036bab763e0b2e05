"""A red team that fails: each escape by an ordinary user, with a capture at the uplink that shows what left."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from tests.redteam.escapes import ESCAPES, WORDS, Escape
from tests.support.attempts import TRY
from tests.support.evasions import EVADE
from tests.support.processes import manager_of
from tests.support.rootless import Rootless
from tests.support.rootless_lab import RootlessLab
from tests.support.unix_server import unix_server


@pytest.fixture(scope="module")
def lab(rootless: Rootless) -> Iterator[RootlessLab]:
    with RootlessLab(rootless) as made:
        yield made


class Uplink:
    """What leaves the client while a block runs."""

    def __init__(self, lab: RootlessLab) -> None:
        self._lab = lab
        self._before = len(lab.log("tracker"))
        lab.capture()

    def strangers(self) -> list[str]:
        """Destinations that no policy here names: all but the web host and the name server."""
        known = {*self._lab.addresses["web"], *self._lab.addresses["dns"]}
        return [one for one in self._lab.captured() if one.split()[0] not in known]

    def tracked(self) -> list[tuple[str, int, str]]:
        """What has reached the host that no policy names."""
        return self._lab.log("tracker")[self._before :]


def program(lab: RootlessLab, expression: str) -> str:
    constants = "".join(f"{name.upper()} = {known[0]!r}\n" for name, known in lab.addresses.items())
    return f"{TRY}\n{EVADE}\n{WORDS}\n{constants}\ntell(lambda: {expression.replace('HOST_PID', str(os.getpid()))})\n"


def test_the_red_team_is_an_ordinary_user_without_rights(lab: RootlessLab) -> None:
    done = lab.on_client(["grep", "-E", "^(Uid|CapEff|CapPrm)", "/proc/self/status"])
    fields = {line.split(":")[0]: line.split()[1:] for line in done.out.splitlines()}
    assert "0" not in fields["Uid"]
    assert (fields["CapEff"], fields["CapPrm"]) == (["0" * 16], ["0" * 16])


def test_the_list_has_forty_at_least() -> None:
    assert len(ESCAPES) >= 40


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES.keys())
def test_an_escape_fails_and_nothing_leaves(lab: RootlessLab, escape: Escape) -> None:
    uplink = Uplink(lab)
    done = lab(program(lab, escape.tries), *escape.options)
    assert uplink.strangers() == []
    assert uplink.tracked() == []
    assert "Traceback" not in done.err, done.err
    assert done.out.strip()
    assert "DONE" not in done.out
    assert escape.says in done.err


def test_the_same_words_work_where_they_may(lab: RootlessLab) -> None:
    """What the list tries would be seen if it succeeded: the vocabulary works, and so does the capture."""
    uplink = Uplink(lab)
    allowed = "(greeted('web.test', 'web.test', ech), tls('web.test', 443, 'web.test', lambda d: [records(d, 3)]))"
    assert "DONE (True, 'tls')" in lab(program(lab, allowed), "--allow", "web.test:443").out
    assert uplink.strangers() == []
    done = lab(program(lab, "request('GET / HTTP/1.1\\r\\nHost: tracker.test\\r\\n\\r\\n', TRACKER)"))
    assert "DONE" in done.out
    assert uplink.tracked() != []


# --- the manager ---


@pytest.mark.parametrize(
    ("number", "outcome"), [(signal.SIGSTOP, "timeout\n"), (signal.SIGKILL, "")], ids=["stopped", "killed"]
)
def test_without_its_manager_a_run_reaches_nobody(lab: RootlessLab, number: signal.Signals, outcome: str) -> None:
    address = lab.addresses["tracker"][0]
    source = "print('up', flush=True)\n" + program(lab, "sys.stdin.readline() and dial(TRACKER, 80, 2) and 'connected'")
    started = lab.start(source, "--allow", f"tcp://{address}:80")
    assert started.line() == "up\n"
    uplink = Uplink(lab)
    manager = manager_of(started.pid)
    os.kill(manager, number)
    if number == signal.SIGSTOP:
        started.tell("go\n")
    assert started.line() == outcome
    assert uplink.strangers() == []
    assert uplink.tracked() == []
    if number == signal.SIGSTOP:
        os.kill(manager, signal.SIGKILL)
    started.finish()


# --- limits that are stated, shown ---


def test_limit_names_under_an_allowed_wildcard_carry_data_and_it_is_reported(lab: RootlessLab) -> None:
    source = program(
        lab, "[ask('192.0.2.2', question(f'{os.urandom(20).hex()}.web.test')) for _ in range(200)] and 'asked'"
    )
    done = lab(source, "--allow", "*.web.test:443")
    assert "DONE asked" in done.out
    assert "different names" in done.err
    assert "whoever answers for web.test can read data from names" in done.err


def test_limit_an_allowed_proxy_reaches_whom_it_wants_and_it_is_reported(lab: RootlessLab) -> None:
    source = program(
        lab,
        "(s := dial('web.test', 3128), s.sendall(b'CONNECT tracker.test:443 HTTP/1.1\\r\\n\\r\\n'), s.recv(99))[2]",
    )
    done = lab(source, "--allow", "tcp://web.test:3128")
    assert "DONE b'CONNECT" in done.out
    assert "web.test:3128 is asked to CONNECT to 'tracker.test:443': it is a proxy" in done.err


def test_limit_a_unix_socket_made_later_is_reached(lab: RootlessLab) -> None:
    source = "print('up', flush=True)\n" + program(
        lab, "sys.stdin.readline() and socket.socket(socket.AF_UNIX).connect(PATH) or 'connected'"
    )
    path = lab.user.home / "later.sock"
    started = lab.start(source.replace("PATH", repr(str(path))))
    assert started.line() == "up\n"
    with unix_server(lab, ("SOCK_STREAM", str(path))):
        started.tell("go\n")
        assert started.line() == "DONE connected\n"
        started.finish()


def test_limit_inside_tls_another_host_can_be_asked_for(lab: RootlessLab) -> None:
    """Domain fronting: the name in the hello is judged, what follows is encrypted."""
    source = program(
        lab,
        "[line for line in worked('/usr/bin/curl', '-s', '-H', 'Host: www.web.test', "
        "'https://web.test/headers').decode().splitlines() if 'www.web.test' in line]",
    )
    assert "DONE [" in lab(source, "--allow", "web.test:443").out


def test_limit_a_hello_whose_outer_name_is_allowed_passes_with_ech(lab: RootlessLab) -> None:
    done = lab(program(lab, "greeted('web.test', 'web.test', ech)"), "--allow", "web.test:443")
    assert "DONE True" in done.out


def test_limit_a_denied_name_is_dialled_by_its_address_before_its_bytes_name_it(lab: RootlessLab) -> None:
    source = program(lab, r"request('GET / HTTP/1.1\r\nHost: tracker.test\r\n\r\n', TRACKER)")
    uplink = Uplink(lab)
    done = lab(source, "--allow", "http://*:80", "--deny", "tracker.test")
    assert "DONE" not in done.out
    assert "refused" in done.err
    assert uplink.strangers() == [f"{lab.addresses['tracker'][0]} 6"]
