"""Runs a command in a network namespace that slirp4netns serves (slirp4netns(1)), and ends with its exit code.

usage: behind_slirp.py COMMAND [ARGUMENT ...]
"""

from __future__ import annotations

import os
import subprocess
import sys


def main(command: list[str]) -> int:
    """The namespace first, then its network, then the command."""
    made, tell_made = os.pipe()
    ready, tell_ready = os.pipe()
    script = f'echo made >&{tell_made}; read go; exec "$@"'
    inside = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", script, "sh", *command],
        stdin=subprocess.PIPE,
        pass_fds=[tell_made],
    )
    os.close(tell_made)
    os.read(made, 5)
    network = subprocess.Popen(
        ["slirp4netns", "--configure", "--mtu=65520", f"--ready-fd={tell_ready}", str(inside.pid), "tap0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[tell_ready],
    )
    os.close(tell_ready)
    try:
        if not os.read(ready, 1):
            inside.kill()
            print("slirp4netns could not set the namespace up", file=sys.stderr)
            return 1
        inside.communicate(b"go\n")
        return inside.returncode
    finally:
        network.terminate()
        network.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
