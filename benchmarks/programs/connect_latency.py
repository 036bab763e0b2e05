"""``HOST PORT COUNT``: prints p50 and p99 of a connect and GET, one after the other, in microseconds."""

from __future__ import annotations

import socket
import sys
import time

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
took = []
for _ in range(count):
    begun = time.perf_counter()
    with socket.socket() as connection:
        connection.connect(address)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\n\r\n")
        while connection.recv(4096):
            pass
    took.append(time.perf_counter() - begun)
took.sort()
print(took[count // 2] * 1e6, took[count * 99 // 100] * 1e6)
