"""A QUIC server and client of the kind that browsers have, as programs for hosts of a Lab. They need aioquic."""

from __future__ import annotations

__all__ = ["CLIENT", "SERVER"]

SERVER = r"""
import asyncio, sys
from aioquic.asyncio import serve
from aioquic.quic.configuration import QuicConfiguration

async def main(certificate, key):
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["x"])
    configuration.load_cert_chain(certificate, key)
    await serve("0.0.0.0", 443, configuration=configuration)
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""

CLIENT = r"""
import select, socket, ssl, sys, time
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

def handshake(link, peer, name, seconds):
    # One connection over `link`: whether its handshake came about.
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["x"], server_name=name)
    configuration.verify_mode = ssl.CERT_NONE
    connection = QuicConnection(configuration=configuration)
    connection.connect(peer, now=time.time())
    end = time.time() + seconds
    while time.time() < end:
        for data, _ in connection.datagrams_to_send(now=time.time()):
            try:
                link.send(data)
            except OSError:
                return "refused"
        while event := connection.next_event():
            if isinstance(event, events.HandshakeCompleted):
                return "handshake"
        wait = min(end, connection.get_timer() or end) - time.time()
        if select.select([link], [], [], max(wait, 0))[0]:
            try:
                connection.receive_datagram(link.recv(65535), peer, now=time.time())
            except OSError:
                return "refused"
        elif (connection.get_timer() or end) <= time.time():
            connection.handle_timer(now=time.time())
    return "nothing"

peer = (socket.gethostbyname(sys.argv[1]), 443)
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.connect(peer)
for word in sys.argv[2:]:
    name, _, seconds = word.partition("@")  # how long to wait, where silence is an answer
    print(name, handshake(link, peer, name, float(seconds or 60)), flush=True)
"""
