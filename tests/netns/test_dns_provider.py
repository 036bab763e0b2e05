"""DNS proxies in a run: each verdict, with real programs; who is asked how often; settings, failures, new code."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.support.filters import Author, said
from tests.support.peers import need
from tests.support.running import Runner
from tests.support.timing import best_of_several, within

from towpath.testing import Lab


def proxy(author: Author, body: str, name: str = "mine") -> str:
    return author(body, name, base="DNSProxyProvider")


def test_each_verdict_is_what_a_program_sees(run: Runner, author: Author) -> None:
    need("dig")
    mine = proxy(
        author,
        """
        def handle_query(self, query):
            return {
                "own.test": Answer(("192.0.2.77", "2001:db8::77"), ttl=33),
                "none.test": Answer(),
                "alias.own.test": Answer(alias="web.test"),
                "ads.test": Refuse("an advertiser's"),
                "zero.test": Refuse("an advertiser's", "zero"),
                "closed.test": Refuse("an advertiser's", "refused"),
                "lost.test": Drop("lost"),
            }.get(query.name, Forward())
        """,
    )
    names = ("own", "none", "alias.own", "ads", "zero", "closed", "web")
    asked = "; ".join(f"echo {name}; dig +noall +comments +answer {name}.test A" for name in names)
    done = run(
        "--dns", mine, command=f"{asked}; dig +short own.test AAAA; dig +tries=1 +time=1 lost.test; dig +tcp own.test"
    )
    parts = dict(zip(names, [done.out.split(f"{name}\n;;", 1)[1] for name in names], strict=True))
    assert "33\tIN\tA\t192.0.2.77" in parts["own"]
    assert "2001:db8::77" in done.out
    assert "status: NOERROR" in parts["none"].split("none.test")[0]
    assert "alias.own.test.\t\t60\tIN\tCNAME\tweb.test." in done.out or "CNAME\tweb.test." in done.out
    assert "status: NXDOMAIN" in parts["ads"]
    assert "Filtered): (mine: an advertiser's)" in parts["ads"]
    assert "0.0.0.0" in parts["zero"]
    assert "status: REFUSED" in parts["closed"]
    assert "status: NOERROR" in parts["web"]
    assert "timed out" in done.out or "no servers could be reached" in done.out
    reasons = {flow["name"]: flow["reason"] for flow in done.flows if flow["type"] == "dns"}
    assert reasons["ads.test"] == "the DNS proxy mine: an advertiser's"
    assert {flow["rule"] for flow in done.flows if flow["name"] in reasons} == {"DNS proxy mine"}
    assert set(reasons) == {"ads.test", "zero.test", "closed.test", "lost.test"}


def test_the_hook_is_asked_once_for_what_the_cache_can_answer(run: Runner, author: Author) -> None:
    mine = proxy(
        author,
        """
        def handle_query(self, query):
            say(name=query.name, type=query.type, program=query.owner.program, scope=query.scope)
            return Refuse("no") if query.name == "tracker.test" else Forward()
        """,
    )
    command = "for i in 1 2 3; do getent ahostsv4 web.test; getent ahostsv4 tracker.test; done"
    done = run("--dns", mine, command=command)
    questions = [fact for fact in said(done.err) if fact["type"] == "A"]
    assert questions == [
        {"name": "web.test", "type": "A", "program": "getent", "scope": "run"},
        {"name": "tracker.test", "type": "A", "program": "getent", "scope": "run"},
    ]
    refused = [flow for flow in done.flows if flow["name"] == "tracker.test" and flow["question"] == "A"]
    assert len(refused) == 3


def test_answers_that_depend_on_the_asker_are_not_shared(run: Runner, author: Author) -> None:
    need("dig", "kdig")
    mine = proxy(
        author,
        """
        def start(self):
            return DNSProxySettings(per_asker=True)

        def handle_query(self, query):
            return Refuse("not for dig") if query.owner.program == "dig" else Forward()
        """,
    )
    done = run("--dns", mine, command="dig +short web.test; echo -; kdig +short web.test; echo -; dig +short web.test")
    first, second, third = done.out.split("-\n")
    assert (first, third) == ("", "")
    assert second.count(".") == 3


def test_the_policy_and_the_filters_come_first(run: Runner, author: Author) -> None:
    mine = proxy(
        author,
        """
        def handle_query(self, query):
            say(name=query.name)
            return Answer(("192.0.2.77",))
        """,
    )
    judge = author(
        """
        def handle_name(self, question):
            return Drop("the filter's") if question.name == "echo.test" else Allow()
        """,
        "judge",
    )
    command = "getent ahostsv4 tracker.test; getent ahostsv4 echo.test; getent ahostsv4 web.test"
    done = run("--allow", "web.test:80", "--allow", "echo.test:7", "--filter", judge, "--dns", mine, command=command)
    assert {fact["name"] for fact in said(done.err)} == {"web.test"}
    assert "192.0.2.77" in done.out


def test_a_public_name_still_does_not_lead_into_a_private_network(run: Runner, author: Author) -> None:
    mine = proxy(author, "def handle_query(self, query):\n    return Answer(('10.0.0.5',))\n")
    done = run("--allow", "web.example:80", "--dns", mine, command="getent ahostsv4 web.example || echo none")
    assert done.out == "none\n"
    assert "dropped 10.0.0.5 from the DNS answer for web.example" in done.err


def test_an_answer_of_its_own_is_evidence_for_flows(run: Runner, world: Lab, author: Author) -> None:
    mine = proxy(author, f"def handle_query(self, query):\n    return Answer(({world['web'].address4!r},))\n")
    done = run("--allow", "renamed.test:80", "--dns", mine, command="curl -sS http://renamed.test/")
    assert "This is web." in done.out
    assert done.only(name="renamed.test")["verdict"] == "allowed"


def test_rules_of_the_settings_decide_without_the_hook(run: Runner, author: Author) -> None:
    mine = proxy(
        author,
        """
        def start(self):
            return DNSProxySettings(rules=(
                NameRule("refuse", "tracker.test"), NameRule("forward", "web.test"), NameRule("ask", "www.web.test"),
            ))

        def handle_query(self, query):
            say(name=query.name)
            return Forward()
        """,
    )
    names = ("tracker.test", "x.tracker.test", "web.test", "www.web.test", "echo.test")
    done = run("--dns", mine, command="; ".join(f"getent ahostsv4 {name} | head -1" for name in names))
    assert {fact["name"] for fact in said(done.err)} == {"www.web.test", "echo.test"}
    assert len(done.out.splitlines()) == 3


def test_domains_are_asked_of_their_own_servers_and_the_rest_of_the_systems(
    run: Runner, world: Lab, author: Author
) -> None:
    """Nobody answers at the tracker's port 53: only names of its domain fail."""
    mine = proxy(
        author,
        f"""
        def start(self):
            return DNSProxySettings((DNSSettings(({world["tracker"].address4!r},), match_domains=("web.test",)),))
        """,
    )
    done = run("--dns", mine, command="getent ahostsv4 www.web.test || echo none; getent ahostsv4 echo.test | head -1")
    assert done.out.startswith("none\n")
    assert done.out.count("\n") == 2


