"""Filters, policies and rules for HTTP in front of a tunnel: what they decide is decided before it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.filters import Author, said
from tests.support.running import Runner, python
from tests.support.tunnel_lab import INNER4, INNER6, TunnelLab


@pytest.fixture
def run(tunnels: TunnelLab, tmp_path: Path) -> Runner:
    return Runner(tunnels.lab, "client", tmp_path)


def served(tunnels: TunnelLab) -> list[str]:
    """The HTTP requests that have reached the far side so far."""
    return [line for record in tunnels.lab["vpn"].log if record.service == "http" for line in record.requests]


def test_a_filter_sees_flows_as_the_program_made_them_and_what_it_drops_never_enters(
    tunnels: TunnelLab, run: Runner, author: Author
) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            say(remote=flow.remote.ip, port=flow.remote.port, name=flow.name, program=flow.owner.program)
            return Drop("not this port") if flow.remote.port == 7 else Allow()
    """)
    before = len(tunnels.lab["vpn"].log)
    command = f"curl -sS -4 http://inner.test/; ! echo x | nc -w 60 {INNER4} 7"
    done = run("--tunnel", tunnels.file(), "--filter", mine, command=command)
    assert done.code == 0, done.err
    assert "This is vpn." in done.out
    facts = said(done.err)
    assert {"remote": INNER4, "port": 80, "name": "inner.test", "program": "curl"} in facts
    refused = done.only(verdict="refused")
    assert (refused["reason"], refused["port"]) == ("the filter mine: not this port", 7)
    assert all(record.port != 7 for record in tunnels.lab["vpn"].log[before:])


def test_a_filter_judges_by_the_bytes_before_they_enter(tunnels: TunnelLab, run: Runner, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Peek(outbound=4) if flow.remote.port == 80 else Allow()

        def handle_outbound_data(self, flow, offset, data):
            return Allow() if data[:4] == b"GET " else Drop("only GET")
    """)
    before = len(served(tunnels))
    command = f"curl -sS http://{INNER4}/seen; curl -sS -d secret http://[{INNER6}]/hidden"
    done = run("--tunnel", tunnels.file(), "--filter", mine, command=command)
    assert served(tunnels)[before:] == ["GET /seen HTTP/1.1"]
    assert done.only(verdict="refused")["reason"] == "the filter mine: only GET"


def test_a_name_that_a_filter_drops_is_not_asked_for_by_the_tunnel(
    tunnels: TunnelLab, run: Runner, author: Author
) -> None:
    mine = author("""
        def handle_name(self, question):
            return Drop("an advertiser's") if question.name == "web.test" else Allow()
    """)
    before = len(tunnels.lab["vpn"].log)
    done = run("--tunnel", tunnels.file(), "--filter", mine, command="getent hosts web.test; getent hosts inner.test")
    asked = {line for record in tunnels.lab["vpn"].log[before:] for line in record.requests}
    assert any("inner.test" in line for line in asked)
    assert not any("web.test" in line for line in asked)
    assert {flow["reason"] for flow in done.flows if flow["verdict"] == "refused"} == {
        "the filter mine: an advertiser's"
    }


@pytest.mark.parametrize(
    ("policy", "to", "says"),
    [
        (["--allow", "{web}:80"], "{web}", "AllowedIPs in {file} do not cover {web}"),
        (["--allow", "inner.test:80"], "{web}", "no rule allows"),
        (["--deny", "{web}", "--allow", "*:80"], "{web}", "--deny {web} refuses it"),
        (["--deny", "{vpn}", "--allow", "*:80"], "{vpn}", "--deny {vpn} refuses it"),
    ],
    ids=["allowed without a way", "no rule", "denied without a way", "denied with a way"],
)
def test_the_refusal_is_the_rule_s_where_there_is_one_and_the_tunnel_s_where_only_the_way_is_missing(
    tunnels: TunnelLab, run: Runner, policy: list[str], to: str, says: str
) -> None:
    names = {"web": tunnels.lab["web"].address4, "vpn": INNER4, "file": tunnels.file()}
    words = [word.format(**names) for word in policy]
    command = ["curl", "-sS", "--max-time", "60", f"http://{to.format(**names)}/"]
    done = run("--tunnel", names["file"], *words, command=command)
    assert done.code == 7
    refused = done.only(verdict="refused", transport="tcp")
    assert says.format(**names) in refused["reason"]
    assert (refused["evidence"] == "tunnel") is says.startswith("AllowedIPs")


def test_rules_for_requests_hold_in_a_tunnel(tunnels: TunnelLab, run: Runner) -> None:
    before = len(served(tunnels))
    command = "curl -sS -4 http://inner.test/public/a; curl -sS -4 -X DELETE http://inner.test/public/a"
    done = run("--tunnel", tunnels.file(), "--allow", "GET http://inner.test/public/*", command=command)
    assert served(tunnels)[before:] == ["GET /public/a HTTP/1.1"]
    assert "to allow it: --allow 'DELETE http://inner.test/public/a'" in done.err


def test_a_name_is_held_to_inside_of_a_tunnel(tunnels: TunnelLab, run: Runner) -> None:
    """Another host's name at an allowed address is not that host."""
    command = ["curl", "-sS", "-4", "-H", "Host: other.test", "http://inner.test/"]
    done = run("--tunnel", tunnels.file(), "--allow", "inner.test:80", command=command)
    assert "This is vpn." not in done.out
    assert "the request asks for other.test, which --allow inner.test:80 does not cover" in done.err


def test_a_filter_holds_udp_and_ping_in_a_tunnel(tunnels: TunnelLab, run: Runner, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Drop("no datagrams") if flow.transport == "udp" else Allow()
    """)
    program = python(
        f"import socket; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(60);"
        f"s.connect(('{INNER4}', 9000)); s.send(b'x')\ntry: s.recv(9)\nexcept OSError as e: print(type(e).__name__)"
    )
    before = len(tunnels.lab["vpn"].log)
    done = run("--tunnel", tunnels.file(), "--filter", mine, command=program)
    assert done.out == "OSError\n", done.err
    assert done.only(transport="udp")["reason"] == "the filter mine: no datagrams"
    assert all(record.port != 9000 for record in tunnels.lab["vpn"].log[before:])


def test_a_report_and_a_learnt_policy_are_those_of_a_run_without_a_tunnel(
    tunnels: TunnelLab, run: Runner, tmp_path: Path
) -> None:
    learnt = tmp_path / "learnt.toml"
    options = ("--tunnel", tunnels.file(), "--learn", str(learnt))
    done = run(*options, command=["curl", "-sS", "-4", "http://inner.test/"])
    assert done.code == 0, done.err
    assert "allow = [" in learnt.read_text()
    assert '"inner.test:80"' in learnt.read_text()
    again = run(
        "--tunnel", tunnels.file(), "--policy", str(learnt), command=["curl", "-sS", "-4", "http://inner.test/"]
    )
    assert again.code == 0, again.err
