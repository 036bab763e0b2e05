"""Names over UDP, TCP, TLS, HTTPS and QUIC for one command, from real servers, with certificates that are checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.encrypted_dns import NAME, Certificates, quic_server, unbound, use_resolver
from tests.support.filters import Author
from tests.support.peers import need
from tests.support.running import TOWPATH, Runner

from towpath.testing import Lab, LabPlan

ADDRESS, QUIC = "198.51.100.53", "198.51.100.54"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def world(certificates: Certificates) -> Iterator[Lab]:
    need("unbound", "dig")
    plan = (
        LabPlan()
        .host("client")
        .host("resolver", ipv4=ADDRESS, serves=[unbound(certificates, ADDRESS)])
        .host("quic", ipv4=QUIC, serves=[quic_server(certificates)])
    )
    with Lab(plan) as lab:
        use_resolver(lab["client"], ADDRESS)
        yield lab


@pytest.fixture
def run(world: Lab, tmp_path: Path) -> Runner:
    return Runner(world, "client", tmp_path)


_PROXY = """
import msgspec
class Config(msgspec.Struct):
    authority: str = ""
    servers: tuple[str, ...] = ()
"""


def proxy(author: Author, tmp_path: Path, authority: Path, *servers: str) -> str:
    file = author(
        """
        def start(self):
            return DNSProxySettings((DNSSettings(self.config.servers, certificate_authority=self.config.authority),))
        """,
        head=_PROXY,
        base="DNSProxyProvider[Config]",
    )
    config = tmp_path / "mine.toml"
    config.write_text(f"authority = {json.dumps(str(authority))}\nservers = {json.dumps(servers)}\n")
    return f"{file}:{config}"


SERVERS = {
    "udp": ADDRESS,
    "tcp": f"tcp://{ADDRESS}",
    "tls": f"tls://{NAME}@{ADDRESS}",
    "https": f"https://{NAME}@{ADDRESS}/dns-query",
    "looked up": f"https://{NAME}/dns-query",
}


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS.keys())
def test_names_are_resolved(run: Runner, world: Lab, certificates: Certificates, tmp_path: Path, server: str) -> None:
    mine = proxy(Author(tmp_path), tmp_path, certificates.authority, server)
    command = "dig +short secret.test; for i in 1 2 3 4 5 6 7 8; do dig +short n$i.many.test & done; wait"
    done = run("--dns", mine, command=f"{command}; dig +short +tcp long.test | wc -l")
    assert done.out.splitlines() == ["192.0.2.81", *["192.0.2.80"] * 8, "120"], done.err


def test_names_are_resolved_over_quic(run: Runner, certificates: Certificates, tmp_path: Path) -> None:
    mine = proxy(Author(tmp_path), tmp_path, certificates.authority, f"quic://{NAME}@{QUIC}")
    done = run("--dns", mine, command="for i in 1 2 3 4 5 6 7 8; do dig +short n$i.many.test & done; wait")
    assert done.out.splitlines() == ["192.0.2.130"] * 8, done.err


@pytest.mark.parametrize(
    "server",
    [
        f"tls://{NAME}@{ADDRESS}",
        f"https://{NAME}@{ADDRESS}/dns-query",
        f"quic://{NAME}@{QUIC}",
    ],
    ids=["tls", "https", "quic"],
)
def test_a_server_that_cannot_prove_who_it_is_is_not_believed(
    run: Runner, certificates: Certificates, tmp_path: Path, server: str
) -> None:
    strange = proxy(Author(tmp_path), tmp_path, certificates.stranger, server)
    done = run("--dns", strange, command="dig +tries=1 +time=20 secret.test", timeout=120)
    assert "status: SERVFAIL" in done.out
    assert "certificate" in done.out  # why, as an Extended DNS Error
    named = proxy(Author(tmp_path), tmp_path, certificates.authority, server.replace(NAME, "other.test"))
    done = run("--dns", named, command="dig +tries=1 +time=20 secret.test", timeout=120)
    assert "status: SERVFAIL" in done.out


def test_an_answer_that_is_cut_off_is_asked_for_again_over_tcp(run: Runner, world: Lab) -> None:
    done = run(
        command="dig +short +ignore long.test | wc -l; dig +short long.test | wc -l; dig +short +tcp long.test | wc -l"
    )
    assert done.out.split() == ["0", "120", "120"]


def test_a_failing_server_gives_way_to_the_next(run: Runner, certificates: Certificates, tmp_path: Path) -> None:
    servers = (f"tls://{NAME}@{QUIC}", f"https://{NAME}@{ADDRESS}/nowhere", f"tls://{NAME}@{ADDRESS}")
    mine = proxy(Author(tmp_path), tmp_path, certificates.authority, *servers)
    done = run("--dns", mine, command="dig +short +tries=1 +time=10 secret.test")
    assert done.out == "192.0.2.81\n"


def test_a_file_that_cannot_be_used_is_named(run: Runner, certificates: Certificates, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    done = run("--dns", proxy(Author(tmp_path), tmp_path, nothing, f"tls://{NAME}@{ADDRESS}"), command="true")
    assert done.code == 125
    assert "nothing.pem" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("server", [*SERVERS.values(), f"quic://{NAME}@{QUIC}"], ids=[*SERVERS.keys(), "quic"])
def test_the_command_asks_by_every_protocol(world: Lab, certificates: Certificates, server: str) -> None:
    words = [TOWPATH, "dns", "query", "n.many.test", "--type", "A", "--ca", str(certificates.authority)]
    done = world["client"].run([*words, "--server", server, "--json"])
    assert json.loads(done.stdout)["addresses"] == ["192.0.2.130" if "quic" in server else "192.0.2.80"], done.stderr


def test_the_command_does_not_believe_a_stranger(world: Lab, certificates: Certificates) -> None:
    words = [TOWPATH, "resolve", "n.many.test", "--type", "A", "--ca", str(certificates.stranger)]
    for server in (SERVERS["tls"], SERVERS["https"], f"quic://{NAME}@{QUIC}"):
        done = world["client"].run([*words, "--server", server])
        assert done.returncode == 2
        assert "certificate" in done.stdout


def test_every_protocol_side_by_side(world: Lab, certificates: Certificates) -> None:
    servers = [word for server in SERVERS.values() for word in ("--server", server)]
    words = [TOWPATH, "resolve", "n.many.test", "--type", "A", "--ca", str(certificates.authority), "--compare"]
    done = world["client"].run([*words, *servers])
    assert done.returncode == 0
    assert done.stdout.count("192.0.2.80") == len(SERVERS)
    assert "5 servers: all say the same" in done.stderr
