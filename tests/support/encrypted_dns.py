"""Real servers of encrypted DNS on a Lab host: unbound for UDP, TCP, TLS and HTTPS, aioquic for QUIC."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import trustme

from towpath.testing import Command, LabHost

__all__ = ["NAME", "QUIC_SERVER", "Certificates", "quic_server", "unbound", "use_resolver"]

NAME = "resolver.test"

_UNBOUND = """
server:
  interface: 0.0.0.0@53
  interface: 0.0.0.0@853
  interface: 0.0.0.0@443
  tls-service-key: "{folder}/key.pem"
  tls-service-pem: "{folder}/certificate.pem"
  access-control: 0.0.0.0/0 allow
  do-daemonize: no
  username: ""
  chroot: ""
  pidfile: ""
  directory: "{folder}"
  use-syslog: no
  logfile: "{folder}/unbound.log"
  log-queries: yes
  verbosity: 1
  num-threads: 1
  local-zone: "many.test." redirect
  local-data: "many.test. 60 IN A 192.0.2.80"
  local-data: "secret.test. 60 IN A 192.0.2.81"
  local-data: "{name}. 60 IN A {address}"
{long}
remote-control:
  control-enable: no
"""

QUIC_SERVER = r"""
import asyncio, struct, sys
from aioquic.asyncio import serve
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived

class Server(QuicConnectionProtocol):
    def __init__(self, *arguments, **words):
        super().__init__(*arguments, **words)
        self.bodies = {}

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived):
            body = self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            if event.end_stream:
                query = body[2:]
                assert query[:2] == b"\0\0", "RFC 9250 section 4.2.1"
                end = query.index(b"\0", 12) + 5
                answer = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:end]
                answer += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\x82"
                self._quic.send_stream_data(event.stream_id, struct.pack(">H", len(answer)) + answer, end_stream=True)
                self.transmit()

async def main():
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["doq"])
    configuration.load_cert_chain(sys.argv[1], sys.argv[1])
    await serve("0.0.0.0", 853, configuration=configuration, create_protocol=Server)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Certificates:
    """An authority and a certificate for `NAME`, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority = trustme.CA()
        self.authority = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        issued = authority.issue_cert(NAME)
        self.both = folder / "both.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(str(self.both))
        issued.private_key_pem.write_to_path(str(folder / "key.pem"))
        issued.cert_chain_pems[0].write_to_path(str(folder / "certificate.pem"))
        self.stranger = folder / "stranger.pem"
        trustme.CA().cert_pem.write_to_path(str(self.stranger))


def unbound(certificates: Certificates, address: str, *more: str) -> Command:
    """unbound, which knows `many.test` and all below it, `secret.test`, 120 addresses of `long.test`, and `more`."""
    folder = certificates.folder
    long = "\n".join(f'  local-data: "long.test. 60 IN A 198.51.100.{number}"' for number in range(1, 121))
    long += "".join(f'\n  local-data: "{record}"' for record in more)
    file = folder / "unbound.conf"
    file.write_text(_UNBOUND.format(folder=folder, name=NAME, address=address, long=long))
    return Command(command=(shutil.which("unbound") or "unbound", "-d", "-c", str(file)), port=853)


def quic_server(certificates: Certificates) -> Command:
    """A server over QUIC that gives every name the address 192.0.2.130."""
    return Command(command=(sys.executable, "-c", QUIC_SERVER, str(certificates.both)))


def use_resolver(host: LabHost, address: str) -> None:
    """Has a host ask this name server, and no other."""
    host.call(Path("/etc/resolv.conf").write_text, f"nameserver {address}\n")
