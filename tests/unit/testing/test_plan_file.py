"""Plans read from TOML: what is understood, and how mistakes are told."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from towpath.errors import ConfigInvalid
from towpath.testing import Banner, Command, Dns, Http, Https, LabPlan, NameRecord, TcpEcho, UdpEcho
from towpath.testing.addressing import lay_out
from towpath.testing.plan_file import parse_plan, read_plan

WHOLE = """
name = "whole"
ipv4 = "192.0.2.0/24"
[routers.office]
[switches.desks]
on = "office"
ipv4 = "203.0.113.0/28"
[hosts.a]
on = ["desks", "internet"]
names = ["A.test."]
ipv4 = "203.0.113.5"
delay = 0.5
rate = "1mbit"
loss = 2
serves = [
    { kind = "http", port = 8080, bytes_per_second = 10 },
    { kind = "https", certificate = "expired" },
    { kind = "tcp-echo" }, { kind = "udp-echo" }, { kind = "dns" },
    { kind = "banner", line = "220 hello" },
    { kind = "command", command = ["nginx"], port = 81 },
]
[[names]]
name = "x.test"
type = "CNAME"
value = "a.test"
ttl = 5
"""


def test_every_key_has_its_place_in_the_plan() -> None:
    services = [
        Http(port=8080, bytes_per_second=10),
        Https(certificate="expired"),
        TcpEcho(),
        UdpEcho(),
        Dns(),
        Banner(line="220 hello"),
        Command(command=("nginx",), port=81),
    ]
    built = (
        LabPlan("whole", ipv4=IPv4Network("192.0.2.0/24"))
        .router("office")
        .switch("desks", on="office", ipv4="203.0.113.0/28")
        .host(
            "a",
            on=["desks", "internet"],
            names=["a.test"],
            ipv4="203.0.113.5",
            delay=0.5,
            rate="1mbit",
            loss=2.0,
            serves=services,
        )
        .record("x.test", "CNAME", "a.test", ttl=5)
    )
    assert parse_plan(WHOLE, "whole.toml") == built
    assert built.hosts[0].ipv4 == IPv4Address("203.0.113.5")
    assert built.records == (NameRecord(name="x.test", type="CNAME", value="a.test", ttl=5),)


def test_the_file_gives_the_name_where_the_text_does_not(tmp_path: Path) -> None:
    path = tmp_path / "corner.toml"
    path.write_text("[hosts.a]\n")
    assert read_plan(path).name == "corner"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = [", "f.toml:1: invalid value"),
        ("[hosts]\na = 1 2", "f.toml:2:7: expected newline or end of document after a statement"),
        ("colour = 1", "f.toml: colour is not known"),
        ("hosts = 3", "f.toml: hosts must be a table of tables, not 3"),
        ("hosts.a = 3", "f.toml: hosts.a must be a table"),
        ("hosts.a.on = [3]", "f.toml: hosts.a.on must be the name of a router or switch, or a list of such"),
        ("hosts.a.names = 'x'", "f.toml: hosts.a.names must be a list of strings, not 'x'"),
        ("hosts.a.delay = true", "f.toml: hosts.a.delay must be a number, not True"),
        ("hosts.a.ipv4 = '1.2.3'", "f.toml: hosts.a.ipv4 is wrong: Expected 4 octets in '1.2.3'"),
        ("hosts.a.serves = [{kind = 'ftp'}]", "f.toml: hosts.a.serves[0].kind must be one of http, https, tcp-echo, "
         "udp-echo, banner, dns, command, not 'ftp'"),
        ("hosts.a.serves = [{kind = 'http', port = 70000}]", "f.toml: hosts.a.serves[0].port is wrong: "
         "70000 is no port"),
        ("hosts.a.serves = [{kind = 'dns', line = 'x'}]", "f.toml: hosts.a.serves[0].line is not known"),
        ("hosts.a.serves = [{kind = 'command'}]", "f.toml: hosts.a.serves[0].command must be a list of at least one "
         "string"),
        ("[[names]]\ntype = 'MX'", "f.toml: names[0].type must be one of A, AAAA, CNAME, HTTPS"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        parse_plan(text, "f.toml")
    assert str(caught.value) == message


def test_an_unknown_key_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        parse_plan("[switches.a]\nspeed = 3", "f.toml")
    assert caught.value.hint == "what may stand there: on, ipv4, ipv6"


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigInvalid, match="no UTF-8 at byte 5"):
        read_plan(path)


def test_the_file_of_the_guide_is_a_plan() -> None:
    guide = (Path(__file__).resolve().parents[3] / "docs" / "guides" / "lab.md").read_text()
    text = guide.split("```toml\n")[1].split("```")[0]
    assert [host.name for host in lay_out(parse_plan(text, "lab.md")).plan.hosts] == ["client", "phone", "news", "dns"]
