"""Holds a tunnel on the host it runs on: ``python -m tests.support.host_tunnel_program TARGET DEVICE [WORD ...]``.

Words: `kill-switch`, `on-demand`, `kernel` (which speaks, where it can), `idle` (it is not started), `hurry`
(connecting has 2 s in place of 60). It writes "up", or what was wrong; for each line of its input the status as
JSON, and for "stop", "start", "begin" (nobody waits), "starts" (a thousand, by eight threads) and "jump" (the clock
that counts sleep is half a minute ahead of what it was) what became of that.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from towpath.errors import TowpathError
from towpath.hosting import tunnel_machine, tunnel_session
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
    if "hurry" in words:
        tunnel_machine.CONNECT_SECONDS = 2.0
    tunnel = HostTunnel(
        find_tunnel(target),
        device=device,
        kill_switch="kill-switch" in words,
        on_demand="on-demand" in words,
        implementation="kernel" if "kernel" in words else "userspace",
    )
    if "idle" not in words:
        start(tunnel)
    for line in sys.stdin:
        if line == "stop\n":
            tunnel.stop().result()
            say("stopped")
        elif line == "start\n":
            start(tunnel)
        elif line == "begin\n":
            tunnel.start()
            say("begun")
        elif line == "starts\n":
            with ThreadPoolExecutor(8) as pool:
                futures = list(pool.map(lambda _: tunnel.start(), range(1000)))
            outcomes = {repr(future.exception()) for future in futures}
            say(f"{len(futures)} starts, {outcomes}")
        elif line == "jump\n":
            tunnel_session._ahead = partial(float, tunnel_session._ahead() + 30)
            say("jumped")
        else:
            say(json.dumps(tunnel.status().result(), default=str))
    tunnel.close().result()


if __name__ == "__main__":
    main()
