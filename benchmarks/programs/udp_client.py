"""Sends datagrams to an echo service for SECONDS and prints, as JSON, round trip times and the rate.

usage: udp_client.py HOST PORT SECONDS
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator

_PAYLOAD = b"x" * 32
_IN_FLIGHT = 32
_PATIENCE = 1.0


def _one_by_one(echo: socket.socket, seconds: float) -> Iterator[float]:
    until = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < until:
        echo.send(_PAYLOAD)
        echo.recv(100)
        yield time.perf_counter() - begun


def _many(echo: socket.socket, seconds: float) -> float:
    """Datagrams that came back, a second. A lost one is replaced after a while."""
    count = 0
    begun = time.perf_counter()
    for _ in range(_IN_FLIGHT):
        echo.send(_PAYLOAD)
    while time.perf_counter() < begun + seconds:
        try:
            echo.recv(100)
            count += 1
        except TimeoutError:
            pass
        echo.send(_PAYLOAD)
    return count / (time.perf_counter() - begun)


def main(host: str, port: int, seconds: float) -> None:
    """Half of the time for each."""
    address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_DGRAM)[0][4]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
        echo.settimeout(_PATIENCE)
        echo.connect(address)
        times = sorted(_one_by_one(echo, seconds / 2))
        rate = _many(echo, seconds / 2)
    p50, p99 = (times[int(len(times) * part)] * 1e6 for part in (0.5, 0.99))
    print(json.dumps({"p50_microseconds": p50, "p99_microseconds": p99, "datagrams_per_second": rate}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
