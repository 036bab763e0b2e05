"""Servers that know who comes: handshakes that are resumed, and certificates that are asked for and shown."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from tests.support.filters import Author
from tests.support.peers import need
from tests.support.running import Finished, Runner

from towpath.testing import Command, Lab, LabPlan
from towpath.wire import dns

NAME, OPEN, CLOSED, WEB = "resolver.test", "198.51.100.53", "198.51.100.54", "198.51.100.55"
SERVER = str(Path(__file__).parents[1] / "support" / "dot_server.py")
NGINX = """
user root root;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 443 ssl http2;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.pem;
    ssl_client_certificate {folder}/authority.pem;
    ssl_verify_client on;
    location = /dns-query {{
      types {{}} default_type application/dns-message;
      alias {folder}/answer;
      error_page 405 =200 /dns-query;  # POST to a file: the same answer to the same question
    }}
  }}
}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("identities")
    folder.chmod(0o755)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    authority.issue_cert(NAME).private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    authority.issue_cert("me.test").private_key_and_cert_chain_pem.write_to_path(str(folder / "me.pem"))
    trustme.CA().issue_cert("me.test").private_key_and_cert_chain_pem.write_to_path(str(folder / "stranger.pem"))
    query = dns.query("secret.test", "A", 0, edns=False)
    (folder / "answer").write_bytes(dns.answer(query, [dns.Record("secret.test", "A", 60, dns.a("192.0.2.150"))]))
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
    return folder


def dot_server(folder: Path, log: str, *, closed: bool) -> Command:
    authority = str(folder / "authority.pem") if closed else ""
    words = (sys.executable, SERVER, str(folder / "server.pem"), authority, str(folder / log))
    return Command(command=words, port=853)


@pytest.fixture(scope="module")
def world(folder: Path) -> Iterator[Lab]:
    need("nginx", "dig")
    nginx = (shutil.which("nginx") or "nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "nginx.log"))
    plan = (
        LabPlan()
        .host("client")
        .host("open", ipv4=OPEN, serves=[dot_server(folder, "open.log", closed=False)])
        .host("closed", ipv4=CLOSED, serves=[dot_server(folder, "closed.log", closed=True)])
        .host("web", ipv4=WEB, serves=[Command(command=nginx, port=443)])
    )
    with Lab(plan) as lab:
        yield lab


PROXY = """
import msgspec
class Config(msgspec.Struct):
    authority: str
    server: str
    identity: str = ""
"""


def resolve(world: Lab, tmp_path: Path, folder: Path, server: str, identity: str, command: str) -> Finished:
    file = Author(tmp_path)(
        """
        def start(self):
            c = self.config
            return DNSProxySettings((DNSSettings((c.server,), certificate_authority=c.authority, identity=c.identity),))
        """,
        head=PROXY,
        base="DNSProxyProvider[Config]",
    )
    config = tmp_path / "mine.toml"
    facts = {"authority": str(folder / "authority.pem"), "server": server}
    if identity:
        facts["identity"] = str(folder / identity)
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in facts.items()))
    return Runner(world, "client", tmp_path)("--dns", f"{file}:{config}", command=command, timeout=120)


def handshakes(folder: Path, log: str) -> list[dict[str, object]]:
    """Those of real clients: the Lab looks whether somebody listens, and says nothing."""
    file = folder / log
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


def test_a_server_that_ends_its_connections_is_come_back_to_by_resumption(
    world: Lab, folder: Path, tmp_path: Path
) -> None:
    command = "for i in 1 2 3 4 5 6; do dig +short n$i.test; done"
    done = resolve(world, tmp_path, folder, f"tls://{NAME}@{OPEN}", "", command)
    assert done.out == "192.0.2.140\n" * 6, done.err
    assert [one["resumed"] for one in handshakes(folder, "open.log")] == [False, *[True] * 5]


def test_an_identity_is_shown_over_tls_also_when_resumed(world: Lab, folder: Path, tmp_path: Path) -> None:
    command = "dig +short n1.test; dig +short n2.test"
    done = resolve(world, tmp_path, folder, f"tls://{NAME}@{CLOSED}", "me.pem", command)
    assert done.out == "192.0.2.140\n" * 2, done.err
    seen = handshakes(folder, "closed.log")
    assert [one["client"] for one in seen] == [["me.test"]] * 2


def test_an_identity_is_shown_over_https_to_nginx(world: Lab, folder: Path, tmp_path: Path) -> None:
    server = f"https://{NAME}@{WEB}/dns-query"
    assert resolve(world, tmp_path, folder, server, "me.pem", "dig +short secret.test").out == "192.0.2.150\n"
    assert '"POST /dns-query HTTP/2.0" 200' in (folder / "access.log").read_text()


@pytest.mark.parametrize("identity", ["", "stranger.pem"], ids=["none", "a stranger's"])
@pytest.mark.parametrize("server", [f"tls://{NAME}@{CLOSED}", f"https://{NAME}@{WEB}/dns-query"], ids=["tls", "https"])
def test_without_the_right_identity_nobody_is_served_and_the_reason_is_told(
    world: Lab, folder: Path, tmp_path: Path, server: str, identity: str
) -> None:
    done = resolve(world, tmp_path, folder, server, identity, "dig +tries=1 +time=20 secret.test")
    assert "status: SERVFAIL" in done.out
    told = done.out.partition("EDE: ")[2].partition("\n")[0].lower()
    assert "certificate" in told or "http status 400" in told or "unknown_ca" in told or "unknown ca" in told, told
