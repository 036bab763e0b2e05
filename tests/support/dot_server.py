"""DNS over TLS, one question a connection: every name is 192.0.2.140, each handshake a line in a file."""

from __future__ import annotations

import json
import socket
import ssl
import sys
from typing import Any


def whole(stream: ssl.SSLSocket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def main() -> None:
    identity, authority, log = sys.argv[1:4]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity)
    if authority:
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["dot"])
    listener = socket.create_server(("0.0.0.0", 853))
    while True:
        plain, _ = listener.accept()
        try:
            with context.wrap_socket(plain, server_side=True) as stream:
                certificate: dict[str, Any] = stream.getpeercert() or {}
                names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
                with open(log, "a") as file:
                    file.write(json.dumps({"resumed": stream.session_reused, "client": names}) + "\n")
                query = whole(stream, int.from_bytes(whole(stream, 2), "big"))
                end = query.index(b"\0", 12) + 5
                answer = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:end]
                answer += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\x8c"
                stream.sendall(len(answer).to_bytes(2, "big") + answer)
                stream.unwrap().close()
        except (OSError, IndexError):
            continue


main()
