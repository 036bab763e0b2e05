"""A program that opens its own sockets and never looks at HTTP_PROXY: raw.py tls|banner|udp HOST PORT."""

import socket
import ssl
import sys


def main() -> None:
    kind, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    try:
        if kind == "udp":
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, socket.SOCK_DGRAM) as channel:
                channel.settimeout(5)
                channel.connect(address)
                channel.send(b"what time is it?")
                print("answered:", channel.recv(100).decode())
            return
        with socket.create_connection((host, port), 5) as stream:
            if kind == "tls":
                with ssl.create_default_context().wrap_socket(stream, server_hostname=host) as secured:
                    print("secured by", secured.version())
            else:
                print("greeted:", stream.recv(100).decode().strip())
    except OSError as error:
        print("could not:", error)


main()
