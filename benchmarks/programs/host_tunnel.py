"""Holds a tunnel on the host it runs on until its input ends: host_tunnel.py TARGET DEVICE."""

import sys

from towpath.hosting.bundle import find_tunnel
from towpath.hosting.host_tunnel import HostTunnel

with HostTunnel(find_tunnel(sys.argv[1]), device=sys.argv[2]) as tunnel:
    print("up", flush=True)
    sys.stdin.read()
    print(tunnel.status().result(), file=sys.stderr)
