"""DNS of a run: what is kept and for how long, over both transports and whatever server is asked."""

from __future__ import annotations

import textwrap

import pytest
from tests.support.evasions import EVADE
from tests.support.peers import need
from tests.support.running import Runner, python

from towpath.testing import Lab


def asked(world: Lab, name: str, since: int) -> list[str]:
    """Types that the Lab's server was asked for, of a name."""
    requests = [request for record in world["dns"].log[since:] for request in record.requests]
    return [request for request in requests if name in request]


def test_an_answer_is_asked_for_once_and_then_kept(run: Runner, world: Lab) -> None:
    before = len(world["dns"].log)
    program = """
    for server in ("192.0.2.2", "203.0.113.9"):
        for _ in range(3):
            assert code(ask(server, question("web.test"))) == ("answered", 1), server
            assert code(ask_stream(server, question("web.test"))) == ("answered", 1), server
    print("well")
    """
    done = run("--allow", "web.test:80", command=python(EVADE + textwrap.dedent(program)))
    assert (done.out, done.err) == ("well\n", "")
    assert len(asked(world, "web.test", before)) == 1


def test_what_is_kept_is_still_evidence_for_flows(run: Runner, world: Lab) -> None:
    program = """
    for _ in range(3):
        print(ask("192.0.2.2", question("web.test"))[-4:] == ask("192.0.2.2", question("web.test"))[-4:])
    dial("web.test", 80).close()
    """
    done = run("--allow", "web.test:80", command=python(EVADE + textwrap.dedent(program)))
    assert (done.code, done.out) == (0, "True\n" * 3)


def test_what_is_no_question_is_told_so_and_an_answer_is_left_alone(run: Runner) -> None:
    program = """
    def told(data, ask=ask, seconds=60):
        try:
            answer = ask("192.0.2.2", data, seconds)
        except TimeoutError:
            return "nothing"
        return answer[:2] == data[:2], answer[3] & 15, len(answer)

    print(told(question("web.test", counts=(2, 0, 0, 0))), told(question("web.test")[:20]))
    print(told(question("web.test", flags=0x2900)), told(question("web.test", flags=0x2900), ask_stream))
    print(told(question("web.test", flags=0x8180), seconds=1), told(b"short", seconds=1))
    """
    done = run("--allow", "web.test:80", command=python(EVADE + textwrap.dedent(program)))
    assert done.out.splitlines() == [
        "(True, 1, 12) (True, 1, 12)",  # FORMERR
        "(True, 4, 12) (True, 4, 12)",  # NOTIMP
        "nothing nothing",  # two servers would talk to each other for ever
    ]


def test_a_name_that_is_refused_is_refused_each_time(run: Runner) -> None:
    program = """
    for _ in range(3):
        print(code(ask("192.0.2.2", question("tracker.test"))))
    """
    done = run("--allow", "web.test:80", command=python(EVADE + textwrap.dedent(program)))
    assert done.out == "('no such name', 0)\n" * 3
    assert len([flow for flow in done.flows if flow["type"] == "dns"]) == 3


@pytest.mark.parametrize(
    "words", [["dig"], ["dig", "+tcp"], ["dig", "+bufsize=512"], ["kdig", "@2001:db8:9::9"], ["kdig", "+tcp"]]
)
def test_real_clients_understand_the_answers(run: Runner, words: list[str]) -> None:
    need(words[0])
    command = " ".join([*words, "+short", "www.web.test", "A"])
    done = run("--allow", "www.web.test:80", command=f"{command}; {command}")
    first, second = done.out.splitlines()
    assert first == second
    assert first.count(".") == 3


def test_dig_finds_the_reason_of_a_refusal(run: Runner) -> None:
    need("dig")
    done = run("--allow", "web.test:80", command="dig tracker.test A")
    assert "status: NXDOMAIN" in done.out
    assert "no rule allows the name tracker.test" in done.out


def test_questions_for_everything_and_for_whole_zones_are_kept_small(run: Runner) -> None:
    need("dig")
    done = run("--allow", "web.test:80", command="dig web.test ANY; dig +noall +comments web.test AXFR")
    assert "RFC8482" in done.out
    assert "Transfer failed" in done.out or "REFUSED" in done.out