@pytest.mark.parametrize("mode", ["failover", "race"])
@best_of_several
def test_a_server_that_does_not_answer_is_not_waited_for(run: Runner, world: Lab, author: Author, mode: str) -> None:
    mine = proxy(
        author,
        f"""
        def start(self):
            servers = ({world["tracker"].address4!r}, {world["dns"].address4!r})
            return DNSProxySettings((DNSSettings(servers, mode={mode!r}),))
        """,
    )
    begun = time.monotonic()
    done = run("--dns", mine, command="getent ahostsv4 web.test | head -1")
    assert done.out.count("\n") == 1
    within(5, time.monotonic() - begun)


@pytest.mark.parametrize(("policy", "outcome"), [("block", "none\n"), ("pass", "")])
def test_a_proxy_that_fails_is_overruled_as_the_user_said(
    run: Runner, author: Author, policy: str, outcome: str
) -> None:
    mine = proxy(author, "def handle_query(self, query):\n    raise ValueError('oh')\n")
    done = run("--dns", mine, "--on-failure", policy, command="getent ahostsv4 web.test >/dev/null || echo none")
    assert done.out == outcome
    assert "handle_query raised ValueError: oh" in done.err


def test_a_proxy_that_is_killed_is_replaced_and_asked_again(run: Runner, author: Author, tmp_path: Path) -> None:
    mine = proxy(
        author,
        """
        def handle_query(self, query):
            if query.name == "crash.test":
                os._exit(7)
            return Forward()
        """,
    )
    command = "getent ahostsv4 web.test | head -1; getent ahostsv4 crash.test; getent ahostsv4 echo.test | head -1"
    done = run("--dns", mine, command=command)
    assert done.out.count("\n") == 2


