"""Holds a tunnel on the host it runs on: ``python -m tests.support.host_tunnel_program TARGET DEVICE [WORD ...]``.

Words: `kill-switch`, `on-demand`. It writes "up", or what was wrong; for each line of its input the status as JSON, and
for "stop" and "start" what became of that.
"""

from __future__ import annotations

import json
import sys

from towpath.errors import TowpathError
from towpath.hosting.bundle import find_tunnel
from towpath.hosting.host_tunnel import HostTunnel

__all__: list[str] = []


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def start(tunnel: HostTunnel) -> None:
    try:
        tunnel.start().result()
        say("up")
    except TowpathError as error:
        say(f"down: {error}")


def main() -> None:
    target, device, *words = sys.argv[1:]
    tunnel = HostTunnel(
        find_tunnel(target), device=device, kill_switch="kill-switch" in words, on_demand="on-demand" in words
    )
    start(tunnel)
    for line in sys.stdin:
        if line == "stop\n":
            tunnel.stop().result()
            say("stopped")
        elif line == "start\n":
            start(tunnel)
        else:
            say(json.dumps(tunnel.status().result(), default=str))
    tunnel.close().result()


if __name__ == "__main__":
    main()
