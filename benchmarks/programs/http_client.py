"""Gets http://HOST/ for SECONDS in 8 processes, a new connection each time, and prints how many a second.

usage: http_client.py HOST SECONDS      through the proxy that http_proxy names, if it names one
"""

from __future__ import annotations

import base64
import os
import socket
import sys
import time
from urllib.parse import urlsplit

_PROCESSES = 8


def _get(address: tuple[str, int], request: bytes) -> bool:
    with socket.create_connection(address, 10) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer.startswith(b"HTTP/1.1 200")


def _work(address: tuple[str, int], request: bytes, until: float) -> int:
    count = 0
    while time.monotonic() < until:
        if not _get(address, request):
            raise SystemExit("an answer that is not 200")
        count += 1
    return count


def main(host: str, seconds: float) -> None:
    """Forks, counts, prints."""
    proxy = urlsplit(os.environ.get("http_proxy") or os.environ.get("HTTP_PROXY") or "")
    target = f"http://{host}/" if proxy.hostname else "/"
    lines = [f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: close"]
    if proxy.username:
        known = base64.b64encode(f"{proxy.username}:{proxy.password or ''}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {known}")
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()
    address = (proxy.hostname or socket.getaddrinfo(host, 80, socket.AF_INET)[0][4][0], proxy.port or 80)
    until = time.monotonic() + seconds
    read, write = os.pipe()
    for _ in range(_PROCESSES):
        if not os.fork():
            os.write(write, b"%d\n" % _work((str(address[0]), address[1]), request, until))
            os._exit(0)
    os.close(write)
    with open(read) as counts:
        found = [int(line) for line in counts]
    if len(found) != _PROCESSES:
        raise SystemExit("a client failed")
    print(sum(found) / seconds)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