def test_new_code_takes_over_and_what_was_answered_before_is_forgotten(
    run: Runner, author: Author, tmp_path: Path
) -> None:
    mine = proxy(author, "def handle_query(self, query):\n    return Answer(('192.0.2.1',))\n")
    program = "read line; getent ahostsv4 x.test | head -1; echo ready; read line; getent ahostsv4 x.test | head -1"
    with run.popen("--reload", "--dns", mine, command=program, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith("192.0.2.1 ")
        assert process.stdout.readline() == "ready\n"
        proxy(author, "def handle_query(self, query):\n    return Answer(('192.0.2.2',))\n")
        while "the new code has taken over" not in process.stderr.readline():
            pass
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith("192.0.2.2 ")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def start(self):\n    return DNSProxySettings((DNSSettings(('nowhere',)),))", "not an address"),
        (
            "def start(self):\n    return DNSProxySettings((DNSSettings(trust_anchors=('x',), requires_dnssec=True),))",
            "'x' is no trust anchor",
        ),
        ("def handle_querry(self, query):\n    return Forward()", "there is no hook 'handle_querry'"),
        ("def handle_query(self):\n    return Forward()", "is called with (self, query)"),
    ],
)
def test_an_authors_mistake_is_named(run: Runner, author: Author, body: str, words: str) -> None:
    done = run("--dns", proxy(author, body), command="true")
    assert done.code == 125
    assert words in done.err
    assert "Traceback" not in done.err


def _system(text: str) -> str:
    with open("/etc/resolv.conf", "r+") as file:
        before = file.read()
        file.seek(0)
        file.truncate()
        file.write(text)
    return before


@pytest.mark.parametrize("proxied", [True, False])
def test_a_run_asks_other_servers_when_the_system_does(run: Runner, world: Lab, author: Author, proxied: bool) -> None:
    mine = proxy(
        author,
        """
        def system_dns_settings_changed(self):
            say(servers=self.system_dns_settings.servers)
        """,
    )
    before = world["client"].call(_system, "nameserver 192.0.2.253\n")
    try:
        script = "echo started; read line; for i in 1 2 3 4 5; do getent ahostsv4 web.test && break; done | head -1"
        options = ["--dns", mine] if proxied else []
        with run.popen(*options, command=script, stdin=-1, stdout=-1, stderr=-1) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "started\n"
            world["client"].call(_system, before)
            if proxied:
                assert said(process.stderr.readline()) == [{"servers": [world["dns"].address4, world["dns"].address6]}]
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline().startswith(world["web"].address4)
    finally:
        world["client"].call(_system, before)


def test_a_filter_is_not_a_proxy_and_the_other_way_around(run: Runner, author: Author) -> None:
    judge = author("pass", "judge")
    mine = proxy(author, "pass")
    assert "use --filter" in run("--dns", judge, command="true").err
    assert "use --dns" in run("--filter", mine, command="true").err
