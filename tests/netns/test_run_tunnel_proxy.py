"""Proxies behind a tunnel: real programs are told of them by the environment, and reach them by the tunnel."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.peers import need
from tests.support.running import Runner
from tests.support.tunnel_lab import INNER4, TunnelLab, eventually, provider_with

PORT = 3128
# Answers whatever it is asked for by itself: nothing is behind it. What it was asked for it writes down.
_PROXY = f"""
import http.server, sys
pac = "function FindProxyForURL(url, host) {{ return host == '{INNER4}' ? 'DIRECT' : 'PROXY {INNER4}:{PORT}'; }}"
class Proxy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        is_pac = self.path == "/proxy.pac"
        print(f"{{self.client_address[0]}} {{self.path}}", flush=True)
        body = pac.encode() if is_pac else b"<title>by the proxy</title>"
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ns-proxy-autoconfig" if is_pac else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_CONNECT = do_GET
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(("{INNER4}", {PORT}), Proxy)
print("listening", flush=True)
server.serve_forever()
"""


@pytest.fixture
def run(tunnels: TunnelLab, tmp_path: Path) -> Runner:
    return Runner(tunnels.lab, "client", tmp_path)


@contextmanager
def proxy(tunnels: TunnelLab, told: Path) -> Iterator[None]:
    """The proxy, at the far side's address inside of the tunnel alone."""
    with (
        told.open("w") as out,
        tunnels.lab["vpn"].popen([sys.executable, "-c", _PROXY], stdout=out, stderr=subprocess.DEVNULL) as process,
    ):
        try:
            eventually(lambda: "listening" in told.read_text())
            yield
        finally:
            process.kill()


def target(tunnels: TunnelLab, folder: Path, settings: str) -> str:
    return f"{provider_with(folder, f'proxy=ProxySettings({settings})')}:{tunnels.file()}"


def test_curl_goes_by_the_proxy_and_to_what_is_excepted_without_it(
    tunnels: TunnelLab, run: Runner, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    at = f"http://{INNER4}:{PORT}"
    tunnel = target(tunnels, tmp_path, f"http='{at}', https='{at}', exceptions=('inner.test',)")
    command = "curl -sS http://web.test/page; curl -sS -4 http://inner.test/; ! curl -sS https://web.test/"
    with proxy(tunnels, told):
        done = run("--tunnel", tunnel, command=command)
    assert done.code == 0, done.err
    assert "by the proxy" in done.out
    assert "This is vpn." in done.out
    # By the tunnel's address; and the host behind it was looked up by nobody here.
    assert told.read_text().splitlines()[1:] == ["10.77.0.2 http://web.test/page", "10.77.0.2 web.test:443"]
    assert "web.test" not in {flow["name"] for flow in done.flows}


def test_a_policy_is_held_against_the_proxy_as_against_any_host(
    tunnels: TunnelLab, run: Runner, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    tunnel = target(tunnels, tmp_path, f"http='http://{INNER4}:{PORT}'")
    with proxy(tunnels, told):
        done = run("--tunnel", tunnel, "--allow", "web.test:80", command=["curl", "-sS", "http://web.test/"])
    assert done.code != 0
    assert told.read_text() == "listening\n"
    assert done.only(verdict="refused")["port"] == PORT


def test_chromium_goes_by_the_script_that_the_tunnel_names(tunnels: TunnelLab, run: Runner, tmp_path: Path) -> None:
    need("chromium")
    told = tmp_path / "told"
    tunnel = target(tunnels, tmp_path, f"pac='http://{INNER4}:{PORT}/proxy.pac'")
    words = [
        *("chromium", "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path}/profile", "--no-sandbox"),
        *("--virtual-time-budget=5000", "--dump-dom"),
    ]
    with proxy(tunnels, told):
        done = run("--tunnel", tunnel, command=[*words, "http://web.test/page"], timeout=120)
        direct = run("--tunnel", tunnel, command=[*words, f"http://{INNER4}/"], timeout=120)
    assert "<title>by the proxy</title>" in done.out, done.err
    assert "This is vpn." in direct.out, direct.err
    assert "10.77.0.2 /proxy.pac" in told.read_text()
    assert "10.77.0.2 http://web.test/page" in told.read_text()


def test_the_script_is_told_to_programs_by_the_name_they_look_for(
    tunnels: TunnelLab, run: Runner, tmp_path: Path
) -> None:
    tunnel = target(tunnels, tmp_path, "pac='http://proxy.test/p.pac', https='http://proxy.test:1'")
    done = run("--tunnel", tunnel, command="env | grep -i proxy | sort", env={"PATH": "/usr/bin:/bin"})
    assert done.out.split() == [
        "AUTO_PROXY=http://proxy.test/p.pac",
        "HTTPS_PROXY=http://proxy.test:1",
        "auto_proxy=http://proxy.test/p.pac",
        "https_proxy=http://proxy.test:1",
    ]
