"""Downloads from https://HOST/ over IPv4, a new connection each: COUNT pages, then LARGE times /files/large.

Prints the seconds of both. Goes through the proxy that https_proxy names, if it names one.

usage: https_downloads.py HOST COUNT LARGE CAFILE
"""

from __future__ import annotations

import base64
import os
import socket
import ssl
import sys
import time
from http.client import HTTPSConnection
from urllib.parse import urlsplit

_PIECE = 1 << 18


def _get(host: str, path: str, context: ssl.SSLContext) -> int:
    proxy = urlsplit(os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY") or "")
    if proxy.hostname:
        headers = {}
        if proxy.username:
            known = base64.b64encode(f"{proxy.username}:{proxy.password or ''}".encode()).decode()
            headers["Proxy-Authorization"] = f"Basic {known}"
        connection = HTTPSConnection(proxy.hostname, proxy.port, context=context, timeout=20)
        connection.set_tunnel(host, 443, headers)
    else:
        connection = HTTPSConnection(host, context=context, timeout=20)
        address = str(socket.getaddrinfo(host, 443, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
        connection.sock = context.wrap_socket(socket.create_connection((address, 443), 20), server_hostname=host)
    connection.request("GET", path)
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"an answer that is {answer.status}")
    size = 0
    while data := answer.read(_PIECE):
        size += len(data)
    connection.close()
    return size


def main(host: str, count: int, large: int, authority: str) -> None:
    """Downloads and prints."""
    context = ssl.create_default_context(cafile=authority)
    begun = time.perf_counter()
    for number in range(count):
        _get(host, f"/?{number}", context)
    middle = time.perf_counter()
    sizes = {_get(host, f"/files/large?{number}", context) for number in range(large)}
    if large and (len(sizes) != 1 or min(sizes) < 1 << 20):
        raise SystemExit(f"downloads of {sizes} bytes")
    print("figures", middle - begun, time.perf_counter() - middle)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
