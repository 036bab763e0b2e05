"""The little internet in which the parties work: a client, a server and names."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peers import program
from benchmarks.rounds import Absent
from towpath.testing import Command, Dns, Lab, LabPlan, UdpEcho

__all__ = ["NAME", "ROUTER", "Arena", "arena", "words_of"]

NAME = "good.test"
ROUTER = "office"
_SERVER = "198.51.100.80"
"""Not beside the client: pasta takes a neighbour of its card for a broadcast address."""
_NGINX = """
user root; daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder}; keepalive_requests 1000000;
  ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
  server {{
    listen 80 backlog=4096; listen 8080 backlog=4096; listen 443 ssl backlog=4096;
    location / {{ return 200 "hello\\n"; }}
    location /files/ {{ root {folder}; }}
  }}
}}
"""


class Arena:
    """A running Lab with a `client`, a server called `NAME`, and a folder for what parties need."""

    def __init__(self, lab: Lab, folder: str) -> None:
        self.lab = lab
        self.client = lab["client"]
        self.server = lab["server"]
        self.folder = folder

    def run(self, command: list[str], seconds: float, environment: Mapping[str, str] | None = None) -> str:
        """What a command on the client writes. Raises `Absent` when it fails or takes much longer than `seconds`."""
        chosen = os.environ if environment is None else environment
        done = self.client.run(command, timeout=seconds + 20, env=dict(chosen))
        if done.returncode:
            raise Absent(f"{' '.join(command[:3])} ... failed: {words_of(done)}")
        return done.stdout


def words_of(done: subprocess.CompletedProcess[str]) -> str:
    """The last line a program said before it failed."""
    lines = (done.stderr + done.stdout).strip().splitlines()
    return lines[-1][:200] if lines else f"exit code {done.returncode}"


@contextmanager
def arena(*, web: bool = False, iperf: bool = False, routed: bool = False) -> Iterator[Arena]:
    """An `Arena`: `web` adds nginx on 80, 8080 and 443, `iperf` adds iperf3. Raises `Absent` without them.

    `routed` puts the client behind a router of its own, `ROUTER`.
    """
    with TemporaryDirectory(prefix="towpath-bench-") as folder:
        Path(folder).chmod(0o755)
        services: list[Command | UdpEcho] = [UdpEcho(port=9000)]
        if web:
            services.append(Command(command=_nginx(folder), port=80))
        if iperf:
            services.append(Command(command=(program("iperf3"), "-s"), port=5201))
        plan = (
            (LabPlan().router(ROUTER).host("client", on=ROUTER) if routed else LabPlan().host("client"))
            .host("server", names=(NAME,), ipv4=_SERVER, serves=services)
            .host("dns", serves=[Dns()])
        )
        with Lab(plan) as lab:
            yield Arena(lab, folder)


def _nginx(folder: str) -> tuple[str, ...]:
    nginx = program("nginx", "nginx-light")
    subprocess.run(
        [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        + ["-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
        + ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"],
        check=True,
        capture_output=True,
    )
    configuration = Path(folder, "nginx.conf")
    configuration.write_text(_NGINX.format(folder=folder))
    return nginx, "-p", folder, "-e", f"{folder}/error.log", "-c", str(configuration)
